"""What a person sees while a run goes: one bar with rate, time left, loss and the share of waiting for data."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A bar over the steps of a whole run, on standard error; only lines where that is no terminal.

    Args:
        total: steps of the optimizer in the run.
        done: steps before this process started.
        quiet: show nothing (every process but the first).
    """

    def __init__(self, *, total: int, done: int = 0, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
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
        self._task = self._progress.add_task("starting", total=total, completed=done, about="")

    def advance(self, *, epoch: int, epochs: int, loss: float, rate: float, wait: float) -> None:
        """One step is done.

        Args:
            epoch: number of the epoch under way, from 1.
            epochs: of the run.
            loss: of the step.
            rate: clips a second.
            wait: share of the time that was spent waiting for data.
        """
        about = f"loss {loss:.3f}  {rate:.1f} clips/s  waiting for data {wait:.0%} "
        self._progress.update(self._task, advance=1, description=f"epoch {epoch}/{epochs}", about=about)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False)

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
