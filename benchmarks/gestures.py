"""Cross-validation on a small labelled set of gestures: who needs order, and who has it.

Trains every model of ``--models`` on every fold and seed with ``recipes/small_gestures.yaml`` and whatever options
of ``kinemix train`` are given, tests the last weights forwards and with the frames reversed, and prints accuracy
and the share of reversed direction clips that get the opposite label: over all folds' samples, with the deviation
over seeds; parameters, multiply-adds and processor time of a training beside them. Finished runs are not repeated;
the same command goes on where it was stopped, and ``--table`` prints what there is.

    python benchmarks/gestures.py path/to/labels.csv --data.exclude_labels '[unclassified]' --jobs 2
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kinemix.cli.options import Options
from kinemix.cli.search_tables import RunsBar
from kinemix.cli.training import add_train_options, read_train_config
from kinemix.config import TrainConfig
from kinemix.data.views import Order
from kinemix.engine.campaign import run_trials
from kinemix.engine.trial import Record, Trial, find_finished
from kinemix.evaluate.scores import Scores, read_scores

RECIPE = Path(__file__).parents[1] / "recipes" / "small_gestures.yaml"
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
MIRROR = {"left": "right", "right": "left", "up": "up", "down": "down"}
MODELS = ("tsn_resnet18", "mstnet_resnet18")


def main() -> int:
    options = Options("gestures", "LABELS [--OPTION VALUE ...]", __doc__.splitlines()[0])
    add_train_options(options)
    options.add("--models", str, list(MODELS), nargs="+", about="networks to compare")
    options.add("--seeds", int, [0, 1, 2], nargs="+", about="of each fold's training")
    options.add("--jobs", int, 1, about="runs at once; they share the cores")
    options.add("--table", bool, False, about="train nothing, print what is finished")
    pairs = [f"--augment.flip_labels={MIRROR}", f"--augment.reverse_labels={OPPOSITE}"]
    values = options.parse(
        ["--config", str(RECIPE), "--augment.flip=on", *pairs, "--out=runs/gestures", *sys.argv[1:]]
    ).as_dict()
    models, seeds, jobs, table = (values.pop(name) for name in ("models", "seeds", "jobs", "table"))
    config = read_train_config(values, verb="gestures")
    failed = 0 if table else _train(config, models, seeds, jobs=jobs)
    _print_table(config, models, seeds)
    return 2 if failed else 0


def _train(config: TrainConfig, models: Sequence[str], seeds: Sequence[int], *, jobs: int) -> int:
    """How many runs failed; each has said why."""
    # A table of fewer seeds is whole sooner than one of fewer models.
    trials = [
        trial for seed, model in itertools.product(seeds, models) for trial in list_folds(config, model, seed)
    ]
    with RunsBar(figure="top1") as bar:
        bar.start(len(trials), sum(find_finished(trial) is not None for trial in trials))
        failed = 0
        for finished in run_trials(trials, jobs=jobs):
            bar.tell(finished)
            failed += finished.record is None
    return failed


def list_folds(config: TrainConfig, model: str, seed: int) -> Iterator[Trial]:
    """A model's runs of one seed."""
    assert config.out is not None
    for fold in range(config.data.folds or 1):
        name = f"{model}-seed{seed}-fold{fold}"
        own = replace(
            config,
            model=model,
            seed=seed,
            data=replace(config.data, fold=fold),
            out=str(Path(config.out) / name),
        )
        yield Trial(name=name, config=own, orders=("forward", "reverse"))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What the test of one fold came to, in clips."""

    record: Record
    count: int
    right: int
    directed: int
    right_directed: int
    opposite: int
    own_reversed: int


def count_clips(trial: Trial, record: Record) -> Counts:
    """Count a run's answers; direction clips are those of a class that another one is the reversal of."""

    def read(order: Order) -> Scores:
        return read_scores(trial.directory / record.get(trial, order).scores)

    forward, backward = read("forward"), read("reverse")
    assert forward.ids == backward.ids
    names = np.array(forward.class_names)
    labels, answers, turned = (
        names[forward.labels],
        *(names[scores.logits.argmax(axis=1)] for scores in (forward, backward)),
    )
    directed = np.isin(labels, list(OPPOSITE))
    expected = np.array([OPPOSITE[label] for label in labels[directed]])
    return Counts(
        record=record,
        count=len(labels),
        right=int((answers == labels).sum()),
        directed=int(directed.sum()),
        right_directed=int((answers == labels)[directed].sum()),
        opposite=int((turned[directed] == expected).sum()),
        own_reversed=int((turned == labels)[directed].sum()),
    )


def _print_table(config: TrainConfig, models: Sequence[str], seeds: Sequence[int]) -> None:
    """Means and deviations over the seeds of which every fold is there."""
    print(
        "| network | seeds | accuracy | by seed | by fold | directions | reversed: opposite | by seed "
        "| reversed: own | parameters | M MACs | processor s a training |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for model in models:
        whole = []
        for seed in seeds:
            trials = list(list_folds(config, model, seed))
            records = [find_finished(trial) for trial in trials]
            if all(records):
                whole.append([count_clips(t, r) for t, r in zip(trials, records, strict=True) if r])
        if whole:
            print(_format_row(model, whole), flush=True)


def _format_row(model: str, seeds: Sequence[Sequence[Counts]]) -> str:
    def by_seed(part: str, whole: str) -> list[float]:
        return [
            100 * sum(getattr(f, part) for f in folds) / sum(getattr(f, whole) for f in folds)
            for folds in seeds
        ]

    accuracies, opposites = by_seed("right", "count"), by_seed("opposite", "directed")
    by_fold = [
        100 * float(np.mean([fold.right / fold.count for fold in folds]))
        for folds in zip(*seeds, strict=True)
    ]
    record = seeds[0][0].record
    seconds = np.median([fold.record.processor_seconds for folds in seeds for fold in folds])
    cells = [
        model,
        len(seeds),
        _spread(accuracies),
        _list(accuracies),
        _list(by_fold),
        _spread(by_seed("right_directed", "directed")),
        _spread(opposites),
        _list(opposites),
        _spread(by_seed("own_reversed", "directed")),
        f"{record.parameters:,}",
        f"{record.macs / 1e6:.1f}",
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _spread(shares: Sequence[float]) -> str:
    deviation = f" ± {np.std(shares, ddof=1):.1f}" if len(shares) > 1 else ""
    return f"{np.mean(shares):.1f}{deviation}"


def _list(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.1f}" for share in shares)


if __name__ == "__main__":
    sys.exit(main())
