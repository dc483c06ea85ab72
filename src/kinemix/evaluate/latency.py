"""How long a network takes, forward and backward, on this machine.

Times depend on the machine, its threads and what else it does, so a :class:`Latency` carries them with it.
"""

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from kinemix.errors import ConfigError
from kinemix.evaluate.complexity import choose_clip
from kinemix.evaluate.memory import training
from kinemix.models.trace import evaluating
from kinemix.models.video import VideoModel

WARMUP = 1
"""Runs before the clock starts: the first one chooses kernels and fills caches."""

Direction = Literal["inference", "training"]
Progress = Callable[[Direction, int, int], None]
"""Told after every run: what runs, how many runs are done, how many there will be at most."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Measured seconds for one batch of clips: medians.

    Attributes:
        forward: evaluation mode, no gradients.
        training_forward: training mode, with what is kept for the backward pass.
        backward: the backward pass alone.
        spread: the slowest forward run over the quickest: how quiet the machine was.
        runs: forward runs that were timed; ``training_runs`` of the other two.
        batch_size, num_frames, input_size: the clips.
        device: processor or accelerator; with the number of threads for the first.
        peak_memory: bytes of activations by torch's own account, in inference and in training; CUDA only.
    """

    forward: float
    training_forward: float
    backward: float
    spread: float
    runs: int
    training_runs: int
    batch_size: int
    num_frames: int
    input_size: tuple[int, int]
    device: str
    peak_memory: tuple[int, int] | None = None


def measure_latency(
    model: VideoModel,
    *,
    batch_size: int = 1,
    num_frames: int | None = None,
    input_size: tuple[int, int] | None = None,
    runs: int = 7,
    seconds: float = 30.0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Latency:
    """Time a network where it stands, on clips of noise.

    Args:
        model: in any mode; its weights are not changed, its gradients are cleared.
        batch_size, num_frames, input_size: of the clips; by default one, of the kind it was built for.
        runs: at most so many timed runs in each mode, after ``WARMUP``.
        seconds: no further run is begun in a mode after so long, so that a large network ends too; one is
            timed in any case.
        threads: for the processor; by default torch's own number.
        progress: told after every run.

    Raises:
        ConfigError: a number below 1, or a network that cannot be trained on so small a batch.
    """
    num_frames, size = choose_clip(model, num_frames, input_size)
    for name, value in (("batch_size", batch_size), ("runs", runs), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}: it must be 1 or more")
    parameter = next(model.parameters())
    clip = torch.randn(
        (batch_size, num_frames, model.input_spec.channels, *size),
        dtype=parameter.dtype,
        device=parameter.device,
    )
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    stopwatch = _Stopwatch(runs, seconds, progress)
    with using_threads(threads):
        device = describe_device(clip.device)
        with evaluating(model), torch.no_grad(), _PeakOnCuda(clip.device) as tested:
            forward = stopwatch.time("inference", lambda: _infer(model, clip))
        with training(model, batch_size), _PeakOnCuda(clip.device) as trained:
            both = stopwatch.time("training", lambda: _train(model, clip))
    with torch.no_grad():
        for name, buffer in model.named_buffers():  # the running statistics of batch norms
            buffer.copy_(buffers[name])
    return Latency(
        forward=statistics.median(times[0] for times in forward),
        training_forward=statistics.median(times[0] for times in both),
        backward=statistics.median(times[1] for times in both),
        spread=max(forward)[0] / min(forward)[0],
        runs=len(forward),
        training_runs=len(both),
        batch_size=batch_size,
        num_frames=num_frames,
        input_size=size,
        device=device,
        peak_memory=(tested.bytes, trained.bytes) if clip.is_cuda else None,
    )


def find_device(name: str) -> torch.device:
    """The device of this name: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        ConfigError: there is none.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA fails an assertion
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used ({reason}): try cpu") from error
    return device


def describe_device(device: torch.device) -> str:
    """Name of the accelerator, or of the processor with the threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{_name_processor()}, {count} thread{'s' * (count > 1)}"


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """So many threads inside torch's operations for a while; ``None``: as many as now."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _infer(model: VideoModel, clip: Tensor) -> tuple[float, ...]:
    start = _now(clip.device)
    model(clip)
    return (_now(clip.device) - start,)


def _train(model: VideoModel, clip: Tensor) -> tuple[float, ...]:
    model.zero_grad(set_to_none=True)
    start = _now(clip.device)
    loss = model(clip).sum()
    middle = _now(clip.device)
    if loss.requires_grad:  # not where every weight is frozen
        loss.backward()
    end = _now(clip.device)
    model.zero_grad(set_to_none=True)
    return middle - start, end - middle


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class _Stopwatch:
    runs: int
    seconds: float
    progress: Progress | None

    def time(self, direction: Direction, run: Callable[[], tuple[float, ...]]) -> list[tuple[float, ...]]:
        """Seconds that each timed run gave."""
        times: list[tuple[float, ...]] = []
        start = time.perf_counter()
        for done in range(WARMUP + self.runs):
            if times and time.perf_counter() - start > self.seconds:
                break
            taken = run()
            if done >= WARMUP:
                times.append(taken)
            if self.progress is not None:
                self.progress(direction, done + 1, WARMUP + self.runs)
        return times


class _PeakOnCuda:
    """Torch's own peak of allocated bytes, beyond what was there before; nothing on other devices."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> "_PeakOnCuda":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(self, *_error: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before


def _name_processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
