"""The machine: Lightning Fabric for devices and processes, and the CPU's threads counted out by hand.

The processes of a run are started by Fabric (``machine.devices``), or by torchrun or srun, which also say how many
there are. On a CPU the network and the loader's processes want the same cores. The network gets all of them and each
loader process one thread: decoding waits for the network more often than the other way round, and the share
of time spent waiting for data is on the progress bar for whoever wants to change it.
"""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.fabric.strategies import ModelParallelStrategy

from kinemix.config import MachineConfig
from kinemix.engine.environment import count_cores
from kinemix.engine.processes import LostProcessError
from kinemix.errors import ConfigError, KinemixError
from kinemix.models.sharding import shard_blocks_

_SECONDS_TO_END = 30
"""That the first process may take to end after all have failed together."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """Processes that belong together: this one and its like.

    Attributes:
        by: torchrun or srun.
        devices: how many on each machine.
        nodes: on how many machines.
    """

    by: str
    devices: int
    nodes: int

    @property
    def processes(self) -> int:
        """All of them."""
        return self.devices * self.nodes


def find_started() -> Started | None:
    """Who has started this process as one of several; ``None`` where nobody has, or srun this one alone.

    Raises:
        ConfigError: they are not as many on each machine.
    """
    env = os.environ
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        by, processes, nodes = "torchrun", int(env["WORLD_SIZE"]), int(env["GROUP_WORLD_SIZE"])
        here = int(env["LOCAL_WORLD_SIZE"])
    # A batch script has SLURM's other variables too, and srun alone these.
    elif "SLURM_STEP_NUM_TASKS" in env and "SLURM_STEP_NUM_NODES" in env and SLURMEnvironment.detect():
        by, processes, nodes = "srun", int(env["SLURM_STEP_NUM_TASKS"]), int(env["SLURM_STEP_NUM_NODES"])
        here = processes // nodes
        if processes == 1:
            return None
    else:
        return None
    if here * nodes != processes:
        raise ConfigError(
            f"{by} has started {processes} processes on {nodes} machines: start as many on each of them"
        )
    return Started(by=by, devices=here, nodes=nodes)


def settle_machine(machine: MachineConfig) -> MachineConfig:
    """The same with the numbers of devices and nodes filled in.

    Raises:
        ConfigError: other numbers were started.
    """
    started = find_started()
    if started is None:
        return replace(machine, devices=machine.devices or 1, nodes=machine.nodes or 1)
    asked = (machine.devices or started.devices) * (machine.nodes or started.nodes)
    if asked != started.processes:
        raise ConfigError(
            f"machine.devices={machine.devices}, machine.nodes={machine.nodes}: {started.by} has started "
            f"{started.devices} on each of {started.nodes} machines: start as many as that, or give null for both"
        )
    return replace(machine, devices=started.devices, nodes=started.nodes)


def count_processes(machine: MachineConfig) -> int:
    """All processes of a run."""
    return (machine.devices or 1) * (machine.nodes or 1)


def launch_fabric(machine: MachineConfig) -> Fabric:
    """Start the processes of a run, or meet those that torchrun or srun has started, and give each its threads.

    Args:
        machine: settled (:func:`settle_machine`).

    Raises:
        ConfigError: the machine has no such devices, or cannot use them so.
    """
    devices, nodes, starts_itself = machine.devices or 1, machine.nodes or 1, find_started() is None
    # Asked before Lightning is, which would print what it has found first, or start any number of processes.
    if not _is_accelerated(machine.accelerator):
        if machine.precision == "16-mixed":
            raise ConfigError("machine.precision is 16-mixed: the CPU cannot; use bf16-mixed or 32")
        if devices > count_cores():
            raise ConfigError(f"machine.devices is {devices}: this machine has {count_cores()} cores")
    if starts_itself and nodes > 1:
        _check_meeting_point()
    strategy = _choose_strategy(machine)
    try:
        with _quiet_lightning():
            fabric = Fabric(
                accelerator=machine.accelerator,
                devices=devices,
                num_nodes=nodes,
                precision=machine.precision,
                strategy=strategy,
                # A script of SLURM's that starts kinemix itself: Lightning would wait for tasks of srun's.
                plugins=[LightningEnvironment()] if starts_itself and "SLURM_NTASKS" in os.environ else None,
            )
    except Exception as error:  # Lightning raises several kinds, all of them about these values
        raise ConfigError(
            f"machine.accelerator={machine.accelerator}, machine.devices={devices}: "
            f"{' '.join(str(error).split())}"
        ) from error
    with _quiet_lightning():
        fabric.launch()
    if not fabric.is_global_zero:
        warnings.simplefilter("ignore")  # the first process has the same ones
    torch.set_num_threads(machine.threads or max(1, count_cores() // devices))
    return fabric


def _check_meeting_point() -> None:
    """Raise a :class:`ConfigError` unless it is said where several machines meet: they would wait without end."""
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]:
        raise ConfigError(
            f"machine.nodes: several machines must know where they meet: set {', '.join(missing)} in the environment "
            "of each (MASTER_ADDR and MASTER_PORT of the first, NODE_RANK from 0), or start them by torchrun or srun"
        )


def join_started() -> Fabric | None:
    """The processes that torchrun or srun has started, if there are several, on the devices that there are."""
    started = find_started()
    if started is None or started.processes == 1:
        return None
    return launch_fabric(settle_machine(MachineConfig()))


def is_first_process() -> bool:
    """Whether this process may speak for the run, also after the run."""
    return not has_started() or torch.distributed.get_rank() == 0


def has_started() -> bool:
    """Whether the processes of a run have met."""
    return torch.distributed.is_initialized()


def end_together(error: KinemixError) -> None:
    """Wait for the other processes of a run, which all end with the same error.

    Who started them ends all when it sees one fail; the first must have told the error by then, and be gone where
    it has started the others itself.
    """
    if not has_started() or not error.agreed or isinstance(error, LostProcessError):
        return
    torch.distributed.barrier()
    if find_started() is None and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        parent, until = os.getppid(), time.monotonic() + _SECONDS_TO_END
        while os.getppid() == parent and time.monotonic() < until:
            time.sleep(0.1)


def _choose_strategy(machine: MachineConfig) -> Any:
    processes = count_processes(machine)
    if processes > 1 and machine.strategy == "fsdp":
        return ModelParallelStrategy(
            lambda model, mesh: shard_blocks_(model, mesh["data_parallel"]),
            data_parallel_size=processes,
            tensor_parallel_size=1,
        )
    if processes == 1 and machine.strategy != "auto":
        raise ConfigError(
            f"machine.strategy is {machine.strategy}, and there is one process only: set machine.devices, or auto"
        )
    return "ddp" if processes > 1 else "auto"


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without its lines about processes, which each of them prints; the run tells of them itself."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)


def _is_accelerated(accelerator: str) -> bool:
    return accelerator != "cpu" and (accelerator != "auto" or torch.accelerator.is_available())
