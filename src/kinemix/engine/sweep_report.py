"""A sweep as cells, as a page of Markdown and as plain data."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kinemix.engine.run_directory import CONFIG_NAME
from kinemix.engine.sweep import Sweep, SweepTrial
from kinemix.evaluate.markdown import format_table, write_report

STEM = "sweep"
"""Of the files' names."""


def list_headings(sweep: Sweep) -> tuple[str, ...]:
    """Of the columns."""
    return ("run", "state", *(axis.name for axis in sweep.axes), f"{sweep.figure}, %", "epoch", "seconds")


def list_cells(sweep: Sweep) -> list[tuple[str, ...]]:
    """One row of text for each trial: complete ones first, the best of them at the top."""
    order = {"complete": 0, "pruned": 1, "failed": 2}
    ranked = sorted(sweep.trials, key=lambda trial: (order[trial.state], -(trial.figure or 0.0)))
    return [
        (
            trial.run,
            trial.state,
            *(_format_value(trial.values[axis.name]) for axis in sweep.axes),
            "" if trial.figure is None else f"{100 * trial.figure:.1f}",
            str(trial.epoch or ""),
            f"{trial.seconds:.0f}" if trial.seconds else "",
        )
        for trial in ranked
    ]


def list_remarks(sweep: Sweep) -> list[str]:
    """What is to be said below the table."""
    best = sweep.best
    values = ", ".join(f"{name} {_format_value(value)}" for name, value in best.values.items())
    remarks = [
        f"Best: {best.run}, {sweep.figure} {100 * (best.figure or 0):.1f} %, with {values}.",
        "It was chosen on the held-out videos themselves, so its figure is flattering; other videos, folds or seeds "
        "say what it is worth.",
    ]
    remarks += [f"Failed: {trial.run}: {trial.reason}" for trial in sweep.trials if trial.state == "failed"]
    return [*remarks, f"Again: {command_of(sweep, best)}"]


def command_of(sweep: Sweep, trial: SweepTrial) -> str:
    """What trains with a trial's options in a directory of its own."""
    options = sweep.directory / trial.run / CONFIG_NAME
    out = sweep.directory.with_name(f"{sweep.directory.name}-best")
    return f"kinemix train --config {shlex.quote(str(options))} --out {shlex.quote(str(out))}"


def write_sweep(sweep: Sweep) -> None:
    """Put ``sweep.md`` and ``sweep.json`` into the directory of the runs."""
    page = "\n".join(
        [
            f"# Sweep on {sweep.source}",
            "",
            format_table(list_headings(sweep), list_cells(sweep)),
            *(f"- {remark}" for remark in list_remarks(sweep)),
            "",
        ]
    )
    write_report(sweep.directory / STEM, page, describe_sweep(sweep))


def describe_sweep(sweep: Sweep) -> Mapping[str, Any]:
    """The sweep as JSON can hold it."""
    return {**asdict(sweep), "directory": str(sweep.directory), "command": command_of(sweep, sweep.best)}


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
