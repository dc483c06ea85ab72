"""The learning rate as a pure function of the iteration.

There is no scheduler object and so no scheduler state: a run that is resumed at iteration ``n`` asks
:func:`rate_at` for iteration ``n``, and that is all.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from kinemix.config import OptimConfig
from kinemix.errors import ConfigError, did_you_mean


def has_steps(optim: OptimConfig) -> bool:
    """Whether a milestone lies within the run."""
    return any(0 < milestone < optim.epochs for milestone in optim.milestones)


def tell_unreached(optim: OptimConfig, steps: Sequence[int]) -> list[str]:
    """What of a schedule lies behind the end of the run, and so has no effect.

    Args:
        optim: with the schedule.
        steps: in each epoch.
    """
    told = []
    warmup = optim.warmup_epochs
    if optim.warmup_iterations:
        warmup = count_epochs(optim.warmup_iterations, steps)
    if optim.epochs and warmup >= optim.epochs:
        told.append(f"the warm-up is longer than the run: the rate never comes up to optim.lr {optim.lr:g}")
    if optim.schedule == "step" and not has_steps(optim):
        reached = f"none of optim.milestones {list(optim.milestones)} lies within {optim.epochs} epochs"
        told.append(f"{reached}: the rate never steps down")
    return told


def rate_at(
    iteration: int,
    *,
    lr: float,
    iterations_per_epoch: int | Sequence[int],
    epochs: int,
    schedule: str = "cosine",
    schedule_by: str = "iteration",
    milestones: Sequence[float] = (),
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
    warmup_iterations: int = 0,
    warmup_start: float = 0.01,
    cosine_over: str = "rest",
) -> float:
    """The learning rate of one step of the optimizer.

    Within the warm-up it rises in a straight line from ``warmup_start`` of the rate to what the schedule says at
    the warm-up's end; then ``cosine`` falls along half a cosine that reaches zero after the last iteration,
    ``step`` multiplies by ``gamma`` at each milestone, ``constant`` stays.

    Args:
        iteration: number of the step, from 0.
        lr: the rate after warm-up.
        iterations_per_epoch: steps in an epoch, or in each of them.
        epochs: epochs in the whole run, the warm-up's included.
        schedule: ``cosine``, ``step`` or ``constant``.
        schedule_by: ``iteration`` reads the schedule anew at every step, ``epoch`` at the start of every epoch.
        milestones: of ``step``, in epochs from the start of the run.
        gamma: of ``step``.
        warmup_epochs: length of the warm-up.
        warmup_iterations: the same in iterations; give one of the two.
        warmup_start: share of ``lr``.
        cosine_over: the half cosine spans the ``rest`` after the warm-up, or the whole ``run``.

    Raises:
        ConfigError: an unknown schedule.
    """
    if warmup_iterations:
        warmup_epochs = count_epochs(warmup_iterations, iterations_per_epoch)
    epoch = count_epochs(iteration, iterations_per_epoch)
    if schedule_by == "epoch":
        epoch = math.floor(epoch)
    begin = warmup_epochs if cosine_over == "rest" else 0.0

    def scheduled(at: float) -> float:
        if schedule == "step":
            return lr * gamma ** sum(at >= milestone for milestone in milestones)
        if schedule == "cosine":
            done = (at - begin) / max(epochs - begin, 1e-9)
            return lr * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        if schedule == "constant":
            return lr
        nearest = did_you_mean(schedule, ["step", "cosine", "constant"])
        raise ConfigError(f"optim.schedule {schedule!r}: {nearest}")

    if epoch >= warmup_epochs:
        return scheduled(epoch)
    start, end = warmup_start * lr, scheduled(warmup_epochs)
    return start + (end - start) * epoch / warmup_epochs


def scale_rate(optim: OptimConfig, *, processes: int) -> float:
    """The rate for a run's whole batch: in proportion to it, if ``optim.lr_batch`` says for which ``optim.lr`` is.

    Source: Goyal et al., "Accurate, Large Minibatch SGD", the linear scaling rule.
    """
    if optim.lr_batch is None:
        return optim.lr
    return optim.lr * optim.batch_size * optim.accumulate * processes / optim.lr_batch


def count_epochs(iteration: int, iterations_per_epoch: int | Sequence[int]) -> float:
    """Epochs done at the start of an iteration, as a fraction.

    >>> count_epochs(7, [4, 6])
    1.5
    """
    if isinstance(iterations_per_epoch, int):
        return iteration / iterations_per_epoch
    starts = [0, *accumulate(iterations_per_epoch)]
    epoch = min(bisect_right(starts, iteration), len(iterations_per_epoch)) - 1
    return epoch + (iteration - starts[epoch]) / iterations_per_epoch[epoch]
