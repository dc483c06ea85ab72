"""Multigrid training: batches of many small clips first, of few large ones last, each as much work as the other.

Wu et al., "A Multigrid Method for Efficiently Training Video Models" (2020). The *long* cycle goes through four
shapes of a clip, from a quarter of the frames at 0.71 of the size to all of both, and so does the batch from eight
times its size to once. The *short* cycle changes the size from step to step: a half, 0.71, the whole. Factors,
rounding and the share of each shape (equal numbers of steps) are those of the released code; the number of epochs
is what ``optim.epochs`` says (the paper takes half as many again as without).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

LONG_FACTORS = ((0.25, 0.5**0.5), (0.5, 0.5**0.5), (0.5, 1.0), (1.0, 1.0))
"""Shares of frames and of size, in the order of a long cycle."""

SHORT_FACTORS = (0.5, 0.5**0.5)
"""Shares of the full size in a short cycle; its third step has the size of the long cycle."""


class ClipShape(NamedTuple):
    """Frames, height and width of a clip."""

    num_frames: int
    size: tuple[int, int]


class BatchShape(NamedTuple):
    """So many clips of a shape in a micro-batch, on each process."""

    batch_size: int
    clip: ClipShape


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs in which the long cycle stands still.

    Attributes:
        first, last: the epochs from ``first`` up to, but not including, ``last``.
        factor: of the batch at the long cycle's shape, and of the learning rate with it. The short cycle's larger
            batches leave the rate alone (section 3.3 of the paper).
        shapes: taken in turn, one a step.
    """

    first: int
    last: int
    factor: int
    shapes: tuple[BatchShape, ...]


def plan_phases(
    *,
    batch_size: int,
    num_frames: int,
    size: tuple[int, int],
    epochs: int,
    milestones: Sequence[float],
    long: bool = True,
    short: bool = True,
) -> tuple[Phase, ...]:
    """What shape the batches have, from the first epoch to the last.

    Args:
        batch_size, num_frames, size: of the full shape.
        epochs: in the whole run.
        milestones: epochs at which a long cycle ends; what follows the last one keeps the full shape.
        long, short: which of the cycles are used.
    """
    full = ClipShape(num_frames, size)
    bounds = [0.0, *(m for m in sorted(milestones) if 0 < m < epochs)] if long else [0.0]
    planned: list[tuple[float, ClipShape]] = []  # epochs that each shape gets
    for begin, end in pairwise(bounds):
        shapes = [_scale(full, *factors) for factors in LONG_FACTORS]
        batches = [
            [_count_clips(full, one) for one in _list_shapes(full, shape, short=short)] for shape in shapes
        ]
        means = [sum(counts) / len(counts) for counts in batches]
        planned += [
            ((end - begin) * mean / sum(means), shape) for shape, mean in zip(shapes, means, strict=True)
        ]
    planned.append((epochs - bounds[-1], full))
    phases: list[Phase] = []
    done = 0.0
    for share, base in planned:
        first, done = round(done), done + share
        if round(done) > first:
            clips = _list_shapes(full, base, short=short)
            shapes_in_turn = tuple(BatchShape(batch_size * _count_clips(full, one), one) for one in clips)
            phases.append(
                Phase(first=first, last=round(done), factor=_count_clips(full, base), shapes=shapes_in_turn)
            )
    return tuple(phases)


def spread_milestones(epochs: int, cycles: int) -> tuple[float, ...]:
    """The ends of so many long cycles where no step of the schedule says when: equal parts, of which one is left."""
    return tuple(epochs * number / (cycles + 1) for number in range(1, cycles + 1))


def _scale(full: ClipShape, frames: float, size: float) -> ClipShape:
    height, width = full.size
    return ClipShape(max(1, round(full.num_frames * frames)), (round(height * size), round(width * size)))


def _list_shapes(full: ClipShape, base: ClipShape, *, short: bool) -> list[ClipShape]:
    """The shapes of a short cycle around the long cycle's shape, or that one alone."""
    sizes = [_scale(full, 1, factor).size for factor in SHORT_FACTORS] if short else []
    return [ClipShape(base.num_frames, size) for size in (*sizes, base.size)]


def _count_clips(full: ClipShape, shape: ClipShape) -> int:
    """Clips of a shape that are as much work as one of the full shape."""
    volumes = [frames * height * width for frames, (height, width) in (full, shape)]
    return max(1, round(volumes[0] / volumes[1]))
