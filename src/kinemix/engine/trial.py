"""One run and its tests, as one thing to do: trained, measured, and written down in the run directory.

``trial.json`` there says what is done, so the same trial is never done twice, and an interrupted one goes on.
``python -m kinemix.engine.trial`` carries one out in a process of its own (:mod:`kinemix.engine.campaign`).
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kinemix.atomic import write_atomically
from kinemix.config import TrainConfig, from_dict, to_dict
from kinemix.data.sources import open_splits
from kinemix.data.views import Order
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.launch import end_together, is_first_process
from kinemix.engine.measure import measure_run
from kinemix.engine.run_directory import CONFIG_NAME, check_same_run, read_run_config
from kinemix.engine.settle import settle_config
from kinemix.engine.train import train
from kinemix.errors import CheckpointError, ConfigError, KinemixError, did_you_mean
from kinemix.evaluate.complexity import measure_complexity
from kinemix.evaluate.metrics import list_figures
from kinemix.models.checkpoint import find_checkpoint, load_checkpoint

FILE_NAME = "trial.json"
USER_ERROR, INTERRUPTED = 2, 130
"""Exit codes, as those of the command line."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run to be trained and tested.

    Attributes:
        name: for people.
        config: of the run; ``out`` is its directory, and ``resume`` is filled in.
        orders: of the frames, one test for each.
        checkpoint: which weights are tested; the last were not chosen on the very videos of the test.
        protocol: a paper's views for the tests, instead of the run's.
    """

    name: str
    config: TrainConfig
    orders: tuple[Order, ...] = ("forward",)
    checkpoint: Literal["best", "last"] = "last"
    protocol: str | None = None

    @property
    def directory(self) -> Path:
        assert self.config.out is not None
        return Path(self.config.out)


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """One test of a run.

    Attributes:
        order: of the frames.
        checkpoint: which weights.
        protocol: name of the paper's views, if those were taken.
        views: how it was tested, in words.
        count: videos tested.
        figures: shares from 0 to 1, by name (:meth:`kinemix.engine.measure.Measurement.summary`).
        scores: file of every logit, in the run directory.
    """

    __test__ = False  # pytest takes the name for a test's

    order: Order
    checkpoint: str
    protocol: str | None
    views: str
    count: int
    figures: dict[str, float]
    scores: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a trial came to.

    Attributes:
        trained: whether the training is over.
        epoch: epochs that the tested weights were trained for.
        parameters, macs: of the network, for one clip.
        seconds: of training, over all attempts that were not killed.
        processor_seconds: likewise, of this process and its loaders: what other work on the machine does not change.
        tests: what was found.
    """

    trained: bool = False
    epoch: int = 0
    parameters: int = 0
    macs: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    tests: tuple[TestResult, ...] = field(default_factory=tuple)

    def find(self, trial: Trial, order: Order) -> TestResult | None:
        """The trial's test in this order, if it is there."""
        asked = (order, trial.checkpoint, trial.protocol)
        return next((t for t in self.tests if (t.order, t.checkpoint, t.protocol) == asked), None)

    def get(self, trial: Trial, order: Order = "forward") -> TestResult:
        """The same, where it must be there."""
        found = self.find(trial, order)
        assert found is not None, f"{trial.name} was not tested: {order}"
        return found

    def answers(self, trial: Trial) -> bool:
        """Whether nothing of the trial is left to do."""
        return self.trained and all(self.find(trial, order) for order in trial.orders)


def check_figure(figure: str, config: TrainConfig) -> None:
    """Raise before anything is trained, unless the test of a run with these options measures the figure.

    Raises:
        ConfigError: it does not.
        DataError: the data cannot be used.
    """
    known = list_figures(open_splits(config.data).space)
    if figure not in known:
        raise ConfigError(
            f"figure is {figure!r}: a test on these data does not measure that: {did_you_mean(figure, known)}"
        )


def find_finished(trial: Trial) -> Record | None:
    """The record of a trial that is done; ``None`` where something is left to do.

    Raises:
        ConfigError: its directory holds a finished run with other options.
        CheckpointError: the record cannot be read.
    """
    record = _read_record(trial)
    return record if record.answers(trial) else None


def carry_out(trial: Trial) -> Record | None:
    """Do what is left of a trial: train, or go on training, and test.

    Returns:
        The record; ``None`` in every process of the run but the first.

    Raises:
        KinemixError: as :func:`kinemix.engine.train.train` and :func:`kinemix.engine.measure.measure_run`.
        Interrupted: after the run was saved.
    """
    if (finished := find_finished(trial)) is not None:
        return finished
    record = _read_record(trial)
    if not record.trained:
        record = _train(trial, record)
    if not is_first_process():
        return None
    for order in trial.orders:
        if record.find(trial, order) is None:
            test, epoch = _test(trial, order)
            record = replace(record, epoch=epoch, tests=(*record.tests, test))
    model, _ = load_checkpoint(find_checkpoint(trial.directory, trial.checkpoint))
    cost = measure_complexity(model)
    record = replace(record, parameters=cost.parameters, macs=cost.macs)
    _write_record(trial.directory, record)
    return record


def _train(trial: Trial, record: Record) -> Record:
    directory = trial.directory
    began, worked, over = time.perf_counter(), _count_processor_seconds(), False
    try:
        train(replace(trial.config, resume="auto"))
        over = True
    except Interrupted as interruption:
        raise Interrupted(
            f"{str(interruption).partition(';')[0]} of {directory}; the same command goes on from there"
        ) from interruption
    finally:
        record = replace(
            record,
            trained=over,
            seconds=record.seconds + time.perf_counter() - began,
            processor_seconds=record.processor_seconds + _count_processor_seconds() - worked,
        )
        if is_first_process() and (directory / CONFIG_NAME).exists():
            _write_record(directory, record)
    return record


def _test(trial: Trial, order: Order) -> tuple[TestResult, int]:
    config = trial.config
    found = measure_run(
        trial.directory,
        checkpoint=trial.checkpoint,
        protocol=trial.protocol,
        order=order,
        workers=config.data.workers,
        device="cpu" if config.machine.accelerator == "cpu" else None,
    )
    test = TestResult(
        order=order,
        checkpoint=trial.checkpoint,
        protocol=trial.protocol,
        views=found.scores.describe_protocol(),
        count=len(found.scores.ids),
        figures=found.summary(),
        scores=found.scores_path.name,
    )
    return test, found.epoch


def _count_processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def _read_record(trial: Trial) -> Record:
    directory = trial.directory
    path = directory / FILE_NAME
    # A directory without options is no run yet, or no longer one.
    if not path.exists() or not (directory / CONFIG_NAME).exists():
        return Record()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**{**values, "tests": tuple(TestResult(**test) for test in values["tests"])})
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}): remove it, and the run is tested again"
        ) from error
    if record.trained:
        check_same_run(read_run_config(directory), settle_config(trial.config), path=directory)
    return record


def _write_record(directory: Path, record: Record) -> None:
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
    write_atomically(directory / FILE_NAME, lambda partial: partial.write_text(text, encoding="utf-8"))


# ------------------------------------------------------------------------------------- in a process of its own


def format_trial(trial: Trial) -> str:
    """A trial as one argument of this module's command."""
    values = {name: getattr(trial, name) for name in ("name", "orders", "checkpoint", "protocol")}
    return json.dumps({**values, "config": to_dict(trial.config)}, ensure_ascii=False)


def parse_trial(text: str) -> Trial:
    """What :func:`format_trial` was given."""
    values: Mapping[str, Any] = json.loads(text)
    config = from_dict(TrainConfig, values["config"])
    return Trial(**{**values, "orders": tuple(values["orders"]), "config": config})


def main() -> int:
    """``python -m kinemix.engine.trial TRIAL``: carry one out."""
    try:
        carry_out(parse_trial(sys.argv[1]))
    except KinemixError as error:
        if is_first_process() or not error.agreed:
            print(" ".join(str(error).split()), file=sys.stderr)
        end_together(error)
        return USER_ERROR
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
