"""The recipes: for every row of the papers' tables that trains a network, the options to train it again.

A recipe is a config file (:mod:`kinemix.config_file`) with a block ``recipe`` that says what it is about::

    recipe:
      dataset: something_something_v1      # what it trains on
      num_videos: 500000                   # in training, where the dataset's facts do not tell
      start: mtnet/hacs-mtnet-s            # recipe whose run it starts from, if it does
      splits: true                         # trained once for each of the dataset's splits
      tests:                               # rows of the tables, and how each was tested
      - {row: "mixtconv 2: TSN+ks3", protocol: mixtconv-1x1}
      deviations: [what is not as in the paper, in words]

Blocks of the files that it builds on count too; their deviations add up. What follows from these (command,
views, printed accuracies, hours) stands in a comment at the head of each file, which
:mod:`kinemix.engine.recipe_header` writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kinemix.config import TrainConfig, from_dict
from kinemix.config_file import PREFIX, find_config_file, list_recipe_names, read_config_files
from kinemix.data.catalog.official import OfficialDataset
from kinemix.data.sources import find_dataset
from kinemix.errors import ConfigError
from kinemix.evaluate.named_protocols import apply_protocol, find_protocol
from kinemix.evaluate.papers import Row, list_rows
from kinemix.evaluate.protocol import override_views

_FIELDS = {"dataset", "num_videos", "start", "splits", "tests", "deviations", "expected", "status"}
_OF_A_TEST = {"row", "protocol", "clips", "crops", "reverse"}


@dataclass(frozen=True, kw_only=True)
class Test:
    """One row of a table, and the options of ``kinemix test`` that measure it."""

    __test__ = False  # pytest takes the name for a test's

    row: Row
    protocol: str | None = None
    clips: int | None = None
    crops: int | None = None
    reverse: bool = False

    def options(self) -> list[str]:
        """As they are written on the command line."""
        words = [f"--protocol {self.protocol}"] if self.protocol else []
        words += [f"--clips {self.clips}"] if self.clips else []
        words += [f"--crops {self.crops}"] if self.crops else []
        return words + (["--reverse"] if self.reverse else [])

    def views(self, config: TrainConfig) -> tuple[int, int, int]:
        """Frames, clips and crops of the test of a run with these options."""
        protocol = apply_protocol(config.protocol, self.protocol) if self.protocol else config.protocol
        crops: Any = self.crops
        protocol = override_views(protocol, num_clips=self.clips, num_crops=crops)
        return protocol.num_frames, protocol.num_clips, protocol.num_crops

    def results(self, dataset: str) -> dict[str, float]:
        """The printed figures that are of this dataset: some rows print those of two versions."""
        prefix = f"{dataset.rpartition('_')[2]} "
        own = {
            name.removeprefix(prefix): v for name, v in self.row.results.items() if name.startswith(prefix)
        }
        return own or dict(self.row.results)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe says about itself.

    Attributes:
        name: as in ``--config recipe:NAME``.
        path: of its file.
        dataset: name on the shelf of datasets; empty for one's own videos.
        num_videos: in training, where the facts of the dataset do not tell.
        tests: the rows that it is for; empty for a recipe of ours.
        start: name of the recipe whose run it starts from.
        splits: whether all splits of the dataset are trained.
        deviations: from the paper, in words.
        expected, status: of a recipe of ours, in words.
    """

    name: str
    path: Path
    dataset: str = ""
    num_videos: int | None = None
    tests: tuple[Test, ...] = ()
    start: str | None = None
    splits: bool = False
    deviations: tuple[str, ...] = ()
    expected: str = ""
    status: str = ""

    @property
    def papers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(test.row.paper for test in self.tests))

    @property
    def kind(self) -> type[OfficialDataset] | None:
        """Its dataset on the shelf."""
        kind = find_dataset(self.dataset) if self.dataset else None
        return kind if kind is not None and issubclass(kind, OfficialDataset) else None


@cache
def list_recipes() -> tuple[Recipe, ...]:
    """All recipes, in the order of their names."""
    return tuple(read_recipe(name) for name in list_recipe_names())


def read_recipe(name: str) -> Recipe:
    """What a recipe says about itself.

    Raises:
        ConfigError: there is no such recipe, or its block ``recipe`` cannot be understood.
    """
    path = find_config_file(PREFIX + name)
    block: dict[str, Any] = {}
    deviations: list[str] = []
    for file in read_config_files(path):
        block |= file.recipe
        deviations += file.recipe.get("deviations", [])
    if unknown := block.keys() - _FIELDS:
        raise ConfigError(
            f"{path}: recipe.{min(unknown)}: unknown; a recipe has {', '.join(sorted(_FIELDS))}"
        )
    if (dataset := block.get("dataset", "")) and find_dataset(dataset) is None:
        raise ConfigError(f"{path}: recipe.dataset: no dataset {dataset!r} ('kinemix data list')")
    return Recipe(
        name=name,
        path=path,
        dataset=dataset,
        num_videos=block.get("num_videos"),
        tests=tuple(_read_test(path, test) for test in block.get("tests", [])),
        start=block.get("start"),
        splits=block.get("splits", False),
        deviations=tuple(deviations),
        expected=block.get("expected", ""),
        status=block.get("status", ""),
    )


def read_recipe_config(name: str) -> TrainConfig:
    """The options of a recipe, without data.

    Raises:
        ConfigError: there is no such recipe, or one of its options.
    """
    values: dict[str, Any] = {}
    for file in read_config_files(PREFIX + name):
        options = {
            key: dict(value) if isinstance(value, dict) else value for key, value in file.options.items()
        }
        protocol = options.get("protocol", {})
        if (named := protocol.pop("name", None)) is not None:
            options["protocol"] = {**find_protocol(named).views, **protocol}
        for key, value in options.items():
            # Groups of options are joined; an option that is a mapping is replaced, as on the command line.
            is_group = isinstance(value, dict) and not key.endswith("_options")
            values[key] = {**values.get(key, {}), **value} if is_group else value
    return from_dict(TrainConfig, values)


def list_rows_without_recipe() -> list[tuple[Row, str]]:
    """Rows that no recipe trains, each with the reason."""
    trained = {test.row.key for recipe in list_recipes() for test in recipe.tests}
    return [(row, explain_lack(row)) for row in list_rows() if row.key not in trained]


def explain_lack(row: Row) -> str:
    """Why there is no recipe for a row; empty where there should be one."""
    if row.model is None:
        return "a network of others, not built here"
    if row.members:
        return "an ensemble: train its members by their recipes, then kinemix ensemble"
    if not row.results:
        return "no accuracy is printed"
    return _QUOTED.get((row.paper, row.table, row.label), "")


_PRETRAINED = "quoted from others, who pre-trained on data that cannot be had"
_OTHERS = "quoted from its own paper, which trains otherwise"
_QUOTED = {
    ("gsm", "3", "R(2+1)D"): _PRETRAINED,
    ("gsm", "3", "R(2+1)D from [11]"): _PRETRAINED,
    ("gsm", "3", "TSM"): _OTHERS,
    ("mtnet", "I", "R(2+1)D"): _OTHERS,
    ("mtnet", "I", "TSM"): _OTHERS,
    ("mtnet", "V", "X3D-L"): _OTHERS,
    ("mtnet", "V", "R3D-101"): _OTHERS,
    ("mtnet", "V", "R(2+1)D-101"): _OTHERS,
    ("mtnet", "VII", "TSM"): _OTHERS,
}
"""Rows of networks that are built here and that the paper did not train."""


def _read_test(path: Path, values: Mapping[str, Any]) -> Test:
    if unknown := values.keys() - _OF_A_TEST:
        raise ConfigError(
            f"{path}: recipe.tests: {min(unknown)!r}: a test has {', '.join(sorted(_OF_A_TEST))}"
        )
    row = _index_rows().get(str(values.get("row")))
    if row is None:
        raise ConfigError(f"{path}: recipe.tests: no row {values.get('row')!r} ('kinemix list --papers')")
    if (protocol := values.get("protocol")) is not None:
        find_protocol(protocol)
    return Test(**{**values, "row": row})


@cache
def _index_rows() -> dict[str, Row]:
    return {row.key: row for row in list_rows()}
