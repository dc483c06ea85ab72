"""``kinemix data``: the shelf of datasets: what there is, what is known of one, and what a copy of it holds.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.cli.outputs import check_file, write_file
from kinemix.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from kinemix.data.catalog.official import OfficialDataset
    from kinemix.data.census import Census

INCOMPLETE = 1
"""Exit code of ``check`` where something that was published is not there."""


def run_data(words: list[str]) -> int:
    """``kinemix data list | show NAME | check NAME ROOT``; exit code 1 if a copy is not complete."""
    options = Options("data", "list | show NAME | check NAME ROOT [--OPTION VALUE ...]", VERBS["data"])
    options.add("WHAT", Literal["list", "show", "check"], about="what to do")
    options.add("NAME", str, nargs="?", about="of the dataset, or one of its short names, such as ssv2")
    options.add("ROOT", str, nargs="?", about="folder of the dataset, or one of its lists")
    options.add("--split", str | None, about="published split; by default the first")
    options.add("--root", str | None, about="where the videos are, if not below ROOT")
    options.add("--missing", str | None, about="file to write the paths of missing videos to")
    options.add("--format", Literal["table", "json"], "table", about="of the output")
    given = options.parse(words)
    check_file(given.missing)
    if given.WHAT == "list":
        return _list(given.format)
    if given.NAME is None:
        raise ConfigError(f"kinemix data {given.WHAT}: name a dataset; 'kinemix data list' lists them")
    kind = _find(given.NAME)
    if given.WHAT == "show":
        return _show(kind, given.format)
    if given.ROOT is None:
        raise ConfigError(f"kinemix data check {given.NAME}: name its folder too")

    from kinemix.data.census import take_census

    census = take_census(kind, given.ROOT, root=given.root, split=given.split)
    if given.missing:
        write_file(given.missing, "".join(f"{path}\n" for path in census.missing))
    _print_census(census, given.format)
    return 0 if census.complete else INCOMPLETE


def _shelf() -> "list[type[OfficialDataset]]":
    from kinemix.data.catalog.official import OfficialDataset
    from kinemix.data.sources import DATASETS

    kinds = (DATASETS.get(name) for name in DATASETS.names())
    return [kind for kind in kinds if issubclass(kind, OfficialDataset)]


def _find(name: str) -> "type[OfficialDataset]":
    from kinemix.data.sources import find_dataset

    kind = find_dataset(name)
    shelf = _shelf()
    if kind is None or kind not in shelf:
        names = [known for entry in shelf for known in (entry.name, *entry.aliases)]
        raise ConfigError(f"unknown dataset {name!r}: {did_you_mean(name, names)}")
    return kind


def _list(form: str) -> int:
    from kinemix.cli.tables import _open_console, _start_table
    from kinemix.data.annotations import Part

    if form == "json":
        print(json.dumps([_describe(kind) for kind in _shelf()], indent=2, ensure_ascii=False))
        return 0
    table = _start_table(right=())
    table.add_column("name", no_wrap=True)
    table.add_column("classes", overflow="fold")
    for heading in ("train", "val", "test", "splits"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("metric", overflow="fold")
    table.add_column("licence", overflow="fold")
    for kind in _shelf():
        facts = kind.facts
        first = facts.sizes[facts.splits[0]]
        counts = [f"{first[part]:,}" if part in first else "-" for part in get_args(Part)]
        classes = _count_classes(kind)
        table.add_row(kind.name, classes, *counts, str(len(facts.splits)), facts.metric, facts.licence)
    _open_console().print(table)
    return 0


def _show(kind: "type[OfficialDataset]", form: str) -> int:
    from kinemix.cli.tables import _open_console, _start_table
    from kinemix.evaluate.papers import list_rows

    facts = kind.facts
    rows = [row for row in list_rows() if row.dataset in facts.paper_names]
    if form == "json":
        papers = [{"paper": row.paper, "table": row.table, "label": row.label, **row.results} for row in rows]
        content = {**_describe(kind), "class_names": kind.class_names(), "papers": papers}
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    console = _open_console()
    table = _start_table(left=("", facts.title), right=())
    for what, value in _tell(kind):
        table.add_row(what, value)
    console.print(table)
    console.print("layout", facts.layout, sep="\n", soft_wrap=True)
    names = kind.class_names()
    for left, right in facts.flip_pairs:
        numbers = f"{names.index(left)} <-> {names.index(right)}"
        console.print(f"a mirror swaps {numbers}: {left} <-> {right}", soft_wrap=True)
    if rows:
        table = _start_table(left=("paper", "table", "row", "about", "result"), right=())
        for row in rows:
            results = ", ".join(f"{column} {value}" for column, value in row.results.items())
            table.add_row(row.paper, row.table, row.label, row.about, results)
        console.print(table)
    return 0


def _tell(kind: "type[OfficialDataset]") -> list[tuple[str, str]]:
    facts = kind.facts
    stride = f", stride {facts.frame_stride}" if facts.frame_stride else ""
    rate = f"{facts.frame_rate:g} a second" if facts.frame_rate else "varies"
    return [
        ("about", facts.about),
        ("give it as", ", ".join(f"{name}:ROOT" for name in (kind.name, *kind.aliases))),
        ("classes", _count_classes(kind)),
        ("videos", _name_sizes(kind)),
        ("metric", facts.metric),
        ("frames", rate),
        ("sampling", f"{facts.sampling}{stride}"),
        ("papers test with", facts.protocol),
        ("licence", facts.licence),
        ("get it from", facts.url),
    ]


def _describe(kind: "type[OfficialDataset]") -> dict[str, Any]:
    return {"name": kind.name, "aliases": kind.aliases, **asdict(kind.facts), "classes": _count_classes(kind)}


def _count_classes(kind: "type[OfficialDataset]") -> str:
    if kind.facts.tasks:
        return ", ".join(f"{count} {task}s" for task, count in kind.facts.tasks.items())
    counts = [str(len(kind.class_names(split=split))) for split in kind.facts.splits]
    return ", ".join(dict.fromkeys(counts))


def _name_sizes(kind: "type[OfficialDataset]") -> str:
    """``1: 9,537 train, 3,783 test``, a line for every split."""
    lines = []
    for split, sizes in kind.facts.sizes.items():
        name = f"{split}: " if len(kind.facts.sizes) > 1 else ""
        lines.append(name + ", ".join(f"{count:,} {part}" for part, count in sizes.items()))
    lines += [f"{name}: {count:,} without labels" for name, count in kind.facts.test_lists.items()]
    return "\n".join(lines)


def _print_census(census: "Census", form: str) -> None:
    from kinemix.cli.tables import _open_console, _start_table

    if form == "json":
        content = asdict(census)
        for name in ("listed", "found"):
            content[name] = {part or "no part": count for part, count in content[name].items()}
        print(json.dumps({**content, "complete": census.complete}, indent=2, ensure_ascii=False))
        return
    for notice in census.notices:
        print(f"note: {notice}", file=sys.stderr)
    console = _open_console()
    table = _start_table(left=(census.title,), right=("published", "listed", "found", "missing"))
    for part in ("train", "val", "test", None):
        published = census.published.get(part, 0) if part else 0
        listed, found = census.listed.get(part, 0), census.found.get(part, 0)
        if published or listed:
            figures = (published, listed, found, listed - found)
            table.add_row(part or "no part", *(f"{count:,}" if count else "-" for count in figures))
    console.print(table)
    for path in census.missing[:5]:
        console.print(f"missing: {path}", soft_wrap=True)
    if census.empty_classes:
        shown = ", ".join(census.empty_classes[:10]) + (", ..." if len(census.empty_classes) > 10 else "")
        console.print(f"{len(census.empty_classes)} classes without a video: {shown}", soft_wrap=True)
    console.print("complete" if census.complete else "not complete", soft_wrap=True)
