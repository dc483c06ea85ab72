"""What changed from one network to another, class by class: who was put right, who was lost, and taken for what.

Figure 5d of "Gate-Shift Networks for Video Action Recognition" lists the classes that gain most, each beside the
answer that it was mistaken for before.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinemix.evaluate.compare import check_same_samples, is_right
from kinemix.evaluate.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An answer that samples of another class got, and how many of them."""

    answer: str
    count: int


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """One class under two networks.

    Attributes:
        name: of the class.
        count: samples; 0 where the test has none.
        right_before, right_after: samples that the first and the second network get right.
        corrected: the first alone gets them wrong; rows of the scores.
        lost: the second alone does; likewise.
        was_taken_for: what the first answered to most of the corrected ones.
        is_taken_for: what the second answers to most of the lost ones.
    """

    name: str
    count: int
    right_before: int
    right_after: int
    corrected: tuple[int, ...]
    lost: tuple[int, ...]
    was_taken_for: Mistake | None
    is_taken_for: Mistake | None

    @property
    def gain(self) -> int:
        """Samples right after, less those right before."""
        return self.right_after - self.right_before


def compare_classes(first: Scores, second: Scores) -> list[ClassChange]:
    """How each class fares under the second network, beside the first.

    Args:
        first, second: of the same samples in the same order (:func:`kinemix.evaluate.ensemble.align_scores`).

    Returns:
        One entry a class, in the order of the labels.

    Raises:
        DataError: they are not the same samples.
    """
    check_same_samples(first, second)
    before, after = is_right(first), is_right(second)
    changes = []
    for label, name in enumerate(first.class_names):
        own = first.labels == label
        corrected = np.flatnonzero(own & ~before & after)
        lost = np.flatnonzero(own & before & ~after)
        changes.append(
            ClassChange(
                name=name,
                count=int(own.sum()),
                right_before=int(before[own].sum()),
                right_after=int(after[own].sum()),
                corrected=tuple(corrected.tolist()),
                lost=tuple(lost.tolist()),
                was_taken_for=_find_commonest(first, corrected.tolist()),
                is_taken_for=_find_commonest(second, lost.tolist()),
            )
        )
    return changes


def rank_changes(
    changes: Sequence[ClassChange], *, most: int = 10
) -> tuple[list[ClassChange], list[ClassChange]]:
    """The classes that gained most and those that lost most; none that stayed as it was, or came out even."""
    ranked = sorted(changes, key=lambda change: (-change.gain, change.name))
    return [c for c in ranked if c.gain > 0][:most], [c for c in ranked[::-1] if c.gain < 0][:most]


def _find_commonest(scores: Scores, rows: Sequence[int]) -> Mistake | None:
    if not rows:
        return None
    ((answer, count),) = Counter(scores.logits[list(rows)].argmax(axis=1).tolist()).most_common(1)
    return Mistake(answer=scores.class_names[answer], count=count)
