"""Trackers hold what the log holds, each record once, whatever happens to the run or to them."""

import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from runs import TIMINGS, assert_same_weights, start, wait_for_steps
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinemix.cli import main
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.logbook import Logbook, read_log
from kinemix.engine.measure import measure_run
from kinemix.engine.run import Run
from kinemix.engine.tracking import Tracker, following, shelf
from kinemix.engine.tracking.base import list_scalars
from kinemix.engine.tracking.following import Followers
from kinemix.engine.train import train
from kinemix.engine.training_state import Position
from kinemix.errors import ConfigError
from kinemix.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the services' own

ALL = ("tensorboard", "wandb", "mlflow")


@pytest.fixture
def services(tmp_path, monkeypatch):
    """W&B without a network, MLflow in a database of this test."""
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


# ------------------------------------------------------------------------ what each of them holds, read afresh


def read_tensorboard(run):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def read_log_format(data):
    """Records of LevelDB's log format behind W&B's header of seven bytes: CRC, length, part, content."""
    place, record = 7, b""
    while place < len(data):
        if (left := -place % 32768) and left < 7:
            place += left
            continue
        length, part = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if part == 0:
            place += 7
            continue
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # whole, or the last of several
            yield record
            record = b""


def list_wandb_records(run):
    from wandb.proto import wandb_internal_pb2

    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in read_log_format(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record


def read_wandb(run):
    curves = {}
    for record in list_wandb_records(run):
        if record.WhichOneof("record_type") != "history":
            continue
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for name, value in row.items():
            if not name.startswith("_"):
                curves.setdefault(name, []).append((row[f"{name.rpartition('/')[0]}/iteration"], value))
    return curves


def open_mlflow(run):
    import mlflow

    known = json.loads((run / "tracking.json").read_text())["mlflow"]
    client = mlflow.MlflowClient(tracking_uri=known["uri"])
    return client, known["run_id"]


def read_mlflow(run):
    client, run_id = open_mlflow(run)
    names = client.get_run(run_id).data.metrics
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        for name in names
    }


READ = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def assert_holds_the_log(name, run):
    expected = {}
    for record in read_log(run):
        for curve, value in list_scalars(record).items():
            expected.setdefault(curve, []).append((record["iteration"], value))
    if name == "tensorboard":
        del expected["train/iteration"], expected["val/iteration"]
    found = {curve: points for curve, points in READ[name](run).items() if not curve.startswith("test/")}
    assert found.keys() == expected.keys()
    for curve, points in expected.items():
        assert [step for step, _ in found[curve]] == [step for step, _ in points], curve
        if curve.partition("/")[2] not in TIMINGS:  # of steps that were done twice they are the first time's
            assert [v for _, v in found[curve]] == pytest.approx([v for _, v in points], rel=1e-6), curve


# ---------------------------------------------------------------------------------------------------- whole runs


def kill(config, monkeypatch):
    """SIGKILL between two checkpoints, of a process with a W&B service of its own."""
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    process = start(config, epochs=3, save_steps=3, track=list(ALL), optim={"epochs": 3})
    wait_for_steps(config.out, 9, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def crash(config, monkeypatch):
    """An error behind a step that was told of and not saved."""
    note_step = Run.note_step

    def fail(run, step):
        note_step(run, step)
        if run.position.iteration == 8:
            raise RuntimeError("a crash")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "note_step", fail)
        with pytest.raises(RuntimeError, match="a crash"):
            train(config)


@pytest.mark.parametrize(
    "end", [crash, pytest.param(kill, marks=pytest.mark.slow)], ids=["crashed", "killed"]
)
def test_ended_and_resumed_every_record_is_there_once(config, services, tmp_path, monkeypatch, end):
    """Ended between two checkpoints, resumed, tested: one run everywhere, with the log's records."""
    whole = train(replace(config, out=str(tmp_path / "whole")))
    config = replace(config, save_steps=3, track=ALL)
    end(config, monkeypatch)
    run = Path(config.out)
    before = json.loads((run / "tracking.json").read_text())
    assert len([r for r in read_log(run) if r["kind"] == "train"]) < 12, "it ended in the middle"
    train(replace(config, data=replace(config.data, workers=1), resume=True))
    assert json.loads((run / "tracking.json").read_text()) == before
    assert_same_weights(run, whole)
    for name in ALL:
        assert_holds_the_log(name, run)

    found = measure_run(run, workers=0, checkpoint="last")
    assert not found.notices
    name = f"test/{found.scores_path.stem.removeprefix('test-')}/top1"
    for tracker in ALL:
        assert READ[tracker](run)[name] == [(12, pytest.approx(found.metrics.top1))]

    client, run_id = open_mlflow(run)
    recorded = client.get_run(run_id)
    assert (recorded.info.status, recorded.info.run_name) == ("FINISHED", "run")
    assert recorded.data.params["optim.lr"] == "0.05"
    model, _ = load_checkpoint(run / "last")
    assert int(recorded.data.params["parameters"]) == sum(p.numel() for p in model.parameters())
    records = list(list_wandb_records(run))
    options = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {one.run_id for one in options} == {before["wandb"]["id"]}
    told = {item.key: json.loads(item.value_json) for item in options[0].config.update}
    assert told["optim"]["lr"] == 0.05
    assert told["parameters"] == int(recorded.data.params["parameters"])
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"][-2:] == [0, 0]


@pytest.mark.parametrize("again", [True, False], ids=["dropped", "kept"])
def test_tensorboard_after_a_kill_behind_a_validation(tmp_path, monkeypatch, again):
    """Whether the validation at the checkpoint's own step belongs to the run, the log alone knows."""
    options = {"directory": tmp_path, "config": {}, "count": dict, "say": pytest.fail}
    with Logbook(tmp_path) as log, Followers(["tensorboard"], **options) as followers:
        for step in range(1, 6):
            followers.note(log.write("train", iteration=step, epoch=step / 3, loss=float(step)))
            if step == 3:
                followers.note(log.write("val", iteration=step, epoch=1, loss=30.0))
    position = Position(iteration=3, epoch=0 if again else 1)
    now = time.time
    # TensorBoard orders files by the second in their names.
    monkeypatch.setattr(time, "time", lambda: now() + 1)
    with (
        Logbook(tmp_path, resume_at=position) as log,
        Followers(["tensorboard"], **options, resume_at=3) as followers,
    ):
        if again:
            followers.note(log.write("val", iteration=3, epoch=1, loss=31.0))
        followers.note(log.write("train", iteration=4, epoch=4 / 3, loss=40.0))
    assert_holds_the_log("tensorboard", tmp_path)
    curves = read_tensorboard(tmp_path)
    assert curves["train/loss"] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert curves["val/loss"] == [(3, 31 if again else 30)]


# ---------------------------------------------------------------------------------- trackers that do not answer


class Fragile(Tracker):
    """Takes records in a list, and raises what stands in ``trouble`` instead as long as something does."""

    name = "fragile"
    title = "the fragile one"
    trouble = {}
    taken = []
    outcomes = []
    tries = Counter()

    def __init__(self, opening):
        self._stumble("open")
        self.identity = {"id": "7"}
        self.opening = opening

    def _stumble(self, step):
        self.tries[step] += 1
        if step in self.trouble:
            raise self.trouble[step]

    def holds(self, kind, iteration):
        return bool(self.opening.identity) and iteration <= max(
            (r["iteration"] for r in self.taken), default=0
        )

    def send(self, records):
        self._stumble("send")
        self.taken.extend(records)

    def close(self, outcome):
        self._stumble("close")
        self.outcomes.append(outcome)


FRAGILE = f"{Path(__file__).stem}:Fragile"


@pytest.fixture
def fragile(monkeypatch):
    """The class as the shelf finds it, with nothing in it, and nobody who waits for long."""
    monkeypatch.setattr(following, "_LONGEST_PAUSE", 0.0001)
    kind = shelf.get(FRAGILE)
    for name, empty in (("trouble", {}), ("taken", []), ("outcomes", []), ("tries", Counter())):
        monkeypatch.setattr(kind, name, empty)
    return kind


@pytest.fixture
def follow(tmp_path, fragile):
    """Followers of one fragile tracker, and what they say."""

    def open_followers(**options):
        followers = Followers(
            [FRAGILE], directory=tmp_path, config={}, count=dict, say=said.append, **options
        )
        return followers, said

    said = []
    return open_followers


def make_record(iteration):
    return {"time": 0.0, "kind": "train", "iteration": iteration, "epoch": 0.0, "loss": 1.0}


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_network_that_goes_and_comes_back_costs_one_line(follow, fragile):
    followers, said = follow()
    with followers:
        followers.note(make_record(1))
        wait_until(lambda: fragile.taken)
        fragile.trouble["send"] = ConnectionError("no route\nto host")
        for iteration in (2, 3):
            followers.note(make_record(iteration))
        wait_until(lambda: fragile.tries["send"] > 1100)  # so many a day
        del fragile.trouble["send"]
        wait_until(lambda: len(fragile.taken) == 3)
        fragile.trouble["send"] = ConnectionError("gone again")
        followers.note(make_record(4))
        tries = fragile.tries["send"]
        wait_until(lambda: fragile.tries["send"] > tries + 2)
        del fragile.trouble["send"]
    assert [record["iteration"] for record in fragile.taken] == [1, 2, 3, 4]
    (line,) = said
    assert line == (
        "note: the fragile one fails (ConnectionError: no route to host): training goes on, its records are kept and "
        "sent when it answers again"
    )
    assert fragile.outcomes == ["finished"]


@pytest.mark.parametrize(
    ("error", "outcome"), [(Interrupted("x"), "stopped"), (ValueError("x"), "failed")], ids=["stop", "error"]
)
def test_trackers_are_told_how_a_run_ends(follow, fragile, error, outcome):
    followers, _ = follow()
    followers.note(make_record(1))

    def end():
        with followers:
            raise error

    with pytest.raises(type(error)):
        end()
    assert fragile.outcomes == [outcome]
    assert len(fragile.taken) == 1


def test_an_end_that_is_not_taken_is_told_once(follow, fragile):
    fragile.trouble["close"] = TimeoutError("not all is sent")
    followers, said = follow()
    with followers:
        followers.note(make_record(1))
    assert said == [
        "note: the fragile one could not be told how the run has ended (TimeoutError: not all is sent)"
    ]


def test_what_never_arrives_is_counted_and_sent_on_resuming(follow, fragile, tmp_path, request):
    log = Logbook(tmp_path)
    request.addfinalizer(log.close)
    fragile.trouble |= {"send": ConnectionError("away"), "close": ConnectionError("away")}
    followers, said = follow()
    with followers:
        for iteration in range(1, 4):
            followers.note(log.write("train", iteration=iteration, epoch=0.0, loss=1.0))
    assert said[-1] == (
        "note: the fragile one has not taken the last 3 records (ConnectionError: away): they are in log.jsonl, "
        "and --resume sends them"
    )
    fragile.trouble.clear()
    with follow(resume_at=3)[0] as followers:
        followers.note(log.write("train", iteration=4, epoch=0.0, loss=1.0))
    assert [record["iteration"] for record in fragile.taken] == [1, 2, 3, 4]
    assert fragile.taken == read_log(tmp_path)


def test_one_that_hangs_is_left_behind(follow, fragile, monkeypatch):
    monkeypatch.setattr(following, "PATIENCE", 0.05)
    release = threading.Event()
    monkeypatch.setattr(fragile, "send", lambda tracker, records: release.wait(60))
    followers, said = follow()
    with followers:
        followers.note(make_record(1))
        followers.flush()
    release.set()
    assert said[0] == "waiting for the fragile one, 0 seconds at most"
    assert "has not taken the last 1 records (it does not answer)" in said[1]


def test_one_that_cannot_be_opened_stops_a_start_and_no_resuming(follow, fragile, tmp_path):
    fragile.trouble["open"] = ConnectionError("away")
    with pytest.raises(
        ConfigError, match=r"track: the fragile one cannot be opened .*away.*: mend that, or leave"
    ):
        follow()
    Logbook(tmp_path).close()
    followers, said = follow(resume_at=3, is_needed=False)
    with followers:
        followers.note(make_record(4))
    assert said == ["note: the fragile one cannot be opened and is left out (ConnectionError: away)"]


def test_a_training_does_not_mind(config, fragile, tmp_path, monkeypatch, capfd):
    """The service is away from the middle of the run on: the same weights, one line when it happens, one at the end."""
    whole = train(replace(config, out=str(tmp_path / "whole")))
    capfd.readouterr()

    def send(tracker, records):
        if records[0]["iteration"] > 5:
            raise ConnectionError("away")
        fragile.taken.extend(records)

    monkeypatch.setattr(fragile, "send", send)
    run = train(replace(config, track=("tensorboard", FRAGILE)))
    assert_same_weights(run, whole)
    assert [record["iteration"] for record in fragile.taken] == [1, 2, 3, 4, 4, 5]
    told = [line for line in capfd.readouterr().err.splitlines() if "the fragile one" in line]
    assert len(told) == 2
    assert "training goes on" in told[0]
    assert "has not taken the last 9 records" in told[1]
    assert_holds_the_log("tensorboard", run)


# -------------------------------------------------------------------------------------------------- being refused


def test_one_that_is_not_installed_is_named_before_anything_is_read(config, monkeypatch, capsys):
    monkeypatch.setattr(shelf.get("wandb"), "package", "no_such_package")
    words = ["train", "no/such/data", "--out", config.out, "--track"]
    assert main([*words, "[tensorboard, wandb]"]) == 2
    told = capsys.readouterr().err
    assert told.endswith("track: wandb needs W&B, which is not installed: pip install 'kinemix[wandb]'\n")
    assert main([*words, "[tensorbord]"]) == 2
    assert "unknown tracker 'tensorbord': did you mean 'tensorboard'?" in capsys.readouterr().err


def test_tests_of_a_run_that_is_being_trained_wait_with_telling(config):
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    with FileLock(run / ".lock"):
        found = measure_run(run, workers=0)
    assert found.notices == ("the run is being trained, and its trackers are not told of this test",)


def test_no_tracker_at_all(config):
    run = train(replace(config, optim=replace(config.optim, epochs=1), track=()))
    assert not (run / "tensorboard").exists()
    assert len(read_log(run)) == 5
