"""Whoever starts two processes of ``kinemix train``, they make one run, and always the same; one machine is two."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runs import assert_same_weights, find_port, make_config, wait_for_steps, write_options

from kinemix.engine.logbook import read_log
from kinemix.engine.run_directory import read_run_config
from kinemix.models.checkpoint import read_description

pytestmark = pytest.mark.slow

SECONDS = 500
KINEMIX = ("-m", "kinemix")


def launch(*words, **variables):
    """A Python process in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def torchrun(*words, processes=2, machines=1, machine=0, port=None):
    where = ["--master_addr", "127.0.0.1", "--master_port", port or find_port()]
    return launch(
        *("-m", "torch.distributed.run", "--nnodes", machines, "--node_rank", machine, *where),
        *("--nproc_per_node", processes, *KINEMIX, *words),
    )


def end(*processes):
    """Output and errors of each; one that hangs is a failure."""
    try:
        return [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def list_told(errors):
    """What kinemix said, without the launcher's own lines."""
    return [
        line
        for line in errors.splitlines()
        if line.startswith(("kinemix:", "training:", "resuming", "epoch", "note"))
    ]


@pytest.fixture(scope="module")
def words(motion, tmp_path_factory):
    """``train`` and the options of a run, without those about processes and without a directory."""
    config = make_config(motion, tmp_path_factory.mktemp("options"))
    path = write_options(config, epochs=6, optim={"batch_size": 3, "ema": 0.9}, save_steps=3)
    return ["train", "--config", str(path), "--out"]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    """A run of two processes that torchrun has started, never stopped; and what it told."""
    run = tmp_path_factory.mktemp("whole") / "run"
    process = torchrun(*words, run)
    ((output, errors),) = end(process)
    assert process.returncode == 0, errors
    return run, output, errors


def test_torchrun_needs_no_options_and_one_speaks(whole):
    run, output, errors = whole
    assert output == f"{run}\n"
    told = list_told(errors)
    assert told[0] == "note: 2 processes: 2 x 3 clips = 6 clips a step"
    assert told[1].startswith("training: ")
    assert [line.split()[1] for line in told[2:]] == [f"{number}/6" for number in range(1, 7)]
    assert len(told) == 8
    assert (read_run_config(run).machine.devices, read_run_config(run).machine.nodes) == (2, 1)
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    assert [r["iteration"] for r in read_log(run) if r["kind"] == "train"] == list(range(1, 25))


def test_lightnings_launcher_makes_the_same_run(whole, words, tmp_path):
    process = launch(*KINEMIX, *words, tmp_path / "run", "--machine.devices", 2)
    ((output, errors),) = end(process)
    assert process.returncode == 0, errors
    assert output == f"{tmp_path / 'run'}\n"
    assert [line for line in errors.splitlines() if line not in list_told(errors)] == []
    assert_same_weights(tmp_path / "run", whole[0])


@pytest.mark.parametrize("by", ["torchrun", "Lightning", "srun"])
def test_two_machines_make_the_same_run(whole, words, tmp_path, by):
    """Two launchers that know of each other by an address alone; for srun, its variables."""
    run, port = tmp_path / "run", find_port()
    if by == "torchrun":
        team = [torchrun(*words, run, processes=1, machines=2, machine=n, port=port) for n in range(2)]
    elif by == "Lightning":
        about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        both = ("--machine.devices", 1, "--machine.nodes", 2)
        team = [launch(*KINEMIX, *words, run, *both, **about, NODE_RANK=str(n)) for n in range(2)]
    else:
        about = {"SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_NODELIST": "localhost"}
        about |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}
        about |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "MASTER_PORT": str(port)}
        team = [
            launch(
                *KINEMIX, *words, run, **about, SLURM_PROCID=str(n), SLURM_NODEID=str(n), SLURM_LOCALID="0"
            )
            for n in range(2)
        ]
    (first, second) = end(*team)
    assert [process.returncode for process in team] == [0, 0], (first, second)
    assert first[0] == f"{run}\n"
    assert second[0] == ""
    assert list_told(first[1])[0] == "note: 2 processes on 2 machines: 2 x 3 clips = 6 clips a step"
    assert list_told(second[1]) == []
    assert (read_run_config(run).machine.devices, read_run_config(run).machine.nodes) == (1, 2)
    assert_same_weights(run, whole[0])
    assert_same_weights(run, whole[0], "best")


def test_sigterm_to_torchrun_saves_once_and_the_same_command_goes_on(whole, words, tmp_path):
    run = tmp_path / "run"
    process = torchrun(*words, run, "--resume", "auto")
    wait_for_steps(run, 4, process)
    process.send_signal(signal.SIGTERM)
    ((_, errors),) = end(process)
    assert process.returncode == 1, "torchrun counts a signal as a failure of its own"
    assert errors.count("kinemix: stopped and saved after step") == 1
    assert "kinemix: error" not in errors
    saved = read_description(run / "last")["metadata"]["iteration"]
    assert f"saved after step {saved};" in errors
    process = torchrun(*words, run, "--resume", "auto")
    ((_, errors),) = end(process)
    assert process.returncode == 0, errors
    assert list_told(errors)[1].startswith(f"resuming after step {saved}: ")
    assert_same_weights(run, whole[0])
    assert [r["iteration"] for r in read_log(run) if r["kind"] == "train"] == list(range(1, 25))


@pytest.mark.parametrize("by", ["torchrun", "Lightning"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--optim.lr", "fast"], "optim.lr is 'fast'"),  # before the processes know of each other
        (["nowhere"], "nowhere: no such file or folder"),  # when they do
        (["--optim.batch_size", "0"], "optim.batch_size is 0"),
    ],
)
def test_a_mistake_is_told_once(words, tmp_path, by, options, told):
    command = (*words, tmp_path / "run", *options)
    if by == "torchrun":
        process = torchrun(*command)
    else:
        process = launch(*KINEMIX, *command, "--machine.devices", 2)
    ((output, errors),) = end(process)
    lines = [line for line in errors.splitlines() if "kinemix: error" in line]
    assert len(lines) == 1, errors
    assert told in lines[0]
    assert output == ""
    if by == "torchrun":
        assert process.returncode == 1
        assert "exitcode  : 2" in errors
    else:
        assert process.returncode == 2
        assert errors.splitlines() == lines


def test_other_numbers_than_were_started_are_refused(words, tmp_path):
    process = torchrun(*words, tmp_path / "run", "--machine.devices", 4)
    ((_, errors),) = end(process)
    assert (
        "machine.devices=4, machine.nodes=None: torchrun has started 2 on each of 1 machines: start as many as that"
        in errors
    )


@pytest.mark.parametrize("by", ["torchrun", "Lightning"])
def test_one_that_is_killed_takes_the_other_along(words, tmp_path, by):
    """Nobody waits for it, what was saved is there, and one line tells of it."""
    command = (*words, tmp_path / "run")
    process = torchrun(*command) if by == "torchrun" else launch(*KINEMIX, *command, "--machine.devices", 2)
    wait_for_steps(tmp_path / "run", 4, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    second = [pid for pid in children if b"\0LOCAL_RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(second[0]), signal.SIGKILL)
    ((_, errors),) = end(process)
    told = [line for line in errors.splitlines() if line.startswith("kinemix: ")]
    if by == "torchrun":  # which sends the first process a SIGTERM when it has seen the second end
        assert process.returncode == 1
        assert len(told) <= 1, errors
    elif process.returncode == 2:
        assert [line.partition(":")[2] for line in told] == [
            " error: another process of this run is gone: its own message says why, or the system's log does (memory?)"
        ]
    else:  # Lightning was faster
        assert process.returncode == -signal.SIGKILL
        assert "terminated with code -9" in errors
        assert told == []
    assert "kinemix/engine" not in errors, "a traceback"
    assert read_description(tmp_path / "run" / "last")["metadata"]["iteration"] >= 3


def test_torchrun_tests_a_run(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    found = []
    for start in (lambda: launch(*KINEMIX, "test", run), lambda: torchrun("test", run)):
        process = start()
        ((output, errors),) = end(process)
        assert process.returncode == 0, errors
        assert output.count("top-1") == 1
        (path,) = run.glob("test-*.json")
        figures = json.loads(path.read_text())
        found.append((figures["top1"], figures["top5"], figures["mean_class"], figures["count"]))
        path.unlink()
    assert found[0] == found[1]
    assert found[0][3] == 12
