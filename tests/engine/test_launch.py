"""Who has started how many processes, by the variables that they leave; and what several processes may not do."""

import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kinemix.config import MachineConfig, TrainConfig
from kinemix.engine.launch import find_started, launch_fabric, settle_machine
from kinemix.engine.run_directory import check_same_run
from kinemix.engine.train import train
from kinemix.errors import ConfigError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "WORLD_SIZE": "6",
    "LOCAL_WORLD_SIZE": "3",
    "GROUP_WORLD_SIZE": "2",
}
BATCH_SCRIPT = {"SLURM_JOB_NAME": "train", "SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "0"}
SRUN = {**BATCH_SCRIPT, "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}


@pytest.fixture
def pretend(monkeypatch):
    def pretend(variables):
        for name in (*TORCHRUN, *SRUN):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return pretend


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        (TORCHRUN, ("torchrun", 3, 2)),
        (SRUN, ("srun", 4, 2)),
        ({**SRUN, **TORCHRUN}, ("torchrun", 3, 2)),  # torchrun, started by srun
        (BATCH_SCRIPT, None),
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, None),  # a terminal on a machine of the cluster
    ],
    ids=["nobody", "torchrun", "srun", "torchrun within srun", "a batch script", "a terminal"],
)
def test_who_has_started_them(pretend, variables, found):
    pretend(variables)
    started = find_started()
    assert (started and (started.by, started.devices, started.nodes)) == found


def test_numbers_are_taken_from_who_has_started_them(pretend):
    pretend({})
    assert settle_machine(MachineConfig()) == MachineConfig(devices=1, nodes=1)
    assert settle_machine(MachineConfig(devices=4)) == MachineConfig(devices=4, nodes=1)
    pretend(TORCHRUN)
    for asked in (
        {},
        {"devices": 3},
        {"nodes": 2},
        {"devices": 6, "nodes": 1},
    ):  # a run that six have trained
        assert settle_machine(MachineConfig(**asked)) == MachineConfig(devices=3, nodes=2)
    with pytest.raises(
        ConfigError, match=r"devices=4, machine\.nodes=None: torchrun has started 3 on each of 2 machines"
    ):
        settle_machine(MachineConfig(devices=4))
    pretend({**TORCHRUN, "WORLD_SIZE": "4"})
    with pytest.raises(ConfigError, match="4 processes on 2 machines: start as many on each"):
        find_started()


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        ({"strategy": "ddp"}, "machine.strategy is ddp, and there is one process only"),
        ({"strategy": "fsdp"}, "machine.strategy is fsdp, and there is one process only"),
        ({"strategy": "fsdp", "devices": 2, "precision": "16-mixed"}, "precision=16-mixed does not go with"),
        ({"strategy": "fsdp", "devices": 2, "compile": True}, "compile does not go with"),
        ({"strategy": "fsdp", "devices": 2, "channels_last": True}, "channels_last does not go with"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_what_does_not_go_together(config, machine, told):
    with pytest.raises(ConfigError, match=told):
        train(replace(config, machine=replace(config.machine, **machine)))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((2, 5), (1, 10), None),
        ((1, 10), (2, 5), None),
        (
            (2, 5),
            (1, 5),
            r"10 clips in a micro-batch \(2 processes x 5\), not 5 \(1 x 5\): start 2 .*batch_size=10",
        ),
        ((2, 5), (3, 4), r"10 clips .*, not 12 \(3 x 4\): start 2 processes$"),
        ((2, 5), (2, 10), r"optim\.batch_size = 5, not 10"),
    ],
)
def test_other_processes_with_the_same_clips_are_the_same_run(config, tmp_path, before, after, told):
    def make(devices, batch_size):
        machine, optim = (
            replace(config.machine, devices=devices),
            replace(config.optim, batch_size=batch_size),
        )
        return replace(config, machine=machine, optim=optim)

    if told is None:
        check_same_run(make(*before), make(*after), path=tmp_path)
    else:
        with pytest.raises(ConfigError, match=told):
            check_same_run(make(*before), make(*after), path=tmp_path)


# ----------------------------------------------------------------------------------------- docs/scaling.md


DOCS = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


@pytest.mark.parametrize("stopped", [True, False])
def test_the_batch_script_asks_to_be_queued_again(tmp_path, stopped):
    """With stand-ins: an srun that ends well on SIGTERM, as the run that it passes it on to does."""
    (script,) = re.findall(r"```bash\n(#!/bin/bash.*?)```", DOCS, flags=re.DOTALL)
    wait = f"touch {tmp_path}/begun; for i in $(seq 600); do sleep 0.1; done" if stopped else "true"
    stands_in = {"srun": f"trap 'echo saved; exit 0' TERM; echo $*; {wait}", "scontrol": "echo scontrol $*"}
    for name, body in stands_in.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    process = subprocess.Popen(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"},
        stdout=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while stopped and not (tmp_path / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    if stopped:
        process.send_signal(signal.SIGUSR1)
    output = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    assert output[0].startswith("--kill-on-bad-exit=1 kinemix train ")
    assert output[0].endswith(" --resume auto")
    assert output[1:] == (["saved", "scontrol requeue 7"] if stopped else [])


def test_the_manifest_is_whole():
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS, flags=re.DOTALL)
    service, job = yaml.safe_load_all(text)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (command,) = container["args"]
    count = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == count
    assert command.startswith(f"exec torchrun --nnodes {count} ")
    assert f"--nproc_per_node {container['resources']['limits']['nvidia.com/gpu']} " in command
    name = service["metadata"]["name"]
    assert name == job["metadata"]["name"] == pod["subdomain"] == service["spec"]["selector"]["job-name"]
    assert f"--master_addr {name}-0.{name} " in command
    patience = {entry["name"]: int(entry["value"]) for entry in container["env"]}
    assert patience["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] < pod["terminationGracePeriodSeconds"]
    assert {v["name"] for v in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_options_in_the_page_are_options():
    for line in re.findall(r"kinemix train .*", DOCS):
        for option in re.findall(r"--((?:machine|optim|data)\.\w+)", line):
            group, _, field = option.partition(".")
            assert hasattr(getattr(TrainConfig(), group), field), option


def test_several_machines_that_know_no_meeting_place_do_not_wait_for_each_other(monkeypatch):
    monkeypatch.delenv("MASTER_PORT", raising=False)
    monkeypatch.delenv("NODE_RANK", raising=False)
    monkeypatch.setenv("MASTER_ADDR", "first")
    with pytest.raises(
        ConfigError, match=r"machine\.nodes: .* set MASTER_PORT, NODE_RANK in the environment of each"
    ):
        launch_fabric(MachineConfig(accelerator="cpu", devices=1, nodes=2))
