"""An ablation beside the paper's table, as cells, as a page of Markdown and as plain data."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

from kinemix.engine.ablation import Ablation, AblationRow
from kinemix.evaluate.agreement import describe_agreement
from kinemix.evaluate.markdown import format_table, write_report
from kinemix.evaluate.papers import TITLES

STEM = "ablation"
"""Of the files' names."""


def list_headings(ablation: Ablation) -> tuple[str, ...]:
    """Of the columns."""
    reverse = ("reversed, %",) if any(row.reversed for row in ablation.rows) else ()
    return (
        *("row", "network here", "paper, %", "ours, %", *reverse),
        *("M params", "GMACs", "seconds", "processor s", "runs"),
    )


def list_cells(ablation: Ablation) -> list[tuple[str, ...]]:
    """One row of text for each row of the table."""
    reverse = any(row.reversed for row in ablation.rows)
    return [
        (
            f"{row.label} ({row.about})" if row.about else row.label,
            row.network or "not built here",
            "" if row.printed is None else f"{row.printed:g}",
            describe_spread(row.forward),
            *((describe_spread(row.reversed),) if reverse else ()),
            "" if row.parameters is None else f"{row.parameters / 1e6:.3f}",
            "" if row.macs is None else f"{row.macs / 1e9:.3f}",
            "" if row.seconds is None else f"{row.seconds:.0f}",
            "" if row.processor_seconds is None else f"{row.processor_seconds:.0f}",
            f"{row.done} of {row.runs}" if row.runs else "",
        )
        for row in ablation.rows
    ]


def describe_spread(values: Sequence[float]) -> str:
    """Mean and deviation over seeds; the deviation of one alone is not known."""
    if not values:
        return ""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def list_remarks(ablation: Ablation) -> list[str]:
    """What is to be said below the table: where orders agree and where not, and what is missing."""
    remarks = describe_agreement(ablation.agreement)
    remarks += [
        f"{row.label} is one network with {row.one_with} here: it ran once, and does not count in the order."
        for row in ablation.rows
        if row.one_with
    ]
    if len(ablation.seeds) < 2:
        remarks.append("One seed: nothing is known about the spread.")
    remarks += [f"Failed: {name}: {reason}" for name, reason in ablation.failures.items()]
    return remarks


def describe_setting(ablation: Ablation) -> list[str]:
    """What was measured, and how."""
    seeds = ", ".join(map(str, ablation.seeds))
    return [
        f"{TITLES[ablation.paper]}, table {ablation.table}: {ablation.dataset} in the paper, "
        f"{ablation.source} here ({ablation.clip} px, seeds {seeds}).",
        f"Ours: {ablation.figure}; {ablation.views or 'nothing measured yet'}.",
    ]


def write_ablation(ablation: Ablation) -> None:
    """Put ``ablation.md`` and ``ablation.json`` into the directory of the runs."""
    page = "\n".join(
        [
            f"# {ablation.paper}, table {ablation.table}",
            "",
            *(f"{line}\n" for line in describe_setting(ablation)),
            format_table(list_headings(ablation), list_cells(ablation)),
            *(f"- {remark}" for remark in list_remarks(ablation)),
            "",
            "Seconds are of one training: wall time, and time of the processors, its loaders' included.",
            "",
        ]
    )
    write_report(ablation.directory / STEM, page, describe_ablation(ablation))


def describe_ablation(ablation: Ablation) -> dict[str, Any]:
    """The table as JSON can hold it, with mean and deviation of each row."""
    return {
        **asdict(ablation),
        "directory": str(ablation.directory),
        "rows": [{**asdict(row), **_sum_up(row)} for row in ablation.rows],
    }


def _sum_up(row: AblationRow) -> dict[str, float | None]:
    return {
        f"{name}_{what}": sum_up(values) if len(values) > least else None
        for name, values in (("forward", row.forward), ("reversed", row.reversed))
        for what, sum_up, least in (("mean", mean, 0), ("deviation", stdev, 1))
    }
