"""Testing: every view of every video through the network, averaged as the protocol says.

One function turns the views of a video into logits (:func:`score_views`); validation, tests and predictions
all call it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinemix.config import Protocol
from kinemix.data.dataset import Batch
from kinemix.errors import KinemixError
from kinemix.evaluate.scores import Scores
from kinemix.types import Logits

Views: TypeAlias = Float[Tensor, "B V T C H W"]

VIEWS_AT_ONCE = 64
"""Clips in one forward pass: thirty views of many videos do not fit into memory together."""


def evaluate(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    ids: Sequence[str],
    class_names: Sequence[str],
    protocol: Protocol,
    mirrored_labels: Sequence[int] | None = None,
    order: str = "forward",
    description: Any = None,
    device: torch.device | str = "cpu",
    views_at_once: int = VIEWS_AT_ONCE,
    on_batch: Callable[[int], object] | None = None,
) -> Scores:
    """Scores of every sample that the loader gives.

    Args:
        model: clips to logits; it is put in evaluation mode, and back.
        loader: a test loader; its clips are ``B V T C H W``.
        ids: name of each sample of the dataset, by index.
        class_names: K names.
        protocol: how the loader shows the videos.
        mirrored_labels: for each class, that of its mirror image; only ten crops need it.
        order: order of the frames in the loader, for the record.
        description: of the model, for the record.
        device: of the model.
        views_at_once: clips in one forward pass.
        on_batch: called with the number of videos of every batch that is done.

    Raises:
        KinemixError: a logit is not a finite number; the message names the video.
    """
    rows: list[tuple[int, int, Tensor]] = []
    unreadable: list[tuple[str, str]] = []
    was_training = model.training
    model.eval()
    try:
        for batch in loader:
            unreadable += [(video.path, video.reason) for video in batch.unreadable]
            if len(batch.labels):
                logits = score_views(
                    model,
                    batch.clips,
                    protocol=protocol,
                    mirrored_labels=mirrored_labels,
                    device=device,
                    views_at_once=views_at_once,
                )
                indices = batch.indices.tolist()
                check_finite(logits, [ids[index] for index in indices])
                rows += zip(indices, batch.labels.tolist(), logits, strict=True)
            if on_batch is not None:
                on_batch(len(batch.labels) + len(batch.unreadable))
    finally:
        model.train(was_training)
    rows.sort(key=lambda row: row[0])
    empty = torch.zeros(0, len(class_names))
    return Scores(
        ids=tuple(ids[index] for index, _, _ in rows),
        indices=np.array([index for index, _, _ in rows], np.int64),
        logits=(torch.stack([logits for _, _, logits in rows]) if rows else empty).numpy(),
        labels=np.array([label for _, label, _ in rows], np.int64),
        class_names=tuple(class_names),
        protocol=protocol,
        order=order,
        model=description,
        unreadable=tuple(unreadable),
    )


@torch.inference_mode()
def score_views(
    model: nn.Module,
    views: Views,
    *,
    protocol: Protocol,
    mirrored_labels: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    views_at_once: int = VIEWS_AT_ONCE,
) -> Logits:
    """One row of logits a video: each view through the network, then the protocol's average.

    Args:
        model: clips ``B T C H W`` to logits, in evaluation mode.
        views: ``B V T C H W``, what :func:`kinemix.data.views.read_views` gives for each of B videos.
        protocol: of the views.
        mirrored_labels: as in :func:`evaluate`.
        device: of the model.
        views_at_once: clips in one forward pass.

    Returns:
        ``B K`` on the CPU, float32. Where the protocol averages probabilities, their logarithms.
    """
    clips = views.flatten(0, 1)
    parts = [model(part.to(device, non_blocking=True)).float().cpu() for part in clips.split(views_at_once)]
    logits = torch.cat(parts).unflatten(0, views.shape[:2])
    if protocol.num_crops == 10 and mirrored_labels is not None:
        logits = _mirror_back(logits, mirrored_labels)
    if protocol.average == "probabilities":
        return logits.softmax(dim=-1).mean(dim=1).log()
    return logits.mean(dim=1)


def check_finite(logits: Tensor, ids: Sequence[str]) -> None:
    """Raise unless all of ``B K`` logits are finite; the error names the first video that gave another.

    Logarithms of probabilities that have vanished are allowed.
    """
    bad = (logits.isnan() | (logits == torch.inf)).any(dim=1)
    if bad.any():
        first = ids[int(bad.nonzero()[0])]
        raise KinemixError(
            f"{first}: the model's answer is not finite; its weights are broken: take another one"
        )


def _mirror_back(logits: Tensor, mirrored_labels: Sequence[int]) -> Tensor:
    """Ten crops are five and their mirror images; in those, what is labelled "left" is seen as "right"."""
    mirrored = torch.arange(logits.shape[1]) % 10 >= 5
    swapped = logits[:, :, list(mirrored_labels)]
    return torch.where(mirrored[None, :, None], swapped, logits)
