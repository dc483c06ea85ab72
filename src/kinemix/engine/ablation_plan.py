"""From the rows of an ablation table to the networks and runs that stand for them on the data at hand."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from kinemix.config import TrainConfig
from kinemix.data.views import Order
from kinemix.engine.each_split import list_splits
from kinemix.engine.settle import build_model, settle_config
from kinemix.engine.trial import Trial
from kinemix.errors import ConfigError, did_you_mean
from kinemix.evaluate.papers import Row, list_ablation
from kinemix.models.backbones import is_clip_network
from kinemix.models.factory import parse_name
from kinemix.models.module_options import list_options

_ANY_NUMBER_OF_CLASSES = 10
"""Of the classifier, where a network is built only to see that it can be."""


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """A row, and what stands for it here.

    Attributes:
        row: of the paper.
        model: name of the network; ``None`` for one of others, which is not built here.
        model_options: of its temporal module.
        key: beginning of the names of its runs; rows that come to the same network share it.
    """

    row: Row
    model: str | None
    model_options: Mapping[str, Any]
    key: str

    def configure(self, config: TrainConfig) -> TrainConfig:
        """The options of its runs."""
        assert self.model is not None
        size = config.size if config.size is not None else self.row.size
        return replace(config, model=self.model, model_options=dict(self.model_options), size=size)


def plan_rows(
    paper: str,
    table: str,
    config: TrainConfig,
    *,
    labels: Sequence[str] = ("*",),
    backbone: str | None = None,
) -> list[PlannedRow]:
    """The rows of a table, each with its network.

    Args:
        paper, table: as in :func:`kinemix.evaluate.papers.list_ablation`.
        config: its ``model_options`` go to the rows whose module takes them and that do not set them themselves;
            ``model`` is the row's.
        labels: shell patterns of the rows' labels.
        backbone: in place of the paper's.

    Raises:
        ConfigError: no such table or row; a row that cannot be built on these options.
    """
    printed = list_ablation(paper, table)
    chosen = [row for row in printed if any(fnmatchcase(row.label, pattern) for pattern in labels)]
    if not any(row.model for row in chosen):
        known = [row.label for row in printed if row.model]
        raise ConfigError(f"no row {' '.join(labels)!r} of our own: {did_you_mean(labels[0], known)}")
    _check_options(config.model_options, chosen)
    keys: dict[str, str] = {}
    planned = []
    for number, row in enumerate(printed, start=1):  # the others too: names do not depend on the choice
        model, options = None, {}
        if row.model is not None:
            model = _replace_backbone(row, backbone)
            options = {**_choose_options(config.model_options, model), **row.model_options}
        key = keys.setdefault(f"{model} {sorted(options.items())}", f"{number:02d}-{_make_slug(row.label)}")
        if row in chosen:
            planned.append(PlannedRow(row=row, model=model, model_options=options, key=key))
    for one in {one.key: one for one in planned if one.model is not None}.values():
        _check_network(one, config)
    return planned


def list_trials(
    planned: Sequence[PlannedRow],
    config: TrainConfig,
    *,
    directory: Path,
    seeds: Sequence[int],
    each_split: bool = False,
    orders: tuple[Order, ...] = ("forward",),
) -> dict[tuple[str, int], list[Trial]]:
    """The runs of every network and seed: one, or one for each split or fold of the data.

    Returns:
        Key of the network and seed -> its runs, seeds outermost, so that a first whole table is there soon.
    """
    splits = list_splits(config) if each_split else {"": config}
    trials: dict[tuple[str, int], list[Trial]] = {}
    for seed in seeds:
        for one in planned:
            if one.model is None or (one.key, seed) in trials:
                continue
            trials[one.key, seed] = []
            for split, options in splits.items():
                name = f"{one.key}-seed{seed}" + (f"-{split}" if split else "")
                own = replace(one.configure(options), seed=seed, out=str(directory / name), resume=False)
                trials[one.key, seed].append(Trial(name=name, config=own, orders=orders))
    return trials


def _check_options(options: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Raise a :class:`ConfigError` unless every option is one of some row's module."""
    known = {name for row in rows if row.model for name in _list_options(row.model)}
    for name in options:
        if name not in known:
            raise ConfigError(f"model_options.{name}: no row's module takes it: {did_you_mean(name, known)}")


def _choose_options(options: Mapping[str, Any], model: str) -> dict[str, Any]:
    known = _list_options(model)
    return {name: value for name, value in options.items() if name in known}


def _list_options(model: str) -> set[str]:
    own, planning = list_options(parse_name(model)[0])
    return {*own, *planning}


def _replace_backbone(row: Row, backbone: str | None) -> str:
    assert row.model is not None
    if backbone is None:
        return row.model
    if is_clip_network(row.model):
        raise ConfigError(
            f"row {row.label!r} is its backbone ({row.model}), so no other can take its place: leave --backbone out, "
            "and make it smaller with --backbone_options '{width: 0.25}'"
        )
    return f"{parse_name(row.model)[0].name}_{backbone}"


def _check_network(one: PlannedRow, config: TrainConfig) -> None:
    settled = settle_config(one.configure(config))
    try:
        with torch.device("meta"):
            build_model(settled, num_classes=_ANY_NUMBER_OF_CLASSES, pretrained=False)
    except ConfigError as error:
        raise ConfigError(
            f"row {one.row.label!r} cannot be built as {one.model}: {error}; give another --backbone or "
            "--backbone_options, or name the --rows that can"
        ) from error


def _make_slug(label: str) -> str:
    plain = unicodedata.normalize("NFKD", label.replace("δ", "delta").replace("+", " plus "))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode().lower()).strip("-")
