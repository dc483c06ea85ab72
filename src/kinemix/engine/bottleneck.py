"""What holds a training up: a verdict on where the time of its steps goes, with the cure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

LARGE_SHARE = 0.2
"""Of a step: what takes less, beside the network, is not worth a cure; without it the steps were a quarter faster."""

ONE_OPERATOR = 0.5
"""Of the operators' time: an operator that takes as much is named."""

IDLE_SHARE = 0.4
"""Of the time that the network takes: an accelerator that does nothing for as long waits for the next small kernel."""

Part = Literal["data", "copy", "forward", "backward", "optimizer", "rest"]
"""Of a step: waiting for a batch, moving it to the device, ..., and everything around them."""

Around = Literal["data", "copy", "optimizer", "rest"]
"""The parts that are not the network's work."""

Kind = Around | Literal["idle", "network"]

PARTS: Mapping[Part, str] = {
    "data": "waiting for data",
    "copy": "moving it to the device",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "rest": "the rest",
}
"""In words."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What an operator takes in a step.

    Attributes:
        name: torch's.
        seconds: without those of the operators that it calls.
        calls: how often it is called.
    """

    name: str
    seconds: float
    calls: float


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Where the time of a step goes.

    Attributes:
        seconds: of each part, in a mean step.
        operators: the largest first; of other steps, in which torch's profiler watched.
        busy: share of those other steps in which the accelerator worked; ``None`` on the CPU.
    """

    seconds: Mapping[Part, float]
    operators: Sequence[Operator] = ()
    busy: float | None = None

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def share(self, *parts: Part) -> float:
        """Of the step, that these parts take."""
        return sum(self.seconds.get(part, 0.0) for part in parts) / self.total

    def find_largest_operator(self) -> tuple[Operator, float] | None:
        """The operator that takes most, and its share of all operators."""
        if not self.operators:
            return None
        largest = max(self.operators, key=lambda operator: operator.seconds)
        return largest, largest.seconds / sum(operator.seconds for operator in self.operators)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What cures depend on.

    Attributes:
        device: type of the device.
        workers: loader processes of each of the run's processes.
        processes: of the run on this machine.
        cores: of this machine.
        is_prepared: whether ``kinemix prepare`` has made the data.
    """

    device: str
    workers: int
    processes: int
    cores: int
    is_prepared: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What holds a training up.

    Attributes:
        kind: what.
        sentence: the same in words, and what can be done.
    """

    kind: Kind
    sentence: str


def find_bottleneck(breakdown: Breakdown, setting: Setting) -> Verdict:
    """The part that holds the steps up, if it is not the network's own work."""
    largest: Around = max(get_args(Around), key=lambda part: breakdown.seconds.get(part, 0.0))
    if breakdown.share(largest) >= LARGE_SHARE:
        cure = {
            "data": _cure_data(setting),
            "copy": "smaller clips (size, protocol.num_frames), or nothing else on the bus",
            "optimizer": "larger batches (optim.batch_size, optim.accumulate) make fewer steps",
            "rest": "look into the trace; logging, optim.ema and checkpoints (save_steps) are in it",
        }[largest]
        what = {
            "data": "Waiting for data",
            "copy": "Moving clips to the device",
            "optimizer": "The optimizer's step",
            "rest": "What stands around the network",
        }[largest]
        return Verdict(
            kind=largest, sentence=f"{what} takes {breakdown.share(largest):.0%} of the time: {cure}."
        )
    share = breakdown.share("forward", "backward")
    if breakdown.busy is not None and 1 - breakdown.busy / share >= IDLE_SHARE:
        sentence = (
            f"The network takes {share:.0%} of the time, but the device works in {breakdown.busy:.0%} of it only: its "
            "kernels are small; larger batches (optim.batch_size) or machine.compile."
        )
        return Verdict(kind="idle", sentence=sentence)
    sentence = f"The network itself takes {share:.0%} of the time: {_cure_network(setting)}."
    if (found := breakdown.find_largest_operator()) is not None and found[1] >= ONE_OPERATOR:
        sentence += f" One operator takes {found[1]:.0%} of its work: {found[0].name}."
    return Verdict(kind="network", sentence=sentence)


def _cure_data(setting: Setting) -> str:
    cures = []
    if setting.workers * setting.processes < setting.cores:
        cures.append(
            f"more workers (data.workers is {setting.workers}, the machine has {setting.cores} cores)"
        )
    if not setting.is_prepared:
        cures.append("prepared data (kinemix prepare)")
    cures.append("smaller frames (data.short_side)")
    return " or ".join(cures[:2])


def _cure_network(setting: Setting) -> str:
    if setting.device == "cpu":
        return "fewer frames, smaller ones, a smaller network, or an accelerator"
    return "machine.precision=bf16-mixed, machine.channels_last or machine.compile, if they are not on"
