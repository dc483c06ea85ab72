"""What is counted over logits and labels: accuracies, the confusion matrix, the opposite share; of several tasks,
all of that for each; and, where a sample has several labels, average precision.

Whatever a test measures (:func:`measure`) has a ``headline``, by which checkpoints are chosen, one line that describes
it, and a ``summary`` of plain numbers for a log.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support

from kinemix.errors import DataError, did_you_mean
from kinemix.label_space import LabelSpace

_LARGEST_MATRIX = 1000
"""Classes up to which the confusion is written as a matrix."""


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """How one class fared; ``accuracy`` is ``None`` where no sample has that label."""

    name: str
    count: int
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class ManyShot:
    """Means over the frequent classes that occur in a test, as the EPIC-Kitchens challenge has them.

    Attributes:
        classes: how many those are.
        precision: mean over them of the share of a class's answers that are right; 0 where it is never answered.
        recall: mean over them of the share of a class's samples that are answered rightly.
    """

    classes: int
    precision: float
    recall: float


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
        many_shot: of the frequent classes, where the dataset names some and the test has any.
    """

    count: int
    top1: float
    top5: float
    mean_class: float
    per_class: tuple[ClassAccuracy, ...]
    confusion: NDArray[np.int64]
    many_shot: ManyShot | None = None

    @property
    def headline(self) -> float:
        """The figure by which checkpoints are chosen."""
        return self.top1

    def describe(self) -> str:
        """The headline in words."""
        return f"top-1 {self.top1:.1%}"

    def summary(self) -> dict[str, float]:
        """The figures that are one number each, as a log can hold them."""
        figures = {"top1": self.top1, "top5": self.top5, "mean_class": self.mean_class}
        if self.many_shot is not None:
            figures |= {
                "many_shot_precision": self.many_shot.precision,
                "many_shot_recall": self.many_shot.recall,
            }
        return figures


@dataclass(frozen=True, kw_only=True)
class TaskMetrics:
    """Figures of a test that asks several questions.

    Attributes:
        by_task: of each, in the order of the logits; the last is the leading one.
    """

    by_task: Mapping[str, Metrics]

    @property
    def count(self) -> int:
        """Samples."""
        return self._leading.count

    @property
    def headline(self) -> float:
        """Top-1 of the leading task, by which checkpoints are chosen."""
        return self._leading.headline

    def describe(self) -> str:
        """Top-1 of every task in words."""
        return ", ".join(f"{task} {metrics.describe()}" for task, metrics in self.by_task.items())

    def summary(self) -> dict[str, float]:
        """The figures that are one number each, with their task in front: ``verb_top1``."""
        return {
            f"{task}_{name}": value
            for task, metrics in self.by_task.items()
            for name, value in metrics.summary().items()
        }

    @property
    def _leading(self) -> Metrics:
        return list(self.by_task.values())[-1]


def list_figures(space: LabelSpace) -> tuple[str, ...]:
    """Names of all figures that the summary of a test about these classes can have."""
    if space.multilabel:
        return ("mean_average_precision",)
    if space.tasks:
        return tuple(f"{task}_{name}" for task in space.tasks for name in list_figures(space.pick(task)))
    many_shot = ("many_shot_precision", "many_shot_recall") if space.many_shot else ()
    return ("top1", "top5", "mean_class", *many_shot)


def measure(logits: NDArray[np.floating], labels: NDArray[Any], space: LabelSpace) -> "AnyMetrics":
    """All figures of one test, whatever is asked.

    Args:
        logits: ``N K``.
        labels: as :class:`kinemix.label_space.LabelSpace` has them.
        space: what the logits are about.

    Raises:
        DataError: no samples, or labels that nobody knows.
    """
    if space.multilabel:
        return compute_multilabel_metrics(logits, labels, space.class_names)
    if not space.tasks:
        return compute_metrics(logits, labels, space.class_names, many_shot=space.many_shot)
    return TaskMetrics(
        by_task={
            task: compute_metrics(
                logits[:, place],
                labels[:, number],
                space.class_names[place],
                many_shot=space.pick(task).many_shot,
            )
            for number, (task, place) in enumerate(space.places.items())
        }
    )


def compute_metrics(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    *,
    many_shot: Collection[int] = (),
) -> Metrics:
    """All figures of one task.

    Args:
        logits: ``N K``.
        labels: ``N``, from 0 to K - 1.
        class_names: K names.
        many_shot: classes that are frequent in training.

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
        many_shot=measure_many_shot(logits, labels, many_shot),
    )


def measure_many_shot(
    logits: NDArray[np.floating], labels: NDArray[np.integer], classes: Collection[int]
) -> ManyShot | None:
    """Mean precision and recall over those of the classes that some sample has; ``None`` where there are none.

    Source: the action recognition challenge of EPIC-Kitchens-55 (Damen et al., "Scaling Egocentric Vision").
    """
    tested = np.intersect1d(np.array(sorted(classes), np.int64), labels)
    if not len(tested):
        return None
    precision, recall, _, _ = precision_recall_fscore_support(
        labels, logits.argmax(axis=1), labels=tested, average=None, zero_division=0
    )
    return ManyShot(classes=len(tested), precision=float(precision.mean()), recall=float(recall.mean()))


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

    @property
    def headline(self) -> float:
        """The figure by which checkpoints are chosen."""
        return self.mean_average_precision

    @property
    def absent(self) -> tuple[str, ...]:
        """Labels that no sample has: they are in no mean."""
        return tuple(c.name for c in self.per_class if c.average_precision is None)

    def describe(self) -> str:
        """The headline in words."""
        return f"mAP {self.mean_average_precision:.1%}"

    def summary(self) -> dict[str, float]:
        """The figures that are one number each, as a log can hold them."""
        return {"mean_average_precision": self.mean_average_precision}


AnyMetrics: TypeAlias = Metrics | TaskMetrics | MultiLabelMetrics
"""What a test measures: one task, several, or several labels a sample."""


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


def metrics_to_dict(metrics: AnyMetrics) -> dict[str, Any]:
    """The figures as JSON can hold them."""
    if isinstance(metrics, TaskMetrics):
        return {"count": metrics.count, "tasks": {t: metrics_to_dict(m) for t, m in metrics.by_task.items()}}
    if isinstance(metrics, MultiLabelMetrics):
        return {
            "count": metrics.count,
            **metrics.summary(),
            "without_positives": list(metrics.absent),
            "per_class": {
                c.name: {"count": c.count, "average_precision": c.average_precision}
                for c in metrics.per_class
            },
        }
    return {
        "count": metrics.count,
        **metrics.summary(),
        **({} if metrics.many_shot is None else {"many_shot_classes": metrics.many_shot.classes}),
        "per_class": {c.name: {"count": c.count, "accuracy": c.accuracy} for c in metrics.per_class},
        **_confusion_to_dict(metrics.confusion),
    }


def _confusion_to_dict(confusion: NDArray[np.int64]) -> dict[str, Any]:
    """The matrix, or label, answer and count of every entry above 0 where it is large: it is nearly empty then."""
    if len(confusion) <= _LARGEST_MATRIX:
        return {"confusion": confusion.tolist()}
    labels, answers = confusion.nonzero()
    counts = confusion[labels, answers]
    return {"confusion_entries": np.stack([labels, answers, counts], axis=1).tolist()}
