"""The layout law: clips in, logits out, and an error that names both layouts for anything else."""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kinemix
from kinemix.errors import LayoutError
from kinemix.models.video import Fold, VideoModel
from kinemix.temporal import Insertion, TemporalModule


class Fixed(TemporalModule):
    """Bound to the clip it was built for, as a module with weights for every position is."""

    name = "fixed"
    placements = {"block": Insertion(at="block")}
    any_length = False
    any_size = False

    def forward(self, clip: Tensor) -> Tensor:
        return clip


@pytest.fixture(scope="module")
def model() -> VideoModel:
    torch.manual_seed(0)
    return kinemix.create_model("mixtconv_resnet18", num_classes=4, num_frames=4, input_size=64).eval()


def test_fold_is_a_view_both_ways() -> None:
    fold = Fold(8)
    clip = torch.rand(2, 3, 4, 5, 6)
    frames = fold.open(clip)
    assert fold.num_frames == 3
    assert frames.shape == (6, 4, 5, 6)
    assert frames.data_ptr() == clip.data_ptr()
    again = fold.clip(frames)
    assert torch.equal(again, clip)
    assert again.data_ptr() == clip.data_ptr()


def test_fold_keeps_channels_last() -> None:
    fold = Fold(3)
    frames = torch.rand(6, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    clip = fold.clip(frames)
    back = fold.inside(clip)
    assert clip.data_ptr() == back.data_ptr() == frames.data_ptr()
    assert back.is_contiguous(memory_format=torch.channels_last)


def test_the_logits_are_the_mean_over_frames() -> None:
    """MixTConv, equation (3), with the frames' logits from the untouched backbone."""
    model = kinemix.create_model("tsn_resnet18", num_classes=4, input_size=64).eval()
    clip = torch.randn(2, 5, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(clip), model.backbone(clip.flatten(0, 1)).view(2, 5, 4).mean(1))


def test_clips_do_not_mix(model: VideoModel) -> None:
    clip = torch.randn(3, 4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(clip)[1:2], model(clip[1:2]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_any_number_of_frames_and_any_size(model: VideoModel, num_frames: int) -> None:
    assert model(torch.randn(1, num_frames, 3, 48, 80)).shape == (1, 4)
    assert model.num_frames == 4


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, 64, 64), r"clips B T C H W, got 4 dimensions \(4, 3, 64, 64\): .*clip\[None\]"),
        ((64, 64), "got 2 dimensions"),
        ((2, 3, 4, 64, 64), r"looks like B C T H W: use clip.transpose\(1, 2\)"),
        ((2, 4, 64, 64, 3), r"looks like B T H W C: use clip.permute\(0, 1, 4, 2, 3\)"),
        ((2, 4, 1, 64, 64), r"C = 3 \(rgb\), got C = 1"),
        ((2, 0, 3, 64, 64), r"no frames"),
    ],
)
def test_another_layout_is_explained(model: VideoModel, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(LayoutError, match=message) as caught:
        model(torch.zeros(shape))
    assert "B T C H W" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_integers_are_refused(model: VideoModel) -> None:
    with pytest.raises(LayoutError, match=r"floating point clips, got torch.uint8: .*input_spec"):
        model(torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros((1, 4, 3, 64, 64), np.float32), r"got ndarray: use torch.from_numpy\(clip\)"),
        (None, "got NoneType"),
        (torch.zeros(1, 4, 3, 64, 64, dtype=torch.float64), r"float64: use clip.to\(torch.float32\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_clip_is_refused(model: VideoModel, clip: Any, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        model(clip)


def test_other_precisions() -> None:
    model = kinemix.create_model("tsm_test_resnet.r160_in1k", num_classes=4, input_size=32).double().eval()
    assert model(torch.zeros(1, 4, 3, 32, 32, dtype=torch.float64)).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        model.float()(torch.zeros(1, 4, 3, 32, 32, dtype=torch.bfloat16))


def test_threads_do_not_mix_their_clips() -> None:
    """Clips of different lengths pass one network at the same time."""
    model = kinemix.create_model("tsm_test_resnet.r160_in1k", num_classes=4, input_size=32).eval()
    clips = [torch.randn(batch, frames, 3, 32, 32) for batch, frames in ((3, 4), (2, 6), (6, 2), (4, 3))]

    def look(clip: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            return [model(clip) for _ in range(20)]

    wanted = [look(clip)[0] for clip in clips]
    with ThreadPoolExecutor(len(clips)) as threads:
        for answers, right in zip(threads.map(look, clips), wanted, strict=True):
            for answer in answers:
                torch.testing.assert_close(answer, right)


def test_a_thread_without_a_clip_works_for_one_that_has() -> None:
    """As autograd's do, when gradient checkpointing runs a part of the network again."""
    fold = Fold(8)
    frames = fold.open(torch.rand(2, 3, 4, 5, 6))
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(fold.clip, frames).result().shape == (2, 3, 4, 5, 6)


def test_a_module_bound_to_its_clip_says_which() -> None:
    backbone = kinemix.create_model("tsn_resnet18", num_classes=2).backbone
    model = kinemix.temporalize(backbone, Fixed, num_frames=4, input_size=64)
    assert model(torch.randn(1, 4, 3, 64, 64)).shape == (1, 2)
    with pytest.raises(LayoutError, match=r"fixed was built for 4 frames a clip, got 5 .*num_frames=5"):
        model(torch.randn(1, 5, 3, 64, 64))
    with pytest.raises(LayoutError, match=r"fixed was built for frames of \(64, 64\) pixels, got \(64, 32\)"):
        model(torch.randn(1, 4, 3, 64, 32))


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("tsm_resnet18", 512),
        ("tsm_mobilenetv2_100", 1280),
        ("tsm_resnetv2_50", 2048),
        ("tsm_convnext_atto", 320),
    ],
)
def test_features_are_what_the_classifier_sees(name: str, width: int) -> None:
    model = kinemix.create_model(name, num_classes=4, input_size=64, num_frames=3).eval()
    clip = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_features(clip)
        assert features.shape == (2, 3, width)
        layer = model.backbone.get_submodule(model.classifier)
        logits = features @ layer.weight.flatten(1).T + layer.bias
        torch.testing.assert_close(logits.mean(1), model(clip), rtol=1e-4, atol=1e-6)


def test_gray(model: VideoModel) -> None:
    gray = kinemix.create_model("tsm_resnet18", num_classes=4, input_size=64, color="gray")
    assert gray(torch.randn(1, 4, 1, 64, 64)).shape == (1, 4)
    with pytest.raises(LayoutError, match=r"C = 1 \(gray\)"):
        gray(torch.randn(1, 4, 3, 64, 64))


def test_a_copy_has_a_fold_of_its_own(model: VideoModel) -> None:
    other = copy.deepcopy(model)
    clip = torch.randn(1, 6, 3, 64, 64)
    with torch.no_grad():
        expected = model(clip)
        model(clip[:, :2])  # leaves the original's fold at 2 frames
        assert other.layout is not model.layout
        assert torch.equal(other(clip), expected)


def test_channels_last_gives_the_same_logits(model: VideoModel) -> None:
    clip = torch.randn(2, 4, 3, 64, 64)
    layouts: list[bool] = []
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    note = other.temporal_modules()["backbone.layer2.1.conv1.temporal"].register_forward_hook(
        lambda _m, _i, out: layouts.append(out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last))
    )
    with torch.no_grad():
        torch.testing.assert_close(other(clip), model(clip), rtol=1e-4, atol=1e-5)
    note.remove()
    assert layouts == [True]


def test_temporal_modules_are_listed_once_each(model: VideoModel) -> None:
    """A module made of another module (depthwise is a mixtconv of one group) counts as one."""
    model = kinemix.create_model("depthwise_resnet18", num_classes=2)
    assert len(model.temporal_modules()) == len(model.sites) == 8
    assert {m.name for m in model.temporal_modules().values()} == {"depthwise"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tsm_resnet18", "mixtconv_resnet18", "conv1d_resnet18"])
def test_export(name: str) -> None:
    model = kinemix.create_model(name, num_classes=3, num_frames=4, input_size=64).eval()
    clip = torch.randn(2, 4, 3, 64, 64)
    program = torch.export.export(model, (clip,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(clip), model(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tsm_resnet18", "mixtconv_resnet18"])
def test_compile(name: str) -> None:
    model = kinemix.create_model(name, num_classes=3, num_frames=4, input_size=64).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for num_frames in (4, 6):
            clip = torch.randn(2, num_frames, 3, 64, 64)
            torch.testing.assert_close(compiled(clip), model(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tsn", "tsm", "mixtconv"])
def test_only_temporal_networks_know_the_order_of_frames(name: str) -> None:
    torch.manual_seed(0)
    model = kinemix.create_model(f"{name}_torchvision.resnet18", num_classes=4, num_frames=4, input_size=64)
    model.eval()
    clip = torch.randn(1, 4, 3, 64, 64)
    with torch.no_grad():
        forwards, backwards = model(clip), model(clip.flip(1))
    change = ((forwards - backwards).norm() / forwards.norm()).item()
    assert change < 1e-5 if name == "tsn" else change > 1e-3
