"""The loop against a naive one, and a run that is killed against one that is not."""

import errno
import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import MODEL, assert_same_weights, read_weights, start, wait_for_steps
from torch.nn import functional as F

from kinemix.config import (
    AugmentConfig,
    DataConfig,
    InputSpec,
    MachineConfig,
    OptimConfig,
    Protocol,
)
from kinemix.data.catalog.motion import make_motion
from kinemix.data.loader import build_train_loader
from kinemix.data.sources import open_splits
from kinemix.engine import training_state
from kinemix.engine.checkpoints import Checkpoints
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.logbook import read_log
from kinemix.engine.run import Run
from kinemix.engine.run_directory import read_run_config
from kinemix.engine.train import train
from kinemix.engine.unreadable import UnreadableList
from kinemix.engine.validation import validate
from kinemix.errors import CheckpointError, ConfigError, DataError, KinemixError
from kinemix.models.checkpoint import find_checkpoint, load_checkpoint
from kinemix.models.factory import create_model

# ------------------------------------------------------------------------------------------------ the loop


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_loop_equals_plain_torch(config, name):
    optim = OptimConfig(
        name=name,
        epochs=2,
        batch_size=5,
        lr=0.05,
        dropout=0.0,
        accumulate=3,  # of four micro-batches: the second step of an epoch has one
        clip_grad_norm=0.5,
        label_smoothing=0.1,
        warmup_epochs=1,
        weight_decay=0.01,
        decay_norms=False,
        momentum=0.8,
    )
    config = replace(config, optim=optim, seed=3)
    run = train(config)

    splits = open_splits(config.data)
    torch.manual_seed(3)
    model = create_model(MODEL, num_classes=12, num_frames=4, input_size=32)
    protocol = replace(config.protocol, input=model.input_spec)
    loader = build_train_loader(
        splits.train, protocol=protocol, augment=config.augment, batch_size=5, seed=3, workers=0
    )
    parameters = dict(model.named_parameters())
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1, momentum=0.8) if name == "sgd" else torch.optim.AdamW(groups)
    rates = [0.05 * 0.01, 0.05 * (0.01 + 0.99 / 2), 0.05, 0.05 * (1 + math.cos(math.pi / 2)) / 2]
    model.train()
    step = 0
    for epoch in range(2):
        batches = list(loader.epoch(epoch))
        assert len(batches) == 4
        for group in (batches[:3], batches[3:]):
            optimizer.zero_grad()
            for batch in group:
                loss = F.cross_entropy(model(batch.clips), batch.labels, label_smoothing=0.1)
                (loss / len(group)).backward()
            torch.nn.utils.clip_grad_norm_(matrices + vectors, 0.5)
            for parameter_group in optimizer.param_groups:
                parameter_group["lr"] = rates[step]
            optimizer.step()
            step += 1
    trained = read_weights(run)
    for key, value in model.state_dict().items():
        assert torch.equal(trained[key], value), key
    assert [r["rate"] for r in read_log(run) if r["kind"] == "train"] == pytest.approx(rates)


def test_rate_is_scaled_with_the_batch_if_asked(config, capfd):
    optim = replace(config.optim, epochs=1, schedule="constant", lr=0.02, lr_batch=40, accumulate=2)
    run = train(replace(config, optim=optim))
    assert [r["rate"] for r in read_log(run) if r["kind"] == "train"] == pytest.approx([0.005, 0.005])
    assert "learning rate 0.005: optim.lr 0.02 is meant for 40 clips" in capfd.readouterr().err


def test_a_run_starts_from_another(config, tmp_path, capfd):
    """Without learning, its weights are those of the other run; a resumed one goes on with its own."""
    first = train(replace(config, model="tsn_test_resnet.r160_in1k"))
    optim = replace(config.optim, epochs=1, lr=0.0, batch_norm="fixed")
    again = replace(config, init_from=str(first), optim=optim, out=str(tmp_path / "again"))
    run = train(again)
    theirs = read_weights(first, "best")
    for name, value in read_weights(run).items():
        assert torch.equal(value, theirs[name.replace(".host.", ".")]), name
    assert f"taken over from {first}" in capfd.readouterr().err
    assert read_run_config(run).init_from == str(first)
    first.rename(tmp_path / "gone")
    train(replace(again, resume=True))


def test_run_directory_holds_everything(config):
    run = train(config)
    records = read_log(run)
    steps = [r for r in records if r["kind"] == "train"]
    assert [r["iteration"] for r in steps] == list(range(1, 13))
    assert all(0 <= r["waiting"] <= 1 and r["clips_per_second"] > 0 for r in steps)
    assert [r["epoch"] for r in records if r["kind"] == "val"] == [1, 2, 3]
    assert list((run / "tensorboard").iterdir())
    assert len((run / "splits" / "val.csv").read_text().splitlines()) == 13
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    saved = read_run_config(run)
    assert (saved.size, saved.color, saved.optim) == ((32, 32), "rgb", config.optim)
    best = max(r["top1"] for r in records if r["kind"] == "val")
    for name in ("best", "last"):
        model, metadata = load_checkpoint(run / name)
        assert len(metadata["class_names"]) == 12
        assert metadata["protocol"]["num_frames"] == 4
        assert model.input_spec.size == (32, 32)
        assert metadata["best"]["figure"] == best


def test_resolved_config_gives_the_same_run(config, tmp_path):
    run = train(config)
    again = train(replace(read_run_config(run), out=str(tmp_path / "again")))
    assert_same_weights(run, again)


def test_grey_input_reaches_model_and_protocol(config):
    run = train(replace(config, color="gray", optim=replace(config.optim, epochs=1)))
    model, metadata = load_checkpoint(run / "last")
    assert model.input_spec.channels == 1
    assert metadata["protocol"]["input"]["color"] == "gray"


def test_blocks_that_work_twice_learn_the_same(config, tmp_path):
    config = replace(config, optim=replace(config.optim, epochs=1, ema=0.9))
    run = train(config)
    again = replace(config, machine=replace(config.machine, recompute=True), out=str(tmp_path / "again"))
    assert_same_weights(train(again), run)


@pytest.mark.parametrize("more", [{"precision": "bf16-mixed"}, {"channels_last": True}], ids=str)
def test_other_arithmetic(config, more):
    run = train(replace(config, machine=replace(config.machine, **more)))
    assert all(value.isfinite().all() for value in read_weights(run).values() if value.is_floating_point())


# ----------------------------------------------------------------------------------------- stop and resume


def test_killed_and_resumed_equals_uninterrupted(config, tmp_path):
    config = replace(config, optim=replace(config.optim, epochs=8))
    whole = train(replace(config, out=str(tmp_path / "whole")))
    process = start(config, epochs=8, save_minutes=0)
    wait_for_steps(config.out, 7, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = load_checkpoint(Path(config.out) / "last")[1]["iteration"]
    assert 5 <= done < 32
    # As if it had been killed while it wrote, which it may have been.
    (Path(config.out) / "last" / f".training-{done + 1:08d}.pt.1234.partial").write_bytes(b"half")
    run = train(replace(config, resume=True))
    assert_same_weights(run, whole)
    assert [r["iteration"] for r in read_log(run) if r["kind"] == "train"] == list(range(1, 33))
    assert sorted(p.name for p in (run / "last").iterdir()) == sorted(
        ["model.json", "training-00000032.pt", *(p.name for p in (run / "last").glob("*.safetensors"))]
    )


def test_ctrl_c_saves_and_tells_how_to_resume(config, tmp_path):
    process = start(config, epochs=200)
    wait_for_steps(config.out, 3, process)
    os.killpg(process.pid, signal.SIGINT)  # the terminal sends it to the loader's processes too
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert f"kinemix train --resume --out {config.out}" in errors.splitlines()[-1]
    done = load_checkpoint(Path(config.out) / "last")[1]["iteration"]
    assert f"after step {done};" in errors
    assert len(read_log(Path(config.out))) >= done


@pytest.mark.parametrize("at", [6, 2], ids=["in the second epoch", "before the first checkpoint"])
def test_crash_and_resume(config, tmp_path, monkeypatch, at):
    whole = train(replace(config, out=str(tmp_path / "whole")))
    note_step = Run.note_step

    def crash(run, step):
        note_step(run, step)
        if run.position.iteration == at:
            raise RuntimeError("power cut")

    monkeypatch.setattr(Run, "note_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(config)
    monkeypatch.undo()
    assert_same_weights(train(replace(config, resume=True)), whole)


def test_sigterm_saves_within_an_epoch(config, tmp_path, monkeypatch):
    whole = train(replace(config, out=str(tmp_path / "whole")))
    note_step = Run.note_step

    def terminate(run, step):
        note_step(run, step)
        if run.position.iteration == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "note_step", terminate)
    with pytest.raises(Interrupted, match="stopped and saved after step 6; to go on: kinemix train --resume"):
        train(config)
    monkeypatch.undo()
    assert_same_weights(train(replace(config, resume=True)), whole)


@pytest.mark.parametrize("kind", ["SIGTERM", "Ctrl-C", "DataError", "killed after it"])
def test_stopped_while_validating(config, tmp_path, monkeypatch, kind):
    """No epoch is lost: the resumed run goes on with the validation."""
    whole = train(replace(config, out=str(tmp_path / "whole")))
    validations = []

    def stop(fabric, parts, loader, *, on_batch):
        def disturb(count):
            if len(validations) == 2 and kind == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            elif len(validations) == 2 and kind == "Ctrl-C":
                os.kill(os.getpid(), signal.SIGINT)
            elif len(validations) == 2 and kind == "DataError":
                raise DataError("too many")
            on_batch(count)  # looks whether it shall stop

        validations.append(1)
        return validate(fabric, parts, loader, on_batch=disturb)

    def die(checkpoints, position, metrics=None):
        if metrics is not None and len(validations) == 2:
            raise SystemExit(9)
        save_last(checkpoints, position, metrics)

    save_last = Checkpoints.save_last
    if kind == "killed after it":
        monkeypatch.setattr(Checkpoints, "save_last", die)
    monkeypatch.setattr("kinemix.engine.run.validate", stop)
    error, message = {
        "DataError": (DataError, "too many"),
        "killed after it": (SystemExit, "9"),
    }.get(kind, (Interrupted, "stopped and saved after step 8; to go on: "))
    with pytest.raises(error, match=message):
        train(config)
    monkeypatch.undo()
    assert load_checkpoint(Path(config.out) / "last")[1]["iteration"] == 8
    steps_before = len([r for r in read_log(Path(config.out)) if r["kind"] == "train"])
    run = train(replace(config, resume=True))
    assert_same_weights(run, whole)
    assert_same_weights(run, whole, "best")
    ours, theirs = (
        [(r["kind"], r["iteration"], r.get("top1"), r.get("loss")) for r in read_log(folder)]
        for folder in (run, whole)
    )
    assert ours == theirs
    assert steps_before == 8


def test_a_scheduler_that_stops_the_workers_too(config, monkeypatch):
    """What torch then says of its dead workers is no error of the run; without the wish to stop it is one."""
    note_step = Run.note_step
    config = replace(config, data=replace(config.data, workers=1), optim=replace(config.optim, epochs=30))

    def stop_all(run, step):
        note_step(run, step)
        if run.position.iteration == 6:
            asked and os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")

    monkeypatch.setattr(Run, "note_step", stop_all)
    asked = True
    with pytest.raises(Interrupted, match="stopped after step 6, saved after 4; to go on"):
        train(config)
    asked = False
    with pytest.raises(DataError, match=r"a loader worker died \(DataLoader worker \(pid 7\)"):
        train(replace(config, resume=True))


def test_a_failure_after_the_wish_to_stop_is_not_hidden(config, monkeypatch):
    def fail(run, step):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("a defect")

    monkeypatch.setattr(Run, "note_step", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        train(config)


def test_resuming_a_finished_run_changes_nothing(config, capfd):
    run = train(config)
    before = read_weights(run)
    capfd.readouterr()
    train(replace(config, resume=True))
    assert "nothing left to do: 3 of 3 epochs" in capfd.readouterr().err
    assert all(torch.equal(value, before[key]) for key, value in read_weights(run).items())


def test_resuming_with_other_options_or_videos_is_refused(config):
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    with pytest.raises(ConfigError, match=r"optim\.epochs = 1, not 3"):
        train(replace(config, resume=True))
    with pytest.raises(ConfigError, match="model = "):
        train(replace(config, model="tsn_test_resnet.r160_in1k", resume=True))
    (run / "splits" / "train.csv").write_text("path,label,name\n")
    with pytest.raises(ConfigError, match="the train videos have changed"):
        train(replace(config, optim=replace(config.optim, epochs=1), resume=True))


def test_a_run_is_not_overwritten_nor_resumed_from_nothing(config, tmp_path):
    train(replace(config, optim=replace(config.optim, epochs=1)))
    with pytest.raises(ConfigError, match="a run is already there"):
        train(config)
    with pytest.raises(ConfigError, match="no run to resume"):
        train(replace(config, out=str(tmp_path / "none"), resume=True))
    with pytest.raises(ConfigError, match="no run to resume"):
        train(replace(config, out=None, resume=True))


@pytest.mark.parametrize("resume", [False, True, "auto"])
def test_what_is_left_of_a_run_is_neither_overwritten_nor_begun_anew(config, resume):
    run = train(replace(config, optim=replace(config.optim, epochs=2)))
    log = (run / "log.jsonl").read_bytes()
    again = replace(config, resume=resume, optim=replace(config.optim, epochs=2))
    shutil.rmtree(run / "last")
    with pytest.raises(ConfigError, match=r"whose last/ is gone, .*: restore that, or .* --init_from .*best"):
        train(again)
    shutil.rmtree(run / "best")
    with pytest.raises(
        ConfigError, match="holds the log of a run whose checkpoints are gone: give another --out"
    ):
        train(again)
    assert (run / "log.jsonl").read_bytes() == log


@pytest.mark.parametrize("resume", [True, "auto"])
def test_a_run_without_its_options_is_told(config, resume):
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    (run / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"has checkpoints and no config\.yaml, .*: restore it from a copy"):
        train(replace(config, resume=resume))


def test_what_of_a_schedule_is_never_reached_is_told(config, capfd):
    optim = replace(config.optim, epochs=1, schedule="step", milestones=(3.0, 5.0), warmup_epochs=2)
    train(replace(config, optim=optim))
    told = capfd.readouterr().err
    assert "the warm-up is longer than the run: the rate never comes up to optim.lr" in told
    assert "none of optim.milestones [3.0, 5.0] lies within 1 epochs: the rate never steps down" in told


def test_default_directories_are_numbered(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = replace(config, out=None, optim=replace(config.optim, epochs=1))
    first, second = train(config), train(config)
    assert (first.name[-4:], second.name[-4:]) == ("-001", "-002")
    assert first.name.startswith(f"{MODEL}-motion")


@pytest.mark.slow
def test_sigterm_to_everybody_tells_how_to_resume(config):
    """The loader's processes may be gone before anything could be saved."""
    process = start(config, epochs=200)
    wait_for_steps(config.out, 3, process)
    os.killpg(process.pid, signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert f"kinemix train --resume --out {config.out}" in errors.splitlines()[-1]


@pytest.mark.slow
def test_two_processes_stop_together_and_resume(config):
    machine = {"accelerator": "cpu", "threads": 1, "devices": 2}
    process = start(config, epochs=8, machine=machine)
    wait_for_steps(config.out, 3, process)
    process.send_signal(signal.SIGTERM)  # to the first of them alone
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    assert "stopped and saved after step" in errors
    process = start(config, epochs=8, machine=machine, resume=True)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    records = read_log(Path(config.out))
    assert [r["iteration"] for r in records if r["kind"] == "train"] == list(range(1, 17))
    assert [r["epoch"] for r in records if r["kind"] == "val"] == list(range(1, 9))


# ----------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("part", ["state", "weights"])
def test_full_disk_keeps_the_checkpoint_before(config, monkeypatch, part):
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    kept = read_weights(run)
    partial_files = []

    def fail(path, *args):
        Path(path).write_bytes(b"half")
        partial_files.append(Path(path))
        raise OSError(errno.ENOSPC, "No space left on device")

    if part == "state":
        monkeypatch.setattr(training_state, "write_atomically", lambda path, write: _fail_within(path, fail))
    else:
        monkeypatch.setattr("kinemix.models.checkpoint.save_file", lambda weights, path: fail(path))
    with pytest.raises(CheckpointError, match=r"No space left on device.*untouched"):
        training_state.write_checkpoint(
            run / "last", model=load_checkpoint(run / "last")[0], metadata={"iteration": 99}, state={"x": 1}
        )
    monkeypatch.undo()
    assert partial_files
    assert not any(path.exists() for path in partial_files)
    assert [p.name for p in (run / "last").glob("*.pt")] == ["training-00000004.pt"]
    assert all(torch.equal(value, kept[key]) for key, value in read_weights(run).items())
    model = load_checkpoint(run / "last")[0]
    state = training_state.read_checkpoint_(run / "last", model=model)
    assert state["processes"][0]["position"]["epoch"] == 1


def _fail_within(path, fail):
    from kinemix.atomic import write_atomically

    write_atomically(path, fail)


def test_unreadable_videos_are_listed_and_too_many_stop_the_run(config, tmp_path, capfd):
    source = tmp_path / "videos"
    make_motion(source, train_per_class=2, val_per_class=1, num_frames=8, size=32, workers=1)
    broken = source / "train" / "grow" / "00000.mp4"
    broken.write_bytes(b"this is no video")
    config = replace(config, data=DataConfig(source=str(source), workers=0, max_unreadable=0.1))
    run = train(config)
    assert str(broken) in (run / "unreadable.csv").read_text()
    told = [line for line in capfd.readouterr().err.splitlines() if "left out" in line]
    assert told == [
        f"note: 1 of 36 videos (2.78%) cannot be read and are left out; they are listed in {run}/unreadable.csv"
    ]
    strict = replace(config, out=str(tmp_path / "strict"), data=replace(config.data, max_unreadable=0.01))
    with pytest.raises(DataError, match=r"1 of 36 videos cannot be read.*max_unreadable = 0\.01.*00000\.mp4"):
        train(strict)


def test_the_limit_names_the_first_videos_and_the_list(tmp_path):
    unreadable = UnreadableList(tmp_path / "unreadable.csv", total=100, limit=0.04)
    unreadable.add((f"{number}.mp4", "no video") for number in range(4))
    assert unreadable.take_news().startswith("4 of 100 videos (4.00%) cannot be read and are left out")
    assert unreadable.take_news() is None
    message = r"5 of 100 videos .* 0\.04 allows: 0\.mp4: no video; 1\.mp4: .*2\.mp4: no video; \.\.\.; all are in .*csv"
    with pytest.raises(DataError, match=message):
        unreadable.add([("4.mp4", "no video"), ("3.mp4", "no video")])
    assert len((tmp_path / "unreadable.csv").read_text().splitlines()) == 6


def test_a_resumed_run_goes_on_with_its_list_of_unreadable_videos(config, tmp_path, capfd):
    """It counts what earlier parts of the run have found, but for what was mended meanwhile."""
    source = tmp_path / "videos"
    make_motion(source, train_per_class=2, val_per_class=1, num_frames=8, size=32, workers=1)
    videos = [source / part / "grow" / "00000.mp4" for part in ("train", "val")]
    whole = [video.read_bytes() for video in videos]
    for video in videos:
        video.write_bytes(b"this is no video")
    data = DataConfig(source=str(source), workers=0, max_unreadable=0.06)
    config = replace(config, data=data, optim=replace(config.optim, epochs=2))
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    listed = (run / "unreadable.csv").read_text()
    assert all(str(video) in listed for video in videos)
    config_file = run / "config.yaml"
    config_file.write_text(config_file.read_text().replace("epochs: 1\n", "epochs: 2\n"))

    another = source / "train" / "shrink" / "00001.mp4"
    kept = another.read_bytes()
    another.write_bytes(b"nor is this")
    with pytest.raises(DataError, match=r"3 of 36 videos cannot be read"):
        train(replace(config, resume=True))
    another.write_bytes(kept)
    for video, content in zip(videos, whole, strict=True):
        video.write_bytes(content)
    capfd.readouterr()
    train(replace(config, resume=True))
    # All three were read, so nothing is left of the list but its heading.
    assert (run / "unreadable.csv").read_text() == "path,reason\n"
    assert "left out" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "tsm_test_resnt"}, "unknown model"),
        ({"protocol": Protocol(num_frames=0)}, "num_frames is 0"),
        ({"protocol": Protocol(input=InputSpec(size=(96, 96)))}, "set size and color"),
        ({"optim": OptimConfig(epochs=0)}, r"optim\.epochs is 0"),
        ({"optim": OptimConfig(dropout=1.0)}, r"optim\.dropout is 1"),
        ({"optim": OptimConfig(clip_grad_norm=0)}, "null"),
        ({"machine": MachineConfig(accelerator="gpus")}, r"machine\.accelerator"),
        ({"machine": MachineConfig(accelerator="cpu", precision="16-mixed")}, "bf16-mixed"),
        ({"data": DataConfig(source="nowhere")}, "nowhere: no such file"),
        ({"data": DataConfig(source="nowhere", val_share=1.5)}, r"data\.val_share is 1\.5"),
        ({"model_options": {"fold_div": 8}}, "no option 'fold_div'"),
        ({"augment": AugmentConfig(flip_labels={"left": "right"})}, "left"),
    ],
    ids=str,
)
def test_mistakes_leave_no_directory(config, change, message):
    with pytest.raises(KinemixError, match=message):
        train(replace(config, **change))
    assert not Path(config.out).exists()


def test_find_checkpoint(config, tmp_path):
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    assert find_checkpoint(run).name == "best"
    assert find_checkpoint(run, "last").name == "last"
    assert find_checkpoint(run / "last").name == "last"
    for path, message in ((tmp_path / "no", "no such run"), (tmp_path, "no checkpoint there")):
        with pytest.raises(CheckpointError, match=message):
            find_checkpoint(path)
    (run / "best" / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        find_checkpoint(run)
