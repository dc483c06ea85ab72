"""Every split trained and tested in one call, in one go or in several."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from runs import stop_after

from kinemix.cli import main
from kinemix.engine import trial
from kinemix.engine.each_split import train_each_split
from kinemix.engine.interrupt import Interrupted
from kinemix.errors import CheckpointError, ConfigError


@pytest.fixture
def folds(config):
    """36 videos in three parts, each held out once."""
    return replace(config, data=replace(config.data, folds=3), optim=replace(config.optim, epochs=2))


def list_held_out(run):
    lines = (Path(run) / "splits" / "val.csv").read_text().splitlines()[1:]
    return {line.split(",")[0] for line in lines}


def test_folds_hold_out_everything_once(folds):
    seen = []
    result = train_each_split(folds, on_split=seen.append)
    assert [split.split for split in result.splits] == ["fold-0", "fold-1", "fold-2"]
    assert tuple(seen) == result.splits
    parts = [list_held_out(result.directory / split.run) for split in result.splits]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 36
    assert [split.count for split in result.splits] == [len(part) for part in parts]
    for name in ("top1", "top5", "mean_class"):
        values = [split.figures[name] for split in result.splits]
        assert result.mean[name] == pytest.approx(statistics.mean(values))
        assert result.deviation[name] == pytest.approx(statistics.stdev(values))
    for split in result.splits:
        (written,) = (result.directory / split.run).glob("test-held-out-*-last.json")
        assert json.loads(written.read_text())["top1"] == split.figures["top1"]
        assert split.epoch == 2


def test_the_same_call_goes_on(folds, tmp_path, monkeypatch):
    whole = train_each_split(replace(folds, out=str(tmp_path / "whole")))
    tests = []

    def measure(run, **options):
        tests.append(Path(run).name)
        return measure_run(run, **options)

    measure_run = trial.measure_run
    monkeypatch.setattr(trial, "measure_run", measure)
    steps = stop_after(monkeypatch, 13)  # of eight a fold: the fifth of the second
    with pytest.raises(
        Interrupted, match=r"stopped and saved after step 5 of .*fold-1; the same command goes on"
    ):
        train_each_split(folds)
    assert tests == ["fold-0"]
    result = train_each_split(folds)
    assert tests == ["fold-0", "fold-1", "fold-2"]
    assert len(steps) == 3 * 8
    assert result.splits == whole.splits
    assert result.mean == whole.mean
    train_each_split(folds)
    assert len(tests) == 3, "what is done is not done again"


def test_the_default_directory_is_found_again(folds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folds = replace(folds, out=None, optim=replace(folds.optim, epochs=1, batch_size=18))
    first = train_each_split(folds)
    assert first.directory == Path("runs") / f"splits-{folds.model}-{Path(folds.data.source).name}"
    assert train_each_split(folds) == first
    assert list(Path("runs").iterdir()) == [first.directory]


def test_a_protocol_that_there_is_not_is_told_before_anything_is_trained(folds):
    with pytest.raises(ConfigError, match="no protocol 'nothere'"):
        train_each_split(folds, protocol="nothere")
    assert not Path(folds.out).exists()


def test_runs_with_other_options_are_not_mixed(folds):
    train_each_split(replace(folds, optim=replace(folds.optim, epochs=1)))
    with pytest.raises(ConfigError, match=r"fold-0: the run was started with optim\.epochs = 1, not 2"):
        train_each_split(folds)


def test_data_with_one_split_and_a_damaged_file(config):
    with pytest.raises(ConfigError, match=r"has no several splits of its own: give data\.folds"):
        train_each_split(config)
    two = replace(
        config, data=replace(config.data, folds=2), optim=replace(config.optim, epochs=1, batch_size=18)
    )
    whole = train_each_split(two)
    (Path(config.out) / "fold-1" / "trial.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"fold-1/trial\.json: cannot be read .* remove it"):
        train_each_split(two)
    (Path(config.out) / "fold-1" / "trial.json").unlink()
    assert train_each_split(two) == whole, "trained already, tested again"


def test_published_splits_from_the_command_line(config, tmp_path, capfd):
    """UCF-101's three, which follow from the groups: 1-7, 8-14 and 15-21 are held out."""
    videos = sorted(Path(config.data.source).rglob("*.mp4"))
    for number, group in enumerate((1, 2, 8, 15, 16, 17)):
        for place, name in enumerate(("Archery", "Biking")):
            path = tmp_path / "ucf" / "UCF-101" / name / f"v_{name}_g{group:02d}_c01.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(videos[2 * number + place])
    out = tmp_path / "runs"
    words = [
        "splits",
        f"ucf101:{tmp_path / 'ucf'}",
        "--model",
        config.model,
        "--size",
        "32",
        "--out",
        str(out),
    ]
    words += [
        "--protocol.num_frames",
        "2",
        "--optim.epochs",
        "1",
        "--optim.batch_size",
        "3",
        "--data.workers",
        "0",
    ]
    words += ["--machine.accelerator", "cpu", "--machine.threads", "1", "--test_protocol", "gsm-2clip"]
    assert main(words) == 0
    told = capfd.readouterr().out
    assert "2 frames x 2 clips x 1 crop" in told
    for split, count in (("split-1", 4), ("split-2", 2), ("split-3", 6)):
        (line,) = [line for line in told.splitlines() if split in line]
        assert line.split()[-1] == str(count) or line.split()[-2] == str(count)
    assert "mean ± deviation" in told
    assert len(json.loads((out / "splits.json").read_text())["splits"]) == 3
