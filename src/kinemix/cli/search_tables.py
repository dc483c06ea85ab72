"""What ``kinemix ablate`` and ``kinemix sweep`` print."""

from pathlib import Path

from rich.console import Console

from kinemix.cli.tables import _open_console, _print_line, _start_table
from kinemix.engine import sweep_report
from kinemix.engine.ablation import Ablation
from kinemix.engine.ablation_report import (
    STEM,
    describe_setting,
    list_cells,
    list_headings,
    list_remarks,
)
from kinemix.engine.campaign import Finished
from kinemix.engine.progress import CountBar
from kinemix.engine.sweep import Sweep


class RunsBar(CountBar):
    """A bar over runs, with a line for each that ends."""

    def __init__(self, *, figure: str) -> None:
        super().__init__("runs", total=1)
        self._figure = figure
        self._total = self._done = 0

    def start(self, total: int, done: int) -> None:
        """So many runs there are to be, and so many are done."""
        self._total, self._done = total, done
        self.reach_of(done, total)

    def tell(self, finished: Finished) -> None:
        """One is over."""
        if finished.was_done:
            return
        self._done += 1
        self.reach_of(self._done, self._total)
        self.say(f"{self._done}/{self._total} {finished.trial.name}: {self._describe(finished)}")

    def _describe(self, finished: Finished) -> str:
        if (record := finished.record) is None:
            return "stopped early" if finished.stopped else f"failed: {finished.error}"
        figures = record.get(finished.trial).figures
        accuracy = f"{self._figure} {figures[self._figure]:.1%}, " if self._figure in figures else ""
        return f"{accuracy}{record.seconds:.0f} s, {record.processor_seconds:.0f} s of processors"


def print_sweep(sweep: Sweep) -> None:
    """The trials, the best first, what failed, and the command that trains the best again."""
    console = _open_console(width=160)
    headings = sweep_report.list_headings(sweep)
    table = _start_table(left=headings[:2], right=headings[2:])
    for cells in sweep_report.list_cells(sweep):
        table.add_row(*cells)
    console.print(table)
    for remark in sweep_report.list_remarks(sweep):
        _print_line(console, remark)
    _print_files(console, sweep.directory / sweep_report.STEM)


def print_ablation(ablation: Ablation) -> None:
    """The table beside the paper's, what is to be said about it, and where the files are."""
    console = _open_console(width=160)
    for line in describe_setting(ablation):
        _print_line(console, line)
    headings = list_headings(ablation)
    table = _start_table(left=headings[:2], right=headings[2:])
    for cells in list_cells(ablation):
        table.add_row(*cells)
    console.print(table)
    for remark in list_remarks(ablation):
        _print_line(console, remark)
    _print_files(console, ablation.directory / STEM)


def _print_files(console: Console, stem: Path) -> None:
    for suffix in ("md", "json", "png"):
        _print_line(console, str(stem.with_suffix(f".{suffix}")))
