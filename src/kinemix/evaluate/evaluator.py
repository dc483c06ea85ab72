"""Testing: every view of every video through the network, averaged as the protocol says.

One function gives the logits of views (:func:`score_each_view`) and one averages them (:func:`average_views`);
validation, tests and predictions all call them. The network sees views of several videos at once, whatever the
loader's batches are: enough frames to keep the machine busy, never more than fit into memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinemix.config import Protocol
from kinemix.data.dataset import Batch
from kinemix.errors import KinemixError
from kinemix.evaluate.protocol import check_mirrors
from kinemix.evaluate.scores import Scores
from kinemix.label_space import LabelSpace
from kinemix.types import Logits

Views: TypeAlias = Float[Tensor, "B V T C H W"]
ViewLogits: TypeAlias = Float[Tensor, "B V K"]

FRAMES_AT_ONCE = {"cpu": 32, "cuda": 512}
"""Frames in one forward pass, by the kind of device. On a processor, 32 frames of 224 px took a quarter less time each
than 128 did (ResNet-50, two cores); a GPU is empty with so few (not measured)."""


def evaluate(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    ids: Sequence[str],
    uids: Sequence[str] = (),
    space: LabelSpace,
    protocol: Protocol,
    mirrored_labels: Sequence[int | None] | None = None,
    order: str = "forward",
    description: Any = None,
    device: torch.device | str = "cpu",
    frames_at_once: int | None = None,
    keep_views: bool = False,
    on_batch: Callable[[int], object] | None = None,
) -> Scores:
    """Scores of every sample that the loader gives.

    Args:
        model: clips to logits; it is put in evaluation mode, and back.
        loader: a test loader; its clips are ``B V T C H W``, of any size.
        ids: name of each sample of the dataset, by index.
        uids: the dataset's own name of each, where it has some.
        space: what the K logits are about.
        protocol: how the loader shows the videos.
        mirrored_labels: for each class, that of its mirror image; only ten crops need it.
        order: order of the frames in the loader, for the record.
        description: of the model, for the record.
        device: of the model.
        frames_at_once: frames in one forward pass; by default :data:`FRAMES_AT_ONCE`.
        keep_views: keep the logits of every view too (:attr:`kinemix.evaluate.scores.Scores.view_logits`).
        on_batch: called with the number of videos of every batch that is done.

    Raises:
        ConfigError: ten crops, and a class whose mirror image is no class.
        KinemixError: a logit is not a finite number; the message names the video.
    """
    check_mirrors(protocol, mirrored_labels, space.class_names)
    rows: list[tuple[int, Tensor, Tensor]] = []
    unreadable: list[tuple[str, str]] = []
    frames_at_once = frames_at_once or _frames_at_once(device)
    was_training = model.training
    model.eval()
    try:
        for batch in _pool(loader, frames_at_once):
            unreadable += [(video.path, video.reason) for video in batch.unreadable]
            if len(batch.labels):
                logits = score_each_view(
                    model,
                    batch.clips,
                    protocol=protocol,
                    mirrored_labels=mirrored_labels,
                    device=device,
                    frames_at_once=frames_at_once,
                )
                indices = batch.indices.tolist()
                check_finite(logits.flatten(1), [ids[index] for index in indices])
                # Copied: the loader's own memory is shared, and there is only so much of it.
                rows += zip(indices, batch.labels.clone(), logits, strict=True)
            if on_batch is not None:
                on_batch(len(batch.labels) + len(batch.unreadable))
    finally:
        model.train(was_training)
    rows.sort(key=lambda row: row[0])
    num_views = protocol.num_clips * protocol.num_crops
    views = torch.zeros(0, num_views, len(space.class_names))
    labels = torch.zeros(0, *space.answer_shape, dtype=torch.int64)
    if rows:
        views = torch.stack([logits for _, _, logits in rows])
        labels = torch.stack([label for _, label, _ in rows])
    return Scores(
        ids=tuple(ids[index] for index, _, _ in rows),
        indices=np.array([index for index, _, _ in rows], np.int64),
        logits=average_views(views, protocol=protocol, space=space).numpy(),
        labels=labels.numpy(),
        space=space,
        protocol=protocol,
        order=order,
        model=description,
        unreadable=tuple(unreadable),
        view_logits=views.numpy() if keep_views else None,
        uids=tuple(uids[index] for index, _, _ in rows) if uids else (),
    )


def score_views(
    model: nn.Module,
    views: Views,
    *,
    protocol: Protocol,
    space: LabelSpace,
    mirrored_labels: Sequence[int | None] | None = None,
    device: torch.device | str = "cpu",
    frames_at_once: int | None = None,
) -> Logits:
    """One row of logits a video: each view through the network, then the protocol's average.

    Args:
        model, views, protocol, mirrored_labels, device, frames_at_once: as in :func:`score_each_view`.
        space: as in :func:`average_views`.

    Returns:
        ``B K`` on the CPU, float32.
    """
    logits = score_each_view(
        model,
        views,
        protocol=protocol,
        mirrored_labels=mirrored_labels,
        device=device,
        frames_at_once=frames_at_once,
    )
    return average_views(logits, protocol=protocol, space=space)


@torch.inference_mode()
def score_each_view(
    model: nn.Module,
    views: Views,
    *,
    protocol: Protocol,
    mirrored_labels: Sequence[int | None] | None = None,
    device: torch.device | str = "cpu",
    frames_at_once: int | None = None,
) -> ViewLogits:
    """The logits of each view; those of a mirrored view stand with the classes that the unmirrored video shows.

    Args:
        model: clips ``B T C H W`` to logits, in evaluation mode.
        views: ``B V T C H W``, what :func:`kinemix.data.views.read_views` gives for each of B videos.
        protocol: of the views.
        mirrored_labels: as in :func:`evaluate`.
        device: of the model.
        frames_at_once: frames in one forward pass; by default :data:`FRAMES_AT_ONCE`.

    Returns:
        ``B V K`` on the CPU, float32.
    """
    clips = views.flatten(0, 1)
    at_once = max(1, (frames_at_once or _frames_at_once(device)) // clips.shape[1])
    parts = [model(part.to(device, non_blocking=True)).float().cpu() for part in clips.split(at_once)]
    logits = torch.cat(parts).unflatten(0, views.shape[:2])
    if protocol.num_crops == 10:
        check_mirrors(protocol, mirrored_labels, [str(number) for number in range(logits.shape[-1])])
        logits = _mirror_back(logits, [label for label in mirrored_labels or () if label is not None])
    return logits


def average_views(logits: ViewLogits, *, protocol: Protocol, space: LabelSpace) -> Logits:
    """``B V K`` to ``B K``: the mean of the logits, or logits of the mean probability.

    The latter are its logarithm, within each task; where every class is a yes or no, the logarithm of its odds.

    Args:
        logits: of each view.
        protocol: says what is averaged.
        space: what the logits are about.
    """
    if protocol.average != "probabilities":
        return logits.mean(dim=1)
    if space.multilabel:
        return logits.double().sigmoid().mean(dim=1).logit(eps=1e-12).float()
    return score_classes(logits, space).mean(dim=1).log()


def score_classes(logits: Float[Tensor, "*rows K"], space: LabelSpace) -> Float[Tensor, "*rows K"]:
    """Probabilities: a softmax within each task; where every class is a yes or no, a sigmoid of each."""
    if space.multilabel:
        return logits.sigmoid()
    places = space.places.values() or [slice(None)]
    return torch.cat([logits[..., place].softmax(dim=-1) for place in places], dim=-1)


def _frames_at_once(device: torch.device | str) -> int:
    return FRAMES_AT_ONCE.get(torch.device(device).type, FRAMES_AT_ONCE["cuda"])


def _pool(loader: Iterable[Batch], frames_at_once: int) -> Iterator[Batch]:
    """The loader's batches joined until they hold enough frames for a forward pass; only equal shapes join."""
    waiting: list[Batch] = []
    for batch in loader:
        if waiting and batch.clips.shape[1:] != waiting[0].clips.shape[1:]:
            yield _join(waiting)
            waiting = []
        waiting.append(batch)
        if sum(map(_count_frames, waiting)) >= frames_at_once:
            yield _join(waiting)
            waiting = []
    if waiting:
        yield _join(waiting)


def _count_frames(batch: Batch) -> int:
    """B x V x T."""
    return batch.clips.shape[:3].numel()


def _join(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return Batch(
        torch.cat([batch.clips for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.indices for batch in batches]),
        tuple(video for batch in batches for video in batch.unreadable),
    )


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
