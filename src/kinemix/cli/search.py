"""``kinemix ablate`` and ``kinemix sweep``: many runs of one kind, beside each other.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import json
from typing import Literal

from kinemix.cli import USER_ERROR, VERBS
from kinemix.cli.options import Options
from kinemix.cli.training import add_train_options, read_train_config
from kinemix.errors import ConfigError

_OF_ROWS = {
    "--model": "the rows of the table are the models: choose among them with --rows, and where they go with --backbone",
    "--seed": "every row is trained once with each of --seeds: give it there",
}
"""Options of a training that a table fills in itself; a config file may say them, for other uses of it."""


def run_ablate(words: list[str]) -> int:
    """``kinemix ablate PAPER TABLE DATA``; exit code 2 if a run failed."""
    options = Options(
        "ablate", "PAPER TABLE DATA [--config FILE] [--backbone NAME] [--OPTION VALUE ...]", VERBS["ablate"]
    )
    options.add("PAPER", str, about="mixtconv, gsm, ctm or mtnet")
    options.add(
        "TABLE", str, about="as the paper numbers it: 2, VIb, ...; 4.3 is tanh against sigmoid in GSM"
    )
    add_train_options(options)
    options.add("--rows", str, ["*"], nargs="+", about="shell patterns of rows, if not all")
    options.add("--backbone", str | None, about="in place of the paper's, such as resnet18")
    options.add("--seeds", int, [0], nargs="+", about="one run of each row for each")
    options.add(
        "--each_split", bool, False, about="one for each of data.folds, or for each published split, as well"
    )
    options.add("--reverse", bool, False, about="test with the frames of each clip played backwards too")
    options.add("--figure", str, "top1", about="ours that stands beside the paper's top-1")
    options.add("--jobs", int, 1, about="runs at once; they share the cores")
    for word in words:
        if (name := word.partition("=")[0]) in _OF_ROWS:
            raise ConfigError(f"{name}: {_OF_ROWS[name]}")
    values = options.parse(words).as_dict()
    own = {name: values.pop(name) for name in ("PAPER", "TABLE", "rows", "backbone", "seeds", "each_split")}
    reverse, figure, jobs = (values.pop(name) for name in ("reverse", "figure", "jobs"))
    config = read_train_config(values, verb="ablate PAPER TABLE")

    from kinemix.cli.search_tables import RunsBar, print_ablation
    from kinemix.engine.ablation import run_ablation
    from kinemix.engine.ablation_report import STEM, write_ablation
    from kinemix.explain.ablation_plot import plot_ablation
    from kinemix.explain.page import write_png

    with RunsBar(figure=figure) as bar:
        ablation = run_ablation(
            own["PAPER"],
            own["TABLE"],
            config,
            labels=own["rows"],
            backbone=own["backbone"],
            seeds=own["seeds"],
            each_split=own["each_split"],
            reverse=reverse,
            figure=figure,
            jobs=jobs,
            on_start=bar.start,
            on_finished=bar.tell,
        )
    write_ablation(ablation)
    write_png(plot_ablation(ablation), ablation.directory / f"{STEM}.png")
    print_ablation(ablation)
    return USER_ERROR if ablation.failures else 0


def run_sweep(words: list[str]) -> int:
    """``kinemix sweep DATA --over NAME=VALUES``."""
    options = Options(
        "sweep",
        "DATA --over NAME=VALUES [NAME=VALUES ...] [--config FILE] [--OPTION VALUE ...]",
        VERBS["sweep"],
    )
    add_train_options(options)
    options.add(
        "--over",
        str,
        [],
        nargs="+",
        about="what to go over: NAME=a,b,c or NAME=low..high or NAME=low..high:log; may stand several times",
    )
    options.add("--trials", int | None, about="in all, those of earlier calls included; by default 20")
    options.add(
        "--sampler",
        Literal["tpe", "random", "grid"],
        "tpe",
        about="tpe learns from what was found, random does not, grid tries every combination of choices",
    )
    options.add(
        "--pruner",
        Literal["none", "median", "halving"],
        "median",
        about="which runs are stopped early: those below the median at the same epoch, or all but a quarter",
    )
    options.add("--figure", str, "top1", about="to be made high, on the held-out videos")
    options.add("--jobs", int, 1, about="runs at once; they share the cores")
    words, over = _gather(words, "--over")
    values = options.parse(words).as_dict()
    own = {name: values.pop(name) for name in ("trials", "sampler", "pruner", "figure", "jobs")}
    del values["over"]
    config = read_train_config(values, verb="sweep")

    from kinemix.engine.sweep_space import parse_axis

    axes = [parse_axis(text) for text in over]
    for axis in axes:
        if not options.is_part_of_mapping(axis.name):
            for value in axis.list_extremes():
                text = value if isinstance(value, str) else json.dumps(value)
                options.parse([*words, f"--{axis.name}={text}"])  # tells of unknown names and wrong types

    from kinemix.cli.search_tables import RunsBar, print_sweep
    from kinemix.engine.sweep import run_sweep as search
    from kinemix.engine.sweep_report import STEM, write_sweep
    from kinemix.explain.page import write_png
    from kinemix.explain.sweep_plot import plot_sweep

    with RunsBar(figure=own["figure"]) as bar:
        sweep = search(config, axes, **own, on_start=bar.start, on_finished=bar.tell)
    write_sweep(sweep)
    write_png(plot_sweep(sweep), sweep.directory / f"{STEM}.png")
    print_sweep(sweep)
    return 0


def _gather(words: list[str], name: str) -> tuple[list[str], list[str]]:
    """The words without an option that may stand several times, and all its values.

    What stands right behind it is one; what follows only if it looks like one, for it may be the data.
    """
    rest: list[str] = []
    values: list[str] = []
    taking = False
    for before, word in zip(["", *words], words, strict=False):
        if word == name:
            taking = True
        elif word.startswith(f"{name}="):
            values.append(word.removeprefix(f"{name}="))
        elif taking and not word.startswith("--") and (before == name or "=" in word):
            values.append(word)
        else:
            taking = False
            rest.append(word)
    return rest, values
