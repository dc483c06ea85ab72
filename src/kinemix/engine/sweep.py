"""A search over options: Optuna proposes, ordinary runs answer, weak ones are stopped early.

The study lies in the sweep's directory, beside its runs, so the same call goes on where an earlier one stopped.
"""

import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kinemix.config import TrainConfig, from_dict, to_dict
from kinemix.engine.campaign import Finished, hold_directory, run_trials
from kinemix.engine.logbook import FILE_NAME as LOG_NAME
from kinemix.engine.logbook import read_log
from kinemix.engine.run_directory import check_same_run
from kinemix.engine.settle import settle_config
from kinemix.engine.sweep_space import Axis, apply_values
from kinemix.engine.trial import Trial, check_figure
from kinemix.errors import ConfigError, KinemixError

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["none", "median", "halving"]
State = Literal["complete", "pruned", "failed"]

STUDY_NAME = "study.journal"
NUM_TRIALS = 20
_STUDY = "sweep"
_LOOK_SECONDS = 2.0
"""Between two looks at the validations of a run under way."""


@dataclass(frozen=True, kw_only=True)
class SweepTrial:
    """One set of values.

    Attributes:
        number: of the trial.
        run: name of its run directory.
        values: option -> value.
        state: ``pruned`` was stopped early.
        figure: of the test, a share; of a pruned trial, that of its last validation; ``None`` if it failed.
        epoch: of that figure; 0 where there is none.
        seconds: of training; 0 where they are not known.
        reason: why it failed.
    """

    number: int
    run: str
    values: Mapping[str, Any]
    state: State
    figure: float | None
    epoch: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep came to.

    Attributes:
        directory: of the runs.
        source: the data.
        axes: what it went over.
        figure: name of the figure that was sought to be high.
        trials: in the order of their numbers.
        best: the complete one with the highest figure.
    """

    directory: Path
    source: str
    axes: tuple[Axis, ...]
    figure: str
    trials: tuple[SweepTrial, ...]
    best: SweepTrial


def run_sweep(
    config: TrainConfig,
    axes: Sequence[Axis],
    *,
    trials: int | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = "median",
    figure: str = "top1",
    jobs: int = 1,
    on_start: Callable[[int, int], object] = lambda total, done: None,
    on_finished: Callable[[Finished], object] = lambda finished: None,
) -> Sweep:
    """Train with many sets of values, and find the best.

    Args:
        config: of every run but for the axes; ``out`` is the directory of all, ``runs/sweep-<data>`` by default.
            ``seed`` is that of every run, and of the sampler.
        axes: what to go over.
        trials: in all, those of earlier calls included; 20 by default, for ``grid`` every combination.
        sampler: ``tpe`` learns from what was found; ``random`` does not; ``grid`` tries every combination of choices.
        pruner: ``median`` stops a run whose validation is below the median of earlier ones at the same epoch;
            ``halving`` keeps a quarter of them at each of ever more distant epochs; ``none`` stops none.
        figure: of the held-out videos, of the last weights.
        jobs: runs at once.
        on_start: told how many trials there are to be, and how many an earlier call has done.
        on_finished: told of each as it ends.

    Raises:
        ConfigError: an option is unknown or out of range, no test measures the figure, or a sweep with other
            options, or for another figure, is in the way, or another call is at work there.
        KinemixError: every trial failed.
        Interrupted: after the runs under way were saved.
    """
    _check(config, axes, trials, sampler)
    check_figure(figure, config)
    directory = Path(config.out) if config.out else Path("runs") / f"sweep-{Path(config.data.source).stem}"
    with hold_directory(directory):
        search = _Search(
            config, axes, directory=directory, sampler=sampler, pruner=pruner, figure=figure, jobs=jobs
        )
        total = search.enqueue_grid() if sampler == "grid" else trials or NUM_TRIALS
        on_start(total, search.count_done())
        for finished in run_trials(search.propose(total), jobs=jobs, watch=search.watch):
            search.tell(finished)
            on_finished(finished)
        return search.sum_up()


def _check(config: TrainConfig, axes: Sequence[Axis], trials: int | None, sampler: Sampler) -> None:
    names = [axis.name for axis in axes]
    if not names:
        raise ConfigError("nothing to go over: give --over NAME=a,b,c")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"--over {min(twice)}: named twice")
    if trials is not None and trials < 1:
        raise ConfigError(f"trials is {trials}: it must be 1 or more")
    if sampler == "grid":
        if trials is not None:
            raise ConfigError("the sampler grid tries every combination: leave --trials out")
        if ranges := [axis.name for axis in axes if not axis.choices]:
            raise ConfigError(f"--over {ranges[0]}: the sampler grid needs choices (a,b,c), no range")
    for axis in axes:
        for value in axis.list_extremes():
            settle_config(apply_values(replace(config, resume=False), {axis.name: value}))


class _Search:
    """The study and the runs that belong to it."""

    def __init__(
        self,
        config: TrainConfig,
        axes: Sequence[Axis],
        *,
        directory: Path,
        sampler: Sampler,
        pruner: Pruner,
        figure: str,
        jobs: int,
    ) -> None:
        self._optuna = import_optuna()
        self.config, self.axes, self.directory, self.figure = config, tuple(axes), directory, figure
        journal = self._optuna.storages.journal.JournalFileBackend(str(directory / STUDY_NAME))
        self._storage = self._optuna.storages.JournalStorage(journal)
        self._study = self._optuna.create_study(
            storage=self._storage, study_name=_STUDY, direction="maximize", load_if_exists=True
        )
        self._check_same()
        # A sampler that starts again must not draw again what it has drawn.
        seed = config.seed + len(self._study.trials)
        self._study.sampler = self._make_sampler(sampler, seed, jobs)
        self._study.pruner = self._make_pruner(pruner)
        self._distributions = {axis.name: self._describe_axis(axis) for axis in axes}
        self._running: dict[str, Any] = {}
        self._reported: dict[str, set[int]] = {}
        self._looked: dict[str, float] = {}

    def enqueue_grid(self) -> int:
        """Propose every combination of choices that has not been proposed before; how many there are in all."""
        grid = list(itertools.product(*(axis.choices for axis in self.axes)))
        for values in grid:
            encoded = {axis.name: _encode(value) for axis, value in zip(self.axes, values, strict=True)}
            self._study.enqueue_trial(encoded, skip_if_exists=True)
        return len(grid)

    def count_done(self) -> int:
        """Trials that an earlier call has brought to an end."""
        return len(self._list_trials("COMPLETE", "PRUNED", "FAIL"))

    def propose(self, total: int) -> Iterator[Trial]:
        """Trials that an earlier call left unfinished, then new ones, until there are so many."""
        study_id = self._storage.get_study_id_from_name(_STUDY)
        for earlier in self._list_trials("RUNNING"):
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, earlier.number)
            yield self._start(self._optuna.Trial(self._study, trial_id), set(earlier.intermediate_values))
        while len(self._list_trials("COMPLETE", "PRUNED", "FAIL", "RUNNING")) < total:
            yield self._start(self._study.ask(self._distributions), set())

    def _list_trials(self, *states: str) -> list[Any]:
        chosen = tuple(self._optuna.trial.TrialState[state] for state in states)
        trials: list[Any] = self._study.get_trials(deepcopy=False, states=chosen)
        return trials

    def _start(self, proposed: Any, reported: set[int]) -> Trial:
        name = _name_run(proposed.number)
        self._running[name], self._reported[name] = proposed, reported
        config = apply_values(self.config, self._decode(proposed.params))
        return Trial(name=name, config=replace(config, out=str(self.directory / name), resume=False))

    def watch(self, trial: Trial) -> bool:
        """Tell the study of a run's new validations, and ask whether it is to be stopped."""
        now = time.monotonic()
        if now - self._looked.get(trial.name, 0.0) < _LOOK_SECONDS:
            return False
        self._looked[trial.name] = now
        self._report(trial)
        return bool(self._running[trial.name].should_prune())

    def _report(self, trial: Trial) -> None:
        if not (trial.directory / LOG_NAME).exists():
            return
        for record in read_log(trial.directory):
            epoch = int(record["epoch"])
            is_new = record["kind"] == "val" and epoch not in self._reported[trial.name]
            if is_new and self.figure in record:
                self._running[trial.name].report(record[self.figure], epoch)
                self._reported[trial.name].add(epoch)

    def tell(self, finished: Finished) -> None:
        """Write down what became of a trial."""
        states = self._optuna.trial.TrialState
        name = finished.trial.name
        proposed = self._running.pop(name)
        if finished.stopped:
            self._study.tell(proposed, state=states.PRUNED)
            return
        reason, value = finished.error, None
        if finished.record is not None:
            value = finished.record.get(finished.trial).figures.get(self.figure)
            proposed.set_user_attr("epoch", finished.record.epoch)
            proposed.set_user_attr("seconds", finished.record.seconds)
            if value is None:
                known = ", ".join(finished.record.get(finished.trial).figures)
                reason = f"figure {self.figure!r} was not measured; there are {known}"
        if value is None:
            proposed.set_user_attr("reason", reason or "unknown")
            self._study.tell(proposed, state=states.FAIL)
        else:
            self._study.tell(proposed, value)

    def sum_up(self) -> Sweep:
        """The study as a table; an error where nothing succeeded."""
        trials = [self._read(one) for one in self._list_trials("COMPLETE", "PRUNED", "FAIL")]
        complete = [trial for trial in trials if trial.state == "complete"]
        if not complete:
            reasons = {trial.reason for trial in trials if trial.reason} or {"all were pruned"}
            raise KinemixError(f"{self.directory}: none of {len(trials)} trials succeeded: {min(reasons)}")
        return Sweep(
            directory=self.directory,
            source=self.config.data.source,
            axes=self.axes,
            figure=self.figure,
            trials=tuple(trials),
            best=max(complete, key=lambda trial: trial.figure or 0.0),
        )

    def _read(self, one: Any) -> SweepTrial:
        states = self._optuna.trial.TrialState
        names: dict[Any, State] = {
            states.COMPLETE: "complete",
            states.PRUNED: "pruned",
            states.FAIL: "failed",
        }
        state = names[one.state]
        last = max(one.intermediate_values, default=0)
        figures = {"complete": one.value, "pruned": one.intermediate_values.get(last), "failed": None}
        return SweepTrial(
            number=one.number,
            run=_name_run(one.number),
            values=self._decode(one.params),
            state=state,
            figure=figures[state],
            epoch=one.user_attrs.get("epoch", last),
            seconds=one.user_attrs.get("seconds", 0.0),
            reason=one.user_attrs.get("reason", ""),
        )

    def _check_same(self) -> None:
        """Raise a :class:`ConfigError` if an earlier call had other options or axes; note ours if there was none."""
        axes = [repr(axis) for axis in self.axes]
        settled = settle_config(replace(self.config, resume=False))
        known = self._study.user_attrs
        if "base" not in known:
            self._study.set_user_attr("base", to_dict(settled))
            self._study.set_user_attr("axes", axes)
            self._study.set_user_attr("figure", self.figure)
            return
        where = self.directory / STUDY_NAME
        if known["axes"] != axes:
            raise ConfigError(f"{where}: a sweep over other options or values is there; give another --out")
        if (sought := known["figure"]) != self.figure:
            raise ConfigError(
                f"{where}: a sweep for {sought} is there: give --figure {sought}, or another --out"
            )
        check_same_run(from_dict(TrainConfig, known["base"]), settled, path=where)

    def _make_sampler(self, sampler: Sampler, seed: int, jobs: int) -> Any:
        samplers = self._optuna.samplers
        if sampler != "tpe":
            return samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            # What runs beside it is taken for weak meanwhile, so that not all jobs try the same.
            return samplers.TPESampler(seed=seed, constant_liar=jobs > 1)

    def _make_pruner(self, pruner: Pruner) -> Any:
        pruners = self._optuna.pruners
        makers = {
            "none": pruners.NopPruner,
            "median": pruners.MedianPruner,
            "halving": pruners.SuccessiveHalvingPruner,
        }
        return makers[pruner]()

    def _describe_axis(self, axis: Axis) -> Any:
        distributions = self._optuna.distributions
        if axis.choices:
            return distributions.CategoricalDistribution([_encode(choice) for choice in axis.choices])
        if axis.whole:
            return distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)

    def _decode(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Option -> value, from the study's own."""
        values = {}
        for axis in self.axes:
            value = encoded[axis.name]
            known = {_encode(choice): choice for choice in axis.choices}
            values[axis.name] = known.get(value, value)
        return values


def import_optuna() -> Any:
    """Optuna, told to be quiet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("a sweep needs Optuna: pip install 'kinemix[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _encode(choice: Any) -> Any:
    """A choice as a study can keep it: lists and mappings as text."""
    return json.dumps(choice) if isinstance(choice, (list, dict)) else choice


def _name_run(number: int) -> str:
    return f"trial-{number:03d}"
