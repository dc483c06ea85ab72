"""What a person sees while a run goes: a bar with rate, time left, loss, memory and the share of waiting for data."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")


class PlainConsole(Console):
    """A console that leaves it to its caller what to do when nobody reads any more (rich ends the process)."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class ProgressBar:
    """A bar over the steps of a whole run, on standard error; only lines where that is no terminal.

    Args:
        total: steps of the optimizer in the run.
        done: steps before this process started.
        quiet: show nothing (every process but the first).
    """

    def __init__(self, *, total: int, done: int = 0, quiet: bool = False) -> None:
        self._console = PlainConsole(
            stderr=True, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[about]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._recent: deque[tuple[int, float, float]] = deque(maxlen=20)  # steps to average the rate over
        self._task = self._progress.add_task("starting", total=total, completed=done, about="")

    def advance(
        self,
        *,
        epoch: int,
        epochs: int,
        loss: float,
        clips: int,
        seconds: float,
        waiting: float,
        memory: str,
    ) -> None:
        """One step is done.

        Args:
            epoch: number of the epoch under way, from 1.
            epochs: of the run.
            loss: of the step.
            clips: of the step.
            seconds: that it took.
            waiting: of them, spent waiting for data.
            memory: that the run holds, in words.
        """
        self._recent.append((clips, seconds, waiting))
        clips, seconds, waiting = (sum(values) for values in zip(*self._recent, strict=True))
        about = (
            f"loss {loss:.3f}  {clips / seconds:.1f} clips/s  waiting for data {waiting / seconds:.0%}  "
            f"memory {memory} "
        )
        self._progress.update(self._task, advance=1, description=f"epoch {epoch}/{epochs}", about=about)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line)

    def show(self, what: str) -> None:
        """Say on the bar itself what is going on."""
        self._progress.update(self._task, about=what + " ")

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class RateColumn(ProgressColumn):
    """How many a second are done, as soon as that is known."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class CountBar:
    """A bar over a known number of videos, on standard error; nothing where that is no terminal.

    Args:
        what: is done to them.
        total: how many there are.
        quiet: show nothing.
        amid_output: answers are printed meanwhile, which leaves no place for a bar on the same terminal.
    """

    def __init__(self, what: str, *, total: int, quiet: bool = False, amid_output: bool = False) -> None:
        console = PlainConsole(
            stderr=True, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self._progress = Progress(
            TextColumn(what),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=quiet or not console.is_terminal or (amid_output and sys.stdout.isatty()),
            transient=True,
            redirect_stdout=not amid_output,
        )
        self._task = self._progress.add_task(what, total=total)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._progress.advance(self._task, count)

    def count(self, things: Iterable[T]) -> Iterator[T]:
        """All of them, each counted when the next one is asked for."""
        for thing in things:
            yield thing
            self.advance(1)

    def reach(self, done: int) -> None:
        """So many are done in all."""
        self._progress.update(self._task, completed=done)

    def reach_of(self, done: int, total: int) -> None:
        """So many are done of so many, where the number of all is known late."""
        self._progress.update(self._task, completed=done, total=total)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
