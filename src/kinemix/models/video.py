"""An image network that takes clips: frames go through the backbone, their logits are averaged.

The backbone sees ``(B T) C H W``; everything a user or a temporal module sees is ``B T C H W``. One adapter,
:class:`Fold`, stands between the two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinemix.config import InputSpec
from kinemix.errors import LayoutError
from kinemix.temporal.base import Site, TemporalModule
from kinemix.types import Clip, FoldedFrames, Logits


class Fold:
    """The one adapter between ``B T C H W`` and ``(B T) C H W``; it knows the clip that is passing now.

    Both directions are views wherever the strides allow, so a channels-last map stays channels-last and
    nothing is copied. A network and all temporal modules in it share one fold.

    Args:
        num_frames: frames a clip, until the first clip says otherwise.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames

    def open(self, clip: Clip) -> FoldedFrames:
        """Let a new clip in: remember its number of frames and fold time into the batch."""
        self.num_frames = clip.shape[1]
        return clip.flatten(0, 1)

    def frames(self, clip: Clip) -> FoldedFrames:
        """``B T C H W`` to ``(B T) C H W``."""
        return clip.flatten(0, 1)

    def clip(self, frames: Float[Tensor, "BT *rest"]) -> Float[Tensor, "B T *rest"]:
        """``(B T) ...`` to ``B T ...``, for the clip that is passing now."""
        return frames.unflatten(0, (-1, self.num_frames))

    def __repr__(self) -> str:
        return f"Fold(num_frames={self.num_frames})"


class Inserted(nn.Module):
    """A host module of the backbone with a temporal module before or after it.

    The host keeps its weights. What is asked of it by name (``conv.stride``) still reaches it, because
    networks read such attributes of their own layers.

    Args:
        temporal: takes and gives clips.
        host: the backbone's module; takes or gives frames.
        place: ``"before"``: the host sees what the temporal module gives; ``"after"``: the other way round.
        fold: the network's adapter.
    """

    def __init__(self, temporal: TemporalModule, host: nn.Module, *, place: str, fold: Fold) -> None:
        super().__init__()
        self.temporal = temporal
        self.host = host
        self.place = place
        self.fold = fold

    def forward(self, frames: FoldedFrames, *args: Any, **kwargs: Any) -> FoldedFrames:
        if self.place == "before":
            return self.host(self._look_along_time(frames), *args, **kwargs)
        return self._look_along_time(self.host(frames, *args, **kwargs))

    def _look_along_time(self, frames: FoldedFrames) -> FoldedFrames:
        return self.fold.frames(self.temporal(self.fold.clip(frames)))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "host":  # while the module is being built or unpickled
                raise
            return getattr(self.host, name)

    def extra_repr(self) -> str:
        return f"place={self.place}"


class VideoModel(nn.Module):
    """A backbone with its temporal modules in place: clips in, logits out.

    The logits of a clip are the mean over its frames' logits (MixTConv, eq. 3; TSN's average consensus).

    Args:
        backbone: image network that gives one logit vector a frame, after the surgery.
        fold: the adapter that its temporal modules hold.
        input_spec: what the network wants to see.
        num_frames: frames a clip that it was built for.
        num_classes: logits a clip.
        sites: where the temporal modules stand.
        classifier: path in the backbone of the layer that gives the logits.
        description: JSON-able arguments of :func:`kinemix.create_model` that build this network again;
            ``{"backbone": ...}`` alone for a network that only its owner's code can build.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        fold: Fold,
        input_spec: InputSpec,
        num_frames: int,
        num_classes: int,
        sites: Sequence[Site],
        classifier: str,
        description: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fold = fold
        self.input_spec = input_spec
        self.num_frames = num_frames
        self.num_classes = num_classes
        self.sites = tuple(sites)
        self.classifier = classifier
        self.description = dict(description)
        temporal = list(self.temporal_modules().values())
        self._fixed_length = next((m.name for m in temporal if not m.any_length), None)
        self._fixed_size = next((m.name for m in temporal if not m.any_size), None)

    def temporal_modules(self) -> dict[str, TemporalModule]:
        """The inserted modules, by their path in this network, in the order of the backbone's modules."""
        return {
            f"{path}.temporal": module.temporal
            for path, module in self.named_modules()
            if isinstance(module, Inserted)
        }

    def forward(self, clip: Clip) -> Logits:
        """Logits of each clip.

        Args:
            clip: ``B T C H W``, floating point, normalised as ``input_spec`` says. Any number of frames and
                any size, unless one of the temporal modules is bound to the ones it was built for.

        Raises:
            LayoutError: the tensor has another layout, another number of channels, or holds integers.
        """
        self._check(clip)
        logits = self.backbone(self.fold.open(clip))
        return self.fold.clip(logits).mean(dim=1)

    def forward_features(self, clip: Clip) -> Float[Tensor, "B T F"]:
        """What the classifier sees for each frame (spatially averaged where the classifier is a convolution).

        In training mode this is after dropout, as the classifier gets it.
        """
        seen: list[Tensor] = []
        layer = self.backbone.get_submodule(self.classifier)
        handle = layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
        try:
            self(clip)
        finally:
            handle.remove()
        features = seen[-1]
        return self.fold.clip(features.mean(dim=(2, 3)) if features.ndim == 4 else features)

    def _check(self, clip: Tensor) -> None:
        shape = tuple(clip.shape)
        channels = self.input_spec.channels
        if clip.ndim != 5:
            cure = "add the batch dimension with clip[None]" if clip.ndim == 4 else "give one clip a sample"
            raise LayoutError(
                f"a video model takes clips B T C H W, got {clip.ndim} dimensions {shape}: {cure}"
            )
        if shape[2] != channels:
            raise LayoutError(_explain_channels(shape, channels, self.input_spec.color))
        if shape[1] == 0:
            raise LayoutError(
                f"a video model takes clips B T C H W with T of 1 or more, got no frames: {shape}"
            )
        if not torch.is_floating_point(clip):
            raise LayoutError(
                f"a video model takes floating point clips, got {clip.dtype}: "
                "scale and normalise the frames as model.input_spec says"
            )
        if self._fixed_length is not None and shape[1] != self.num_frames:
            raise LayoutError(
                f"{self._fixed_length} was built for {self.num_frames} frames a clip, got {shape[1]} in "
                f"{shape} (B T C H W): sample as many, or create the model with num_frames={shape[1]}"
            )
        if self._fixed_size is not None and shape[3:] != self.input_spec.size:
            raise LayoutError(
                f"{self._fixed_size} was built for frames of {self.input_spec.size} pixels, got {shape[3:]} "
                f"in {shape} (B T C H W): resize them or create the model with input_size={shape[3:]}"
            )


def _explain_channels(shape: tuple[int, ...], channels: int, color: str) -> str:
    """Say which layout a five-dimensional tensor of the wrong one seems to have, and the cure."""
    wanted = f"a video model takes clips B T C H W with C = {channels} ({color})"
    if shape[1] == channels:
        return f"{wanted}, got {shape}, which looks like B C T H W: use clip.transpose(1, 2)"
    if shape[4] == channels:
        return f"{wanted}, got {shape}, which looks like B T H W C: use clip.permute(0, 1, 4, 2, 3)"
    return (
        f"{wanted}, got C = {shape[2]} in {shape}: give frames with {channels} channel(s), or another color="
    )
