"""What the processes of a team do: ``python team.py FOLDER SCENARIO...``, once for each process.

They meet once and go through all scenarios, because starting them takes longer than any of these. What a scenario
returns goes into ``FOLDER/<scenario>-<process>.json``.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from kinemix.config import TrainConfig, from_dict
from kinemix.engine import parts, run
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.launch import launch_fabric
from kinemix.engine.measure import measure_run
from kinemix.engine.run import Run
from kinemix.engine.settle import settle_machine
from kinemix.engine.train import train
from kinemix.errors import DataError, KinemixError
from kinemix.evaluate.evaluator import FRAMES_AT_ONCE

RANK = int(os.environ["LOCAL_RANK"])


def read_config(folder, name):
    """The options that the tests have left for a scenario."""
    return from_dict(TrainConfig, json.loads((folder / f"{name}.json").read_text()))


def go(folder, name):
    """A training; returns the scores of every validation, which all processes have."""
    seen = []
    validate = run.validate

    def record(*args, **kwargs):
        scores = validate(*args, **kwargs)
        seen.append([list(scores.ids), scores.logits.tolist()])
        return scores

    run.validate = record
    try:
        train(read_config(folder, name), quiet=True)
    finally:
        run.validate = validate
    return seen


def catch(work):
    """The error that comes of it, as it is told."""
    try:
        work()
    except (KinemixError, Interrupted) as error:
        return [type(error).__name__, str(error), getattr(error, "agreed", None)]
    return None


def stop(folder, name):
    """Stopped behind the third step; only the second process is asked to."""
    note_step = Run.note_step

    def ask(self, step):
        note_step(self, step)
        if RANK == 1 and self.position.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    Run.note_step = ask
    try:
        return catch(lambda: train(read_config(folder, name), quiet=True))
    finally:
        Run.note_step = note_step


def stop_and_go(folder, name):
    """Stopped likewise, and taken up again."""
    told = stop(folder, name)
    train(replace(read_config(folder, name), resume=True), quiet=True)
    return told


def stop_validating(folder, name):
    """The second process is asked to stop while it validates."""
    look = Run._stop_if_asked

    def ask(self, count):
        if RANK == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        look(self, count)

    Run._stop_if_asked = ask
    try:
        return catch(lambda: train(read_config(folder, name), quiet=True))
    finally:
        Run._stop_if_asked = look


def differ(folder, name):
    """One process has other options than the others; one cannot open its data; one has other videos."""
    config = read_config(folder, name)
    other = replace(config, seed=config.seed + RANK)
    told = [catch(lambda: train(other, quiet=True))]
    open_splits = parts.open_splits

    def fail(data):
        raise DataError("the disk of this machine is not there")

    def lose_one(data):
        splits = open_splits(data)
        return replace(splits, val=splits.val.pick(range(len(splits.val) - 1)))

    for broken in (fail, lose_one):
        if RANK == 1:
            parts.open_splits = broken
        told.append(catch(lambda: train(config, quiet=True)))
        parts.open_splits = open_splits
    return told


def test(folder, name):
    """A finished run, tested together."""
    machine = settle_machine(read_config(folder, name).machine)
    found = measure_run(read_config(folder, name).out, workers=0, fabric=launch_fabric(machine))
    return {"ids": list(found.scores.ids), "logits": found.scores.logits.tolist(), **found.summary()}


def main():
    folder, *words = Path(sys.argv[1]), *sys.argv[2:]
    FRAMES_AT_ONCE["cpu"] = 4  # one video at a time, so that one process has more to do than the other
    for word in words:
        name, _, kind = word.partition("=")
        result = globals()[kind or "go"](folder, name)
        (folder / f"{name}-{RANK}.json").write_text(json.dumps(result, default=np.ndarray.tolist))


if __name__ == "__main__":
    main()
