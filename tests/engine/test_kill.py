"""A run that is killed twenty times at random points ends as one that was never killed, bit for bit."""

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinemix.engine.logbook import read_log
from kinemix.models.checkpoint import read_description

KILLS, EPOCHS = 20, 30
TIMINGS = {"time", "clips_per_second", "waiting", "memory"}
OPTIONS = {
    "optim": {"accumulate": 2, "ema": 0.9},
    "augment": {"mixup": 0.4, "cutmix": 0.5},
    "save_steps": 3,
    "keep_last": 2,
    "validate_every": 2,
}


def measure_progress(run):
    """Steps that stand in the log."""
    try:
        return max((record["iteration"] for record in read_log(Path(run))), default=0)
    except FileNotFoundError:
        return 0


def read_everything(run):
    """What a run leaves behind, without the time that it took."""
    run = Path(run)
    found = {}
    for folder in (run / "last", run / "best", *sorted((run / "earlier").iterdir())):
        description = read_description(folder)
        del description["metadata"]["config"]["out"]
        state = description["metadata"]["training_state"]
        found[folder.name] = description
        found[folder.name, "state"] = state and torch.load(folder / state, weights_only=True)
    found["log"] = [{k: v for k, v in record.items() if k not in TIMINGS} for record in read_log(run)]
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    curves = set(events.Tags()["scalars"])
    found["curves"] = {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in sorted(curves)
        if name.partition("/")[2] not in TIMINGS
    }
    found["files"] = sorted(str(p.relative_to(run)) for p in run.rglob("*") if "events" not in p.name)
    return found


def assert_equal(ours, theirs, where=""):
    """Whatever a checkpoint's state is made of, bit for bit."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(one, other, f"{where}/{number}")
    else:
        assert ours == theirs, where


def finish(process):
    errors = process.communicate(timeout=600)[1]
    assert process.returncode == 0, errors
    return errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_twenty_times_at_random_points(config, tmp_path, number, capsys):
    whole = replace(config, out=str(tmp_path / "whole"))
    finish(start(whole, epochs=EPOCHS, **OPTIONS))
    expected = read_everything(whole.out)
    steps = expected["last"]["metadata"]["iteration"]
    assert steps == 2 * EPOCHS

    draw = random.Random(5)
    points = sorted(draw.choices(range(steps), k=KILLS))
    told = []
    for point in points:
        process = start(config, epochs=EPOCHS, resume="auto", **OPTIONS)
        while measure_progress(config.out) < point and process.poll() is None:
            time.sleep(0.001)
        # Up to the length of a few steps: into a step, a validation, a checkpoint that is being written.
        time.sleep(draw.random() * 0.3)
        assert process.poll() is None, process.communicate()
        os.kill(process.pid, number)
        errors = process.communicate(timeout=600)[1]
        told.append(measure_progress(config.out))
        if number == signal.SIGTERM and "stopped" in errors:
            assert process.returncode == 0
            assert "Traceback" not in errors, errors
        else:  # by SIGTERM before it had begun to listen, which is when Python was being loaded
            assert process.returncode == -number, errors
    finish(start(config, epochs=EPOCHS, resume="auto", **OPTIONS))
    found = read_everything(config.out)
    assert found.keys() == expected.keys()
    for name in expected:
        assert_equal(found[name], expected[name], name)
    with capsys.disabled():
        print(f"\n{KILLS} times {number.name}, at steps {told} of {steps}: equal, bit for bit")
