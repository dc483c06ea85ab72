"""What tests of runs share: the network that they train, runs in other processes, and what a run has learned."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from kinemix.config import AugmentConfig, DataConfig, MachineConfig, OptimConfig, Protocol, TrainConfig
from kinemix.engine.logbook import read_log
from kinemix.engine.run import Run
from kinemix.engine.trial import Record, TestResult

MODEL = "tsm_test_resnet.r160_in1k"

TIMINGS = {"time", "clips_per_second", "waiting", "memory"}
"""What differs from one time to the next in the log of the same steps."""


def make_config(motion, folder):
    """The options of a small run in a folder."""
    return TrainConfig(
        data=DataConfig(source=str(motion), workers=0),
        model=MODEL,
        size=32,
        protocol=Protocol(num_frames=4, crop_fraction=1.0),
        augment=AugmentConfig(flip="off", brightness=0.2),
        optim=OptimConfig(epochs=3, batch_size=5, lr=0.05, dropout=0.3),
        machine=MachineConfig(accelerator="cpu", threads=1),
        out=str(folder / "run"),
    )


def read_weights(run, name="last"):
    (path,) = (Path(run) / name).glob("*.safetensors")
    return load_file(path)


def assert_same_weights(run, other, name="last"):
    ours, theirs = read_weights(run, name), read_weights(other, name)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), key


def stop_after(monkeypatch, count):
    """Let the processes that train from now on get SIGTERM when so many steps are made, over all runs."""
    note_step = Run.note_step
    steps = []

    def terminate(run, step):
        note_step(run, step)
        steps.append(step)
        if len(steps) == count:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "note_step", terminate)
    return steps


def find_port():
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def write_options(config, *, epochs, **options):
    """The options of the tests' run as YAML; those in ``options`` are added to them, or take their place."""
    path = Path(config.out).with_suffix(".yaml")
    values = {
        "data": {"source": config.data.source, "workers": 1},
        "model": config.model,
        "size": 32,
        "protocol": {"num_frames": 4, "crop_fraction": 1.0},
        "augment": {"flip": "off", "brightness": 0.2},
        "optim": {"epochs": epochs, "batch_size": 5, "lr": 0.05, "dropout": 0.3},
        "machine": {"accelerator": "cpu", "threads": 1},
        "out": config.out,
    }
    for name, value in options.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(values))
    return path


def start(config, *, epochs, **options):
    """``kinemix train`` in a process group of its own."""
    path = write_options(config, epochs=epochs, **options)
    command = [sys.executable, "-m", "kinemix", "train", "--config", str(path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_steps(run, count, process):
    """Wait until a run in another process has made so many steps."""
    log = Path(run) / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if log.exists() and len(read_log(Path(run))) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise TimeoutError(run)


def make_record(top1=0.5, backward=None, *, count=20, **facts):
    """The record of a trial that was never carried out, tested forwards and, if a figure is given, backwards."""
    tests = [
        TestResult(
            order=order,
            checkpoint="last",
            protocol=None,
            views="8 frames",
            count=count,
            figures={"top1": figure},
            scores="",
        )
        for order, figure in (("forward", top1), ("reverse", backward))
        if figure is not None
    ]
    return Record(trained=True, epoch=4, tests=tuple(tests), **facts)
