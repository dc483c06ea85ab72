"""Trials in processes of their own: order, failures, stops. The processes are real, what they do is not."""

import os
import signal
import sys
import time
from dataclasses import replace

import pytest
from runs import make_record

from kinemix.engine import campaign
from kinemix.engine.campaign import run_trials
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.trial import Trial, format_trial, parse_trial
from kinemix.errors import ConfigError

DONE = "import pathlib; pathlib.Path({path!r}).touch()"
WAIT = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({path!r} + ".saved").touch(), sys.exit(130)))
pathlib.Path({path!r} + ".began").touch()
time.sleep(60)
"""


@pytest.fixture
def make(config, tmp_path, monkeypatch):
    """Trials whose process runs a script; one is done when its directory is there."""
    scripts = {}

    def make(name, script):
        trial = Trial(name=name, config=replace(config, out=str(tmp_path / name)))
        scripts[name] = script.format(path=str(tmp_path / name))
        return trial

    monkeypatch.setattr(campaign, "make_command", lambda trial: [sys.executable, "-c", scripts[trial.name]])
    monkeypatch.setattr(
        campaign, "find_finished", lambda trial: make_record() if trial.directory.exists() else None
    )
    return make


def test_what_one_dies_of_is_its_own_affair(make):
    trials = [
        make("right", DONE),
        make(
            "wrong", "import sys; print('loading'); print('the disk is full', file=sys.stderr); sys.exit(2)"
        ),
        make("killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        make("silent", "pass"),
        make("last", DONE),
    ]
    found = {finished.trial.name: finished for finished in run_trials(trials, jobs=2)}
    assert len(found) == 5
    assert found["right"].record == found["last"].record == make_record()
    assert found["wrong"].error.startswith("the disk is full (")
    assert "ended by SIGKILL, as the system does when memory is short" in found["killed"].error
    assert "it said nothing" in found["silent"].error
    again = {finished.trial.name: finished.was_done for finished in run_trials(trials, jobs=2)}
    assert [name for name, was_done in again.items() if was_done] == ["right", "last"]


def test_trials_are_asked_for_when_there_is_room(make):
    told = []

    def propose():
        for number in range(4):
            told.append(f"asked {number}")
            yield make(str(number), DONE)

    told.extend(f"told {finished.trial.name}" for finished in run_trials(propose(), jobs=1))
    assert told == [f"{what} {number}" for number in range(4) for what in ("asked", "told")]
    with pytest.raises(ConfigError, match="jobs is 0: it must be 1 or more"):
        list(run_trials([], jobs=0))


def test_a_watcher_stops_a_run(make, tmp_path):
    trials = [make("weak", WAIT), make("next", DONE)]
    began = tmp_path / "weak.began"
    found = list(run_trials(trials, watch=lambda trial: trial.name == "weak" and began.exists()))
    assert [(one.trial.name, one.stopped) for one in found] == [("weak", True), ("next", False)]
    assert (tmp_path / "weak.saved").exists()


def test_stopping_the_campaign_lets_its_runs_save(make, tmp_path):
    def watch(trial):
        if all((tmp_path / f"{name}.began").exists() for name in ("one", "two")):
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    with pytest.raises(Interrupted, match="the same command goes on from there"):
        list(run_trials([make("one", WAIT), make("two", WAIT), make("three", DONE)], jobs=2, watch=watch))
    assert all((tmp_path / f"{name}.saved").exists() for name in ("one", "two"))
    assert not (tmp_path / "three").exists()


def test_a_consumer_that_gives_up_leaves_nothing_running(make, tmp_path):
    finished = run_trials([make("quick", DONE), make("slow", WAIT)], jobs=2)
    assert next(finished).trial.name == "quick"
    while not (tmp_path / "slow.began").exists():
        time.sleep(0.01)
    finished.close()
    assert (tmp_path / "slow.saved").exists()


def test_a_trial_crosses_to_another_process_whole(config):
    config = replace(config, size=(32, 48), model_options={"kernel_sizes": [1, 3]})
    trial = Trial(name="a", config=config, orders=("forward", "reverse"), protocol="gsm-2clip")
    assert parse_trial(format_trial(trial)) == trial
