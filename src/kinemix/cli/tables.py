"""Tables on standard output."""

import csv
import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from kinemix.config import to_dict
from kinemix.deploy.predict import Answer
from kinemix.engine.each_split import SplitsResult
from kinemix.engine.measure import Measurement
from kinemix.engine.progress import PlainConsole
from kinemix.evaluate.metrics import Metrics
from kinemix.evaluate.protocol import describe_protocol
from kinemix.models.foreign import Conversion, report_to_dict

_FIGURES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class"}
"""Headings of figures; others have their own name."""

_LARGEST_CONFUSION = 20
"""Classes up to which the confusion matrix is printed; beyond, the commonest mistakes are listed."""


def print_measurement(measurement: Measurement) -> None:
    """Accuracies, the classes one by one, the confusion, and where the files are."""
    metrics, scores = measurement.metrics, measurement.scores
    for notice in measurement.notices:
        print(f"note: {notice}", file=sys.stderr)
    for path, reason in scores.unreadable:
        print(f"unreadable, in no figure: {path}: {reason}", file=sys.stderr)
    console = _open_console()
    _print_line(console, f"{scores.model.get('name', 'model')}: {scores.describe_protocol()}")
    table = _start_table(right=("top-1", "top-5", "mean class", "videos"))
    figures = (metrics.top1, metrics.top5, metrics.mean_class)
    table.add_row(*map(_percent, figures), str(metrics.count))
    console.print(table)
    table = _start_table(left=("class",), right=("right", "videos"))
    for c in metrics.per_class:
        table.add_row(c.name, "-" if c.accuracy is None else _percent(c.accuracy), str(c.count))
    console.print(table)
    _print_confusion(console, metrics)
    about = f"checkpoint {measurement.checkpoint} after {measurement.epoch} epochs"
    if measurement.chosen_on:
        about += ", chosen among the epochs on these very videos (--checkpoint last is not)"
    for line in (about, measurement.metrics_path, measurement.scores_path):
        _print_line(console, str(line))


def print_splits(result: SplitsResult) -> None:
    """The splits one by one, their mean and its deviation, and where the runs are."""
    console = _open_console()
    _print_line(console, result.protocol)
    names = list(result.mean)
    table = _start_table(left=("split",), right=(*(_FIGURES.get(name, name) for name in names), "videos"))
    for split in result.splits:
        figures = (_percent(split.figures[name]) for name in names)
        table.add_row(split.split, *figures, str(split.count))
    spread = (f"{result.mean[name]:.1%} ± {100 * result.deviation[name]:.1f}" for name in names)
    table.add_row("mean ± deviation", *spread, str(sum(split.count for split in result.splits)))
    console.print(table)
    _print_line(console, str(result.directory))


def print_answers(answers: Iterable[Answer], *, form: str) -> list[Answer]:
    """Print each answer as it comes (JSON: all at the end), and return those that are errors."""
    if form == "json":
        return _print_json(list(answers))
    failed: list[Answer] = []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    console = _open_console()
    if form == "csv":
        writer.writerow(("file", "rank", "label", "score", "logit"))
    for answer in answers:
        if answer.error is not None:
            failed.append(answer)
        elif form == "csv":
            for rank, p in enumerate(answer.predictions, start=1):
                writer.writerow((answer.path, rank, p.label, f"{p.score:.6f}", f"{p.logit:.6f}"))
        else:
            _print_line(console, answer.path)
            table = _start_table(left=("class",), right=("score",))
            for p in answer.predictions:
                table.add_row(p.label, _percent(p.score))
            console.print(table)
    return failed


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


def _print_json(answers: list[Answer]) -> list[Answer]:
    content: list[dict[str, Any]] = []
    for answer in answers:
        if answer.error is not None:
            content.append({"file": answer.path, "error": answer.error})
        else:
            ranked = [{"label": p.label, "score": p.score, "logit": p.logit} for p in answer.predictions]
            content.append({"file": answer.path, "predictions": ranked})
    print(json.dumps(content, indent=2, ensure_ascii=False))
    return [answer for answer in answers if answer.error is not None]


def _print_confusion(console: Console, metrics: Metrics) -> None:
    names = [c.name for c in metrics.per_class]
    if len(names) <= _LARGEST_CONFUSION:
        _print_line(console, "confusion: rows are labels, columns are answers")
        table = _start_table(left=("",), right=tuple(str(number) for number in range(len(names))))
        for number, (name, row) in enumerate(zip(names, metrics.confusion, strict=True)):
            table.add_row(f"{number} {name}", *(str(count) if count else "." for count in row))
    else:
        _print_line(console, "commonest mistakes")
        table = _start_table(left=("label", "answer"), right=("videos",))
        for count, label, answer in _list_mistakes(metrics)[:_LARGEST_CONFUSION]:
            table.add_row(names[label], names[answer], str(count))
    console.print(table)


def _list_mistakes(metrics: Metrics) -> list[tuple[int, int, int]]:
    """Number of samples, label and answer of every kind of mistake, the commonest first."""
    mistakes = [
        (int(count), label, answer)
        for label, row in enumerate(metrics.confusion)
        for answer, count in enumerate(row)
        if label != answer and count
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[0])


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
