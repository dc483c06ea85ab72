"""``kinemix compare``: several runs on the same videos, as pictures, a page and JSON."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from kinemix.engine.tested_run import TestedRun, TestedVideos
    from kinemix.evaluate.scores import Scores
    from kinemix.explain.compare import Comparison


def run_compare(words: list[str]) -> int:
    """``kinemix compare RUN RUN...``."""
    given = _declare().parse(words)

    from kinemix.explain.compare import FIGURES, compare_runs, write_comparison

    for name in given.figures or ():
        if name not in FIGURES:
            raise ConfigError(f"--figures: no figure {name!r}: {did_you_mean(name, FIGURES)}")
    published = _find_dataset(given.published)
    figures = given.figures or FIGURES
    networks = {name: _open(path, given) for name, path in name_runs(given).items()}
    comparison = compare_runs(networks, allow_missing=given.allow_missing, latency=given.latency)
    files = write_comparison(
        comparison,
        Path(given.out),
        videos=_open_videos(networks) if "clips" in figures else None,
        figures=figures,
        published=published,
        same_dataset=given.same_dataset,
    )
    _print(comparison)
    for file in files:
        print(file)
    return 0


def name_runs(given: Any) -> dict[str, str]:
    """The names of the networks, given or taken from their paths, and the paths."""
    from kinemix.cli.ensemble import shorten

    names = given.names or shorten(given.RUNS)
    if len(names) != len(given.RUNS) or len(set(names)) < len(names):
        raise ConfigError(f"--names: give {len(given.RUNS)} different ones, one a run")
    return dict(zip(names, given.RUNS, strict=True))


def _open_videos(networks: "dict[str, TestedRun | Scores]") -> "TestedVideos | None":
    """The tested videos, if any of the networks is a run whose videos are still there."""
    from kinemix.engine.tested_run import TestedRun

    for network in networks.values():
        if isinstance(network, TestedRun):
            try:
                return network.open_videos()
            except DataError as error:
                print(f"note: no clips are shown: {error}", file=sys.stderr)
                return None
    return None


def _declare() -> Options:
    options = Options("compare", "RUN RUN [...] [--OPTION VALUE ...]", VERBS["compare"])
    options.add(
        "RUNS",
        str,
        nargs="+",
        about="run directories, or files of scores; the others are compared with the first",
    )
    options.add("--names", str, None, nargs="+", about="of the networks in pictures, one a run")
    options.add(
        "--data", str | None, about="folder or list file to test on; by default what the runs held out"
    )
    options.add(
        "--checkpoint", str | None, about="best or last; by default the best, or the last if there is no best"
    )
    options.add(
        "--task",
        str | None,
        about="the question to compare, where runs answer several; by default the leading",
    )
    options.add(
        "--figures",
        str,
        None,
        nargs="+",
        about="some of changes clips order classes confusion calibration agreement macs latency; by default all",
    )
    options.add(
        "--published",
        str,
        "Something-Something v1",
        about="dataset whose published figures are drawn beside; none for none",
    )
    options.add(
        "--same_dataset", bool, False, about="the runs were tested on it too: draw all in one diagram"
    )
    options.add("--latency", bool, True, about="time the networks on this machine")
    options.add("--allow_missing", bool, False, about="go on with the samples that all runs have")
    options.add("--batch_size", int, 8, about="videos at a time, in tests that are missing")
    options.add("--workers", int, 2, about="loader processes, likewise")
    options.add("--out", str, "comparison", about="folder for the pictures, index.html and comparison.json")
    return options


def _find_dataset(name: str) -> str | None:
    from kinemix.evaluate.papers import NUM_CLASSES
    from kinemix.evaluate.papers.points import list_points

    if name == "none":
        return None
    known = [dataset for dataset in NUM_CLASSES if list_points(dataset)]
    if name not in known:
        raise ConfigError(f"--published: no figures on {name!r}: {did_you_mean(name, known)}")
    return name


def _open(path: str, given: Any) -> "TestedRun | Scores":
    from kinemix.engine.tested_run import ORDERS, open_tested_run
    from kinemix.evaluate.foreign_scores import Confusion, read_any_scores

    if Path(path).is_file():
        scores = read_any_scores(path)
        if isinstance(scores, Confusion):
            raise ConfigError(f"{path}: a confusion matrix holds no scores to compare")
        return scores.take_question(given.task)
    wanted = ORDERS if given.figures is None or "order" in given.figures else ("forward",)
    return open_tested_run(
        path,
        given.data,
        checkpoint=given.checkpoint,
        orders=wanted,
        task=given.task,
        batch_size=given.batch_size,
        workers=given.workers,
    )


def _print(comparison: "Comparison") -> None:
    from kinemix.cli.ensemble import format_interval
    from kinemix.cli.tables import _open_console, _print_line, _start_table

    console = _open_console()
    for notice in comparison.notices:
        print(f"note: {notice}", file=sys.stderr)
    for name, scores in comparison.scores.items():
        _print_line(console, f"{name}: {scores.describe_protocol()}")
    orders = list(next(iter(comparison.order.values())).accuracy)[1:] if comparison.order else []
    table = _start_table(left=("network",), right=("top-1", *orders, "calibration error", "McNemar p"))
    for name, figures in comparison.figures.items():
        order, paired = comparison.order.get(name), comparison.paired.get(name)
        table.add_row(
            name,
            format_interval(figures.top1),
            *("" if order is None else f"{order.accuracy[kind]:.1%}" for kind in orders),
            f"{comparison.calibration[name].error:.1%}",
            "" if paired is None else f"{paired.p_value:.2g}",
        )
    console.print(table)
