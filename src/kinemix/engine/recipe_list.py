"""Every row of the papers' tables with its recipe, or with the reason why there is none."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from kinemix.data.catalog.official import OfficialDataset
from kinemix.data.sources import DATASETS
from kinemix.engine.recipe_header import list_facts, read_header, tell_test
from kinemix.engine.recipes import Recipe, list_recipes, list_rows_without_recipe, read_recipe_config
from kinemix.evaluate.papers import Row


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the list.

    Attributes:
        recipe: its name; empty where there is none.
        paper, table, row: where the row stands; empty for a recipe of ours.
        dataset: name on the shelf.
        views: frames x clips x crops of the test.
        expected: printed accuracies, or those measured here.
        hours: estimated, on :data:`kinemix.engine.recipe_header.GPU`; ``None`` where there is no estimate.
        status: what has been verified, or why there is no recipe.
        train, test: commands.
        deviations: from the paper.
    """

    recipe: str = ""
    paper: str = ""
    table: str = ""
    row: str = ""
    dataset: str = ""
    views: str = ""
    expected: str = ""
    hours: float | None = None
    status: str = ""
    train: str = ""
    test: str = ""
    deviations: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_entries() -> list[Entry]:
    """All rows, recipes first in the order of their names."""
    entries = [entry for recipe in list_recipes() for entry in _list_tests(recipe)]
    return entries + [_explain(row, reason) for row, reason in list_rows_without_recipe()]


def _list_tests(recipe: Recipe) -> Iterator[Entry]:
    if not recipe.tests:
        yield Entry(
            recipe=recipe.name, expected=recipe.expected, status=recipe.status, deviations=recipe.deviations
        )
        return
    config = read_recipe_config(recipe.name)
    header, facts = read_header(recipe.path), list_facts(recipe, config)
    for test in recipe.tests:
        figures = test.results(recipe.dataset)
        yield Entry(
            recipe=recipe.name,
            paper=test.row.paper,
            table=test.row.table,
            row=f"{test.row.label} ({test.row.about})" if test.row.about else test.row.label,
            dataset=recipe.dataset,
            views=" x ".join(map(str, test.views(config))),
            expected=", ".join(f"{name} {value}" for name, value in figures.items()),
            hours=float(header["estimate"][0].split()[0]) if "estimate" in header else None,
            status=" ".join(header.get("status", ())),
            train=facts["train"][0],
            test=tell_test(recipe, test),
            deviations=recipe.deviations,
        )


def _explain(row: Row, reason: str) -> Entry:
    kinds = [DATASETS.get(name) for name in DATASETS.names()]
    dataset = next(
        (k.name for k in kinds if issubclass(k, OfficialDataset) and row.dataset in k.facts.paper_names), ""
    )
    return Entry(
        paper=row.paper,
        table=row.table,
        row=f"{row.label} ({row.about})" if row.about else row.label,
        dataset=dataset,
        expected=", ".join(f"{name} {value}" for name, value in row.results.items()),
        status=f"no recipe: {reason}",
    )
