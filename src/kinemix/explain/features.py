"""Features of a set of videos: what a network makes of each, before the classifier or at any of its layers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from kinemix.data.dataset import Batch
from kinemix.errors import ConfigError, DataError, did_you_mean
from kinemix.evaluate.evaluator import FRAMES_AT_ONCE
from kinemix.models.video import VideoModel

FEATURES = "features"
"""Name of what the classifier sees."""


@dataclass(frozen=True)
class Features:
    """Vectors of N videos.

    Attributes:
        vectors: ``N F``, float32, by layer; :data:`FEATURES` for what the classifier sees.
        indices: N places of the videos in the dataset.
        unreadable: videos that gave no frames, and why.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    indices: NDArray[np.int64]
    unreadable: tuple[tuple[str, str], ...] = ()


@torch.inference_mode()
def collect_features(
    model: VideoModel,
    loader: Iterable[Batch],
    *,
    layers: Sequence[str] = (FEATURES,),
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], object] | None = None,
) -> Features:
    """One vector a video and layer: maps are averaged over space, frames over time, and views over the video.

    Args:
        model: put in evaluation mode.
        loader: a test loader; its clips are ``B V T C H W``.
        layers: paths of modules in the backbone; :data:`FEATURES` for what the classifier sees.
        device: of the model.
        on_batch: called with the number of videos of every batch that is done.

    Raises:
        ConfigError: no such layer, or one that gives no tensor of features.
        DataError: no video could be read.
    """
    model.eval()
    rows: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    indices, unreadable = [], []
    with _Listener(model, layers) as listener:
        for batch in loader:
            unreadable += [(video.path, video.reason) for video in batch.unreadable]
            if len(batch.indices):
                found = _describe_views(model, listener, batch.clips, device)
                for layer in layers:
                    rows[layer].append(found[layer].unflatten(0, batch.clips.shape[:2]).mean(dim=1))
                indices.append(batch.indices)
            if on_batch is not None:
                on_batch(len(batch.indices) + len(batch.unreadable))
    if not indices:
        raise DataError(
            f"none of {len(unreadable)} videos could be read; the first: {': '.join(unreadable[0])}"
        )
    return Features(
        {layer: torch.cat(parts).numpy() for layer, parts in rows.items()},
        torch.cat(indices).numpy(),
        tuple(unreadable),
    )


def _describe_views(
    model: VideoModel, listener: "_Listener", views: Tensor, device: torch.device | str
) -> dict[str, Float[Tensor, "BV F"]]:
    clips = views.flatten(0, 1)
    at_once = max(1, FRAMES_AT_ONCE.get(torch.device(device).type, FRAMES_AT_ONCE["cuda"]) // clips.shape[1])
    parts: list[dict[str, Tensor]] = []
    for part in clips.split(at_once):
        model(part.to(device))
        parts.append(listener.take())
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}


class _Listener:
    """Notes what passes at some layers."""

    def __init__(self, model: VideoModel, layers: Sequence[str]) -> None:
        self._model, self._seen, self._handles = model, {}, []  # type: ignore[var-annotated]
        modules = {name: module for name, module in model.backbone.named_modules() if name}
        for layer in layers:
            if layer != FEATURES and layer not in modules:
                raise ConfigError(f"the network has no layer {layer!r}: {did_you_mean(layer, modules)}")
        self._modules = {layer: modules.get(layer) for layer in layers}

    def __enter__(self) -> "_Listener":
        for layer, module in self._modules.items():
            if module is None:
                classifier = self._model.backbone.get_submodule(self._model.classifier)
                self._handles.append(classifier.register_forward_pre_hook(self._note_input))
            else:
                self._handles.append(module.register_forward_hook(self._note_output(layer)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def take(self) -> dict[str, Tensor]:
        """What passed at every layer, one vector a clip; forgotten afterwards."""
        taken, self._seen = self._seen, {}
        for layer in self._modules:
            if layer not in taken:
                raise ConfigError(f"layer {layer!r} was never used while a clip passed: choose another")
        return taken

    def _note_input(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        self._seen[FEATURES] = self._average(args[0])

    def _note_output(self, layer: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def note(_module: nn.Module, _args: tuple[Any, ...], result: Any) -> None:
            if not isinstance(result, Tensor) or result.ndim < 2:
                raise ConfigError(f"layer {layer!r} gives {type(result).__name__}, no tensor of features")
            self._seen[layer] = self._average(result)

        return note

    def _average(self, inside: Tensor) -> Tensor:
        """One vector a clip, of a map, of tokens ``N L F``, or of vectors."""
        flat = inside.mean(dim=1) if inside.ndim == 3 else inside
        return self._model.layout.features(flat).mean(dim=1).float().cpu()
