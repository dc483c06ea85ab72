"""``kinemix recipes``: the papers' rows as config files: list, show NAME, check [NAME ...], headers.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.errors import ConfigError, KinemixError

if TYPE_CHECKING:
    from kinemix.engine.recipe_list import Entry
    from kinemix.engine.recipes import Recipe

Paper = Literal["mixtconv", "gsm", "ctm", "mtnet", "x3d"]
ToDo = Literal["list", "show", "check", "headers"]


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One of the list: what it shows of a row, and whether a narrow terminal goes without it."""

    heading: str
    show: "Callable[[Entry], str]"
    left_out: bool = False
    justify: Literal["left", "right"] = "left"
    no_wrap: bool = False


_COLUMNS = (
    _Column(heading="recipe", show=lambda e: e.recipe or "-", no_wrap=True),
    _Column(heading="paper", show=lambda e: e.paper, left_out=True),
    _Column(heading="table", show=lambda e: e.table),
    _Column(heading="row", show=lambda e: e.row),
    _Column(heading="dataset", show=lambda e: e.dataset, left_out=True),
    _Column(heading="frames x clips x crops", show=lambda e: e.views),
    _Column(heading="expected", show=lambda e: e.expected),
    _Column(heading="hours", show=lambda e: "" if e.hours is None else f"{e.hours:g}", justify="right"),
    _Column(heading="status", show=lambda e: e.status, left_out=True),
    _Column(
        heading="deviations",
        show=lambda e: str(len(e.deviations)) if e.recipe else "",
        left_out=True,
        justify="right",
    ),
)
_WIDTH_OF_ALL = 160
"""Columns of a terminal below which the list would be cut into slices."""


def run_recipes(words: list[str]) -> int:
    """``kinemix recipes [list | show NAME | check [NAME ...] | headers]``; exit code 2 if a check failed."""
    usage = "[list | show NAME | check [NAME ...] | headers] [--OPTION VALUE ...]"
    options = Options("recipes", usage, VERBS["recipes"])
    options.add("WHAT", ToDo, "list", nargs="?", about="what to do")
    options.add(
        "NAMES", str, nargs="*", about="of recipes; check and list take shell patterns such as 'gsm/*'"
    )
    options.add("--paper", Paper | None, about="rows of this paper alone")
    options.add("--dataset", str | None, about="rows of this dataset alone, by any of its names")
    options.add("--status", str | None, about="rows whose status holds this text alone, such as 'counts'")
    options.add("--format", Literal["table", "json"], "table", about="of the list")
    if words and not words[0].startswith("-") and words[0] not in get_args(ToDo):
        raise ConfigError(
            f"{words[0]}: 'kinemix recipes show {words[0]}' prints that recipe, 'check' in place of 'show' tries it"
        )
    given = options.parse(words)
    if given.WHAT == "show":
        if _is_filtered(given):
            raise ConfigError("--paper, --dataset and --status: recipes show NAME needs none of them")
        return _show(given.NAMES or [])
    if given.WHAT == "check":
        return _check(_pick(given))
    if given.WHAT == "headers":
        return _write_headers(_pick(given))
    return _list(given)


def _is_filtered(given: Any) -> bool:
    return any(value is not None for value in (given.paper, given.dataset, given.status))


def _pick(given: Any) -> "list[Recipe]":
    """The recipes that are named, of the rows that the filters leave."""
    from kinemix.engine.recipes import list_recipes, read_recipe

    picked = list(list_recipes()) if not given.NAMES else []
    for pattern in given.NAMES or []:
        found = [recipe for recipe in list_recipes() if fnmatch(recipe.name, pattern)]
        picked += found or [read_recipe(pattern)]  # which says what is near
    if not _is_filtered(given):
        return picked
    rows = {entry.recipe for entry in _filter_entries(given)}
    return [recipe for recipe in picked if recipe.name in rows]


def _filter_entries(given: Any) -> "list[Entry]":
    """Rows of the papers, by paper, dataset and status."""
    from kinemix.data.sources import find_dataset
    from kinemix.engine.recipe_list import list_entries

    if given.dataset is not None and (kind := find_dataset(given.dataset)) is None:
        raise ConfigError(f"--dataset {given.dataset}: no such dataset; 'kinemix data list' lists them")
    dataset = kind.name if given.dataset is not None and kind is not None else None
    return [
        entry
        for entry in list_entries()
        if given.paper in (None, entry.paper)
        and dataset in (None, entry.dataset)
        and (given.status is None or given.status.lower() in entry.status.lower())
    ]


def _list(given: Any) -> int:
    entries = [
        entry
        for entry in _filter_entries(given)
        if not given.NAMES or any(fnmatch(entry.recipe, pattern) for pattern in given.NAMES)
    ]
    if not entries:
        raise ConfigError("no row matches; 'kinemix recipes' alone shows all")
    if given.format == "json":
        print(json.dumps([entry.as_dict() for entry in entries], indent=2, ensure_ascii=False))
    else:
        _print_entries(entries)
    return 0


def _print_entries(entries: "list[Entry]") -> None:
    """Rows of the papers' tables with their recipes."""
    from kinemix.cli.tables import _open_console, _print_line, _start_table
    from kinemix.engine.recipe_header import GPU

    console = _open_console(width=220)
    is_narrow = console.width < _WIDTH_OF_ALL
    columns = [column for column in _COLUMNS if not (is_narrow and column.left_out)]
    table = _start_table(left=(), right=())
    for column in columns:
        table.add_column(column.heading, justify=column.justify, no_wrap=column.no_wrap, overflow="fold")
    for entry in entries:
        table.add_row(*(column.show(entry) for column in columns))
    console.print(table)
    if is_narrow:
        left_out = ", ".join(column.heading for column in _COLUMNS if column.left_out)
        _print_line(console, f"{left_out}: on a terminal of {_WIDTH_OF_ALL} columns, or in a file")
    names = {entry.recipe for entry in entries if entry.recipe}
    without = sum(not entry.recipe for entry in entries)
    _print_line(console, f"{len(entries)} rows: {len(names)} recipes; {without} rows without")
    _print_line(console, f"hours on one {GPU}, an estimate from multiply-adds, not measured")
    _print_line(
        console,
        "kinemix train DATASET:ROOT --config recipe:NAME trains one; kinemix recipes show NAME prints the whole "
        "commands, the options, and what is not as in the paper",
    )


def _print_check(results: list[tuple[str, str, bool]]) -> None:
    """What became of each recipe that was tried."""
    from kinemix.cli.tables import _open_console, _print_line, _start_table

    console = _open_console(width=240)
    table = _start_table(left=("recipe", "", "what came of it"), right=())
    for name, told, well in results:
        table.add_row(name, "works" if well else "FAILS", told)
    console.print(table)
    _print_line(console, f"{sum(well for _, _, well in results)} of {len(results)} recipes work")


def _show(names: list[str]) -> int:
    if len(names) != 1:
        raise ConfigError("kinemix recipes show: name one recipe; 'kinemix recipes list' lists them")

    from kinemix.config_file import PREFIX, read_config_files

    for file in reversed(read_config_files(PREFIX + names[0])):
        print(f"--- {file.path}")
        print(file.path.read_text(encoding="utf-8").rstrip())
    return 0


def _check(recipes: "list[Recipe]") -> int:
    from kinemix.engine.progress import CountBar
    from kinemix.engine.recipe_check import check_recipe

    results: list[tuple[str, str, bool]] = []
    with CountBar("checking recipes", total=len(recipes)) as bar:
        for recipe in recipes:
            with TemporaryDirectory(prefix="kinemix-recipe-") as folder:
                try:
                    losses = check_recipe(recipe, Path(folder))
                    results.append(
                        (recipe.name, "losses " + ", ".join(f"{loss:.3f}" for loss in losses), True)
                    )
                except KinemixError as error:
                    results.append((recipe.name, " ".join(str(error).split()), False))
            bar.advance(1)
    _print_check(results)
    return 0 if all(well for _, _, well in results) else 2


def _write_headers(recipes: "list[Recipe]") -> int:
    from kinemix.engine.progress import CountBar
    from kinemix.engine.recipe_header import make_header, write_header

    recipes = [recipe for recipe in recipes if recipe.tests]
    changed = []
    with CountBar("counting networks", total=len(recipes)) as bar:
        for recipe in recipes:
            if write_header(recipe, make_header(recipe)):
                changed.append(recipe.path)
            bar.advance(1)
    for path in changed:
        print(path)
    print(f"{len(changed)} of {len(recipes)} headers have changed", file=sys.stderr)
    return 0
