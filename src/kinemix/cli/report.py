"""``kinemix report``: one self-contained page about a run, or several."""

from pathlib import Path
from typing import Literal

from kinemix.cli import VERBS
from kinemix.cli.compare import name_runs
from kinemix.cli.options import Options
from kinemix.errors import ConfigError


def run_report(words: list[str]) -> int:
    """``kinemix report RUN...``."""
    options = Options("report", "RUN [RUN ...] [--OPTION VALUE ...]", VERBS["report"])
    options.add("RUNS", str, nargs="+", about="run directories, tested on the same videos")
    options.add("--names", str, None, nargs="+", about="of the networks on the page, one a run")
    options.add(
        "--data", str | None, about="folder or list file to test on; by default what the runs held out"
    )
    options.add(
        "--checkpoint", str | None, about="best or last; by default the best, or the last if there is no best"
    )
    options.add(
        "--task",
        str | None,
        about="the question to report on, where runs answer several; by default the leading",
    )
    options.add("--worst", int, 12, about="clips answered wrong that are shown")
    options.add("--best", int, 6, about="clips answered right that are shown")
    options.add("--latency", bool, True, about="time the networks on this machine")
    options.add(
        "--doctor", Literal["headers", "full", "none"], "headers", about="what the data doctor looks at"
    )
    options.add("--batch_size", int, 8, about="videos at a time, in tests that are missing")
    options.add("--workers", int, 2, about="loader processes, and processes of the doctor")
    options.add("--out", str, "report.html", about="the page")
    given = options.parse(words)
    if min(given.worst, given.best) < 0:
        raise ConfigError(f"worst={given.worst}, best={given.best}: give 0 or more clips")

    from kinemix.engine.tested_run import open_tested_run
    from kinemix.explain.report import ReportOptions, write_report

    runs = {
        name: open_tested_run(
            run,
            given.data,
            checkpoint=given.checkpoint,
            task=given.task,
            batch_size=given.batch_size,
            workers=given.workers,
        )
        for name, run in name_runs(given).items()
    }
    page = ReportOptions(
        worst=given.worst,
        best=given.best,
        latency=given.latency,
        doctor=given.doctor,
        workers=max(1, given.workers),  # the doctor always has a process of its own
    )
    print(write_report(runs, Path(given.out), options=page))
    return 0
