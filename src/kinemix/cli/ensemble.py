"""``kinemix ensemble``: score files averaged, measured one by one and together, and compared pair by pair."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.cli.outputs import check_file
from kinemix.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kinemix.evaluate.compare import Figures, Interval, PairedComparison
    from kinemix.evaluate.ensemble import Aligned
    from kinemix.evaluate.foreign_scores import Confusion
    from kinemix.evaluate.scores import Scores


def run_ensemble(words: list[str]) -> int:
    """``kinemix ensemble RUN_OR_SCORES...``."""
    given = _declare().parse(words)
    for file in (given.out, given.submission):
        check_file(file)
    if given.weights is not None and given.search_on is not None:
        raise ConfigError("--weights and --search_on: give one of them")

    from kinemix.evaluate.foreign_scores import Confusion

    read = [_read(path, given) for path in given.SCORES]
    names = shorten([str(path) for path in given.SCORES])
    if any(isinstance(one, Confusion) for one in read):
        return _show_confusion(read, names, given)
    return _show_scores([one for one in read if not isinstance(one, Confusion)], names, given)


def _declare() -> Options:
    options = Options("ensemble", "RUN_OR_SCORES [...] [--OPTION VALUE ...]", VERBS["ensemble"])
    options.add(
        "SCORES",
        str,
        nargs="+",
        about="run directories or files: .parquet, .npz, .npy, .csv, .pkl (plain data)",
    )
    options.add("--weights", float, None, nargs="+", about="one a member, as in 2 1 1; by default equal")
    options.add(
        "--search_on",
        str,
        None,
        nargs="+",
        about="scores of the members on other samples, to choose weights on",
    )
    options.add("--average", Literal["logits", "probabilities"], "logits", about="what is averaged")
    options.add(
        "--match",
        Literal["id", "stem", "order"],
        "id",
        about="what makes two rows one sample: its name, its file name without folder and suffix, or its row",
    )
    options.add("--allow_missing", bool, False, about="go on with the samples that all members have")
    options.add(
        "--against", str | None, about="the member that all others are compared with: its number or name"
    )
    options.add(
        "--labels", str | None, about="labels for files without any: .npy, or lines of name ... label"
    )
    for what in ("scores", "labels", "names"):
        options.add(
            f"--{what}_key", str | None, about=f"array or column of the {what}, if its name is unusual"
        )
    options.add("--task", str | None, about="take this one, where members answer several; by default each")
    options.add("--draws", int, 1000, about="of the bootstrap")
    options.add("--seed", int, 0, about="of the bootstrap")
    options.add("--out", str | None, about="Parquet file for the ensemble's scores")
    options.add("--submission", str | None, about="file for the EPIC-Kitchens-55 challenge")
    options.add("--format", Literal["table", "json"], "table", about="of the output")
    return options


def _read(path: str, given: Any) -> "Scores | Confusion":
    from kinemix.evaluate.foreign_scores import Keys, read_any_scores

    keys = Keys(scores=given.scores_key, labels=given.labels_key, names=given.names_key)
    return read_any_scores(path, keys=keys, labels=Path(given.labels) if given.labels else None)


def _show_confusion(read: list[Any], names: list[str], given: Any) -> int:
    from kinemix.evaluate.compare import measure_confusion

    if len(read) > 1:
        raise DataError("a confusion matrix holds no scores to average: give it alone")
    figures = {names[0]: measure_confusion(read[0].counts, draws=given.draws, seed=given.seed)}
    if given.format == "json":
        print(json.dumps({"members": {name: asdict(one) for name, one in figures.items()}}, indent=2))
    else:
        _print_figures(figures, {}, {names[0]: "confusion matrix"}, given)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Fusion:
    """Members and their ensemble on one question.

    Attributes:
        together: the ensemble's scores; of one member, its own.
        figures: by name, the ensemble's last; none where nobody knows the labels.
        weights: by name of a member; none where there is one.
        views: how each member was tested.
        compared: pairs of names, and what came of it.
        notices: for the user.
    """

    together: "Scores"
    figures: "dict[str, Figures]"
    weights: dict[str, float]
    views: dict[str, str]
    compared: "dict[tuple[str, str], PairedComparison]"
    notices: list[str]


def _show_scores(read: "list[Scores]", names: list[str], given: Any) -> int:
    from kinemix.evaluate.ensemble import split_tasks
    from kinemix.evaluate.scores import join_tasks, write_scores
    from kinemix.evaluate.submission import write_submission

    if given.draws < 1 or given.seed < 0:
        raise ConfigError(f"draws={given.draws}, seed={given.seed}: give at least 1 and 0")
    tasks = split_tasks(read, names, task=given.task)
    fused = {task: _fuse(members, names, given, task) for task, members in tasks.items()}
    parts = {task: fusion.together for task, fusion in fused.items()}
    together = join_tasks(parts) if len(parts) > 1 else next(iter(parts.values()))
    files = []
    if given.out and len(names) > 1:
        write_scores(together, Path(given.out))
        files.append(given.out)
    if given.submission:
        write_submission(together, Path(given.submission))
        files.append(given.submission)
    if given.format == "json":
        told = {task: _describe(fusion, given) for task, fusion in fused.items()}
        content = {"tasks": told} if len(told) > 1 else next(iter(told.values()))
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    for task, fusion in fused.items():
        for notice in fusion.notices:
            print(f"note: {task}: {notice}" if task else f"note: {notice}", file=sys.stderr)
        if task:
            print(task)
        if fusion.figures:
            _print_figures(fusion.figures, fusion.weights, fusion.views, given)
            _print_comparisons(fusion.compared)
    for file in files:
        print(file)
    return 0


def _fuse(read: "Sequence[Scores]", names: list[str], given: Any, task: str) -> _Fusion:
    """One question: the members aligned, averaged, measured and compared."""
    from kinemix.evaluate.compare import compare_scores, measure_scores
    from kinemix.evaluate.ensemble import align_scores, average_scores, check_weights, find_best

    aligned = align_scores(read, names, match=given.match, allow_missing=given.allow_missing)
    notices = [*aligned.notices, *_warn_of_scales(aligned, names, given.average)]
    weights = check_weights(given.weights, len(read))
    if given.search_on is not None:
        weights = _search(aligned, names, given, notices, task)
    all_scores = dict(zip(names, aligned.members, strict=True))
    together = f"ensemble of {len(names)}"
    if len(names) > 1:
        all_scores[together] = average_scores(aligned.members, weights=weights, average=given.average)
    figures: dict[str, Figures] = {}
    compared: dict[tuple[str, str], PairedComparison] = {}
    if aligned.members[0].labelled:
        draw = {"draws": given.draws, "seed": given.seed}
        figures = {name: measure_scores(one, **draw) for name, one in all_scores.items()}
        base = _find_member(given.against, names) if given.against else names[find_best(aligned.members)]
        others = [name for name in all_scores if name != base]
        if not given.against:
            others = [together] if len(names) > 1 else []
        compared = {
            (name, base): compare_scores(all_scores[name], all_scores[base], **draw) for name in others
        }
    else:
        notices.append("the labels are not known here: no figures")
    return _Fusion(
        together=list(all_scores.values())[-1],
        figures=figures,
        weights=dict(zip(names, weights, strict=True)) if len(names) > 1 else {},
        views={name: one.describe_protocol() for name, one in zip(names, aligned.members, strict=True)},
        compared=compared,
        notices=notices,
    )


def _search(
    tested: "Aligned", names: list[str], given: Any, notices: list[str], task: str
) -> tuple[float, ...]:
    from kinemix.evaluate.ensemble import align_scores, leave_out_tested, search_weights, split_tasks
    from kinemix.evaluate.foreign_scores import Confusion

    if len(given.search_on) != len(tested.members):
        raise ConfigError(
            f"--search_on has {len(given.search_on)} files for {len(tested.members)} members: give one for each"
        )
    read = [_read(path, given) for path in given.search_on]
    scores = [one for one in read if not isinstance(one, Confusion)]
    if len(scores) < len(read):
        raise DataError("--search_on: a confusion matrix holds no scores")
    if task:
        scores = list(split_tasks(scores, given.search_on, task=task)[task])
    search = align_scores(scores, given.search_on, match=given.match, allow_missing=given.allow_missing)
    others, left_out = leave_out_tested(search.members, tested.members, match=given.match)
    weights = search_weights(others, average=given.average)
    notices += search.notices
    notices += [
        f"{name}: its weight is that of {on}" for name, on in zip(names, given.search_on, strict=True)
    ]
    notices.append(
        f"weights were chosen on {len(others[0].ids)} samples of --search_on"
        + (f"; {left_out} more are tested and were left out" if left_out else "")
    )
    return weights


def _warn_of_scales(aligned: "Aligned", names: list[str], average: str) -> Iterable[str]:
    from kinemix.evaluate.ensemble import are_probabilities

    kinds = [are_probabilities(member) for member in aligned.members]
    if average == "logits" and any(kinds) and not all(kinds):
        yield (
            f"{names[kinds.index(True)]} holds probabilities and {names[kinds.index(False)]} does not: "
            "--average probabilities makes them alike"
        )


def _find_member(wanted: str, names: list[str]) -> str:
    """The member with that number, from 1, or that name."""
    if wanted in names:
        return wanted
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return names[int(wanted) - 1]
    raise ConfigError(
        f"--against is {wanted!r}: it must be a number from 1 to {len(names)}, or one of {names}"
    )


def shorten(paths: list[str]) -> list[str]:
    """Names of the members: as little of each path as tells them apart."""
    stems = [Path(path).stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    for depth in range(1, 8):
        names = ["/".join(Path(path).parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{number} {path}" for number, path in enumerate(paths, start=1)]


def _print_figures(
    figures: "dict[str, Figures]", weights: dict[str, float], views: dict[str, str], given: Any
) -> None:
    from kinemix.cli.tables import _open_console, _print_line, _start_table

    console = _open_console()
    for number, (name, view) in enumerate(views.items(), start=1):
        _print_line(console, f"{number} {name}: {view}")
    table = _start_table(left=("scores",), right=("weight", "top-1", "top-5", "mean class", "samples"))
    for name, one in figures.items():
        weight = f"{weights[name]:.3g}" if name in weights else ""
        if weights and name not in weights:
            table.add_section()
        cells = (
            format_interval(one.top1),
            format_interval(one.top5),
            format_interval(one.mean_class),
            str(one.count),
        )
        table.add_row(name if name in views else f"{name}, mean of {given.average}", weight, *cells)
    console.print(table)
    how = f"bootstrap over the samples, {given.draws} draws, seed {given.seed}"
    _print_line(console, f"in brackets: 95 % intervals, {how}")


def _print_comparisons(compared: "dict[tuple[str, str], PairedComparison]") -> None:
    from kinemix.cli.tables import _open_console, _start_table

    if not compared:
        return
    console = _open_console()
    headings = ("top-1", "both right", "first only", "second only", "neither", "McNemar p")
    table = _start_table(left=("first", "second"), right=headings)
    for (first, second), c in compared.items():
        table.add_row(
            first,
            second,
            format_interval(c.difference, sign="+"),
            *(str(count) for count in (c.both, c.only_first, c.only_second, c.neither)),
            f"{c.p_value:.2g}",
        )
    console.print(table)


def _describe(fusion: _Fusion, given: Any) -> dict[str, Any]:
    """One question, as JSON can hold it."""
    figures, weights = fusion.figures, fusion.weights
    members = {
        name: {"views": view, "weight": weights.get(name), **(asdict(figures[name]) if figures else {})}
        for name, view in fusion.views.items()
    }
    return {
        "members": members,
        "ensemble": next((asdict(one) for name, one in figures.items() if name not in members), None),
        "average": given.average,
        "comparisons": [{"first": a, "second": b, **asdict(c)} for (a, b), c in fusion.compared.items()],
        "bootstrap": {"draws": given.draws, "seed": given.seed, "level": 0.95},
        "notices": fusion.notices,
    }


def format_interval(interval: "Interval | None", *, sign: str = "") -> str:
    if interval is None:
        return "-"
    value, low, high = (100 * share for share in (interval.value, interval.low, interval.high))
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"
