"""The last feature map of a network: what it knew of time and place before it averaged both away.

It is found by watching a clip pass, not by name. In most networks the classifier is linear and sees the map's
mean, so that a class's logit is the mean of the class-weighted map, plus a bias. Whether that holds is not
guessed from the layers but checked with the network's own logits.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kinemix.errors import KinemixError
from kinemix.models.trace import Trace
from kinemix.models.video import Fold, VideoModel
from kinemix.types import Clip, Logits

_KEPT = 12
"""Maps looked back on from the classifier: pooling, dropout and flattening take a few steps."""

_HEAD_LAYERS = 2
"""Layers with weights between the last map and the classifier, at most (VGG has as many). What more layers follow
is no last map: attention, or the patches that a network cuts its frames into."""


class DoesNotApplyError(KinemixError):
    """A way of explaining does not fit this network; the message says why."""


@dataclass(frozen=True)
class LastMap:
    """The last map of some clips.

    Attributes:
        features: ``B T C h w``; the network's own frames and pixels, which may be fewer than the clip's.
        logits: of the clips.
        differentiate: from a class for each clip to the gradient of its logit by ``features``.
        weights: ``K C``, of the linear classifier that sees the map's mean; ``None`` where there is none.
        bias: ``K``, likewise; zeros where the classifier has none.
        reason: why there is none.
    """

    features: Float[Tensor, "B T C h w"]
    logits: Logits
    differentiate: Callable[[Sequence[int]], Float[Tensor, "B T C h w"]]
    weights: Float[Tensor, "K C"] | None
    bias: Float[Tensor, " K"] | None
    reason: str = ""

    def weigh(self, labels: Sequence[int]) -> Float[Tensor, "B T h w"]:
        """The map weighed by a class of each clip: what every place adds to the class's logit.

        Raises:
            DoesNotApplyError: the network has no linear classifier that sees the map's mean.
        """
        if self.weights is None:
            raise DoesNotApplyError(self.reason)
        chosen = self.weights[list(labels)]
        return torch.einsum("btchw,bc->bthw", self.features, chosen)


def find_last_map(model: VideoModel, clip: Clip) -> LastMap:
    """Let clips pass and find the last map, with a graph behind it for gradients.

    Args:
        model: in evaluation mode.
        clip: ``B T C H W``, what the network takes.

    Raises:
        DoesNotApplyError: nothing in the network is a map: it works on tokens.
        LayoutError: the clip has another layout.
    """
    layer = model.backbone.get_submodule(model.classifier)
    is_map = _describe_maps(model, clip)
    watcher = _Watcher(is_map)
    handle = layer.register_forward_pre_hook(watcher.stop)
    try:
        # A network that is frozen has gradients too, because its input asks for them.
        with _graph(), watcher:
            logits = model(clip.detach().clone().requires_grad_())
    finally:
        handle.remove()
    maps = watcher.list_last()
    if not maps:
        raise DoesNotApplyError(
            f"{type(model.backbone).__name__} ends without a map B T C H W (it cuts frames into tokens, or lays "
            "its maps out otherwise), so there are no places to point at"
        )
    head = _probe_classifier(layer, watcher.taken)
    chosen = None
    if head is not None:
        seen = (one for one in reversed(maps) if _is_mean(model.layout.clip(one), *head, logits))
        chosen = next(seen, None)
    reason = ""
    if head is None or chosen is None:
        head, chosen = None, maps[-1]
        reason = (
            f"{type(model.backbone).__name__}'s classifier {model.classifier!r} is no linear function of the last "
            "map's mean, so no weights of a class can be laid over the map"
        )
    return LastMap(
        model.layout.clip(chosen).detach(),
        logits.detach(),
        _differentiate(model, logits, chosen),
        None if head is None else head[0],
        None if head is None else head[1],
        reason,
    )


@contextmanager
def _graph() -> Iterator[None]:
    """Gradients, wherever the caller stands; and no cuDNN, whose recurrent cells have none in evaluation."""
    with torch.inference_mode(False), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        yield


def _differentiate(model: VideoModel, logits: Logits, inside: Tensor) -> Callable[[Sequence[int]], Tensor]:
    def differentiate(labels: Sequence[int]) -> Tensor:
        with _graph():
            chosen = logits[torch.arange(len(logits)), list(labels)]
            (gradient,) = torch.autograd.grad(chosen.sum(), inside, retain_graph=True)
        return model.layout.clip(gradient)

    return differentiate


def _describe_maps(model: VideoModel, clip: Clip) -> Callable[[Tensor], bool]:
    """Whether a tensor inside the network is a map of these clips."""
    folded = isinstance(model.layout, Fold)
    count = clip.shape[0] * clip.shape[1] if folded else clip.shape[0]
    frames = Trace((clip.shape[3], clip.shape[4]), rank=4 if folded else 5)
    return lambda tensor: tensor.requires_grad and tensor.shape[0] == count and frames.is_map(tensor.shape)


class _Watcher(TorchFunctionMode):
    """Keeps the last maps that torch's functions return, whether or not a module's forward returns them."""

    def __init__(self, is_map: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self._maps: deque[tuple[Tensor, int]] = deque(maxlen=_KEPT)
        self._is_map, self._layers, self._stopped = is_map, 0, False
        self.taken = torch.empty(0)  # what the classifier was given

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._stopped or not isinstance(result, Tensor):
            return result
        self._layers += any(isinstance(value, nn.Parameter) and value.ndim > 1 for value in args)
        if result.ndim in (4, 5) and self._is_map(result):
            if self._maps and self._maps[-1][0] is result:  # what is changed in place is the same map
                self._maps.pop()
            self._maps.append((result, self._layers))
        return result

    def stop(self, _layer: nn.Module, args: tuple[Any, ...]) -> None:
        """The classifier has been reached."""
        self._stopped, self.taken = True, args[0].detach()

    def list_last(self) -> list[Tensor]:
        """The maps that no more than a head's layers follow; those of one pixel only where there are no others."""
        last = [one for one, layers in self._maps if self._layers - layers <= _HEAD_LAYERS]
        return [one for one in last if one.shape[-2] * one.shape[-1] > 1] or last[-1:]


@torch.no_grad()
def _probe_classifier(layer: nn.Module, taken: Tensor) -> tuple[Tensor, Tensor] | None:
    """Weights ``K C`` and bias ``K`` of a classifier, if it is linear: what it gives for zeros and unit vectors.

    Args:
        layer: linear layers, or convolutions of one pixel, whatever they are wrapped in.
        taken: what it took when the clips passed.
    """
    convolutions = [part for part in layer.modules() if isinstance(part, nn.modules.conv._ConvNd)]
    if any(set(part.kernel_size) != {1} for part in convolutions):
        return None
    axis = 1 if convolutions else taken.ndim - 1
    width = taken.shape[axis]
    units = torch.eye(width + 1, width, dtype=taken.dtype, device=taken.device)
    shape = [width + 1, *(width if place == axis else 1 for place in range(1, taken.ndim))]
    scores = layer(units.roll(1, dims=0).view(shape)).flatten(1)
    return (scores[1:] - scores[0]).T, scores[0]


@torch.no_grad()
def _is_mean(features: Tensor, weights: Tensor, bias: Tensor, logits: Tensor) -> bool:
    """Whether the logits are those that the classifier gives for the mean of the map."""
    if features.shape[2] != weights.shape[1] or len(weights) != logits.shape[1]:
        return False
    found = features.float().mean(dim=(1, 3, 4)) @ weights.float().T + bias.float()
    scale = float(logits.abs().max())
    return torch.allclose(found, logits.float(), rtol=1e-3, atol=1e-4 * max(1.0, scale))
