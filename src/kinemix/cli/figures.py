"""What a test found, on standard output: of one task, of several, or of several labels a video."""

import sys
from collections.abc import Mapping

from rich.console import Console

from kinemix.cli.tables import _open_console, _percent, _print_line, _start_table
from kinemix.engine.each_split import SplitsResult
from kinemix.engine.measure import Measurement
from kinemix.evaluate.metrics import AnyMetrics, Metrics, MultiLabelMetrics, TaskMetrics

_FIGURES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class", "mean_average_precision": "mAP"}
"""Headings of figures; others have their own name."""

_LARGEST_CONFUSION = 20
"""Classes up to which the confusion matrix is printed; beyond, the commonest mistakes are listed."""


def print_measurement(measurement: Measurement) -> None:
    """The figures, the classes one by one, what is confused with what, and where the files are."""
    scores = measurement.scores
    for notice in measurement.notices:
        print(f"note: {notice}", file=sys.stderr)
    for path, reason in scores.unreadable:
        print(f"unreadable, in no figure: {path}: {reason}", file=sys.stderr)
    console = _open_console()
    _print_line(console, f"{scores.model.get('name', 'model')}: {scores.describe_protocol()}")
    _print_metrics(console, measurement.metrics, len(scores.ids))
    about = f"checkpoint {measurement.checkpoint} after {measurement.epoch} epochs"
    if measurement.chosen_on:
        about += ", chosen among the epochs on these very videos (--checkpoint last is not)"
    files = (measurement.submission_path, measurement.metrics_path, measurement.scores_path)
    for line in (about, *(path for path in files if path is not None)):
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


def _print_metrics(console: Console, metrics: AnyMetrics | None, count: int) -> None:
    if isinstance(metrics, TaskMetrics):
        _print_accuracies(console, metrics.by_task)
        for task, one in metrics.by_task.items():
            _print_line(console, f"{task}: the figures of every class are in the JSON file")
            _print_confusion(console, one)
    elif isinstance(metrics, MultiLabelMetrics):
        _print_precisions(console, metrics)
    elif metrics is not None:
        _print_accuracies(console, {"": metrics})
        table = _start_table(left=("class",), right=("right", "videos"))
        for c in metrics.per_class:
            table.add_row(c.name, "-" if c.accuracy is None else _percent(c.accuracy), str(c.count))
        console.print(table)
        _print_confusion(console, metrics)
    else:
        _print_line(console, f"{count} videos, whose labels are not known here: no figures")


def _print_accuracies(console: Console, by_task: Mapping[str, Metrics]) -> None:
    named, often = any(by_task), any(one.many_shot is not None for one in by_task.values())
    headings = ["top-1", "top-5", "mean class"]
    headings += ["precision", "recall", "many-shot classes"] if often else []
    table = _start_table(left=("task",) if named else (), right=(*headings, "videos"))
    for task, one in by_task.items():
        cells = [_percent(figure) for figure in (one.top1, one.top5, one.mean_class)]
        if often:
            shot = one.many_shot
            cells += (
                ["-"] * 3
                if shot is None
                else [_percent(shot.precision), _percent(shot.recall), str(shot.classes)]
            )
        table.add_row(*((task,) if named else ()), *cells, str(one.count))
    console.print(table)


def _print_precisions(console: Console, metrics: MultiLabelMetrics) -> None:
    table = _start_table(right=("mAP", "videos"))
    table.add_row(_percent(metrics.mean_average_precision), str(metrics.count))
    console.print(table)
    table = _start_table(left=("class",), right=("average precision", "videos with it"))
    for c in metrics.per_class:
        figure = "-" if c.average_precision is None else _percent(c.average_precision)
        table.add_row(c.name, figure, str(c.count))
    console.print(table)
    if absent := metrics.absent:
        shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        count = "1 class" if len(absent) == 1 else f"{len(absent)} classes"
        _print_line(console, f"in no mean, because no video here has them: {count}: {shown}")


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
    labels, answers = metrics.confusion.nonzero()
    mistakes = [
        (int(metrics.confusion[label, answer]), int(label), int(answer))
        for label, answer in zip(labels, answers, strict=True)
        if label != answer
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[0])
