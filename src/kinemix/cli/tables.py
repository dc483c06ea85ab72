"""Tables on standard output."""

import csv
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from kinemix.config import to_dict
from kinemix.deploy.predict import Answer, Prediction
from kinemix.engine.progress import PlainConsole
from kinemix.evaluate.protocol import describe_protocol
from kinemix.models.foreign import Conversion, report_to_dict


def print_answers(answers: Iterable[Answer], *, form: str) -> list[Answer]:
    """Print each answer as it comes, and return those that are errors."""
    if form == "json":
        return _print_json(answers)
    failed: list[Answer] = []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    console = _open_console()
    if form == "csv":
        writer.writerow(("file", "task", "rank", "label", "score", "logit", "present", "error"))
    for answer in answers:
        if answer.error is not None:
            failed.append(answer)
        if form == "csv":
            writer.writerows(_list_rows(answer))
        elif answer.error is None:
            _print_line(console, answer.path)
            _print_ranking(console, answer)
    return failed


def _list_rows(answer: Answer) -> Iterator[tuple[object, ...]]:
    """A line for every prediction, or one for a file that could not be read; what does not apply is empty."""
    if answer.error is not None:
        yield answer.path, "", "", "", "", "", "", answer.error
    for task, predictions in _group_by_task(answer):
        for rank, p in enumerate(predictions, start=1):
            present = "" if p.present is None else str(p.present).lower()
            yield answer.path, task, rank, p.label, f"{p.score:.6f}", f"{p.logit:.6f}", present, ""


def _print_ranking(console: Console, answer: Answer) -> None:
    for task, predictions in _group_by_task(answer):
        several = any(p.present is not None for p in predictions)
        table = _start_table(left=(task or "class", *(("present",) if several else ())), right=("score",))
        for p in predictions:
            mark = ("yes" if p.present else "",) if several else ()
            table.add_row(p.label, *mark, _percent(p.score))
        console.print(table)


def _group_by_task(answer: Answer) -> list[tuple[str, list[Prediction]]]:
    tasks = dict.fromkeys(p.task for p in answer.predictions)
    return [(task or "", [p for p in answer.predictions if p.task == task]) for task in tasks]


def print_conversion(conversion: Conversion, *, form: str) -> None:
    """What became of every tensor of another project's file, and what was built from it."""
    for assumption in conversion.assumptions:
        print(f"note: {assumption}", file=sys.stderr)
    model, protocol = conversion.model, describe_protocol(conversion.protocol)
    if form == "json":
        about = {"file": str(conversion.file), "project": conversion.project, "model": model.description}
        report = report_to_dict(conversion.report)
        print(json.dumps({**about, "protocol": to_dict(conversion.protocol), **report}, indent=2))
        return
    console = _open_console(width=240)
    table = _start_table(left=("tensor", "in the file", "fate"), right=("shape", "in the file"))
    for row in conversion.report.rows:
        shapes = [_format_shape(shape) for shape in (row.shape, row.their_shape)]
        table.add_row(row.ours or "-", row.theirs or "-", row.fate, *shapes)
    console.print(table)
    counts = ", ".join(f"{count} {fate}" for fate, count in conversion.report.count().items())
    _print_line(
        console, f"{conversion.project}: {model.description['name']}, {model.num_classes} classes: {counts}"
    )
    _print_line(console, f"protocol: {protocol}")


def print_plan(facts: dict[str, Any]) -> None:
    """Where the temporal modules stand, and what they add."""
    height, width = facts["input_size"]
    console = _open_console()
    size = f"{facts['num_frames']} frames of {height} x {width} px, {facts['num_classes']} classes"
    _print_line(console, f"{facts['model']}: {size}")
    table = _start_table(left=("stage.block", "place", "module"), right=("C x H x W", "parameters", "MMACs"))
    for site in facts["sites"]:
        table.add_row(
            f"{site['stage']}.{site['block']}",
            f"{site['place']} {site['path']}",
            site["module"],
            f"{site['channels']} x {site['height']} x {site['width']}",
            f"{site['parameters']:,}",
            f"{site['macs'] / 1e6:,.2f}",
        )
    if facts["sites"]:
        console.print(table)
    _print_line(
        console,
        f"{len(facts['sites'])} sites; {facts['parameters'] / 1e6:.3f} M parameters, of them "
        f"{facts['added_parameters']:,} temporal; {facts['macs'] / 1e9:.2f} GMACs a clip, of them "
        f"{facts['added_macs'] / 1e9:.3f} temporal",
    )


def _print_json(answers: Iterable[Answer]) -> list[Answer]:
    """One list, written element by element: there may be more answers than fit into memory."""
    failed: list[Answer] = []
    separator = "["
    for answer in answers:
        content: dict[str, Any] = {"file": answer.path}
        if answer.error is not None:
            failed.append(answer)
            content["error"] = answer.error
        else:
            content["predictions"] = [p.to_dict() for p in answer.predictions]
        text = json.dumps(content, indent=2, ensure_ascii=False)
        print(separator, textwrap.indent(text, "  "), sep="\n", end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")
    return failed


def _start_table(*, left: tuple[str, ...] = (), right: tuple[str, ...]) -> Table:
    table = Table()
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print_line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _open_console(width: int = 120) -> Console:
    """Standard output; so many columns where it is no terminal, so that files hold whole tables.

    Class and file names are the user's: nothing in them is taken for markup.
    """
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    console = PlainConsole(**plain)
    return console if console.is_terminal else PlainConsole(**plain, width=width)


def _format_shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else " x ".join(map(str, shape)) or "number"


def _percent(share: float) -> str:
    return f"{share:.1%}"
