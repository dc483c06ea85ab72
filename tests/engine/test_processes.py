"""Two processes with half the batch each against one with the whole, on the CPU (gloo).

What two processes do is in ``team.py``, which is started once for all tests here; what one does is done by the tests.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import assert_same_weights, find_port, make_config, read_weights, stop_after

import kinemix
from kinemix.config import MachineConfig, to_dict
from kinemix.data.sources import open_splits
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.logbook import read_log
from kinemix.engine.measure import measure_run
from kinemix.engine.run_directory import read_run_config
from kinemix.engine.train import train
from kinemix.errors import ConfigError
from kinemix.evaluate.evaluator import FRAMES_AT_ONCE
from kinemix.models.checkpoint import read_description

SECONDS = 400
BATCH = 3  # of each of the two


def run_team(folder, words):
    """Both processes; a dead-lock fails instead of lasting."""
    script = Path(__file__).with_name("team.py")
    about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_port()), "NODE_RANK": "0"}
    team = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), *words],
            env={**os.environ, **about, "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        told = [process.communicate(timeout=SECONDS)[1] for process in team]
    finally:
        for process in team:
            process.kill()
            process.communicate()
    assert [process.returncode for process in team] == [0, 0], told
    return told


def make_configs(config, folder, source):
    """For each scenario its options as two processes take them; ``alone`` makes those for one."""
    optim = replace(config.optim, epochs=2, batch_size=BATCH, dropout=0.0, lr=0.02)
    exact = replace(
        config,
        data=replace(config.data, source=str(source)),
        optim=replace(
            optim, batch_norm="fixed", accumulate=2, ema=0.9, clip_grad_norm=0.5, class_weights={"grow": 5.0}
        ),
        machine=replace(config.machine, devices=2),
        save_steps=1,
    )
    learns = replace(exact, optim=replace(optim, ema=0.9))
    fsdp = replace(exact.machine, strategy="fsdp")
    broken_data = replace(exact.data, source=str(folder / "broken.csv"), max_unreadable=0.5)
    broken_optim = replace(exact.optim, batch_size=1, class_weights={"far": 5.0})
    configs = {
        "exact": exact,
        "learns": learns,
        "synchronised": replace(learns, machine=replace(learns.machine, sync_batch_norm=True)),
        "sharded": replace(exact, machine=fsdp),
        "all-at-once": replace(
            exact,
            optim=replace(exact.optim, batch_norm="partial", frozen_stages=0),
            machine=replace(fsdp, sync_batch_norm=True, recompute=True),
        ),
        "adamw": replace(exact, optim=replace(learns.optim, name="adamw", dropout=0.3), machine=fsdp),
        "half": replace(exact, machine=replace(fsdp, precision="bf16-mixed")),
        "broken": replace(exact, data=broken_data, optim=broken_optim),
        "stopped": exact,
        "adamw-stopped": replace(exact, optim=replace(learns.optim, name="adamw", dropout=0.3), machine=fsdp),
        "gone-on": replace(exact, resume=True, machine=fsdp),
        "stopped-validating": exact,
        "differing": exact,
        "tested": replace(exact, out=str(folder / "alone-exact")),
    }
    keep = ("tested",)
    return {n: c if n in keep else replace(c, out=str(folder / n)) for n, c in configs.items()}


def alone(config):
    """The same for one process: the whole batch, and nobody to share with."""
    machine = MachineConfig(accelerator="cpu", threads=1, devices=1)
    out = Path(config.out)
    return replace(
        config,
        machine=machine,
        optim=replace(config.optim, batch_size=2 * config.optim.batch_size),
        out=str(out.with_name(f"alone-{out.name}")),
    )


def write_broken(path, motion):
    """Sixteen videos in an order of their own, of which five cannot be read."""
    videos = sorted(motion.glob("train/*/*.mp4"))[:16]
    lines = ["video,label"]
    for number, video in enumerate(videos):
        if number in (1, 4, 5, 10, 11):
            video = path.with_name(f"{number}.mp4")
            video.write_bytes(b"no video")
        lines.append(f"{video},{'far' if number % 3 else 'near'}")
    path.write_text("\n".join(lines) + "\n")


def form_team(motion, folder, names):
    """Let one process and then two do what the scenarios say.

    Returns:
        Where the runs lie (those of one process are ``alone-...``), the options of each scenario, what the two
        returned, and what they printed.
    """
    odd = folder / "odd"
    shutil.copytree(motion, odd)
    shutil.rmtree(odd / "val" / "appear")
    write_broken(folder / "broken.csv", motion)
    every = make_configs(make_config(motion, folder), folder, odd)
    configs = {name: every[name] for name in names}
    for name, config in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(to_dict(config)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FRAMES_AT_ONCE, "cpu", 4)
        for name in ALONE & configs.keys():
            train(alone(configs[name]))
        if "gone-on" in names:
            stop_after(patch, 3)
            with pytest.raises(Interrupted):
                train(replace(alone(configs["gone-on"]), out=configs["gone-on"].out, resume=False))
    told = run_team(folder, [f"{name}={KINDS.get(name, 'go')}" for name in names])
    results = {
        name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]
        for name in names
    }
    return folder, configs, results, told


ALONE = {"exact", "synchronised", "broken", "all-at-once"}
"""Scenarios that one process goes through too."""

KINDS = {
    "stopped": "stop",
    "adamw-stopped": "stop_and_go",
    "stopped-validating": "stop_validating",
    "differing": "differ",
    "tested": "test",
}
"""Scenarios that are no plain training: what ``team.py`` calls them."""


@pytest.fixture(scope="module")
def team(motion, tmp_path_factory):
    names = ["exact", "learns", "broken", "sharded", "tested"]
    return form_team(motion, tmp_path_factory.mktemp("team"), names)


@pytest.fixture(scope="module")
def second_team(motion, tmp_path_factory):
    names = ["exact", "synchronised", "all-at-once", "adamw", "half", "stopped", "adamw-stopped"]
    names += ["gone-on", "stopped-validating", "differing"]
    return form_team(motion, tmp_path_factory.mktemp("second-team"), names)


def assert_close(run, other, name="last"):
    ours, theirs = read_weights(run, name), read_weights(other, name)
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=2e-6, msg=key)


def assert_same_course(run, other):
    """Gradients within float error, and the same figures of every validation exactly."""
    ours, theirs = read_log(run), read_log(other)
    assert [r["kind"] for r in ours] == [r["kind"] for r in theirs]
    for one, another in zip(ours, theirs, strict=True):
        if one["kind"] == "train":
            assert one["gradient_norm"] == pytest.approx(another["gradient_norm"], rel=1e-4)
            assert one["loss"] == pytest.approx(another["loss"], rel=1e-5)
            assert one["rate"] == another["rate"]
        else:
            assert [one[name] for name in ("top1", "top5", "mean_class")] == [
                another[name] for name in ("top1", "top5", "mean_class")
            ]
            assert one["loss"] == pytest.approx(another["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["exact", "broken"])
def test_two_with_half_the_batch_learn_what_one_with_the_whole_does(team, name):
    """Classes that weigh differently, micro-batches and a mean of the weights; and videos that cannot be read, so
    that a process has fewer clips than the other, or none."""
    folder, *_ = team
    assert_same_course(folder / name, folder / f"alone-{name}")
    assert_close(folder / name, folder / f"alone-{name}")
    steps = [r for r in read_log(folder / name) if r["kind"] == "train"]
    assert all(step["gradient_norm"] > 0 for step in steps)
    if name == "broken":
        listed = (folder / name / "unreadable.csv").read_text().splitlines()[1:]
        assert len(listed) == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synchronised", "all-at-once"])
def test_two_normalise_over_the_clips_of_both(second_team, name):
    """By itself; and sharded, with partial normalisation, a frozen stem, and blocks that are done again."""
    folder, *_ = second_team
    assert_same_course(folder / name, folder / f"alone-{name}")
    assert_close(folder / name, folder / f"alone-{name}")


@pytest.mark.slow
def test_sharded_and_stopped_is_the_same_bit_for_bit(second_team):
    """AdamW, dropout, learned running statistics, a mean of the weights."""
    folder, _, results, _ = second_team
    assert [told[0] for told in results["adamw-stopped"]] == ["Interrupted"] * 2
    assert_same_weights(folder / "adamw-stopped", folder / "adamw")
    assert_same_weights(folder / "adamw-stopped", folder / "adamw", "best")


@pytest.mark.slow
def test_sharded_in_half_precision(second_team):
    folder, *_ = second_team
    pairs = zip(read_log(folder / "half"), read_log(folder / "exact"), strict=True)
    assert all(one["loss"] == pytest.approx(other["loss"], rel=1e-2) for one, other in pairs)


def test_sharded_equals_whole(team):
    folder, configs, *_ = team
    assert_same_course(folder / "sharded", folder / "exact")
    assert_close(folder / "sharded", folder / "exact")
    state, other = (
        torch.load(next((folder / name / "last").glob("*.pt")), weights_only=True)
        for name in ("sharded", "exact")
    )
    assert state["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]
    for number, entries in other["optimizer"]["state"].items():
        for key, value in entries.items():
            ours = state["optimizer"]["state"][number][key]
            torch.testing.assert_close(ours, value, rtol=1e-3, atol=1e-5)
    for key, value in other["weights"].items():
        torch.testing.assert_close(state["weights"][key], value, rtol=1e-4, atol=2e-6)
    files = [
        sorted(p.name.partition("-")[0] for p in (folder / n / "last").iterdir())
        for n in ("sharded", "exact")
    ]
    assert files[0] == files[1]
    video = next(Path(configs["exact"].data.source).glob("val/*/*.mp4"))
    answers = [kinemix.load(folder / name).predict(video)[0] for name in ("sharded", "exact")]
    assert answers[0].label == answers[1].label


@pytest.mark.parametrize("name", ["exact", "learns", "sharded"])
def test_every_held_out_video_counts_once(team, name, monkeypatch):
    """Eleven over two processes, and what both say is what the saved network says."""
    monkeypatch.setitem(FRAMES_AT_ONCE, "cpu", 4)
    folder, configs, results, _ = team
    ours, theirs = results[name]
    assert ours == theirs, "the processes do not agree"
    ids, logits = ours[-1]
    splits = open_splits(configs[name].data)
    assert ids == [sample.name for sample in splits.val.samples]
    assert len(ids) == 11
    saved = measure_run(folder / name, checkpoint="last", workers=0)
    torch.testing.assert_close(
        torch.tensor(logits), torch.from_numpy(saved.scores.logits), rtol=1e-6, atol=1e-6
    )
    assert saved.accuracies.top1 == [r for r in read_log(folder / name) if r["kind"] == "val"][-1]["top1"]


def test_a_test_on_two_processes_is_the_test_on_one(team, monkeypatch):
    monkeypatch.setitem(FRAMES_AT_ONCE, "cpu", 4)
    folder, _, results, _ = team
    written = json.loads(next((folder / "alone-exact").glob("test-*.json")).read_text())
    single = measure_run(folder / "alone-exact", workers=0)
    for together in results["tested"]:
        assert together["ids"] == list(single.scores.ids)
        assert torch.equal(torch.tensor(together["logits"]), torch.from_numpy(single.scores.logits))
        assert {name: together[name] for name in single.summary()} == single.summary()
    assert written == json.loads(next((folder / "alone-exact").glob("test-*.json")).read_text())


@pytest.mark.slow
def test_a_wish_to_one_stops_both_and_one_alone_goes_on(second_team):
    folder, configs, results, _ = second_team
    for kind, told, _ in results["stopped"]:
        assert (kind, told) == (
            "Interrupted",
            f"stopped and saved after step 3; to go on: kinemix train --resume --out {folder / 'stopped'}",
        )
    with pytest.raises(
        ConfigError, match=r"6 clips in a micro-batch \(2 processes x 3\), not 3 \(1 x 3\): start 2"
    ):
        train(replace(configs["stopped"], machine=alone(configs["stopped"]).machine, resume=True))
    run = train(replace(alone(configs["stopped"]), out=configs["stopped"].out, resume=True))
    assert_same_course(run, folder / "exact")
    assert_close(run, folder / "exact")


@pytest.mark.slow
def test_two_go_on_where_one_was_stopped_and_sharded(second_team):
    folder, *_ = second_team
    assert [r["iteration"] for r in read_log(folder / "gone-on") if r["kind"] == "train"] == [1, 2, 3, 4]
    assert_same_course(folder / "gone-on", folder / "exact")
    assert_close(folder / "gone-on", folder / "exact")
    assert read_run_config(folder / "gone-on").machine.devices == 1  # as it was started


@pytest.mark.slow
def test_stopped_while_validating(second_team):
    folder, _, results, _ = second_team
    for kind, told, _ in results["stopped-validating"]:
        assert kind == "Interrupted"
        assert told.startswith("stopped and saved after step 2; to go on")
    assert read_description(folder / "stopped-validating" / "last")["metadata"]["iteration"] == 2


@pytest.mark.slow
def test_what_is_wrong_in_one_is_raised_in_both(second_team):
    _, _, results, _ = second_team
    first, second = results["differing"]
    assert first == second
    (options, data, videos) = first
    assert options[1].startswith("seed is 0 in the first process and 1 in process 1, on ")
    assert data[0] == "DataError"
    assert data[1].startswith("the disk of this machine is not there (process 1, on ")
    assert videos[1].startswith("the list of held-out videos is '11 videos, ")
    assert all(error[2] for error in first), "the first speaks for all"


def test_only_the_first_writes_and_nobody_prints(team):
    *_, told = team
    assert told == ["", ""]
