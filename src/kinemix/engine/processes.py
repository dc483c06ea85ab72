"""What the processes of a run do together: agree, gather, wait for the first.

Every function here is called by all of them, in the same order, or by a run that has one process alone.
"""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed
from lightning.fabric import Fabric
from torch import Tensor, nn

from kinemix.engine.interrupt import Interrupted
from kinemix.errors import KinemixError

T = TypeVar("T")
Mistake = KinemixError | Interrupted


class LostProcessError(KinemixError):
    """Another process of the run is gone; what became of it, only that one or the system can tell."""


class Alone:
    """Stands for a launched Fabric where there is one process alone."""

    world_size, global_rank, is_global_zero = 1, 0, True


def do_first(fabric: Fabric, work: Callable[[], T]) -> T | None:
    """Let the first process do something while the others wait; a user's mistake is raised in all of them.

    Returns:
        What ``work`` returned, in the first process; ``None`` in the others.
    """
    result: T | None = None
    mistake: KinemixError | None = None
    if fabric.is_global_zero:
        try:
            result = work()
        except KinemixError as error:
            mistake = error
    if fabric.world_size > 1:
        mistake = fabric.broadcast(mistake)
    if mistake is not None:
        mistake.agreed = True
        raise mistake
    return result


def do_all(fabric: Fabric, work: Callable[[], T]) -> T:
    """Let every process do something; a user's mistake, or wish to stop, in any of them is raised in all.

    Args:
        fabric: launched.
        work: waits for no other process.
    """
    result: T
    mistake: Mistake | None = None
    try:
        result = work()
    except (KinemixError, Interrupted) as error:
        mistake = error
    agree(fabric, mistake)
    return result


def agree(fabric: Fabric, mistake: Mistake | None) -> None:
    """Raise in every process what went wrong in any of them; the others would wait for that one for ever.

    Raises:
        KinemixError: of the first process that has one; the message names it.
        Interrupted: likewise.
    """
    if any_process(fabric, mistake is not None):
        raise_first(fabric, mistake)


def raise_first(fabric: Fabric, mistake: Mistake | None) -> None:
    """Raise the mistake of the first process that has one; where somebody has is known already."""
    if fabric.world_size == 1:
        assert mistake is not None
        raise mistake
    all_mistakes = gather(fabric, (socket.gethostname(), mistake))
    rank, host, first = next((r, host, one) for r, (host, one) in enumerate(all_mistakes) if one is not None)
    if isinstance(first, KinemixError):
        first.agreed = True
        if rank:
            first.args = (f"{first} (process {rank}, on {host})",)
    raise first from mistake


def gather(fabric: Fabric, value: T) -> list[T]:
    """The value of every process, in their order."""
    if fabric.world_size == 1:
        return [value]
    values: list[T | None] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def gather_numbers(fabric: Fabric, numbers: Sequence[float]) -> Tensor:
    """The numbers of every process, ``processes N`` of float64 on the CPU; each has as many."""
    mine = torch.tensor(numbers, dtype=torch.float64)
    if fabric.world_size == 1:
        return mine[None]
    mine = mine.to(fabric.device)
    rows = [torch.empty_like(mine) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(rows, mine)
    return torch.stack(rows).cpu()


def any_process(fabric: Fabric, value: bool) -> bool:
    """Whether it is true in any process."""
    if fabric.world_size == 1:
        return value
    answer = torch.tensor(int(value), device=fabric.device)
    torch.distributed.all_reduce(answer, op=torch.distributed.ReduceOp.MAX)
    return bool(answer)


@torch.no_grad()
def take_from_first_(fabric: Fabric, tensors: Sequence[Tensor]) -> None:
    """Give every process the first one's values of some tensors, which are of the same shapes in all."""
    if fabric.world_size > 1:
        for tensor in tensors:
            whole = tensor.to(fabric.device).contiguous()  # NCCL sends from GPUs alone
            torch.distributed.broadcast(whole, src=0)
            tensor.copy_(whole)


def share_statistics_(fabric: Fabric, *modules: nn.Module) -> None:
    """Give every process the first one's running statistics: each has counted its own clips into them."""
    take_from_first_(fabric, [buffer for module in modules for buffer in module.buffers()])


def check_equal(fabric: Fabric, facts: dict[str, Any]) -> None:
    """Raise a :class:`KinemixError` if the processes do not have the same facts; it names the first that differs."""
    theirs = gather(fabric, (socket.gethostname(), facts))
    first = theirs[0][1]
    for rank, (host, others) in enumerate(theirs):
        for name in first:
            if others.get(name) != first[name]:
                error = KinemixError(
                    f"{name} is {first[name]!r} in the first process and {others.get(name)!r} in process {rank}, "
                    f"on {host}: give all processes the same options, data and run directory"
                )
                error.agreed = True
                raise error


def add_up(fabric: Fabric, count: int, sums: Mapping[str, float]) -> tuple[int, dict[str, float]]:
    """A count and sums, each over all processes; they have the same names in all."""
    if fabric.world_size == 1:
        return count, dict(sums)
    total = gather_numbers(fabric, [count, *sums.values()]).sum(dim=0).tolist()
    return int(total[0]), dict(zip(sums, total[1:], strict=True))


@contextmanager
def tell_of_lost_process() -> Iterator[None]:
    """Raise a :class:`LostProcessError` instead of what torch says where another process of the run is gone."""
    try:
        yield
    except RuntimeError as error:
        lost = explain_lost_process(error)
        if lost is None:
            raise
        raise lost from None


def explain_lost_process(error: Exception) -> LostProcessError | None:
    """What torch says where another process of the run is gone; ``None`` if the error is about something else."""
    line = str(error).partition("\n")[0]
    is_lost = isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in line
    )
    if not is_lost:
        return None
    lost = LostProcessError(
        "another process of this run is gone: its own message says why, or the system's log does (memory?)"
    )
    lost.agreed = True  # that one has told it, or nobody has and the first process is to
    return lost
