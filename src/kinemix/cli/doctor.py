"""``kinemix doctor``: what is wrong with a collection of videos, as a table, a page and JSON.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kinemix.cli import VERBS
from kinemix.cli.bulk import add_workplace, open_workplace
from kinemix.cli.options import Options
from kinemix.cli.outputs import check_file, write_file
from kinemix.config import DataConfig, from_dict

if TYPE_CHECKING:
    from kinemix.data.doctor import Examination, Finding

HARMFUL = 1
"""Exit code where training on the data would suffer."""

_FILES_SHOWN = 3


def run_doctor(words: list[str]) -> int:
    """``kinemix doctor DATA``; exit code 1 if there is an error among the findings."""
    options = Options("doctor", "DATA [--OPTION VALUE ...]", VERBS["doctor"])
    options.add(
        "DATA", str, about="what training would be given: a folder or list file; or videos without labels"
    )
    options.add("--val_source", str | None, about="a second folder or list that is validated on")
    options.add("--root", str | None, about="folder that relative paths in a list file start from")
    options.add(
        "--group_by", str | None, "auto", about="column of groups, 'name', auto, or null, as in training"
    )
    options.add("--labels_start_at", Literal[0, 1] | None, about="number of the first class")
    options.add("--class_file", str | None, about="text file with one class name a line")
    options.add("--split", str | None, about="published split; by default the first")
    options.add(
        "--task", str | None, about="verb, noun, action or all, where a dataset asks several questions"
    )
    options.add(
        "--label_separator", str | None, about="stands between the labels of a video that may have several"
    )
    options.add("--workers", int, 2, about="processes")
    add_workplace(options)
    options.add("--seconds", float, 60.0, about="of processor time a video, at most")
    options.add("--quick", bool, False, about="look at headers only: nothing is decoded or timed")
    options.add("--num_frames", int, 8, about="frames a clip")
    options.add("--sample", int | None, about="videos to examine; by default all")
    options.add("--html", str | None, about="write the report as a page")
    options.add("--json", str | None, about="write everything, file by file; - for standard output")
    given = options.parse(words)
    names = (
        *("val_source", "root", "group_by", "labels_start_at", "class_file"),
        *("split", "task", "label_separator"),
    )
    values = {name: getattr(given, name) for name in names}
    config = from_dict(DataConfig, {"source": given.DATA, "max_missing": 1.0, **values})
    for file in (given.html, given.json):
        check_file(file)

    from kinemix.data.doctor import examine_collection
    from kinemix.engine.progress import CountBar

    with ExitStack() as stack:
        on = stack.enter_context(open_workplace(given))
        bars: list[CountBar] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(CountBar("examining videos", total=total)))
            bars[0].reach(done)

        examination = examine_collection(
            config,
            workers=given.workers,
            seconds=given.seconds,
            quick=given.quick,
            num_frames=given.num_frames,
            sample=given.sample,
            progress=show,
            on=on,
        )
    if given.json:
        text = json.dumps(examination.to_dict(), indent=2, ensure_ascii=False)
        if given.json == "-":
            print(text)
        else:
            write_file(given.json, text)
    if given.html:
        from kinemix.explain.doctor_page import make_page

        write_file(given.html, make_page(examination))
    if given.json != "-":
        _print(examination)
    return HARMFUL if examination.harmful else 0


def _print(examination: "Examination") -> None:
    from kinemix.cli.tables import _open_console, _start_table

    console = _open_console()
    table = _start_table(left=("severity", "kind"), right=("files",))
    for heading in ("e.g.", "found", "cure"):
        table.add_column(heading, overflow="fold")
    for row in _summarise(examination):
        table.add_row(*row)
    if examination.findings:
        console.print(table)
    for line in _tell(examination):
        console.print(line, soft_wrap=True)


def _summarise(examination: "Examination") -> Iterator[tuple[str, ...]]:
    """One row a kind: how many files, the first of them, and what was found there."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in examination.findings:
        kinds.setdefault((finding.severity, finding.kind), []).append(finding)
    for (severity, kind), findings in kinds.items():
        files = list(dict.fromkeys(file for finding in findings for file in finding.files))
        more = f"\nand {len(files) - _FILES_SHOWN} more" if len(files) > _FILES_SHOWN else ""
        shown = "\n".join(_shorten(file, examination.source) for file in files[:_FILES_SHOWN]) + more
        first = findings[0]
        yield severity, kind, str(len(files)), shown, first.value, first.cure


def _shorten(file: str, source: str) -> str:
    from kinemix.data.sources import locate_source

    folder = locate_source(source)[1].absolute()
    folder = folder if folder.is_dir() else folder.parent
    return str(Path(file).relative_to(folder)) if Path(file).is_relative_to(folder) else file


def _tell(examination: "Examination") -> Iterator[str]:
    counts = Counter(finding.severity for finding in examination.findings)
    rate = len(examination.records) / max(1e-9, examination.seconds)
    listed, looked = examination.num_videos, len(examination.records)
    yield (
        f"{examination.num_samples} samples, {listed} videos"
        + (f", {looked} of them examined" if looked < listed else "")
        + f" in {examination.seconds:.1f} s ({rate:.1f} a second, {examination.workers} workers): "
        + f"{counts['error']} errors, {counts['warning']} warnings, {counts['note']} notes"
    )
    cost = examination.cost
    if cost is not None:
        shares = ", ".join(f"{share:.0%} {name}" for name, share in cost.shares.items())
        yield (
            f"reading {cost.num_frames} frames of every sample takes about {cost.epoch_seconds:.0f} s an epoch "
            f"with {cost.workers} workers; bottleneck: {cost.bottleneck} ({shares})"
        )
    sys.stdout.flush()
