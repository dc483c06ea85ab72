"""What tests of runs share: the network that they train, and a look at what a run has learned."""

import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from kinemix.engine.run import Run
from kinemix.engine.trial import Record, TestResult

MODEL = "tsm_test_resnet.r160_in1k"


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
