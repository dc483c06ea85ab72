"""Where the time of some steps goes: timed first as they are, then a few more under torch's profiler.

The profiler slows small operators down, so the shares of a step are those of steps without it; the trace, and the
table of operators, are those of the steps behind them. Nothing of it is seen by what is learned.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from kinemix.atomic import write_atomically
from kinemix.engine.bottleneck import PARTS, Breakdown, Operator, Part, Setting, Verdict, find_bottleneck
from kinemix.evaluate.markdown import format_table

TRACE_NAME, REPORT_NAME = "profile-trace.json.gz", "profile.md"

NUM_OPERATORS = 15
"""Of the table."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """How many steps are skipped, timed, traced for warming up, and traced."""

    skipped: int
    timed: int
    warmed: int
    traced: int

    @property
    def total(self) -> int:
        return self.skipped + self.timed + self.warmed + self.traced


def plan_window(steps: int) -> Window | None:
    """The window for a run that has so many steps left; ``None`` where they are too few."""
    if steps < 4:
        return None
    skipped, warmed, traced = (max(1, min(most, steps // 8)) for most in (5, 2, 5))
    return Window(
        skipped=skipped,
        timed=min(20, steps - skipped - warmed - traced),
        warmed=warmed,
        traced=traced,
    )


class StepProfiler:
    """Watches the steps of one process, and writes down what it has seen.

    Args:
        directory: of the run; ``profile.md`` and ``profile-trace.json.gz`` go there.
        title: what is trained, in words.
        device: that the network is on.
        setting: what cures depend on.
        window: which steps.
        first: number of the first step.
        say: tells people one line.
        clock: seconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        title: str,
        device: torch.device,
        setting: Setting,
        window: Window,
        first: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._directory, self._title, self._device, self._setting = directory, title, device, setting
        self._window, self._first, self._say, self._clock = window, first, say, clock
        self._step = 0  # of the window, under way
        self._began = self._clock()
        self._steps, self._total = 0, 0.0  # timed
        self._parts: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._torch: profile | None = None
        self._num_traced = 0
        self._operators: list[Operator] = []
        self._device_seconds: float | None = None  # of a step
        self._is_over = False

    def begin_epoch(self) -> None:
        """Steps follow; what lies between epochs belongs to none of them."""
        self._began = self._clock()

    @contextmanager
    def span(self, part: Part) -> Iterator[None]:
        """Around a part of a step."""
        if self._is_timed:
            began = self._clock()
            yield
            self._wait_for_device()
            self._parts[part] += self._clock() - began
        elif self._torch is not None:
            with record_function(PARTS[part]):
                yield
                self._wait_for_device()
        else:
            yield

    def end_step(self) -> None:
        """A step is over, and told about."""
        if self._is_over:
            return
        if self._is_timed:
            self._steps, self._total = self._steps + 1, self._total + self._clock() - self._began
        self._step += 1
        if self._torch is not None:
            self._torch.step()
        if self._step == self._window.skipped + self._window.timed:
            self._torch = self._start_torch()
        if self._step == self._window.total:
            self.close()
        self._began = self._clock()

    def close(self) -> None:
        """Write down what was seen so far, if there is something and that was not done before."""
        if self._is_over:
            return
        self._is_over = True
        if self._torch is not None:
            self._torch.stop()
            self._torch = None
        if self._steps:
            with self._tell_if_unwritable("profile"):
                self._write()

    @contextmanager
    def _tell_if_unwritable(self, what: str) -> Iterator[None]:
        """A full disk costs what was to be written, and not the training; torch may tell of it as RuntimeError."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._say(f"note: the {what} cannot be written ({error})")

    @property
    def _is_timed(self) -> bool:
        return 0 <= self._step - self._window.skipped < self._window.timed

    def _wait_for_device(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def _start_torch(self) -> profile:
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        # Its library's lines about devices that are not there read like a failure of the run.
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")
        started = profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=self._window.warmed, active=self._window.traced, repeat=1),
            on_trace_ready=self._keep_trace,
        )
        started.start()
        return started

    def _keep_trace(self, trace: profile) -> None:
        with self._tell_if_unwritable("profile's trace"):
            unfinished = self._directory / f".{TRACE_NAME}"  # torch goes by the ending
            try:
                trace.export_chrome_trace(str(unfinished))
                unfinished.replace(self._directory / TRACE_NAME)
            finally:
                unfinished.unlink(missing_ok=True)
        self._num_traced = steps = max(1, self._step - (self._window.total - self._window.traced))
        self._operators, device_seconds = sum_up_trace(
            trace.key_averages(), steps=steps, on_cpu=self._device.type == "cpu"
        )
        if self._device.type != "cpu":
            self._device_seconds = device_seconds

    def _write(self) -> None:
        breakdown = self._sum_up()
        verdict = find_bottleneck(breakdown, self._setting)
        text = self._format(breakdown, verdict)
        path = self._directory / REPORT_NAME
        write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
        shares = ", ".join(f"{words} {breakdown.share(part):.0%}" for part, words in PARTS.items())
        self._say(f"{self._name_steps(self._window.skipped, self._steps)}: {shares}")
        self._say(f"{verdict.sentence} More in {path}")

    def _sum_up(self) -> Breakdown:
        seconds = {part: total / self._steps for part, total in self._parts.items()}
        step = self._total / self._steps
        seconds["rest"] = max(0.0, step - sum(seconds.values()))
        busy = None if self._device_seconds is None else min(1.0, self._device_seconds / step)
        return Breakdown(seconds=seconds, operators=self._operators, busy=busy)

    def _name_steps(self, skipped: int, count: int) -> str:
        first = self._first + skipped
        return f"step {first}" if count == 1 else f"steps {first} to {first + count - 1}"

    def _format(self, breakdown: Breakdown, verdict: Verdict) -> str:
        """The report, as Markdown."""
        window = self._window
        parts = [
            (words, f"{1e3 * breakdown.seconds[part]:.1f}", f"{breakdown.share(part):.1%}")
            for part, words in PARTS.items()
        ]
        parts.append(("a step", f"{1e3 * breakdown.total:.1f}", ""))
        lines = [
            f"# Where the time goes: {self._title}",
            verdict.sentence,
            f"A mean step of {self._name_steps(window.skipped, self._steps)}:",
            format_table(("part", "ms", "share"), parts).rstrip(),
        ]
        if breakdown.operators:
            whole = sum(operator.seconds for operator in breakdown.operators)
            rows = [
                (one.name, f"{1e3 * one.seconds:.2f}", f"{one.seconds / whole:.1%}", f"{one.calls:.0f}")
                for one in breakdown.operators[:NUM_OPERATORS]
            ]
            traced = self._name_steps(window.total - window.traced, self._num_traced)
            lines += [
                f"Operators of a mean step of {traced}, under torch's profiler, which slows small ones down, without "
                "those that they call:",
                format_table(("operator", "ms", "share", "calls"), rows).rstrip(),
            ]
        if (self._directory / TRACE_NAME).exists():
            lines += [
                f"`{TRACE_NAME}` holds the steps that were traced; https://ui.perfetto.dev and chrome://tracing open "
                "it. Loader processes are not in it.",
            ]
        return "\n\n".join(lines) + "\n"


def sum_up_trace(rows: Iterable[Any], *, steps: int, on_cpu: bool) -> tuple[list[Operator], float]:
    """Operators, the largest first, and the seconds that kernels have run on the accelerator; all of a mean step.

    Args:
        rows: of :meth:`torch.profiler.profile.key_averages`: operators, what they have run on the accelerator, and
            the spans that are named by hand.
        steps: that were traced.
        on_cpu: whether there is no accelerator, and operators are measured by the time that they take themselves.
    """
    rows = [row for row in rows if not row.is_user_annotation]
    operators = [
        Operator(
            name=row.key,
            seconds=(row.self_cpu_time_total if on_cpu else row.self_device_time_total) / 1e6 / steps,
            calls=row.count / steps,
        )
        for row in rows
        if row.device_type == DeviceType.CPU
    ]
    kernels = sum(row.self_device_time_total for row in rows if row.device_type != DeviceType.CPU)
    return sorted(operators, key=lambda operator: -operator.seconds), kernels / 1e6 / steps
