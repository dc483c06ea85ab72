"""What is counted over logits and labels: accuracies, the confusion matrix, the opposite share, and, where a
sample has several labels, average precision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, confusion_matrix

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

    @property
    def headline(self) -> float:
        """The figure by which checkpoints are chosen."""
        return self.top1

    def describe(self) -> str:
        """The headline in words."""
        return f"top-1 {self.top1:.1%}"

    def summary(self) -> dict[str, float]:
        """The figures that are one number each, as a log can hold them."""
        return {"top1": self.top1, "top5": self.top5, "mean_class": self.mean_class}


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
    per_class = count_classes(confusion, class_names)
    return Metrics(
        count=count,
        top1=topk_accuracy(logits, labels, k=1),
        top5=topk_accuracy(logits, labels, k=5),
        mean_class=mean_class_accuracy(per_class),
        per_class=per_class,
        confusion=confusion,
    )


def count_classes(
    confusion: NDArray[np.integer], class_names: Sequence[str] | None = None
) -> tuple[ClassAccuracy, ...]:
    """How each class fared, from a confusion matrix alone.

    Args:
        confusion: ``K K`` counts; rows are labels, columns are answers.
        class_names: K names; by default their numbers.
    """
    names = class_names or [str(k) for k in range(len(confusion))]
    return tuple(
        ClassAccuracy(
            name=name, count=int(row.sum()), accuracy=float(row[k] / row.sum()) if row.sum() else None
        )
        for k, (name, row) in enumerate(zip(names, confusion, strict=True))
    )


def mean_class_accuracy(per_class: Iterable[ClassAccuracy]) -> float:
    """Mean over the classes that have samples of the share that is right."""
    return float(np.mean([c.accuracy for c in per_class if c.accuracy is not None]))


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


@dataclass(frozen=True, kw_only=True)
class ClassPrecision:
    """How well one label was found; ``average_precision`` is ``None`` where no sample has it."""

    name: str
    count: int
    average_precision: float | None


@dataclass(frozen=True, kw_only=True)
class MultiLabelMetrics:
    """Figures of a test whose samples have any number of labels.

    Attributes:
        count: samples.
        mean_average_precision: mean of the labels' average precision (mAP, "macro"); labels that no sample has
            do not count.
        per_class: one entry a label, in the order of the logits.
    """

    count: int
    mean_average_precision: float
    per_class: tuple[ClassPrecision, ...]


def compute_multilabel_metrics(
    logits: NDArray[np.floating], targets: NDArray[Any], class_names: Sequence[str]
) -> MultiLabelMetrics:
    """Average precision of each label, and their mean.

    A label's average precision is the mean over its positives of the precision at their rank, equal logits sharing
    one rank: the step-wise area under the precision-recall curve, without interpolation.

    Args:
        logits: ``N K``; any monotone function of them gives the same figures.
        targets: ``N K``, 1 where the sample has the label, 0 where not.
        class_names: K names.

    Raises:
        DataError: another shape, values other than 0 and 1, or no positive at all.
    """
    if targets.shape != logits.shape:
        raise DataError(f"targets are {targets.shape}, logits {logits.shape}: give N x K for both")
    if not np.isin(targets, (0, 1)).all():
        raise DataError("targets of several labels are 0 or 1: another value stands among them")
    if not targets.any():
        raise DataError("no sample has any label: average precision is not defined")
    per_class = tuple(
        ClassPrecision(
            name=name,
            count=int(target.sum()),
            average_precision=float(average_precision_score(target, score)) if target.any() else None,
        )
        for name, target, score in zip(class_names, targets.T, logits.T, strict=True)
    )
    known = [c.average_precision for c in per_class if c.average_precision is not None]
    return MultiLabelMetrics(
        count=len(logits), mean_average_precision=float(np.mean(known)), per_class=per_class
    )


def metrics_to_dict(metrics: Metrics) -> dict[str, Any]:
    """The figures as JSON can hold them."""
    return {
        "count": metrics.count,
        **metrics.summary(),
        "per_class": {c.name: {"count": c.count, "accuracy": c.accuracy} for c in metrics.per_class},
        "confusion": metrics.confusion.tolist(),
    }
