"""One training and one test for every split or fold of the data, and what they say together.

The runs lie beside each other in one directory, and ``splits.json`` there says what they came to. The same call
goes on where an earlier one stopped, within a run too.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kinemix.atomic import write_atomically
from kinemix.config import TrainConfig
from kinemix.data.sources import list_published_splits
from kinemix.engine.run_directory import name_run
from kinemix.engine.trial import Trial, carry_out
from kinemix.errors import ConfigError
from kinemix.evaluate.named_protocols import find_protocol

FILE_NAME = "splits.json"


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """What one split came to.

    Attributes:
        split: its name.
        run: name of its run directory.
        epoch: epochs that the tested weights were trained for.
        count: videos tested.
        figures: shares from 0 to 1, by name (:meth:`kinemix.evaluate.metrics.Metrics.summary`).
    """

    split: str
    run: str
    epoch: int
    count: int
    figures: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SplitsResult:
    """What all of them came to.

    Attributes:
        directory: of the runs.
        protocol: how they were tested, in words.
        splits: one by one.
        mean: over the splits, by figure.
        deviation: standard deviation of a split (n - 1 in the denominator).
    """

    directory: Path
    protocol: str
    splits: tuple[SplitResult, ...]
    mean: dict[str, float]
    deviation: dict[str, float]


def train_each_split(
    config: TrainConfig,
    *,
    protocol: str | None = None,
    checkpoint: Literal["best", "last"] = "last",
    on_split: Callable[[SplitResult], object] = lambda result: None,
) -> SplitsResult:
    """Train and test every published split, or every one of ``data.folds``.

    Args:
        config: of each run; ``out`` is the directory of all (:func:`name_directory` by default), and
            ``data.split``, ``data.fold`` and ``resume`` are filled in.
        protocol: a paper's views for the tests, instead of the run's.
        checkpoint: which weights are tested; the last were not chosen on the very videos of the test.
        on_split: called with each result as it is there.

    Raises:
        ConfigError: the data have one split only, the directory holds runs with other options, or there is no such
            protocol.
        KinemixError: as :func:`kinemix.engine.train.train`.
        Interrupted: after the run under way was saved.
    """
    if protocol is not None:
        find_protocol(protocol)  # told before anything is trained
    directory = Path(config.out) if config.out else name_directory(config)
    results: list[SplitResult] = []
    views = ""
    for name, each in list_splits(config).items():
        each = replace(each, out=str(directory / name))
        trial = Trial(name=name, config=each, checkpoint=checkpoint, protocol=protocol)
        if (record := carry_out(trial)) is None:
            continue
        test = record.get(trial)
        views = test.views
        results.append(
            SplitResult(split=name, run=name, epoch=record.epoch, count=test.count, figures=test.figures)
        )
        _write(sum_up(directory, views, results))
        on_split(results[-1])
    return sum_up(directory, views, results)


def name_directory(config: TrainConfig) -> Path:
    """Where the runs lie by default: the same call finds them again."""
    return Path("runs") / f"splits-{name_run(config)}"


def sum_up(directory: Path, protocol: str, results: list[SplitResult]) -> SplitsResult:
    """Mean and deviation of the figures that all splits have."""
    values: Mapping[str, list[float]] = {}
    if results:
        shared = set.intersection(*(set(result.figures) for result in results))
        values = {name: [r.figures[name] for r in results] for name in results[0].figures if name in shared}
    return SplitsResult(
        directory=directory,
        protocol=protocol,
        splits=tuple(results),
        mean={name: float(np.mean(numbers)) for name, numbers in values.items()},
        deviation={
            name: float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
            for name, numbers in values.items()
        },
    )


def list_splits(config: TrainConfig) -> dict[str, TrainConfig]:
    """One config for each of ``data.folds``, or for each published split, by name.

    Raises:
        ConfigError: the data have one split only.
    """
    data = config.data
    if data.folds is not None:
        return {
            f"fold-{number}": replace(config, data=replace(data, fold=number)) for number in range(data.folds)
        }
    splits = list_published_splits(data.source)
    if len(splits) < 2:
        raise ConfigError(
            f"{data.source}: has no several splits of its own: give data.folds, the number of parts"
        )
    return {f"split-{name}": replace(config, data=replace(data, split=name)) for name in splits}


def _write(result: SplitsResult) -> None:
    content = {**asdict(result), "directory": str(result.directory)}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(result.directory / FILE_NAME, lambda partial: partial.write_text(text, encoding="utf-8"))
