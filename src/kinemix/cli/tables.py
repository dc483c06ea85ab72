"""Tables on standard output."""

import csv
import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from kinemix.deploy.predict import Answer
from kinemix.engine.measure import Measurement
from kinemix.evaluate.metrics import Metrics

_LARGEST_CONFUSION = 20
"""Classes up to which the confusion matrix is printed; beyond, the commonest mistakes are listed."""


def print_measurement(measurement: Measurement) -> None:
    """Accuracies, the classes one by one, the confusion, and where the files are."""
    metrics, scores = measurement.metrics, measurement.scores
    console = _open_console()
    for notice in measurement.notices:
        print(f"note: {notice}", file=sys.stderr)
    for path, reason in scores.unreadable:
        print(f"unreadable, in no figure: {path}: {reason}", file=sys.stderr)
    table = Table(
        title=f"{scores.model.get('name', '')} ({scores.describe_protocol()})", title_justify="left"
    )
    for heading in ("top-1", "top-5", "mean class", "videos"):
        table.add_column(heading, justify="right")
    table.add_row(
        _percent(metrics.top1), _percent(metrics.top5), _percent(metrics.mean_class), str(metrics.count)
    )
    console.print(table)
    console.print(_table_of_classes(metrics))
    console.print(_table_of_confusion(metrics))
    line = f"checkpoint {measurement.checkpoint} after {measurement.epoch} epochs"
    if measurement.chosen_on:
        line += ", chosen among the epochs on these very videos (--checkpoint last is not)"
    console.print(line)
    console.print(f"{measurement.metrics_path}\n{measurement.scores_path}")


def print_answers(answers: Iterable[Answer], *, form: str) -> list[Answer]:
    """Print each answer as it comes (JSON at the end), and return those that are errors."""
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
            table = Table(title=answer.path, title_justify="left")
            table.add_column("class")
            table.add_column("score", justify="right")
            for p in answer.predictions:
                table.add_row(p.label, _percent(p.score))
            console.print(table)
    return failed


def print_plan(facts: dict[str, Any]) -> None:
    """Where the temporal modules stand, and what they add."""
    height, width = facts["input_size"]
    table = Table(
        title=f"{facts['model']}: {facts['num_frames']} frames of {height} x {width} px, "
        f"{facts['num_classes']} classes",
        title_justify="left",
    )
    for heading in ("stage", "block", "place", "C x H x W", "module", "parameters", "MACs"):
        left = heading in ("place", "module")
        table.add_column(heading, justify="left" if left else "right", no_wrap=not left)
    for site in facts["sites"]:
        table.add_row(
            str(site["stage"]),
            str(site["block"]),
            f"{site['place']} {site['path']}",
            f"{site['channels']} x {site['height']} x {site['width']}",
            site["module"],
            f"{site['parameters']:,}",
            f"{site['macs'] / 1e6:,.1f} M",
        )
    console = _open_console()
    console.print(table)
    console.print(
        f"{len(facts['sites'])} sites; {facts['parameters'] / 1e6:.3f} M parameters, of them "
        f"{facts['added_parameters']:,} temporal; {facts['macs'] / 1e9:.2f} GMACs a clip, of them "
        f"{facts['added_macs'] / 1e9:.3f} temporal",
    )


def _print_json(answers: list[Answer]) -> list[Answer]:
    content = [
        {"file": answer.path, "error": answer.error}
        if answer.error is not None
        else {
            "file": answer.path,
            "predictions": [
                {"label": p.label, "score": p.score, "logit": p.logit} for p in answer.predictions
            ],
        }
        for answer in answers
    ]
    print(json.dumps(content, indent=2, ensure_ascii=False))
    return [answer for answer in answers if answer.error is not None]


def _table_of_classes(metrics: Metrics) -> Table:
    table = Table()
    for heading in ("class", "right", "videos"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for c in metrics.per_class:
        table.add_row(c.name, "-" if c.accuracy is None else _percent(c.accuracy), str(c.count))
    return table


def _table_of_confusion(metrics: Metrics) -> Table:
    names = [c.name for c in metrics.per_class]
    if len(names) <= _LARGEST_CONFUSION:
        table = Table(title="rows are labels, columns are answers", title_justify="left")
        table.add_column("")
        for number in range(len(names)):
            table.add_column(str(number), justify="right")
        for number, (name, row) in enumerate(zip(names, metrics.confusion, strict=True)):
            table.add_row(f"{number} {name}", *(str(count) if count else "." for count in row))
        return table
    table = Table(title="commonest mistakes", title_justify="left")
    for heading in ("label", "answer", "videos"):
        table.add_column(heading, justify="right" if heading == "videos" else "left")
    mistakes = [
        (int(count), names[label], names[answer])
        for label, row in enumerate(metrics.confusion)
        for answer, count in enumerate(row)
        if label != answer and count
    ]
    for count, label, answer in sorted(mistakes, key=lambda mistake: -mistake[0])[:_LARGEST_CONFUSION]:
        table.add_row(label, answer, str(count))
    return table


def _open_console() -> Console:
    """Standard output, 100 columns wide or more where it is no terminal, so that files hold whole tables."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**plain)
    return console if console.is_terminal else Console(**plain, width=max(100, console.width))


def _percent(share: float) -> str:
    return f"{share:.1%}"
