"""An ablation table of a paper, run on the data at hand and set beside the paper's own figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from kinemix.config import TrainConfig
from kinemix.data.views import Order
from kinemix.engine.ablation_plan import PlannedRow, list_trials, plan_rows
from kinemix.engine.campaign import Finished, hold_directory, run_trials
from kinemix.engine.trial import Record, Trial, check_figure, find_finished
from kinemix.errors import ConfigError, did_you_mean
from kinemix.evaluate.agreement import Agreement, compare_orders
from kinemix.evaluate.fidelity import describe_model

PRINTED = "top-1"
"""The papers' figure that rows are compared by."""


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """A row of the paper beside ours.

    Attributes:
        label, about: as it is printed.
        network: what stands for it here; empty for a network of others.
        printed: the paper's accuracy in percent.
        forward: ours for each seed whose runs are all done, in percent.
        reversed: likewise with the frames of every clip reversed, against the videos' own labels.
        parameters, macs: of the network here, for one clip.
        seconds, processor_seconds: of one training, on average.
        runs, done: how many there are to be, and how many are done.
        one_with: label of an earlier row that comes to the same network here.
    """

    label: str
    about: str
    network: str
    printed: float | None
    forward: tuple[float, ...] = ()
    reversed: tuple[float, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    seconds: float | None = None
    processor_seconds: float | None = None
    runs: int = 0
    done: int = 0
    one_with: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A table.

    Attributes:
        paper, table: which one.
        dataset: the paper's.
        source: ours.
        figure: ours that stands beside the paper's top-1.
        seeds: of the runs.
        clip: frames, height and width.
        views: how ours was tested, in words.
        rows: in the paper's order.
        agreement: of the order of rows, over those that are networks of their own here.
        failures: name of a run -> why it failed.
        directory: of the runs.
    """

    paper: str
    table: str
    dataset: str
    source: str
    figure: str
    seeds: tuple[int, ...]
    clip: str
    views: str
    rows: tuple[AblationRow, ...]
    agreement: Agreement
    failures: Mapping[str, str]
    directory: Path


def run_ablation(
    paper: str,
    table: str,
    config: TrainConfig,
    *,
    labels: Sequence[str] = ("*",),
    backbone: str | None = None,
    seeds: Sequence[int] = (0,),
    each_split: bool = False,
    reverse: bool = False,
    figure: str = "top1",
    jobs: int = 1,
    on_start: Callable[[int, int], object] = lambda total, done: None,
    on_finished: Callable[[Finished], object] = lambda finished: None,
) -> Ablation:
    """Train and test every row of an ablation table.

    Args:
        paper, table, labels, backbone: as in :func:`kinemix.engine.ablation_plan.plan_rows`.
        config: of every run; ``out`` is the directory of all (:func:`name_directory` by default).
        seeds: one run of each row for each.
        each_split: one for each split or fold of the data as well.
        reverse: test with the frames reversed too.
        figure: ours that stands beside the paper's top-1.
        jobs: runs at once.
        on_start: told how many runs there are to be, and how many an earlier call has done.
        on_finished: told of each run as it ends.

    Raises:
        ConfigError: a row cannot be built, no test measures the figure, runs with other options are in the way, or
            another call is at work there.
        Interrupted: after the runs under way were saved.
    """
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ConfigError(f"seeds are {list(seeds)}: give one or more, each once")
    planned = plan_rows(paper, table, config, labels=labels, backbone=backbone)
    check_figure(figure, config)
    directory = Path(config.out) if config.out else name_directory(paper, table, config)
    orders: tuple[Order, ...] = ("forward", "reverse") if reverse else ("forward",)
    trials = list_trials(
        planned, config, directory=directory, seeds=seeds, each_split=each_split, orders=orders
    )
    flat = [trial for several in trials.values() for trial in several]
    on_start(len(flat), sum(find_finished(trial) is not None for trial in flat))
    records: dict[str, Record] = {}
    failures: dict[str, str] = {}
    with hold_directory(directory):
        for finished in run_trials(flat, jobs=jobs):
            if finished.record is not None:
                records[finished.trial.name] = finished.record
            else:
                failures[finished.trial.name] = finished.error or "stopped"
            on_finished(finished)
    return assemble(planned, trials, records, failures, config=config, directory=directory, figure=figure)


def name_directory(paper: str, table: str, config: TrainConfig) -> Path:
    """Where the runs of a table lie by default: the same call finds them again."""
    table = table.removeprefix("text of ").lower()
    return Path("runs") / f"ablate-{paper}-{table}-{Path(config.data.source).resolve().stem}"


def assemble(
    planned: Sequence[PlannedRow],
    trials: Mapping[tuple[str, int], Sequence[Trial]],
    records: Mapping[str, Record],
    failures: Mapping[str, str],
    *,
    config: TrainConfig,
    directory: Path,
    figure: str,
) -> Ablation:
    """The table of what is there."""
    rows: list[AblationRow] = []
    first: dict[str, str] = {}
    for one in planned:
        row = _fill_row(one, trials, records, figure=figure)
        if one.model is not None and (earlier := first.setdefault(one.key, row.label)) != row.label:
            row = replace(row, one_with=earlier)
        rows.append(row)
    own = [row for row in rows if row.forward and row.printed is not None and row.one_with is None]
    sample = next(iter(trials.values()))[0]
    views = next((r.tests[0].views for r in records.values()), "")
    size = sample.config.size
    height, width = size if isinstance(size, tuple) else (size, size)
    return Ablation(
        paper=planned[0].row.paper,
        table=planned[0].row.table,
        dataset=planned[0].row.dataset,
        source=config.data.source,
        figure=figure,
        seeds=tuple(dict.fromkeys(seed for _, seed in trials)),
        clip=f"{sample.config.protocol.num_frames} x {height} x {width}",
        views=views,
        rows=tuple(rows),
        agreement=compare_orders(
            {row.label: mean(row.forward) for row in own},
            {row.label: row.printed for row in own if row.printed is not None},
            {row.label: stdev(row.forward) for row in own if len(row.forward) > 1},
        ),
        failures=dict(failures),
        directory=directory,
    )


def _fill_row(
    one: PlannedRow,
    trials: Mapping[tuple[str, int], Sequence[Trial]],
    records: Mapping[str, Record],
    *,
    figure: str,
) -> AblationRow:
    row = one.row
    empty = AblationRow(
        label=row.label,
        about=row.about,
        network="" if one.model is None else describe_model(one.model, one.model_options),
        printed=row.results.get(PRINTED),
    )
    by_seed = [several for (key, _), several in trials.items() if key == one.key and one.model is not None]
    done = [records[trial.name] for several in by_seed for trial in several if trial.name in records]
    planned = sum(map(len, by_seed))
    if not done:
        return replace(empty, runs=planned)
    whole = [several for several in by_seed if all(trial.name in records for trial in several)]
    return replace(
        empty,
        forward=tuple(_pool(several, records, "forward", figure) for several in whole),
        reversed=tuple(
            _pool(several, records, "reverse", figure) for several in whole if "reverse" in several[0].orders
        ),
        parameters=done[0].parameters,
        macs=done[0].macs,
        seconds=mean(record.seconds for record in done),
        processor_seconds=mean(record.processor_seconds for record in done),
        runs=planned,
        done=len(done),
    )


def _pool(several: Sequence[Trial], records: Mapping[str, Record], order: Order, figure: str) -> float:
    """The figure over the videos of all splits of one seed, in percent: every video counts alike."""
    tests = [records[trial.name].get(trial, order) for trial in several]
    for test in tests:
        if figure not in test.figures:
            raise ConfigError(f"figure {figure!r} was not measured: {did_you_mean(figure, test.figures)}")
    return 100 * sum(test.figures[figure] * test.count for test in tests) / sum(test.count for test in tests)
