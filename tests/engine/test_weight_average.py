"""The mean of the weights against one kept by hand, over runs that are stopped and not."""

from dataclasses import replace

import pytest
import torch
from runs import MODEL, assert_same_weights, read_weights, stop_after

from kinemix.engine.interrupt import Interrupted
from kinemix.engine.logbook import read_log
from kinemix.engine.measure import measure_run
from kinemix.engine.run import Run
from kinemix.engine.settle import settle_config
from kinemix.engine.train import train
from kinemix.engine.weight_average import average_weights, decay_at
from kinemix.errors import ConfigError
from kinemix.models.factory import create_model


def test_decay_rises_to_what_was_asked_for():
    assert [decay_at(step, decay=0.5) for step in (1, 2, 8, 9, 1000)] == [2 / 11, 3 / 12, 0.5, 0.5, 0.5]


def test_mean_equals_the_explicit_sum():
    """Weights of 1, 2, 3, ...: the mean is their sum, each times what it adds and what all later steps keep."""
    model = create_model(MODEL, num_classes=3, num_frames=2, input_size=32)
    model.register_buffer("count", torch.tensor(0))
    average = average_weights(model, decay=0.6)
    for step in range(1, 13):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.fill_(step)
        average.update_parameters(model)
    kept = [0, *(min(0.6, (1 + n) / (10 + n)) for n in range(1, 12))]
    shares = [(1 - kept[i]) * torch.tensor(kept[i + 1 :]).prod() for i in range(12)]
    assert sum(shares) == pytest.approx(1)
    wanted = sum(share * step for share, step in zip(shares, range(1, 13), strict=True))
    for name, tensor in average.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.full_like(tensor, float(wanted)), msg=name)
        else:
            assert (tensor == 12).all(), name
    assert not average.module.training


@pytest.fixture
def averaging(config):
    return replace(config, optim=replace(config.optim, ema=0.9))


def test_a_run_saves_validates_and_tests_the_mean(averaging, tmp_path, monkeypatch):
    steps = []

    def record(run, step):
        steps.append({name: value.clone() for name, value in run.model.state_dict().items()})
        note_step(run, step)

    note_step = Run.note_step
    monkeypatch.setattr(Run, "note_step", record)
    run = train(averaging)
    mean = dict(steps[0])
    for number, weights in enumerate(steps[1:], start=1):
        decay = min(0.9, (1 + number) / (10 + number))
        mean = {name: decay * mean[name] + (1 - decay) * value for name, value in weights.items()}
    saved = read_weights(run)
    for name, value in saved.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, mean[name], rtol=1e-4, atol=1e-6, msg=name)
    assert any(not torch.allclose(saved[name], steps[-1][name], rtol=1e-3) for name in saved)
    validated = [r for r in read_log(run) if r["kind"] == "val"]
    assert measure_run(run, checkpoint="last").metrics.top1 == validated[-1]["top1"]

    plain = train(replace(averaging, optim=replace(averaging.optim, ema=None), out=str(tmp_path / "plain")))
    for name, value in read_weights(plain).items():
        assert torch.equal(value, steps[len(steps) // 2 - 1][name]), (
            "the mean must not change what is learned"
        )


def test_stopped_within_an_epoch_and_resumed(averaging, tmp_path, monkeypatch):
    whole = train(replace(averaging, out=str(tmp_path / "whole")))
    stop_after(monkeypatch, 6)
    with pytest.raises(Interrupted):
        train(averaging)
    monkeypatch.undo()
    run = train(replace(averaging, resume=True))
    assert_same_weights(run, whole)
    assert_same_weights(run, whole, "best")


@pytest.mark.parametrize("ema", [1, -0.1])
def test_values_that_cannot_be(averaging, ema):
    with pytest.raises(ConfigError, match=rf"optim\.ema is {ema}: it must be in \[0, 1\)"):
        settle_config(replace(averaging, optim=replace(averaging.optim, ema=ema)))
