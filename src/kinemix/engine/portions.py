"""A step's micro-batches as several processes share them: what each clip counts for, and nobody waits in vain.

Every process takes the mean over its own clips, and the means are averaged. That is the mean over all clips only
where all have as many; where some videos could not be read they have not, so each process's loss is given the weight
of its clips. A process that could read nothing borrows a clip from another one and runs it along for nothing: all
must go through the network together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lightning.fabric import Fabric

from kinemix.data.dataset import Batch
from kinemix.engine.objective import Objective
from kinemix.engine.processes import gather_numbers, raise_first
from kinemix.errors import KinemixError


@dataclass(frozen=True, kw_only=True)
class Portion:
    """A micro-batch that at least one process has clips of.

    Attributes:
        batch: never empty.
        clips: of them, how many count; 0 where they are borrowed.
        shares: what the loss of each task is to be multiplied by, so that the mean over the processes is that over
            all clips; ``None`` in a run of one process.
        weight: clips of a process on average, for which the loss then counts.
        is_last: whether no other of the step follows.
    """

    batch: Batch
    clips: int
    shares: Sequence[float] | None
    weight: float
    is_last: bool = False


def deal(
    fabric: Fabric,
    fetch: Callable[[], Batch],
    *,
    count: int,
    objective: Objective,
    check: Callable[[Batch], object] = lambda batch: None,
) -> Iterator[Portion]:
    """The micro-batches of one step. Those that no process could read anything of are left out.

    Args:
        fabric: launched.
        fetch: gives this process's next micro-batch.
        count: micro-batches in the step.
        objective: knows what labels weigh in a loss.
        check: called with each batch as it comes; a :class:`KinemixError` that it raises is raised in all processes.
    """
    held: Portion | None = None  # until it is known whether it is the last
    for _ in range(count):
        batch: Batch | None = None
        mistake: KinemixError | None = None
        try:
            batch = fetch()
            check(batch)
        except KinemixError as error:
            mistake = error
        portion = _even_out(fabric, batch, mistake, objective=objective)
        if portion is not None:
            if held is not None:
                yield held
            held = portion
    if held is not None:
        yield replace(held, is_last=True)


def _even_out(
    fabric: Fabric, batch: Batch | None, mistake: KinemixError | None, *, objective: Objective
) -> Portion | None:
    if fabric.world_size == 1:
        if mistake is not None:
            raise mistake
        assert batch is not None
        return Portion(batch=batch, clips=len(batch), shares=None, weight=len(batch)) if len(batch) else None
    clips = 0 if batch is None else len(batch)
    weights = objective.weigh(batch.labels) if batch is not None else [0.0] * objective.num_losses
    numbers = gather_numbers(fabric, [mistake is not None, clips, *weights])
    if numbers[:, 0].any():
        raise_first(fabric, mistake)
    assert batch is not None
    counts, weighed = numbers[:, 1], numbers[:, 2:]
    if not counts.any():
        return None
    if not counts.all():
        batch = _lend(fabric, batch, lender=int(counts.argmax()))
    whole = weighed.sum(dim=0)  # 0 where all clips are of classes that weigh nothing
    shares = weighed[fabric.global_rank] * fabric.world_size / whole.where(whole > 0, 1)
    return Portion(batch=batch, clips=clips, shares=shares.tolist(), weight=float(counts.mean()))


def _lend(fabric: Fabric, batch: Batch, *, lender: int) -> Batch:
    """The process's own batch, or a clip of the lender's where it is empty."""
    first = Batch(batch.clips[:1].clone(), batch.labels[:1].clone(), batch.indices[:1].clone())
    first = fabric.broadcast(first, src=lender)
    return batch if len(batch) else replace(first, unreadable=batch.unreadable)
