"""What a profile says: verdicts on constructed steps, and real trainings that wait or do not."""

import errno
import gzip
import json
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import assert_same_weights
from torch.autograd import DeviceType

from kinemix.data.loader import TrainLoader
from kinemix.engine import profiling
from kinemix.engine.bottleneck import Breakdown, Operator, Setting, find_bottleneck
from kinemix.engine.logbook import read_log
from kinemix.engine.profiling import StepProfiler, Window, plan_window, sum_up_trace
from kinemix.engine.train import train

CPU = Setting(device="cpu", workers=2, processes=1, cores=2)
GPU = Setting(device="cuda", workers=4, processes=2, cores=32)

SECONDS = {"data": 0.0, "copy": 0.0, "forward": 0.3, "backward": 0.6, "optimizer": 0.05, "rest": 0.05}


def judge(setting=CPU, operators=(), busy=None, **seconds):
    return find_bottleneck(Breakdown(seconds={**SECONDS, **seconds}, operators=operators, busy=busy), setting)


@pytest.mark.parametrize(
    ("seconds", "setting", "kind", "sentence"),
    [
        (
            {"data": 3.0},
            GPU,
            "data",
            r"Waiting for data takes 75% of the time: more workers \(data.workers is 4, the machine has 32 cores\) or "
            r"prepared data \(kinemix prepare\)\.",
        ),
        (
            {"data": 0.3},
            CPU,
            "data",
            r"23% .*: prepared data \(kinemix prepare\) or smaller frames \(data.short_side\)\.",
        ),
        ({"data": 1.0}, replace(CPU, is_prepared=True), "data", r": smaller frames \(data.short_side\)\.$"),
        ({"data": 0.24}, CPU, "network", "The network itself takes 73% of the time: fewer frames"),
        ({"copy": 1.0}, GPU, "copy", "Moving clips to the device takes 50% of the time: smaller clips"),
        ({"optimizer": 1.0}, GPU, "optimizer", r"The optimizer's step .* larger batches \(optim.batch_size"),
        ({"rest": 1.0}, GPU, "rest", "What stands around the network takes 51%"),
        ({"rest": 1.0, "data": 1.1}, GPU, "data", "Waiting for data takes 36%"),
        ({}, GPU, "network", r"takes 90% of the time: machine\.precision=bf16-mixed"),
    ],
)
def test_verdicts(seconds, setting, kind, sentence):
    verdict = judge(setting, **seconds)
    assert verdict.kind == kind
    assert re.search(sentence, verdict.sentence), verdict.sentence


@pytest.mark.parametrize(
    ("busy", "kind"), [(0.2, "idle"), (0.53, "idle"), (0.55, "network"), (0.9, "network")]
)
def test_a_device_that_idles_between_small_kernels(busy, kind):
    """Of the 90 % that the network takes, 60 % are 54 %."""
    verdict = judge(GPU, busy=busy)
    assert verdict.kind == kind
    assert ("machine.compile." in verdict.sentence) == (kind == "idle")


def test_one_operator_is_named():
    many = [Operator(name=f"aten::op{k}", seconds=0.1, calls=3) for k in range(5)]
    assert "operator" not in judge(operators=many).sentence
    large = Operator(name="aten::convolution", seconds=0.6, calls=50)
    assert (
        "One operator takes 55% of its work: aten::convolution." in judge(operators=[*many, large]).sentence
    )


@pytest.mark.parametrize("steps", [*range(12), 20, 31, 32, 33, 10_000])
def test_windows(steps):
    window = plan_window(steps)
    if steps < 4:
        assert window is None
        return
    assert min(window.skipped, window.timed, window.warmed, window.traced) >= 1
    assert window.total <= steps
    if steps >= 40:
        assert window == Window(skipped=5, timed=20, warmed=2, traced=5)


def test_shares_of_a_clock_that_stands(tmp_path):
    """Steps of eight seconds: the first ones are not counted, nor what lies between epochs."""
    now, said = [0.0], []
    profiler = StepProfiler(
        tmp_path,
        title="a network",
        device=torch.device("cpu"),
        setting=CPU,
        window=Window(skipped=1, timed=2, warmed=1, traced=1),
        first=11,
        say=said.append,
        clock=lambda: now[0],
    )
    for step in range(5):
        if step in (0, 2):
            now[0] += 1000
            profiler.begin_epoch()
        for part, seconds in {"data": 4, "copy": 0, "forward": 1, "backward": 1, "optimizer": 1}.items():
            with profiler.span(part):
                now[0] += seconds * (100 if step == 0 else 1)
        now[0] += 1
        profiler.end_step()
    profiler.close()
    assert said[0] == (
        "steps 12 to 13: waiting for data 50%, moving it to the device 0%, forward 12%, backward 12%, optimizer 12%, "
        "the rest 12%"
    )
    assert said[1].startswith("Waiting for data takes 50% of the time: prepared data")
    report = (tmp_path / "profile.md").read_text()
    assert "| waiting for data | 4000.0 | 50.0% |" in report
    assert "| the rest | 1000.0 | 12.5% |" in report
    assert "| a step | 8000.0 |  |" in report
    assert len(said) == 2


def make_row(key, device_type, *, cpu=0.0, device=0.0, count=2, named=False):
    return SimpleNamespace(
        key=key,
        device_type=device_type,
        self_cpu_time_total=cpu,
        self_device_time_total=device,
        count=count,
        is_user_annotation=named,
    )


def test_a_trace_of_an_accelerator_is_summed_up():
    """Microseconds of two steps: an operator has the time of its kernels, which also stand there by themselves."""
    rows = [
        make_row("aten::add", DeviceType.CPU, cpu=900.0, device=1e6),
        make_row("aten::conv2d", DeviceType.CPU, cpu=5.0, device=3e6, count=20),
        make_row("forward", DeviceType.CPU, cpu=7.0, device=0.0, named=True),
        make_row("sgemm", DeviceType.CUDA, device=3e6),
        make_row("add_kernel", DeviceType.CUDA, device=1e6),
        make_row("forward", DeviceType.CUDA, device=4e6, named=True),
    ]
    operators, busy = sum_up_trace(rows, steps=2, on_cpu=False)
    assert busy == 2.0
    assert operators == [
        Operator(name="aten::conv2d", seconds=1.5, calls=10),
        Operator(name="aten::add", seconds=0.5, calls=1),
    ]
    operators, _ = sum_up_trace(rows, steps=2, on_cpu=True)
    assert [operator.name for operator in operators] == ["aten::add", "aten::conv2d"]
    assert operators[0].seconds == pytest.approx(450e-6)


# --------------------------------------------------------------------------------------------- real trainings


def slow_down(monkeypatch, seconds):
    epoch = TrainLoader.epoch

    def wait(loader, *args, **kwargs):
        for batch in epoch(loader, *args, **kwargs):
            time.sleep(seconds)
            yield batch

    monkeypatch.setattr(TrainLoader, "epoch", wait)


def keep_batches(monkeypatch):
    """After the first epoch the loader has nothing to do any more."""
    epoch, kept = TrainLoader.epoch, []

    def remember(loader, *args, **kwargs):
        if not kept:
            kept.extend(epoch(loader, *args, **kwargs))
        yield from kept

    monkeypatch.setattr(TrainLoader, "epoch", remember)


def test_a_slow_dataset_holds_up_and_the_weights_are_the_same(config, tmp_path, monkeypatch, capfd):
    whole = train(replace(config, out=str(tmp_path / "whole")))
    assert not (whole / "profile.md").exists()
    slow_down(monkeypatch, 0.3)
    capfd.readouterr()
    run = train(replace(config, profile=True))
    told = capfd.readouterr().err
    assert_same_weights(run, whole)
    assert "Waiting for data takes" in told
    assert "data.workers is 0" in told
    report = (run / "profile.md").read_text()
    assert report.startswith(
        "# Where the time goes: tsm_test_resnet.r160_in1k, 5 clips of 4 frames, cpu\n\nWaiting"
    )
    assert "| aten::" in report
    with gzip.open(run / "profile-trace.json.gz", "rt") as file:
        names = Counter(event["name"] for event in json.load(file)["traceEvents"])
    for part in ("waiting for data", "forward", "backward", "optimizer"):
        assert names[part] == 1, "one step is traced"
    assert names["aten::conv2d"] > 5
    # The bar's share of waiting, over the same steps, is the profile's.
    steps = [record for record in read_log(run) if record["kind"] == "train"][1:10]
    share = float(report.partition("| waiting for data |")[2].split("|")[1].strip().rstrip("%")) / 100
    assert share == pytest.approx(sum(s["waiting"] for s in steps) / len(steps), abs=0.1)


def test_a_network_that_gets_its_batches_at_once_is_the_bottleneck(config, monkeypatch, capfd):
    keep_batches(monkeypatch)
    run = train(replace(config, profile=True, size=128, optim=replace(config.optim, epochs=1, batch_size=4)))
    assert "The network itself takes" in capfd.readouterr().err, (run / "profile.md").read_text()


def test_a_disk_that_is_full_costs_the_trace_alone(config, monkeypatch, capfd):
    def fail(trace, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(profiling.profile, "export_chrome_trace", fail)
    run = train(replace(config, profile=True))
    assert (
        "the profile's trace cannot be written ([Errno 28] No space left on device)" in capfd.readouterr().err
    )
    assert "| aten::" in (run / "profile.md").read_text()
    assert "profile-trace" not in (run / "profile.md").read_text()
    assert not list(run.glob("*trace*")) + list(run.glob(".*trace*"))
    assert read_log(run)[-1]["epoch"] == config.optim.epochs


def test_too_few_steps_to_profile(config, capfd):
    optim = replace(config.optim, epochs=1, batch_size=24)
    run = train(replace(config, profile=True, optim=optim))
    assert "so few steps are left that there is nothing to profile" in capfd.readouterr().err
    assert not (run / "profile.md").exists()
