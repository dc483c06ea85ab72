"""A run that is killed twenty times at random points ends as one that was never killed, bit for bit."""

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import TIMINGS, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinemix.engine.logbook import read_log
from kinemix.engine.measure import measure_run
from kinemix.models.checkpoint import read_description

KILLS, EPOCHS = 20, 30
OPTIONS = {
    "data": {"workers": 2},
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


def has_workers(pid):
    """Whether a process of the loader is there: other than git, say, it is a group of its own."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                if os.getpgid(child) == child:
                    return True
    except OSError:  # one of them has ended meanwhile
        pass
    return False


def list_partials(run):
    """Files of checkpoints that are being written, or that a killed process has left so."""
    return {*Path(run).glob("*/.*partial*"), *Path(run).glob("earlier/.partial-*")}


def draw_points(steps, step_seconds):
    """Twenty points over the whole run: of five equal parts of it, three are within a step or behind one (a validation,
    a checkpoint), one at the start of the loader and one in a save."""
    draw = random.Random(5)
    parts = [(part * (steps - 4) // KILLS, (part + 1) * (steps - 4) // KILLS) for part in range(KILLS)]
    moments = draw.sample([*["step"] * 12, *["loader start"] * 4, *["save"] * 4], KILLS)
    return [
        (draw.randrange(first, max(first + 1, last)), moment, draw.random() * 3 * step_seconds)
        for (first, last), moment in zip(parts, moments, strict=True)
    ]


def wait_for_moment(process, run, *, step, moment, partials):
    """Until its loader starts; or until it has made so many steps, whatever it is a part of that comes next."""
    wait_for(process, lambda: has_workers(process.pid))
    if moment == "loader start":
        return
    wait_for(process, lambda: measure_progress(run) >= step)
    if moment == "save":
        wait_for(process, lambda: list_partials(run) - partials)


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.0002)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the loader's processes")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_twenty_times_at_random_points(config, tmp_path, number, capsys):
    whole = replace(config, out=str(tmp_path / "whole"))
    finish(start(whole, epochs=EPOCHS, **OPTIONS))
    expected = read_everything(whole.out)
    steps = expected["last"]["metadata"]["iteration"]
    assert steps == 2 * EPOCHS
    times = [record["time"] for record in read_log(Path(whole.out))]

    told = []
    for step, moment, delay in draw_points(steps, (times[-1] - times[0]) / len(times)):
        partials = list_partials(config.out)
        process = start(config, epochs=EPOCHS, resume="auto", **OPTIONS)
        wait_for_moment(process, config.out, step=step, moment=moment, partials=partials)
        time.sleep(delay if moment != "save" else 0)
        os.kill(process.pid, number)
        errors = process.communicate(timeout=600)[1]
        torn = ", a file half written" * bool(list_partials(config.out) - partials)
        told.append(f"{measure_progress(config.out)} ({moment}{torn})")
        if number == signal.SIGTERM:
            assert process.returncode == 0, errors
            assert "stopped" in errors.splitlines()[-1]
            assert "Traceback" not in errors, errors
        else:
            assert process.returncode == -number, errors
    finish(start(config, epochs=EPOCHS, resume="auto", **OPTIONS))
    found = read_everything(config.out)
    assert found.keys() == expected.keys()
    for name in expected:
        assert_equal(found[name], expected[name], name)
    ours, theirs = (measure_run(out, checkpoint="last", workers=0) for out in (config.out, whole.out))
    assert (ours.scores.logits == theirs.scores.logits).all()
    assert ours.summary() == theirs.summary()
    with capsys.disabled():
        print(
            f"\n{number.name} {KILLS} times, after steps {', '.join(told)} of {steps}: weights, optimizer, metrics, "
            "log and curves equal the uninterrupted run's, bit for bit"
        )
