"""A network that takes clips, whatever its backbone takes: frames one by one, or whole clips.

Everything a user or a temporal module sees is ``B T C H W``. An image network sees ``(B T) C H W``, and its
logits are averaged over the frames; a clip network (3D convolutions) sees ``B C T H W``. One adapter stands
between: :class:`Fold` for the first, :class:`Volume` for the second.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinemix.config import InputSpec
from kinemix.errors import LayoutError
from kinemix.temporal.base import Place, Site, TemporalModule
from kinemix.types import Clip, FoldedFrames, Logits


class Layout(Protocol):
    """How clips look inside a backbone."""

    def open(self, clip: Clip) -> Tensor:
        """Let a new clip in: what the backbone takes for it."""

    def inside(self, clip: Clip) -> Tensor:
        """A map ``B T C H W`` as the backbone has it."""

    def clip(self, inside: Tensor) -> Clip:
        """A map of the backbone as ``B T C H W``."""

    def features(self, inside: Tensor) -> Float[Tensor, "B T F"]:
        """One vector a frame, averaged over the map if it is one; a clip network has one for all."""

    def average(self, logits: Tensor) -> Logits:
        """Logits of each clip, from what the backbone gave."""


class Fold:
    """The one adapter between ``B T C H W`` and ``(B T) C H W``; it knows the clip that is passing now.

    Both directions are views wherever the strides allow, so a channels-last map stays channels-last and
    nothing is copied. A network and all temporal modules in it share one fold. Each thread has its own clip,
    so one network may serve several at a time.

    Args:
        num_frames: frames a clip, until the first clip says otherwise.
    """

    def __init__(self, num_frames: int) -> None:
        self._passing = threading.local()
        self._last = num_frames

    @property
    def num_frames(self) -> int:
        """Frames of the clip that is passing in this thread.

        A thread that let none in works for one that did: autograd's, when it runs a part of the network again.
        """
        return getattr(self._passing, "num_frames", self._last)

    def open(self, clip: Clip) -> FoldedFrames:
        """Let a new clip in: remember its number of frames and fold time into the batch."""
        self._passing.num_frames = self._last = clip.shape[1]
        return clip.flatten(0, 1)

    def __reduce__(self) -> tuple[type["Fold"], tuple[int]]:
        return Fold, (self.num_frames,)  # what belongs to a thread is not copied

    def inside(self, clip: Clip) -> FoldedFrames:
        """``B T C H W`` to ``(B T) C H W``."""
        return clip.flatten(0, 1)

    def clip(self, frames: Float[Tensor, " BT *rest"]) -> Float[Tensor, "B T *rest"]:
        """``(B T) ...`` to ``B T ...``, for the clip that is passing now."""
        return frames.unflatten(0, (-1, self.num_frames))

    def features(self, frames: Tensor) -> Float[Tensor, "B T F"]:
        """One vector a frame, averaged over its map if it is one."""
        return self.clip(frames.mean(dim=(2, 3)) if frames.ndim == 4 else frames)

    def average(self, logits: Float[Tensor, "BT K"]) -> Logits:
        """The mean over the frames (MixTConv, eq. 3; TSN's average consensus)."""
        return self.clip(logits).mean(dim=1)

    def __repr__(self) -> str:
        return f"Fold(num_frames={self.num_frames})"


class Volume:
    """The adapter between ``B T C H W`` and the ``B C T H W`` of a clip network; both directions are views."""

    def open(self, clip: Clip) -> Tensor:
        """``B T C H W`` to ``B C T H W``."""
        return clip.transpose(1, 2)

    def inside(self, clip: Clip) -> Tensor:
        """``B T C H W`` to ``B C T H W``."""
        return clip.transpose(1, 2)

    def clip(self, volume: Tensor) -> Clip:
        """``B C T H W`` to ``B T C H W``."""
        return volume.transpose(1, 2)

    def features(self, volume: Tensor) -> Float[Tensor, "B 1 F"]:
        """One vector for the whole clip."""
        return (volume.flatten(2).mean(dim=2) if volume.ndim > 2 else volume)[:, None]

    def average(self, logits: Logits) -> Logits:
        """The network's own: it has looked at the whole clip."""
        return logits

    def __repr__(self) -> str:
        return "Volume()"


class Inserted(nn.Module):
    """A host module of the backbone with a temporal module before or after it, or instead of it.

    A host that stays keeps its weights; one that is replaced keeps none and never runs. What is asked of it
    by name (``conv.stride``) still reaches it, because networks read such attributes of their own layers.

    Args:
        temporal: takes and gives clips.
        host: the backbone's module.
        place: ``"before"``: the host sees what the temporal module gives; ``"after"``: the other way round;
            ``"instead"``: only the temporal module runs.
        layout: the network's adapter.
    """

    def __init__(self, temporal: TemporalModule, host: nn.Module, *, place: Place, layout: Layout) -> None:
        super().__init__()
        self.temporal = temporal
        self.host = host
        if place == "instead":
            for name, _ in list(host.named_parameters(recurse=False)):
                host.register_parameter(name, None)
        self.place = place
        self.layout = layout

    def forward(self, inside: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.place == "instead":
            return self._look_along_time(inside)
        if self.place == "before":
            return self.host(self._look_along_time(inside), *args, **kwargs)
        return self._look_along_time(self.host(inside, *args, **kwargs))

    def _look_along_time(self, inside: Tensor) -> Tensor:
        return self.layout.inside(self.temporal(self.layout.clip(inside)))

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

    Args:
        backbone: network that gives one logit vector a frame, or a clip, after the surgery.
        layout: the adapter that its temporal modules hold.
        input_spec: what the network wants to see.
        num_frames: frames a clip that it was built for.
        num_classes: logits a clip.
        sites: where the temporal modules stand.
        classifier: path in the backbone of the layer that gives the logits.
        tasks: number of classes by task, where there are several; their logits stand side by side.
        blocks: paths in the backbone of its blocks, in the order in which they run.
        stages: for every module of the backbone up to the last block, its stage: 0 for the stem, then 1, 2, ...
        any_length, any_size: whether the backbone takes clips of another length and size.
        description: JSON-able arguments of :func:`kinemix.create_model` that build this network again;
            ``{"backbone": ...}`` alone for a network that only its owner's code can build.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        layout: Layout,
        input_spec: InputSpec,
        num_frames: int,
        num_classes: int,
        sites: Sequence[Site],
        classifier: str,
        tasks: Mapping[str, int] | None = None,
        blocks: Sequence[str] = (),
        stages: Mapping[str, int] | None = None,
        any_length: bool = True,
        any_size: bool = True,
        description: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.layout = layout
        self.input_spec = input_spec
        self.num_frames = num_frames
        self.num_classes = num_classes
        self.sites = tuple(sites)
        self.classifier = classifier
        self.tasks = dict(tasks or {})
        self.blocks = tuple(blocks)
        self.stages = dict(stages or {})
        self.description = dict(description)
        # Who is bound to the clip that the network was built for, by name: the backbone or a temporal module.
        temporal = list(self.temporal_modules().values())
        whole = type(backbone).__name__
        self.fixed_length = next(
            (m.name for m in temporal if not m.any_length), None if any_length else whole
        )
        fixed = next((m for m in temporal if not m.any_size), None)
        self.fixed_size = fixed.name if fixed else None if any_size else whole
        self.any_size_option = fixed.any_size_option if fixed and any_size else None

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
                any size, unless the backbone or a temporal module is bound to the ones it was built for.

        Raises:
            LayoutError: the tensor has another layout, another number of channels, or holds integers.
        """
        self._check(clip)
        return self.layout.average(self.backbone(self.layout.open(clip)))

    def forward_frames(self, clip: Clip) -> Float[Tensor, "B T K"]:
        """Logits of each frame, whose mean is the clip's; a clip network has one row for all, ``B 1 K``."""
        self._check(clip)
        return self.layout.features(self.backbone(self.layout.open(clip)))

    def forward_features(self, clip: Clip) -> Float[Tensor, "B T F"]:
        """What the classifier sees for each frame (spatially averaged where the classifier is a convolution).

        A clip network gives one vector for the whole clip, ``B 1 F``. In training mode this is after dropout,
        as the classifier gets it.
        """
        seen: list[Tensor] = []
        layer = self.backbone.get_submodule(self.classifier)
        handle = layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
        try:
            self(clip)
        finally:
            handle.remove()
        return self.layout.features(seen[-1])

    def _check(self, clip: object) -> None:
        if not isinstance(clip, Tensor):
            cure = ": use torch.from_numpy(clip)" if hasattr(clip, "__array__") else ""
            raise LayoutError(f"a video model takes tensors B T C H W, got {type(clip).__name__}{cure}")
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
        wanted = next((p.dtype for p in self.parameters() if p.is_floating_point()), clip.dtype)
        if clip.dtype != wanted and not torch.is_autocast_enabled(clip.device.type):
            raise LayoutError(
                f"this model's weights are {wanted}, got clips of {clip.dtype}: use clip.to({wanted}), or "
                f"model.to({clip.dtype})"
            )
        if self.fixed_length is not None and shape[1] != self.num_frames:
            raise LayoutError(
                f"{self.fixed_length} was built for {self.num_frames} frames a clip, got {shape[1]} in "
                f"{shape} (B T C H W): sample as many, or create the model with num_frames={shape[1]}"
            )
        if self.fixed_size is not None and shape[3:] != self.input_spec.size:
            option = f" or with {self.any_size_option}" if self.any_size_option else ""
            raise LayoutError(
                f"{self.fixed_size} was built for frames of {self.input_spec.size} pixels, got {shape[3:]} "
                f"in {shape} (B T C H W): resize them or create the model with input_size={shape[3:]}{option}"
            )


def name_plainly(model: VideoModel) -> dict[str, str]:
    """For every tensor of a network, its name in the backbone without the wrappers around temporal modules.

    ``backbone.layer1.0.conv1.host.weight`` is ``layer1.0.conv1.weight``; the temporal module's own stay
    ``layer1.0.conv1.temporal.weight``.
    """
    wrappers = {path for path, module in model.named_modules() if isinstance(module, Inserted)}
    names: dict[str, str] = {}
    for key in model.state_dict():
        parts = key.split(".")
        kept = [p for i, p in enumerate(parts) if not (p == "host" and ".".join(parts[:i]) in wrappers)]
        names[key] = ".".join(kept[1:])
    return names


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
