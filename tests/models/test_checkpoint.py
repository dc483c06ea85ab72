"""A checkpoint comes back whole, or one line says why not; saving never harms the one before."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

import kinemix
from kinemix.errors import CheckpointError
from kinemix.models.checkpoint import load_checkpoint, save_checkpoint
from kinemix.models.video import VideoModel

METADATA = {"labels": ["göra", "b"], "protocol": {"num_frames": 4}}


def make(name: str = "mixtconv_resnet18", **options: object) -> VideoModel:
    return kinemix.create_model(name, num_classes=2, num_frames=4, input_size=32, **options)


@pytest.fixture(scope="module")
def model() -> VideoModel:
    torch.manual_seed(0)
    return make(kernel_sizes=(1, 3))


def weights_in(folder: Path) -> Path:
    return next(folder.glob("model-*.safetensors"))


def test_round_trip(tmp_path: Path, model: VideoModel) -> None:
    path = save_checkpoint(tmp_path / "a" / "b", model=model, metadata=METADATA)
    assert path == tmp_path / "a" / "b" / "model.json"
    for given in (path.parent, path, weights_in(path.parent)):
        loaded, metadata = load_checkpoint(given)
        assert metadata == METADATA
        assert not loaded.training
        state = model.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())
        assert loaded.sites == model.sites
        assert loaded.input_spec == model.input_spec
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(clip), model.eval()(clip))


def test_the_json_holds_everything_readable(tmp_path: Path, model: VideoModel) -> None:
    save_checkpoint(tmp_path, model=model, metadata=METADATA)
    content = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert content["kinemix"] == kinemix.__version__
    assert content["model"]["name"] == "mixtconv_resnet18"
    assert content["metadata"]["labels"][0] == "göra"
    modes = {p.stat().st_mode for p in tmp_path.iterdir()}
    assert len(modes) == 1  # readable by whoever may read the folder's other files


def test_saving_again_leaves_two_files(tmp_path: Path) -> None:
    one = make("tsm_test_resnet")
    save_checkpoint(tmp_path, model=one, metadata={})
    nn.init.ones_(one.backbone.get_submodule(one.classifier).bias)
    save_checkpoint(tmp_path, model=one, metadata={"epoch": 2})
    assert len(list(tmp_path.iterdir())) == 2
    loaded, metadata = load_checkpoint(tmp_path)
    assert metadata == {"epoch": 2}
    assert loaded.backbone.get_submodule(one.classifier).bias.eq(1).all()


def test_what_a_killed_save_left_goes_with_the_next(tmp_path: Path, model: VideoModel) -> None:
    for name in (".saving-0123456789abcdef", ".tmpyEPUSx", "model-0123456789abcdef.safetensors"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "notes.tmp").write_bytes(b"the user's")
    save_checkpoint(tmp_path, model=model, metadata={})
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.json",
        "notes.tmp",
        weights_in(tmp_path).name,
    }


def test_shared_weights_and_channels_last(tmp_path: Path, model: VideoModel) -> None:
    tied = make().to(memory_format=torch.channels_last)
    tied.backbone.layer1[1].conv2.weight = tied.backbone.layer1[0].conv2.weight
    save_checkpoint(tmp_path, model=tied, metadata={})
    loaded, _ = load_checkpoint(tmp_path)
    assert torch.equal(loaded.backbone.layer1[1].conv2.weight, tied.backbone.layer1[0].conv2.weight)


def test_a_backbone_of_ones_own_needs_its_code(tmp_path: Path) -> None:
    def backbone() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        )

    own = kinemix.temporalize(backbone(), "tsm", input_size=16)
    save_checkpoint(tmp_path, model=own, metadata={})
    with pytest.raises(CheckpointError, match=r"cannot build the backbone .*Sequential.* give it as model="):
        load_checkpoint(tmp_path)
    again, _ = load_checkpoint(tmp_path, model=kinemix.temporalize(backbone(), "tsm", input_size=16))
    assert torch.equal(again.backbone[4].weight, own.backbone[4].weight)


def test_failures_of_loading(tmp_path: Path, model: VideoModel) -> None:
    def refuses(message: str, folder: Path = tmp_path, **given: object) -> None:
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(folder, **given)
        assert "\n" not in str(caught.value)

    refuses("no checkpoint here", tmp_path / "nowhere")
    refuses("no checkpoint here")
    save_checkpoint(tmp_path, model=model, metadata={})
    refuses("belong to another network", model=make("tsm_resnet18"))
    refuses("belong to another network", model=make("mixtconv_resnet18", kernel_sizes=(1, 5)))

    weights = weights_in(tmp_path)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    refuses(f"{weights.name}: has .* bytes instead of .*incomplete")
    weights.write_bytes(whole[:-1000] + bytes(1000))
    refuses("its hash differs")
    weights.unlink()
    refuses(f"{weights.name}: the weights are missing")
    weights.write_bytes(whole)

    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    for change, message in [
        ({"format": 99}, "upgrade kinemix"),
        ({"model": {**content["model"], "name": "tsm_resnt18"}}, "cannot be built: .*did you mean"),
        ({"model": {**content["model"], "num_classes": 3}}, "belong to another network"),
        ({"model": {**content["model"], "nonsense": 3}}, "cannot be built: .*nonsense"),
    ]:
        path.write_text(json.dumps({**content, **change}))
        refuses(message)
    path.write_text(json.dumps({"format": 1}))
    refuses("this is no kinemix checkpoint")
    path.write_text(json.dumps(content)[:-20])
    refuses("model.json: cannot be read")
    path.write_bytes(b"\xff\xfe\x00")
    refuses("model.json: cannot be read")


@contextmanager
def disk_that_is_full_at(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes; the operating system refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, model: VideoModel, size: int) -> None:
    save_checkpoint(tmp_path, model=model, metadata={"epoch": 1})
    files = sorted(tmp_path.iterdir())
    with (
        disk_that_is_full_at(size),
        pytest.raises(CheckpointError, match=r"cannot be written .*the one before is untouched") as caught,
    ):
        save_checkpoint(tmp_path, model=make(), metadata={"epoch": 2})
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == files
    assert load_checkpoint(tmp_path)[1] == {"epoch": 1}


@pytest.mark.parametrize("step", [0, 1])
def test_an_interrupt_between_the_two_files(
    tmp_path: Path, model: VideoModel, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Stopped before either rename, the pair on disk is the old one."""
    save_checkpoint(tmp_path, model=model, metadata={"epoch": 1})
    replace, calls = Path.replace, []

    def interrupted(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) > step:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    other = make(kernel_sizes=(1, 3))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, model=other, metadata={"epoch": 2})
    monkeypatch.undo()
    loaded, metadata = load_checkpoint(tmp_path)
    assert metadata == {"epoch": 1}
    assert torch.equal(loaded.backbone.conv1.weight, model.backbone.conv1.weight)
    save_checkpoint(tmp_path, model=other, metadata={"epoch": 3})
    assert len(list(tmp_path.iterdir())) == 2


SAVE_FOREVER = """
import sys, itertools, torch, kinemix
torch.set_num_threads(1)
model = kinemix.create_model("tsm_test_resnet", num_classes=2, num_frames=4, input_size=32)
bias = model.backbone.get_submodule(model.classifier).bias
for epoch in itertools.count():
    torch.nn.init.constant_(bias, epoch)
    kinemix.save_checkpoint(sys.argv[1], model=model, metadata={"epoch": epoch})
    if epoch == 3:
        print("going", flush=True)
"""


@pytest.mark.parametrize(
    "delay", [0.05, *[pytest.param(0.1 + 0.013 * i, marks=pytest.mark.slow) for i in range(5)]]
)
def test_a_kill_leaves_a_consistent_pair(tmp_path: Path, delay: float) -> None:
    with subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
    loaded, metadata = load_checkpoint(tmp_path)
    assert metadata["epoch"] >= 3
    assert loaded.backbone.get_submodule(loaded.classifier).bias.eq(metadata["epoch"]).all()
