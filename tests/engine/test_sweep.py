"""Sweeps: what is written after --over, the search itself on stubbed runs, and one real sweep."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from runs import make_record

from kinemix.cli import main
from kinemix.config import OptimConfig, TrainConfig
from kinemix.engine import sweep as sweep_module
from kinemix.engine.campaign import Finished
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.run_directory import read_run_config
from kinemix.engine.sweep import run_sweep
from kinemix.engine.sweep_report import list_cells, list_remarks, write_sweep
from kinemix.engine.sweep_space import Axis, apply_values, parse_axis
from kinemix.errors import ConfigError, KinemixError
from kinemix.explain.sweep_plot import plot_sweep


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("optim.lr=1e-3..1e-1:log", Axis(name="optim.lr", low=1e-3, high=0.1, log=True)),
        ("optim.epochs=2..8", Axis(name="optim.epochs", low=2, high=8, whole=True)),
        ("optim.lr=1e-3,.1", Axis(name="optim.lr", choices=(1e-3, 0.1))),
        ("model=tsm_resnet18,gsm_resnet18", Axis(name="model", choices=("tsm_resnet18", "gsm_resnet18"))),
        (
            "model_options.kernel_sizes=[3],[1,3]",
            Axis(name="model_options.kernel_sizes", choices=([3], [1, 3])),
        ),
        ("optim.nesterov=true,false", Axis(name="optim.nesterov", choices=(True, False))),
    ],
)
def test_axes(text, axis):
    assert parse_axis(text) == axis


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.lr", "write NAME=a,b,c"),
        ("optim.lr=1..1", "the first end must be below the second"),
        ("optim.lr=0..1:log", "a logarithmic range begins above 0"),
        ("optim.lr=0.1,0.1", "a value stands there twice"),
        ("out=a,b", "the sweep itself says what that is"),
        ("model_options.a=[1", "no list of values"),
    ],
)
def test_axes_that_are_none(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_axis(text)


def test_values_are_put_in_place():
    config = apply_values(
        TrainConfig(model_options={"init": "delta"}),
        {
            "optim.lr": 0.5,
            "model_options.kernel_sizes": [3],
            "optim.milestones": [1, 2],
            "model": "tsm_resnet18",
        },
    )
    assert config.model_options == {"init": "delta", "kernel_sizes": [3]}
    assert config == replace(
        TrainConfig(model_options=config.model_options, model="tsm_resnet18"),
        optim=OptimConfig(lr=0.5, milestones=(1, 2)),
    )
    assert apply_values(config, {"size": [112, 128]}).size == (112, 128)
    assert apply_values(config, {"size": None, "optim.lr": 1}).optim.lr == 1
    with pytest.raises(
        ConfigError, match=r"--over size: \[1, 2, 3\] is no value of it: it must be a whole number"
    ):
        apply_values(config, {"size": [1, 2, 3]})
    with pytest.raises(
        ConfigError,
        match=r"--over optim\.schedule: 'cos' is no value of it: it must be 'step' or 'cosine' or",
    ):
        apply_values(config, {"optim.schedule": "cos"})
    with pytest.raises(ConfigError, match="no option 'lrr'"):
        apply_values(config, {"optim.lrr": 1})
    with pytest.raises(ConfigError, match="that is a group of options"):
        apply_values(config, {"optim": 1})
    with pytest.raises(ConfigError, match="seed has no parts"):
        apply_values(config, {"seed.x": 1})


class Runs:
    """In place of real runs: the figure is a function of the options."""

    def __init__(self, measure):
        self.measure, self.trials = measure, []

    def __call__(self, trials, *, jobs, watch):
        for trial in trials:
            self.trials.append(trial)
            figure = self.measure(trial.config)
            if isinstance(figure, str):
                yield Finished(trial=trial, error=figure)
                continue
            yield Finished(trial=trial, record=make_record(figure, seconds=1.5))


@pytest.fixture
def stub(monkeypatch):
    def stub(measure):
        runs = Runs(measure)
        monkeypatch.setattr(sweep_module, "run_trials", runs)
        return runs

    return stub


GRID = [parse_axis("optim.lr=0.1,0.2,0.3"), parse_axis("model_options.kernel_sizes=[3],[1,3]")]


def test_a_grid_and_its_failures(config, stub, tmp_path):
    def measure(options):
        sizes = options.model_options["kernel_sizes"]
        return "too little memory" if options.optim.lr == 0.2 else options.optim.lr + 0.1 * len(sizes)

    runs = stub(measure)
    found = run_sweep(config, GRID, sampler="grid")
    assert len(runs.trials) == 6
    tried = {(t.config.optim.lr, str(t.config.model_options["kernel_sizes"])) for t in runs.trials}
    assert len(tried) == 6
    assert found.best.values == {"optim.lr": 0.3, "model_options.kernel_sizes": [1, 3]}
    assert (found.best.figure, found.best.epoch, found.best.seconds) == (pytest.approx(0.5), 4, 1.5)
    assert [t.state for t in found.trials].count("failed") == 2
    cells = list_cells(found)
    assert cells[0][1:4] == ("complete", "0.3", "[1, 3]")
    assert [row[1] for row in cells[-2:]] == ["failed", "failed"]
    remarks = list_remarks(found)
    assert sum("Failed: trial-" in remark and "too little memory" in remark for remark in remarks) == 2
    assert f"kinemix train --config {config.out}/{found.best.run}/config.yaml" in remarks[-1]
    write_sweep(found)
    assert json.loads((Path(config.out) / "sweep.json").read_text())["best"]["run"] == found.best.run
    drawn = plot_sweep(found).axes
    assert [axes.get_xlabel() for axes in drawn] == ["trial", "optim.lr", "model_options.kernel_sizes"]

    again = run_sweep(config, GRID, sampler="grid")
    assert len(runs.trials) == 6, "nothing is done twice"
    assert again == found
    with pytest.raises(ConfigError, match="a sweep over other options or values is there"):
        run_sweep(config, GRID[:1], sampler="grid")
    with pytest.raises(ConfigError, match="a sweep for top1 is there: give --figure top1, or another --out"):
        run_sweep(config, GRID, sampler="grid", figure="mean_class")
    with pytest.raises(ConfigError, match=r"the run was started with seed = 0, not 1"):
        run_sweep(replace(config, seed=1), GRID, sampler="grid")


def test_two_calls_at_once_do_not_meet(config, stub):
    """The second would take the first one's trials for left over, and start them again."""

    def measure(options):
        with pytest.raises(ConfigError, match="another call is at work on these runs: wait for it, or give"):
            run_sweep(config, GRID, sampler="grid")
        return 0.5

    runs = stub(measure)
    assert len(run_sweep(config, GRID, sampler="grid").trials) == len(runs.trials) == 6
    assert len(run_sweep(config, GRID, sampler="grid").trials) == 6, "and the directory is free again"


def test_the_search_learns_and_goes_on(config, stub):
    axes = [parse_axis("optim.lr=1e-4..1:log")]
    runs = stub(lambda options: 1 - abs(options.optim.lr - 0.1))
    first = run_sweep(config, axes, trials=12)
    assert len(first.trials) == 12
    assert len({t.config.optim.lr for t in runs.trials}) == 12
    more = run_sweep(config, axes, trials=25)
    assert len(runs.trials) == 25
    assert more.trials[:12] == first.trials
    assert len({t.config.optim.lr for t in runs.trials}) == 25, (
        "a sampler that starts again draws something else"
    )
    assert more.best.figure == max(t.figure for t in more.trials) > 0.95


def test_an_interrupted_trial_is_taken_up_again(config, stub):
    axes = [parse_axis("optim.lr=0.1..0.9")]

    def measure(options):
        if len(runs.trials) == 2:
            raise Interrupted("stopped")
        return options.optim.lr

    runs = stub(measure)
    with pytest.raises(Interrupted):
        run_sweep(config, axes, trials=3)
    found = run_sweep(config, axes, trials=3)
    assert [t.name for t in runs.trials] == ["trial-000", "trial-001", "trial-001", "trial-002"]
    assert runs.trials[1].config == runs.trials[2].config
    assert [t.number for t in found.trials] == [0, 1, 2]


def test_weak_runs_are_stopped(config, monkeypatch):
    """The median of five at the same epoch is the bar."""
    monkeypatch.setattr(sweep_module, "_LOOK_SECONDS", 0.0)
    stopped = []

    def run(trials, *, jobs, watch):
        for number, trial in enumerate(trials):
            trial.directory.mkdir(parents=True)
            figure = 0.1 if number == 6 else 0.5 + number / 100
            record = {"kind": "val", "iteration": 1, "epoch": 1, "top1": figure}
            (trial.directory / "log.jsonl").write_text(json.dumps(record) + "\n")
            if watch(trial):
                stopped.append(trial.name)
                yield Finished(trial=trial, stopped=True)
            else:
                yield Finished(trial=trial, record=make_record(figure))

    monkeypatch.setattr(sweep_module, "run_trials", run)
    found = run_sweep(config, [parse_axis("optim.lr=0.1..0.9")], trials=8)
    assert stopped == ["trial-006"]
    assert [(t.state, t.figure, t.epoch) for t in found.trials if t.run == "trial-006"] == [
        ("pruned", 0.1, 1)
    ]


def test_what_cannot_be_swept(config, stub):
    stub(lambda options: "no such luck")
    with pytest.raises(KinemixError, match="none of 2 trials succeeded: no such luck"):
        run_sweep(config, [parse_axis("seed=1,2")], sampler="grid")
    with pytest.raises(ConfigError, match="the sampler grid needs choices"):
        run_sweep(config, [parse_axis("optim.lr=0.1..0.2")], sampler="grid")
    with pytest.raises(ConfigError, match=r"optim.lr is -1"):
        run_sweep(config, [parse_axis("optim.lr=-1,1")])
    with pytest.raises(ConfigError, match="nothing to go over"):
        run_sweep(config, [])


def test_a_real_sweep(config, motion, capsys, caplog):
    caplog.set_level(logging.WARNING)
    words = [
        "sweep",
        str(motion),
        "--over",
        "optim.lr=0.01,1e30",
        "--sampler",
        "grid",
        "--model",
        config.model,
    ]
    words += ["--size", "32", "--protocol.num_frames", "2", "--data.workers", "0", "--optim.epochs", "1"]
    words += ["--machine.accelerator", "cpu", "--machine.threads", "1", "--jobs", "2", "--out", config.out]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Best: trial-000" in out
    assert "Failed: trial-001: " in out
    assert "Again: kinemix train --config" in out
    assert read_run_config(Path(config.out) / "trial-000").optim.lr == 0.01
    assert (Path(config.out) / "sweep.png").stat().st_size > 1000
    capsys.readouterr()
    assert main(["sweep", str(motion), "--over", "optim.lr=fast,slow", "--out", config.out]) == 2
    assert "optim.lr is 'fast': it must be a number" in capsys.readouterr().err
    assert main(["sweep", str(motion), "--over", "optim.rl=1,2"]) == 2
    assert "unknown option '--optim.rl': did you mean 'optim.lr'" in capsys.readouterr().err
    assert main(["sweep", "--over", "optim.lr", str(motion)]) == 2
    assert "--over 'optim.lr': write NAME=a,b,c or NAME=low..high" in capsys.readouterr().err
    assert main(["sweep", str(motion), "--over", "model=tsm_resnet18,tms_resnet18", "--out", config.out]) == 2
    assert "unknown model 'tms_resnet18'" in capsys.readouterr().err
    words = ["sweep", str(motion), "--over", "optim.lr=1,2", "--figure", "verb_top1", "--out", config.out]
    assert main(words) == 2
    assert "figure is 'verb_top1': a test on these data does not measure that" in capsys.readouterr().err
