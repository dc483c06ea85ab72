"""How sure a figure is, and whether two networks differ: the bootstrap over samples, and McNemar's exact test.

Two networks that answered the same samples are compared pair by pair: what both get right or both get wrong says
nothing about which is better, only the samples that one alone gets right do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from kinemix.errors import DataError
from kinemix.evaluate.metrics import compute_metrics, count_classes, mean_class_accuracy
from kinemix.evaluate.scores import Scores

DRAWS, LEVEL = 1000, 0.95
"""Of the bootstrap: repetitions, and the share of them that an interval holds."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and the interval that holds it with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Accuracies of one network, as shares, with their intervals; ``top5`` is unknown of a confusion matrix."""

    count: int
    top1: Interval
    top5: Interval | None
    mean_class: Interval


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Two networks on the same samples.

    Attributes:
        both, only_first, only_second, neither: samples, by who is right.
        difference: top-1 of the first minus top-1 of the second.
        p_value: of McNemar's exact test: how likely so uneven a split of the samples that one alone gets right is,
            if both were equally good.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: Interval
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two networks' answers to the same samples go together, in numbers of samples.

    Attributes:
        both_right, only_first, only_second: by who is right.
        same_mistake, other_mistake: both wrong, with one answer or with two.
        kappa: Cohen's kappa of the answers: 1 where they are the same, 0 where they agree as by chance.
    """

    both_right: int
    only_first: int
    only_second: int
    same_mistake: int
    other_mistake: int
    kappa: float

    @property
    def share(self) -> float:
        """Of the samples, those with one answer."""
        same = self.both_right + self.same_mistake
        return same / (same + self.only_first + self.only_second + self.other_mistake)


def measure_agreement(first: Scores, second: Scores) -> Agreement:
    """Whether two networks answer alike, right or wrong.

    Args:
        first, second: of the same samples in the same order.

    Raises:
        DataError: they are not the same samples.
    """
    check_same_samples(first, second)
    a, b = is_right(first), is_right(second)
    answers = first.logits.argmax(axis=1), second.logits.argmax(axis=1)
    wrong, same = ~a & ~b, answers[0] == answers[1]
    constant = len(np.unique(np.concatenate(answers))) == 1  # kappa is 0 / 0 there
    return Agreement(
        both_right=int((a & b).sum()),
        only_first=int((a & ~b).sum()),
        only_second=int((b & ~a).sum()),
        same_mistake=int((wrong & same).sum()),
        other_mistake=int((wrong & ~same).sum()),
        kappa=1.0 if constant else float(cohen_kappa_score(*answers)),
    )


def measure_scores(scores: Scores, *, draws: int = DRAWS, seed: int = 0) -> Figures:
    """Top-1, top-5 and mean class accuracy with percentile bootstrap intervals over the samples.

    Where all samples are right, or none, every draw gives the same; the interval is the exact binomial one then
    (Clopper and Pearson).

    Args:
        scores: of one network.
        draws: repetitions of the bootstrap.
        seed: of the bootstrap; equal seeds draw equal samples from files of equal length.

    Raises:
        DataError: no samples.
    """
    metrics = compute_metrics(scores.logits, scores.labels, scores.class_names)
    labels, top1, top5 = scores.labels, is_right(scores), is_right(scores, k=5)
    num_classes = len(scores.class_names)
    low, high = _bootstrap(
        lambda rows: (
            top1[rows].mean(),
            top5[rows].mean(),
            _mean_class(labels[rows], top1[rows], num_classes),
        ),
        count=len(labels),
        draws=draws,
        seed=seed,
    )
    values = (metrics.top1, metrics.top5, metrics.mean_class)
    count = len(labels)
    intervals = [_enclose(v, a, b, count=count) for v, a, b in zip(values, low, high, strict=True)]
    return Figures(count=count, top1=intervals[0], top5=intervals[1], mean_class=intervals[2])


def measure_confusion(counts: NDArray[np.integer], *, draws: int = DRAWS, seed: int = 0) -> Figures:
    """Top-1 and mean class accuracy from a confusion matrix alone, with the same intervals.

    Args:
        counts: ``K K``; rows are labels, columns are answers.
        draws, seed: as in :func:`measure_scores`.

    Raises:
        DataError: no samples.
    """
    if not counts.sum():
        raise DataError("the confusion matrix holds no samples: there is nothing to count")
    place = np.repeat(np.arange(counts.size), counts.ravel())
    labels, answers = np.divmod(place, len(counts))
    right = labels == answers
    low, high = _bootstrap(
        lambda rows: (right[rows].mean(), _mean_class(labels[rows], right[rows], len(counts))),
        count=len(labels),
        draws=draws,
        seed=seed,
    )
    count, mean_class = len(labels), mean_class_accuracy(count_classes(counts))
    return Figures(
        count=count,
        top1=_enclose(float(right.mean()), low[0], high[0], count=count),
        top5=None,
        mean_class=_enclose(mean_class, low[1], high[1], count=count),
    )


def compare_scores(first: Scores, second: Scores, *, draws: int = DRAWS, seed: int = 0) -> PairedComparison:
    """Two networks on the same samples, in the same order (:func:`kinemix.evaluate.ensemble.align_scores`).

    Raises:
        DataError: they are not the same samples.
    """
    check_same_samples(first, second)
    a, b = is_right(first), is_right(second)
    gain = a.astype(float) - b
    low, high = _bootstrap(lambda rows: (gain[rows].mean(),), count=len(gain), draws=draws, seed=seed)
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    return PairedComparison(
        both=int((a & b).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~a & ~b).sum()),
        difference=Interval(value=float(gain.mean()), low=low[0], high=high[0]),
        p_value=mcnemar_exact(only_first, only_second),
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test (a binomial test of one half).

    Args:
        only_first, only_second: samples that only one of the two gets right.

    Returns:
        ``min(1, 2 P(X <= min))`` with X binomial; 1 where there are no such samples.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    ways = term = 1  # whole numbers, so that nothing is lost however many samples there are
    for i in range(fewer):
        term = term * (total - i) // (i + 1)
        ways += term
    return min(1.0, 2 * ways / 2**total)


def check_same_samples(first: Scores, second: Scores) -> None:
    """Raise a :class:`DataError` unless both are about the same samples in the same order."""
    if first.ids != second.ids or not np.array_equal(first.labels, second.labels):
        raise DataError("two networks are compared on the same samples: align their scores first")


def is_right(scores: Scores, *, k: int = 1) -> NDArray[np.bool_]:
    """For each sample, whether its label is among the ``k`` highest logits; equal logits rank by class number."""
    ranked = np.argsort(-scores.logits, axis=1, kind="stable")[:, :k]
    return (ranked == scores.labels[:, None]).any(axis=1)


def _mean_class(labels: NDArray[np.integer], right: NDArray[np.bool_], num_classes: int) -> float:
    counts = np.bincount(labels, minlength=num_classes)
    rights = np.bincount(labels, weights=right, minlength=num_classes)
    return float((rights[counts > 0] / counts[counts > 0]).mean())


def _enclose(value: float, low: float, high: float, *, count: int) -> Interval:
    """The interval of a share, from its bootstrap; the exact one where every sample says the same."""
    edge = ((1 - LEVEL) / 2) ** (1 / count)
    return Interval(value=value, low=edge if value == 1 else low, high=1 - edge if value == 0 else high)


def _bootstrap(
    measure: Callable[[NDArray[np.int64]], tuple[float, ...]], *, count: int, draws: int, seed: int
) -> tuple[list[float], list[float]]:
    """Lower and upper ends of the intervals of what ``measure`` gives for drawn rows."""
    if not count:
        raise DataError("no samples: there is nothing to count")
    generator = np.random.default_rng(seed)
    drawn = np.array([measure(generator.integers(count, size=count)) for _ in range(draws)])
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return low.tolist(), high.tolist()
