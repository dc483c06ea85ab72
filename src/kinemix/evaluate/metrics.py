"""What is counted over logits and labels: accuracies, the confusion matrix, and the opposite share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from kinemix.errors import DataError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """How one class fared; ``accuracy`` is ``None`` where no sample has that label."""

    name: str
    count: int
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Figures of one test, as shares from 0 to 1.

    Attributes:
        count: samples.
        top1: share whose label has the highest logit.
        top5: share whose label is among the five highest (all classes, where there are fewer).
        mean_class: mean over classes of the share that is right; classes without samples do not count.
        per_class: one entry a class, in the order of the labels.
        confusion: ``K K`` counts; rows are labels, columns are answers.
    """

    count: int
    top1: float
    top5: float
    mean_class: float
    per_class: tuple[ClassAccuracy, ...]
    confusion: NDArray[np.int64]


def compute_metrics(
    logits: NDArray[np.floating], labels: NDArray[np.integer], class_names: Sequence[str]
) -> Metrics:
    """All figures of one test.

    Args:
        logits: ``N K``.
        labels: ``N``, from 0 to K - 1.
        class_names: K names.

    Raises:
        DataError: no samples, or a label out of range.
    """
    count, num_classes = logits.shape
    if count == 0:
        raise DataError("no sample could be tested: there is nothing to count")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"labels run from {labels.min()} to {labels.max()}, but the model has {num_classes}")
    confusion = confusion_matrix(labels, logits.argmax(axis=1), labels=np.arange(num_classes))
    per_class = tuple(
        ClassAccuracy(
            name=name, count=int(row.sum()), accuracy=float(row[k] / row.sum()) if row.sum() else None
        )
        for k, (name, row) in enumerate(zip(class_names, confusion, strict=True))
    )
    return Metrics(
        count=count,
        top1=topk_accuracy(logits, labels, k=1),
        top5=topk_accuracy(logits, labels, k=5),
        mean_class=float(np.mean([c.accuracy for c in per_class if c.accuracy is not None])),
        per_class=per_class,
        confusion=confusion,
    )


def topk_accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer], *, k: int) -> float:
    """Share of the samples whose label is among the ``k`` highest logits; equal logits rank by class number.

    Args:
        logits: ``N K``.
        labels: ``N``.
        k: answers that count.
    """
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((ranked == labels[:, None]).any(axis=1).mean())


def opposite_share(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    pairs: Iterable[tuple[str, str]],
) -> float:
    """Share of the samples answered with the opposite class of their pair, meant for reversed clips.

    Args:
        logits: ``N K``.
        labels: ``N``, the labels of the clips before they were reversed.
        class_names: K names.
        pairs: classes of which one is the other played backwards; samples of other classes do not count.

    Raises:
        DataError: a pair names an unknown class, or no sample belongs to a pair.
    """
    opposite: dict[int, int] = {}
    names = list(class_names)
    for pair in pairs:
        for name in pair:
            if name not in names:
                raise DataError(f"pair {pair}: no class {name!r}: {did_you_mean(name, names)}")
        first, second = (names.index(name) for name in pair)
        opposite[first], opposite[second] = second, first
    paired = np.isin(labels, list(opposite))
    if not paired.any():
        raise DataError("no sample belongs to a class of the pairs: the opposite share is not defined")
    expected = np.array([opposite[int(label)] for label in labels[paired]])
    return float((logits[paired].argmax(axis=1) == expected).mean())


def metrics_to_dict(metrics: Metrics) -> dict[str, Any]:
    """The figures as JSON can hold them."""
    return {
        "count": metrics.count,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "mean_class": metrics.mean_class,
        "per_class": {c.name: {"count": c.count, "accuracy": c.accuracy} for c in metrics.per_class},
        "confusion": metrics.confusion.tolist(),
    }
