"""Runs whose batches change their shape or are mixed, whose classes are balanced, and which end before their time."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import assert_same_weights, stop_after

from kinemix.config import MachineConfig
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.logbook import read_log
from kinemix.engine.settle import tell_unused
from kinemix.engine.step_guard import StepGuard
from kinemix.engine.train import train
from kinemix.engine.validation import validate
from kinemix.errors import ConfigError
from kinemix.models.checkpoint import load_checkpoint
from kinemix.models.video import VideoModel


def read_steps(run):
    return [record for record in read_log(run) if record["kind"] == "train"]


@pytest.fixture
def multigrid(config):
    """24 videos, batches of 2 at 4 frames of 32 px; the long cycle has one step an epoch."""
    optim = replace(
        config.optim,
        multigrid="both",
        multigrid_cycles=1,
        schedule="constant",
        epochs=8,
        batch_size=2,
        lr=0.01,
    )
    return replace(config, optim=optim, validate_every=8)


def test_multigrid_run_by_hand(multigrid, monkeypatch):
    """4 x 32^2 / (1 x 16^2) = 16, / (1 x 23^2) = 7.7, ...: clips for one, times 2, of 24 at most.

    Four epochs go through the long cycle, by 10.7, 5.3, 4.7 and 2.3 parts: up to 1.9, 2.8, 3.6 and 4.
    """
    shapes = []
    forward = VideoModel.forward

    def record(model, clip):
        if model.training:
            shapes.append(tuple(clip.shape))
        return forward(model, clip)

    monkeypatch.setattr(VideoModel, "forward", record)
    steps = read_steps(train(multigrid))
    first = [(24, 1, 3, 16, 16)]
    third = [(16, 2, 3, 16, 16), (8, 2, 3, 23, 23)]
    fourth = [(16, 2, 3, 16, 16), (8, 2, 3, 23, 23)]
    last = [(8, 4, 3, 16, 16), (4, 4, 3, 23, 23), (2, 4, 3, 32, 32), (8, 4, 3, 16, 16)]
    assert shapes == [*first * 2, *third, *fourth, *last * 4]
    assert [step["rate"] for step in steps] == pytest.approx(
        [0.08] * 2 + [0.04] * 2 + [0.02] * 2 + [0.01] * 16
    )
    assert steps[-1]["epoch"] == 8


def test_long_cycles_without_a_milestone_are_refused(multigrid):
    """They would have no effect."""
    optim = replace(multigrid.optim, schedule="step", milestones=(30.0, 40.0))
    with pytest.raises(ConfigError, match=r"none of optim\.milestones \[30\.0, 40\.0\] lies within 8 epochs"):
        train(replace(multigrid, optim=optim))


def test_multigrid_resumes_within_an_epoch(multigrid, tmp_path, monkeypatch):
    multigrid = replace(multigrid, optim=replace(multigrid.optim, accumulate=2, schedule="cosine"))
    whole = train(replace(multigrid, out=str(tmp_path / "whole")))
    stop_after(monkeypatch, 9)
    with pytest.raises(Interrupted):
        train(multigrid)
    monkeypatch.undo()
    run = train(replace(multigrid, resume=True))
    assert_same_weights(run, whole)
    assert [s["rate"] for s in read_steps(run)] == [s["rate"] for s in read_steps(whole)]


def test_networks_that_are_bound_to_their_clip(multigrid):
    bound = replace(multigrid, model="ctm_test_resnet.r160_in1k", size=64)
    with pytest.raises(ConfigError, match=r"optim\.multigrid is both, but ctm is bound to the clip"):
        train(bound)


def write_list(path, config, classes, *, first=0):
    """A list of as many of the generated videos as there are classes given."""
    videos = sorted(Path(config.data.source).rglob("*.mp4"))[first:]
    rows = [f"{video},{name}\n" for video, name in zip(videos, classes, strict=False)]
    path.write_text("video,label\n" + "".join(rows))
    return str(path)


def test_balanced_classes(config, tmp_path):
    """16 videos of one class and 2 of another: both come equally often."""
    train_list = write_list(tmp_path / "train.csv", config, ["many"] * 16 + ["few"] * 2)
    val_list = write_list(tmp_path / "val.csv", config, ["many", "few"], first=18)
    seen = []
    check_batch = StepGuard.check_batch

    def record(guard, batch):
        seen.extend(batch.labels.tolist())
        check_batch(guard, batch)

    data = replace(config.data, source=train_list, val_source=val_list, balance_classes=True)
    config = replace(config, data=data, optim=replace(config.optim, batch_size=6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepGuard, "check_batch", record)
        train(config)
    assert Counter(seen) == {0: 27, 1: 27}


def test_mixed_and_weighted_runs_resume_within_an_epoch(config, tmp_path, monkeypatch, capfd):
    config = replace(
        config,
        augment=replace(config.augment, mixup=0.4, cutmix=1.0, mix_share=0.8),
        optim=replace(config.optim, class_weights={"grow": 2.0}),
    )
    whole = train(replace(config, out=str(tmp_path / "whole")))
    stop_after(monkeypatch, 6)
    with pytest.raises(Interrupted):
        train(config)
    monkeypatch.undo()
    assert_same_weights(train(replace(config, resume=True)), whole)
    assert "no effect" not in capfd.readouterr().err
    plain = train(
        replace(config, augment=replace(config.augment, mixup=0, cutmix=0), out=str(tmp_path / "plain"))
    )
    assert [s["loss"] for s in read_steps(plain)] != [s["loss"] for s in read_steps(whole)]
    assert "note: augment.mix_share has no effect: neither augment.mixup" in capfd.readouterr().err


def test_what_has_no_effect_is_told(config):
    for machine, told in [
        (MachineConfig(sync_batch_norm=True), 1),
        (MachineConfig(sync_batch_norm=True, devices=1, nodes=2), 0),
        (MachineConfig(devices=1), 0),
    ]:
        notes = tell_unused(replace(config, machine=machine))
        assert [note.startswith("machine.sync_batch_norm has no effect") for note in notes] == [True] * told


def test_a_run_ends_when_nothing_better_comes(config, monkeypatch, capfd):
    """1, 3, 2, 3 of 12 are right, with patience 2: the second 3 is as good, not better, so the fourth is the last."""
    right = iter([1, 3, 2, 3])

    def answer(fabric, parts, loader, *, on_batch):
        scores = validate(fabric, parts, loader, on_batch=on_batch)
        count = next(right)
        wrong = (torch.from_numpy(scores.labels) + 1) % 12
        answers = torch.where(torch.arange(12) < count, torch.from_numpy(scores.labels), wrong)
        return replace(scores, logits=torch.nn.functional.one_hot(answers, 12).float().numpy())

    monkeypatch.setattr("kinemix.engine.run.validate", answer)
    config = replace(config, patience=2, optim=replace(config.optim, epochs=6))
    run = train(config)
    assert [r["top1"] for r in read_log(run) if r["kind"] == "val"] == pytest.approx(
        [1 / 12, 3 / 12, 2 / 12, 3 / 12]
    )
    assert "no better validation for 2 epochs: the run ends here" in capfd.readouterr().err
    assert load_checkpoint(run / "best")[1]["epoch"] == 4
    train(replace(config, resume=True))
    assert "nothing left to do: 4 of 6 epochs" in capfd.readouterr().err


def test_patience_needs_validations(config, tmp_path):
    listed = write_list(tmp_path / "train.csv", config, ["one", "two"])
    held_out = write_list(tmp_path / "val.csv", config, ["three"], first=2)
    data = replace(config.data, source=listed, val_source=held_out, exclude_labels=("three",))
    with pytest.raises(ConfigError, match="patience: nothing is held out and validated"):
        train(replace(config, patience=2, data=data))
    with pytest.raises(ConfigError, match="patience: nothing is held out and validated"):
        train(replace(config, patience=2, validate_every=None))


def test_a_run_without_validations(config):
    run = train(replace(config, validate_every=None), quiet=True)
    assert {record["kind"] for record in read_log(run)} == {"train"}
    assert not (run / "best").exists()
    assert load_checkpoint(run / "last")[1]["epoch"] == 3
