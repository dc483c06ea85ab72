"""Whatever happens to a run: what was saved is whole, the way back is known, and nothing broken is learned."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from runs import assert_same_weights, start, wait_for_steps, write_options

from kinemix.cli import main
from kinemix.config import to_dict
from kinemix.data.loader import build_train_loader
from kinemix.data.sources import open_splits
from kinemix.engine import training_state
from kinemix.engine.logbook import read_log
from kinemix.engine.run import Run
from kinemix.engine.run_directory import LOCK_NAME
from kinemix.engine.train import train
from kinemix.engine.training_state import collect_rng_state, list_resumable, restore_rng_state_
from kinemix.errors import CheckpointError, ConfigError, KinemixError
from kinemix.models.checkpoint import load_checkpoint, read_description


def stop_after(monkeypatch, iteration, error):
    """Let runs raise ``error`` behind a step, after it may have been saved."""
    is_save_due = Run.is_save_due

    def check(run):
        due = is_save_due(run)
        if run.position.iteration == iteration and not due:
            raise error
        if run.position.iteration == iteration + 1:
            raise error
        return due

    monkeypatch.setattr(Run, "is_save_due", check)


def list_iterations(run):
    return [read_description(folder)["metadata"]["iteration"] for folder in list_resumable(Path(run))]


# --------------------------------------------------------------------------------- which checkpoints there are


def test_every_so_many_steps_and_the_last_few(config, monkeypatch):
    """Four steps an epoch: saved after steps 3 and 6 and, by the end of an epoch, 4 and 8."""
    config = replace(config, save_steps=3, keep_last=3)
    stop_after(monkeypatch, 7, RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        train(config)
    assert list_iterations(config.out) == [6, 4, 3]
    monkeypatch.undo()
    run = train(replace(config, resume=True))
    assert list_iterations(run) == [12, 9, 8]
    assert len(list((run / "earlier").iterdir())) == 2


@pytest.mark.parametrize("links", [True, False], ids=["links", "a disk without links"])
def test_an_earlier_checkpoint_is_a_whole_one(config, tmp_path, monkeypatch, links):
    def refuse(*args):
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    whole = train(replace(config, save_steps=3, keep_last=2))
    model, metadata = load_checkpoint(whole / "earlier" / "step-00000009")
    assert metadata["iteration"] == 9
    assert metadata["epoch"] == 2
    state = training_state.read_checkpoint_(whole / "earlier" / "step-00000009", model=model)
    assert state["processes"][0]["position"]["batch"] == 1


@pytest.mark.parametrize("part", ["model.json", "*.safetensors", "*.pt"])
def test_a_damaged_last_one_costs_only_what_came_after_the_one_before(
    config, tmp_path, capfd, part, monkeypatch
):
    config = replace(config, save_steps=1, keep_last=2)
    whole = train(replace(config, out=str(tmp_path / "whole")))
    stop_after(monkeypatch, 7, RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        train(config)
    monkeypatch.undo()
    (damaged,) = (Path(config.out) / "last").glob(part)
    content = damaged.read_bytes()
    damaged.unlink()  # the earlier one may share its file
    damaged.write_bytes(content[: len(content) // 2])
    capfd.readouterr()
    run = train(replace(config, resume=True))
    told = capfd.readouterr().err
    assert f"going on from {run}/earlier/step-00000006 instead" in told
    assert "resuming after step 6" in told
    assert_same_weights(run, whole)
    assert list_iterations(run) == [12, 11]


def test_nothing_whole_is_left(config):
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    (weights,) = (run / "last").glob("*.safetensors")
    weights.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"safetensors: has 0 bytes"):
        train(replace(config, optim=replace(config.optim, epochs=1), resume=True))


# --------------------------------------------------------------------------------------------- states


def test_states_of_all_generators_go_through_a_file(tmp_path):
    training_state.seed_generators_(2**40 + 7)
    torch.save(collect_rng_state(torch.device("cpu")), tmp_path / "rng.pt")
    draw = lambda: (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())  # noqa: E731
    first = draw()
    assert draw() != first
    restore_rng_state_(torch.load(tmp_path / "rng.pt", weights_only=True), torch.device("cpu"))
    assert draw() == first


def test_of_several_devices_a_process_keeps_and_restores_its_own_alone(monkeypatch):
    """A run saved where eight are visible goes on where one is; none is here, so torch's calls are recorded."""
    asked = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor([device.index]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: asked.append((state, device)))
    state = collect_rng_state(torch.device("cuda", 6))
    restore_rng_state_(state, torch.device("cuda", 0))
    assert asked == [(torch.tensor([6]), torch.device("cuda", 0))]
    restore_rng_state_(state, torch.device("cpu"))
    restore_rng_state_(collect_rng_state(torch.device("cpu")), torch.device("cuda", 0))
    assert len(asked) == 1


def test_python_and_numpy_draw_the_same_after_a_resume(config, monkeypatch):
    """Nothing of kinemix draws from them, but a network from elsewhere may."""
    drawn = {}
    average_weights = Run.average_weights

    def draw(run):
        drawn.setdefault(run.position.iteration, []).append((random.random(), float(np.random.rand())))
        average_weights(run)

    monkeypatch.setattr(Run, "average_weights", draw)
    config = replace(config, save_steps=1)
    train(replace(config, out=config.out + "-whole"))
    whole = {step: draws.pop() for step, draws in drawn.items()}
    with monkeypatch.context() as patch:
        stop_after(patch, 6, RuntimeError("power cut"))
        with pytest.raises(RuntimeError, match="power cut"):
            train(config)
    train(replace(config, resume=True))
    assert {step: draws[-1] for step, draws in drawn.items()} == whole


# --------------------------------------------------------------------------------------------- resuming


def test_auto_starts_resumes_and_finishes(config, tmp_path, monkeypatch):
    """The one command of a job that is started again and again."""
    config = replace(config, resume="auto", save_steps=1)
    whole = train(replace(config, out=str(tmp_path / "whole")))
    for stop in (6, 9):
        with monkeypatch.context() as patch:
            stop_after(patch, stop, RuntimeError("power cut"))
            with pytest.raises(RuntimeError, match="power cut"):
                train(config)
    run = train(config)
    assert_same_weights(run, whole)
    assert [r["iteration"] for r in read_log(run) if r["kind"] == "train"] == list(range(1, 13))
    assert_same_weights(train(config), whole)
    with pytest.raises(ConfigError, match="name the directory of the run with --out"):
        train(replace(config, out=None))
    with pytest.raises(ConfigError, match=r"optim\.epochs = 3, not 4"):
        train(replace(config, optim=replace(config.optim, epochs=4)))


def test_auto_on_the_command_line(config, tmp_path, capsys):
    import yaml

    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump({**to_dict(replace(config, optim=replace(config.optim, epochs=1)))}))
    values = yaml.safe_load(path.read_text())
    del values["protocol"]["input"], values["resume"]
    path.write_text(yaml.safe_dump(values))
    for told in ("training:", "nothing left to do"):
        assert main(["train", "--config", str(path), "--resume", "auto"]) == 0
        assert told in capsys.readouterr().err


def test_a_start_that_was_killed_is_not_in_the_way(config, monkeypatch):
    """Killed after the lists of videos were written, before the options were: it is no run yet."""

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kinemix.engine.run_directory.format_config", die)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, resume="auto"))
    left = {path.name for path in Path(config.out).iterdir()}
    assert {"splits", "environment.json", ".lock"} <= left
    assert train(replace(config, resume="auto", optim=replace(config.optim, epochs=1)))


def test_halves_of_a_killed_start_go_with_the_next(config):
    """Of the files that it was writing; another program's stay."""
    config = replace(config, resume="auto", optim=replace(config.optim, epochs=1))
    run = train(config)
    halves = [
        run / name
        for name in (".log.jsonl.1f.partial", ".config.yaml.2f.partial", "splits/.val.csv.3f.partial")
    ]
    other = run / ".test-held-out.json.4f.partial"
    for path in (*halves, other):
        path.write_text("{")
    train(config)
    assert not [path for path in halves if path.exists()]
    assert other.exists()


def test_a_foreign_directory_stays_as_it_is(config):
    foreign = Path(config.out)
    (foreign / "splits").mkdir(parents=True)
    (foreign / "splits" / "train.csv").write_text("mine")
    for _ in range(2):
        with pytest.raises(ConfigError, match="holds other files and is no run"):
            train(replace(config, resume="auto"))
    assert [path.name for path in foreign.rglob("*")] == ["splits", "train.csv"]


# --------------------------------------------------------------------------------------- a batch that breaks it


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_no_number_is_written_down_and_met_again(config, accumulate, capfd):
    optim = replace(config.optim, lr=1e30, clip_grad_norm=None, weight_decay=0, accumulate=accumulate)
    config = replace(config, optim=optim, save_steps=1)
    with pytest.raises(
        KinemixError, match=r"the loss is (nan|inf) in epoch 1, step \d: lower optim\.lr"
    ) as raised:
        train(config)
    (path,) = Path(config.out).glob("bad-batch-*.json")
    assert str(path) in str(raised.value)
    report = json.loads(path.read_text())
    step = report["iteration"]
    assert report["what"] in ("the loss is nan", "the loss is inf")
    assert (report["epoch"], report["process"]) == (1, 0)
    assert all(clips["finite"] for clips in report["clips"])
    files = [sample["path"] for sample in report["samples"]]
    assert len(files) in (5, 10)  # the report names them all, the error four
    assert str(raised.value).endswith(f": {', '.join(files[:4])} and {len(files) - 4} more")

    # The batches are those that the loader gives there, clip by clip.
    kept = torch.load(path.with_suffix(".pt"), weights_only=True)
    model, metadata = load_checkpoint(Path(config.out) / "last")
    assert metadata["iteration"] == step - 1
    splits = open_splits(config.data)
    loader = build_train_loader(
        splits.train,
        protocol=replace(config.protocol, input=model.input_spec),
        augment=config.augment,
        batch_size=5,
        workers=0,
    )
    batches = list(loader.epoch(0))[(step - 1) * accumulate :]
    assert 1 <= len(kept["clips"]) <= accumulate
    for clips, indices, batch in zip(kept["clips"], kept["indices"], batches, strict=False):
        assert torch.equal(clips, batch.clips)
        assert indices.tolist() == batch.indices.tolist()
    named = [splits.train.samples[index].path for indices in kept["indices"] for index in indices.tolist()]
    assert named == files

    # And whoever resumes the run comes to them again, with the same random numbers.
    again = "kinemix train --resume --out"
    assert report["reproduce"]["training"].startswith(f"{again} {config.out}")
    path.unlink()
    with pytest.raises(KinemixError, match=f"step {step}"):
        train(replace(config, resume=True))
    assert json.loads(path.read_text()) == report
    rng = torch.load(path.with_suffix(".pt"), weights_only=True)["rng"]
    assert torch.equal(rng["cpu"], kept["rng"]["cpu"])


def test_a_bad_batch_of_the_first_try_does_not_stay(config):
    bad = replace(config, optim=replace(config.optim, lr=1e30, clip_grad_norm=None, weight_decay=0))
    with pytest.raises(KinemixError, match="the loss is"):
        train(bad)
    assert list(Path(config.out).glob("bad-batch-*"))
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    assert not list(run.glob("bad-batch-*"))


# --------------------------------------------------------------------------------------- a disk that is full


SMALL_DISK = """
set -e
mount -t tmpfs -o size={size}k tmpfs {disk}
{python} -m kinemix train --config {config} --out {disk}/run --resume auto && exit 9
code=$?
test $code -eq 2
cp -r {disk}/run {copy}
"""


def can_mount():
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return (
        shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
def test_a_full_disk_keeps_a_whole_checkpoint_and_the_run_goes_on_elsewhere(config, tmp_path):
    """A disk of six megabytes: the run fits in, its checkpoints after a while do not."""
    whole = train(replace(config, out=str(tmp_path / "whole")))
    disk = tmp_path / "disk"
    disk.mkdir()
    options = write_options(config, epochs=3, save_steps=1, keep_last=50)
    script = SMALL_DISK.format(
        size=6000,
        disk=disk,
        python=sys.executable,
        config=options,
        copy=tmp_path / "copy",
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    saved = list_iterations(tmp_path / "copy")
    assert 1 <= saved[0] < 12
    # With room again, nothing was lost.
    run = train(replace(config, out=str(tmp_path / "copy"), save_steps=5, resume=True))
    assert_same_weights(run, whole)
    assert [r["iteration"] for r in read_log(run) if r["kind"] == "train"] == list(range(1, 13))


# --------------------------------------------------------------------------------------------- signals


def list_descendants(pid):
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(word) for word in (task / "children").read_text().split()]
    return [*children, *(deeper for child in children for deeper in list_descendants(child))]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_scheduler_ends_every_process_of_the_job(config, tmp_path):
    """Main process, loader workers and their decoders: all get SIGTERM. The run saves, and no video is to blame."""
    process = start(config, epochs=200, optim={"accumulate": 4})
    wait_for_steps(config.out, 3, process)
    everybody = [process.pid, *list_descendants(process.pid)]
    assert len(everybody) >= 3
    for pid in reversed(everybody):
        os.kill(pid, signal.SIGTERM)
    errors = process.communicate(timeout=600)[1]
    assert process.returncode == 0, errors
    assert "stopped and saved after step" in errors.splitlines()[-1]
    assert not (Path(config.out) / "unreadable.csv").exists()
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in everybody):
        assert time.monotonic() < deadline, "a process was left over"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_workers_that_outlive_a_killed_run_do_not_hold_its_directory(config, tmp_path):
    process = start(config, epochs=200)
    wait_for_steps(config.out, 5, process)
    workers = list_descendants(process.pid)
    try:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        process.wait()
        with FileLock(Path(config.out) / LOCK_NAME, timeout=0):
            assert workers
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        process.communicate()
