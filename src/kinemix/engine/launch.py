"""The machine: Lightning Fabric for devices and processes, and the CPU's threads counted out by hand.

On a CPU the network and the loader's processes want the same cores. The network gets all of them and each
loader process one thread: decoding waits for the network more often than the other way round, and the share
of time spent waiting for data is on the progress bar for whoever wants to change it.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed
from lightning.fabric import Fabric

from kinemix.engine.environment import count_cores
from kinemix.errors import ConfigError, KinemixError

T = TypeVar("T")


def launch_fabric(
    *, accelerator: str, devices: int, nodes: int, precision: str, threads: int | None
) -> Fabric:
    """Start the processes of a run and give each its threads.

    Args:
        accelerator: ``auto``, ``cpu``, ``cuda``, ...
        devices: processes on each machine.
        nodes: machines.
        precision: ``32``, ``bf16-mixed`` or ``16-mixed``.
        threads: of each process; by default the cores of the machine, shared evenly.

    Raises:
        ConfigError: the machine has no such devices.
    """
    # Asked before Lightning is, which would print what it has found first, or start any number of processes.
    if not _is_accelerated(accelerator):
        if precision == "16-mixed":
            raise ConfigError("machine.precision is 16-mixed: the CPU cannot; use bf16-mixed or 32")
        if devices > count_cores():
            raise ConfigError(f"machine.devices is {devices}: this machine has {count_cores()} cores")
    strategy = "ddp" if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=precision,
            strategy=strategy,
        )
    except Exception as error:  # Lightning raises several kinds, all of them about these four values
        raise ConfigError(
            f"machine.accelerator={accelerator}, machine.devices={devices}: {' '.join(str(error).split())}"
        ) from error
    fabric.launch()
    torch.set_num_threads(threads or max(1, count_cores() // devices))
    return fabric


def is_first_process() -> bool:
    """Whether this process may speak for the run, also after the run."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def do_first(fabric: Fabric, work: Callable[[], T]) -> T | None:
    """Let the first process do something while the others wait; a user's mistake is raised in all of them.

    Returns:
        What ``work`` returned, in the first process; ``None`` in the others.
    """
    result, mistake = None, None
    if fabric.is_global_zero:
        try:
            result = work()
        except KinemixError as error:
            mistake = error
    if fabric.world_size > 1:
        mistake = fabric.broadcast(mistake)
    if mistake is not None:
        raise mistake
    return result


def gather(fabric: Fabric, value: T) -> list[T]:
    """The value of every process, in their order."""
    if fabric.world_size == 1:
        return [value]
    values: list[T | None] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def any_process(fabric: Fabric, value: bool) -> bool:
    """Whether it is true in any process."""
    if fabric.world_size == 1:
        return value
    answer = torch.tensor(int(value), device=fabric.device)
    torch.distributed.all_reduce(answer, op=torch.distributed.ReduceOp.MAX)
    return bool(answer)


def agree(fabric: Fabric, mistake: KinemixError | None) -> None:
    """Raise in every process what went wrong in any of them; the others would wait for that one for ever.

    Raises:
        KinemixError: the first process's mistake that has one.
    """
    if any_process(fabric, mistake is not None):
        raise next(one for one in gather(fabric, mistake) if one is not None)


def _is_accelerated(accelerator: str) -> bool:
    return accelerator != "cpu" and (accelerator != "auto" or torch.accelerator.is_available())
