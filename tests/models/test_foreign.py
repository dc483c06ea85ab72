"""Checkpoints of other projects: each layout is built by hand and run by hand, from the file's own names.

No network of theirs is at hand, so the reference runs a ResNet function by function on tensors under the
foreign names; kinemix must give the same logits after conversion.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import kinemix
from kinemix.cli import main
from kinemix.data.catalog.motion.encode import encode_clip
from kinemix.errors import CheckpointError, ConfigError
from kinemix.models.factory import create_model
from kinemix.models.foreign import convert_checkpoint

FRAMES, CLASSES = 4, 5
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
State = dict[str, Tensor]
Look = Callable[[State, str, Tensor], Tensor]


# ------------------------------------------------------------------------------------------ layouts, by hand


def fill(network: nn.Module) -> State:
    """Random tensors of a network, norms included, as they look after training."""
    torch.manual_seed(0)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor.normal_(std=0.2 if tensor.ndim < 2 else (2 / tensor[0].numel()) ** 0.5)
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.abs_().add_(0.5)
    return state


def make_resnet(name: str) -> State:
    return fill(getattr(torchvision.models, name)(num_classes=CLASSES))


def to_tsn(state: State, *, inside: Callable[[str], str] = lambda name: name) -> State:
    """TSN's repository: base_model, new_fc, and nn.DataParallel's prefix."""
    renamed = {}
    for name, tensor in state.items():
        new = name.replace("fc.", "new_fc.") if name.startswith("fc.") else f"base_model.{inside(name)}"
        renamed[f"module.{new}"] = tensor
    return renamed


def wrap_conv1(name: str) -> str:
    return name.replace(".conv1.", ".conv1.net.") if name.startswith("layer") else name


def wrap_block(name: str) -> str:
    if not name.startswith("layer"):
        return name
    stage, block, rest = name.split(".", 2)
    return f"{stage}.{block}.net.{rest}"


def to_mmaction(state: State, *, shifted: bool) -> State:
    renamed = {}
    for name, tensor in state.items():
        new = name.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")
        for i in "123":
            wrapped = "net." if shifted and i == "1" and name.startswith("layer") else ""
            new = new.replace(f"bn{i}.", f"conv{i}.bn.")
            if f"conv{i}.weight" in name:
                new = new.replace(f"conv{i}.", f"conv{i}.conv.{wrapped}")
        renamed[new.replace("fc.", "cls_head.fc_cls.") if name.startswith("fc.") else f"backbone.{new}"] = (
            tensor
        )
    return renamed


def add_mixed_kernels(state: State) -> State:
    """MixTConv's repository: four depthwise 3D convolutions before conv1, beside ``net``."""
    kernels = {}
    for name, tensor in state.items():
        if name.endswith("conv1.net.weight"):
            width = tensor.shape[1] // 4
            for size in (1, 3, 5, 7):
                kernel = torch.randn(width, 1, size, 1, 1)
                kernels[name.replace("net.weight", f"conv1{size}d.weight")] = kernel
    return state | kernels


# ------------------------------------------------------------------------------------------ networks, by hand


def shift(x: Tensor, fold: int = 8) -> Tensor:
    clip = x.reshape(-1, FRAMES, *x.shape[1:])
    out, share = torch.zeros_like(clip), x.shape[1] // fold
    for t in range(FRAMES):
        if t + 1 < FRAMES:
            out[:, t, :share] = clip[:, t + 1, :share]
        if t > 0:
            out[:, t, share : 2 * share] = clip[:, t - 1, share : 2 * share]
        out[:, t, 2 * share :] = clip[:, t, 2 * share :]
    return out.reshape(x.shape)


def mix(state: State, block: str, x: Tensor) -> Tensor:
    clip = x.reshape(-1, FRAMES, *x.shape[1:]).transpose(1, 2)
    groups = clip.chunk(4, dim=1)
    looked = [
        F.conv3d(g, state[f"{block}.conv1.conv1{k}d.weight"], padding=(k // 2, 0, 0), groups=g.shape[1])
        for g, k in zip(groups, (1, 3, 5, 7), strict=True)
    ]
    return torch.cat(looked, dim=1).transpose(1, 2).reshape(x.shape)


def keep(_state: State, _block: str, x: Tensor) -> Tensor:
    return x


def run_resnet(
    state: State,
    frames: Tensor,
    depths: tuple[int, ...],
    names: dict[str, str],
    look: Look = keep,
    before: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """Logits of each frame; ``names`` turns torchvision's ``conv1``, ``bn1``, ... into the file's.

    ``look`` stands before each block's first convolution, ``before`` before the whole block.
    """

    def norm(path: str, x: Tensor) -> Tensor:
        statistics = (state[f"{path}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics)

    def conv(path: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{path}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = F.relu(norm(names["stem_bn"], conv(names["stem"], frames, 2)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(depths, start=1):
        for index in range(depth):
            block = f"{names['prefix']}layer{stage}.{index}"
            x = before(x)
            stride = 2 if stage > 1 and index == 0 else 1
            conv1, rest = (
                f"{block}.{names['conv1']}",
                [k for k in "23" if f"{block}.{names['conv' + k]}.weight" in state],
            )
            strides = [1, stride] if len(rest) == 2 else [stride, 1]
            y = F.relu(norm(f"{block}.{names['bn1']}", conv(conv1, look(state, block, x), strides[0])))
            for place, k in enumerate(rest):
                y = norm(
                    f"{block}.{names['bn' + k]}",
                    conv(f"{block}.{names['conv' + k]}", y, strides[1] if place == 0 else 1),
                )
                y = F.relu(y) if place + 1 < len(rest) else y
            if f"{block}.{names['down']}.weight" in state:
                x = norm(f"{block}.{names['down_bn']}", conv(f"{block}.{names['down']}", x, stride))
            x = F.relu(x + y)
    return F.linear(x.mean(dim=(2, 3)), state[f"{names['fc']}.weight"], state[f"{names['fc']}.bias"])


TSN_NAMES = {
    "prefix": "module.base_model.", "stem": "module.base_model.conv1", "stem_bn": "module.base_model.bn1",
    "conv1": "conv1", "conv2": "conv2", "conv3": "conv3", "bn1": "bn1", "bn2": "bn2", "bn3": "bn3",
    "down": "downsample.0", "down_bn": "downsample.1", "fc": "module.new_fc",
}  # fmt: skip
MMACTION_NAMES = {
    "prefix": "backbone.", "stem": "backbone.conv1.conv", "stem_bn": "backbone.conv1.bn",
    "conv1": "conv1.conv", "conv2": "conv2.conv", "conv3": "conv3.conv",
    "bn1": "conv1.bn", "bn2": "conv2.bn", "bn3": "conv3.bn",
    "down": "downsample.conv", "down_bn": "downsample.bn", "fc": "cls_head.fc_cls",
}  # fmt: skip


def save(path: Path, state: State, **beside: object) -> Path:
    torch.save({"state_dict": state, **beside}, path)
    return path


def check_logits(model: nn.Module, by_hand: Callable[[Tensor], Tensor], *, size: int = 32) -> None:
    torch.manual_seed(1)
    clip = torch.randn(2, FRAMES, 3, size, size)
    with torch.no_grad():
        expected = by_hand(clip.flatten(0, 1)).unflatten(0, (2, FRAMES)).mean(dim=1)
        assert expected.std() > 0.1
        torch.testing.assert_close(model(clip), expected, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------------------- every source


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ["none", "residual", "block"])
def test_tsm_repository(tmp_path: Path, backbone: str, place: str) -> None:
    inside = {"none": lambda name: name, "residual": wrap_conv1, "block": wrap_block}[place]
    state = to_tsn(make_resnet(backbone), inside=inside)
    path = save(tmp_path / "ckpt.best.pth.tar", state, epoch=3, arch=backbone, best_prec1=torch.tensor(1.0))
    found = convert_checkpoint(path, num_frames=FRAMES, size=32)
    assert found.model.description["name"] == f"{'tsn' if place == 'none' else 'tsm'}_{backbone}"
    assert found.report.count() == {"renamed": len(state)}
    assert found.protocol.sampling == "sparse"
    assert (found.protocol.num_clips, found.protocol.num_crops, found.protocol.crop_fraction) == (1, 1, 0.875)
    assert found.protocol.input == found.model.input_spec
    assert found.model.input_spec.mean == (0.485, 0.456, 0.406)
    if place == "block":
        assert found.model.description["placement"] == "block"
        state = {name.replace(".net.", "."): tensor for name, tensor in state.items()}
    names = TSN_NAMES | {"conv1": "conv1.net" if place == "residual" else "conv1"}
    look: Look = (lambda _s, _b, x: shift(x)) if place == "residual" else keep
    before: Callable[[Tensor], Tensor] = shift if place == "block" else lambda x: x
    check_logits(found.model, lambda x: run_resnet(state, x, DEPTHS[backbone], names, look, before))


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_mixtconv_repository(tmp_path: Path, backbone: str) -> None:
    state = add_mixed_kernels(to_tsn(make_resnet(backbone), inside=wrap_conv1))
    found = convert_checkpoint(save(tmp_path / "c.pth.tar", state), num_frames=FRAMES, size=32)
    assert found.model.description["name"] == f"mixtconv_{backbone}"
    assert found.model.description["kernel_sizes"] == [1, 3, 5, 7]
    assert found.report.count()["reshaped"] == 4 * sum(DEPTHS[backbone])
    assert not found.report.names("missing") + found.report.names("left over")
    names = TSN_NAMES | {"conv1": "conv1.net"}
    check_logits(found.model, lambda x: run_resnet(state, x, DEPTHS[backbone], names, mix))


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shifted", [False, True])
def test_mmaction(tmp_path: Path, backbone: str, shifted: bool) -> None:
    state = to_mmaction(make_resnet(backbone), shifted=shifted)
    found = convert_checkpoint(
        save(tmp_path / "tsm.pth", state, meta={"epoch": 1}), num_frames=FRAMES, size=32
    )
    assert found.model.description["name"] == f"{'tsm' if shifted else 'tsn'}_{backbone}"
    assert found.report.count() == {"renamed": len(state)}
    names = MMACTION_NAMES | {"conv1": "conv1.conv.net" if shifted else "conv1.conv"}
    look: Look = (lambda _s, _b, x: shift(x)) if shifted else keep
    check_logits(found.model, lambda x: run_resnet(state, x, DEPTHS[backbone], names, look))


def test_tsm_mobilenet(tmp_path: Path) -> None:
    """Their MobileNetV2 is one flat sequence a block, and only residual ones are shifted."""
    reference = torchvision.models.mobilenet_v2(num_classes=CLASSES)
    plain = fill(reference)
    places = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}
    residual = {i for i, m in enumerate(reference.features) if getattr(m, "use_res_connect", False)}
    state = {}
    for name, tensor in plain.items():
        if name.startswith("classifier"):
            state[name.replace("classifier.1", "module.new_fc")] = tensor
            continue
        parts = name.split(".")
        if parts[2] == "conv":
            table = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"} if parts[1] == "1" else places
            old = ".".join(parts[3:-1])
            wrapped = ".net" if int(parts[1]) in residual and old == "0.0" else ""
            name = f"features.{parts[1]}.conv.{table[old]}{wrapped}.{parts[-1]}"
        state[f"module.base_model.{name}"] = tensor
    found = convert_checkpoint(save(tmp_path / "m.pth", state), num_frames=FRAMES, size=32)
    assert found.report.count() == {"renamed": len(state)}
    assert len(found.model.sites) == len(residual) == 10
    for i in residual:
        reference.features[i].conv[0][0].register_forward_pre_hook(lambda _m, args: (shift(args[0]),))
    check_logits(found.model, reference.eval())
    folder = found.save(tmp_path / "out", class_names=list("abcde")).parent
    again = kinemix.load(folder, device="cpu").model
    assert [site.path for site in again.sites] == [site.path for site in found.model.sites]


@pytest.mark.parametrize("name", ["r3d_18", pytest.param("r2plus1d_18", marks=pytest.mark.slow)])
def test_torchvision_video(tmp_path: Path, name: str) -> None:
    reference = getattr(torchvision.models.video, name)(num_classes=CLASSES)
    torch.save(fill(reference), tmp_path / "v.pth")
    found = convert_checkpoint(tmp_path / "v.pth", num_frames=FRAMES, size=32)
    assert found.model.description["name"] == f"torchvision.{name}"
    assert set(found.report.count()) == {"matched"}
    clip = torch.randn(1, FRAMES, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.model(clip), reference.eval()(clip.transpose(1, 2)))


def test_torchvision_image_needs_a_model(tmp_path: Path) -> None:
    state = make_resnet("resnet18")
    safetensors.torch.save_file(state, tmp_path / "r.safetensors")
    with pytest.raises(
        ConfigError, match=r"image network \(resnet18\), which says nothing of time.*--model.*tsm_resnet18"
    ):
        convert_checkpoint(tmp_path / "r.safetensors", num_frames=FRAMES, size=32)
    names = TSN_NAMES | {"prefix": "", "stem": "conv1", "stem_bn": "bn1", "fc": "fc"}
    looks: dict[str, Look] = {"tsn_resnet18": keep, "tsm_torchvision.resnet18": lambda _s, _b, x: shift(x)}
    for model, look in looks.items():
        found = convert_checkpoint(tmp_path / "r.safetensors", model=model, num_frames=FRAMES, size=32)
        assert found.report.count() == {"matched": len(state)}
        check_logits(
            found.model, partial(run_resnet, state, depths=DEPTHS["resnet18"], names=names, look=look)
        )


def list_bn_inception() -> list[str]:
    """The convolutions of BN-Inception, in the order of the published definition."""
    layers = ["conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3"]
    for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        names = ["3x3_reduce", "3x3", "double_3x3_reduce", "double_3x3_1", "double_3x3_2"]
        names = names if block in ("3c", "4e") else ["1x1", *names, "pool_proj"]
        layers += [f"inception_{block}_{name}" for name in names]
    return layers


def list_inception_v3() -> list[str]:
    """Likewise of Inception V3, whose names come from TensorFlow."""
    small = [
        "conv",
        "tower_conv",
        "tower_conv_1",
        *(f"tower_1_conv{n}" for n in ("", "_1", "_2")),
        "tower_2_conv",
    ]
    tall = ["conv", *(f"tower_conv{n}" for n in ("", "_1", "_2"))]
    wide = [*tall, *(f"tower_1_conv{n}" for n in ("", "_1", "_2", "_3", "_4")), "tower_2_conv"]
    last = ["tower_conv", "tower_mixed_conv", "tower_mixed_conv_1", "tower_1_conv", "tower_1_conv_1"]
    last = ["conv", *last, "tower_1_mixed_conv", "tower_1_mixed_conv_1", "tower_2_conv"]
    shrink = ["tower_conv", "tower_conv_1", *(f"tower_1_conv{n}" for n in ("", "_1", "_2", "_3"))]
    blocks = {"mixed": small, "mixed_1": small, "mixed_2": small, "mixed_3": tall}
    blocks |= {f"mixed_{n}": wide for n in (4, 5, 6, 7)} | {
        "mixed_8": shrink,
        "mixed_9": last,
        "mixed_10": last,
    }
    return [
        "conv",
        *(f"conv_{n}" for n in (1, 2, 3, 4)),
        *(f"{b}_{name}" for b in blocks for name in blocks[b]),
    ]


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("bn_inception", {}),
        pytest.param("inception_v3", {"backbone_options": {"first_kernel": "tall"}}, marks=pytest.mark.slow),
    ],
)
def test_gsm_repository(tmp_path: Path, backbone: str, options: dict[str, object]) -> None:
    reference = create_model(
        f"gsm_{backbone}", num_classes=CLASSES, num_frames=FRAMES, input_size=96, color="bgr", **options
    ).eval()
    own = fill(reference)
    bn_inception = backbone == "bn_inception"
    layers = list_bn_inception() if bn_inception else list_inception_v3()
    convolutions = [path for path, m in reference.backbone.named_modules() if isinstance(m, nn.Conv2d)]
    state = {f"module.new_fc.{part}": own[f"backbone.fc.{part}"] for part in ("weight", "bias")}
    for layer, path in zip(layers, convolutions, strict=True):
        conv, norm = (layer, f"{layer}_bn") if bn_inception else (f"{layer}_Conv2D", f"{layer}_batchnorm")
        unit = path.removesuffix(".host").removesuffix(".conv")
        for name, tensor in own.items():
            for ours, theirs in (
                (f"backbone.{path}.", conv),
                (f"backbone.{unit}.bn.", norm),
                (f"backbone.{unit}.conv.temporal.gate_conv.", f"gsm_{conv}.conv3D"),
                (f"backbone.{unit}.conv.temporal.norm.", f"gsm_{conv}.bn"),
            ):
                if name.startswith(ours) and "." not in (part := name.removeprefix(ours)):
                    state[f"module.base_model.{theirs}.{part}"] = tensor
    assert len(state) == len(own)
    found = convert_checkpoint(save(tmp_path / "gsm.pth.tar", state, arch="x"), num_frames=FRAMES, size=96)
    assert found.model.description["name"] == f"gsm_{backbone}"
    assert found.report.count() == {"renamed": len(state)}
    spec = found.protocol.input
    assert (spec.color, spec.mean, spec.std, spec.scale) == (
        "bgr",
        (104.0, 117.0, 128.0),
        (1.0, 1.0, 1.0),
        255.0,
    )
    clip = torch.randn(1, FRAMES, 3, 96, 96) * 50
    with torch.no_grad():
        torch.testing.assert_close(found.model(clip), reference(clip))
    whole = save(tmp_path / "plain.pth", {k: v for k, v in state.items() if ".gsm_" not in k})
    if bn_inception:
        with pytest.raises(
            ConfigError, match=r"the same tensors as without.*--model, one of tsn_bn_inception"
        ):
            convert_checkpoint(whole, num_frames=FRAMES)
        plain = convert_checkpoint(whole, model="tsn_bn_inception", num_frames=FRAMES, size=96)
        plain.report.check()
        assert plain.protocol.input == spec


def name_pytorchvideo(name: str) -> str:
    """PyTorchVideo's name of one of our X3D's tensors, for which the published file crosses two names."""
    for ours, theirs in (
        ("stem.spatial", "blocks.0.conv.conv_t"), ("stem.temporal", "blocks.0.conv.conv_xy"),
        ("stem.norm", "blocks.0.norm"), ("head.lift_norm", "blocks.5.pool.pre_norm"),
        ("head.lift", "blocks.5.pool.pre_conv"), ("head.hidden", "blocks.5.pool.post_conv"),
        ("head.classifier", "blocks.5.proj"),
    ):  # fmt: skip
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    _, stage, block, part, *rest = name.split(".")
    parts = {
        "expand": "branch2.conv_a", "depthwise": "branch2.conv_b", "project": "branch2.conv_c",
        "expand_norm": "branch2.norm_a", "depthwise_norm": "branch2.norm_b.0", "project_norm": "branch2.norm_c",
        "shortcut": "branch1_conv", "shortcut_norm": "branch1_norm",
    }  # fmt: skip
    if part == "squeeze":
        rest[0] = {"reduce": "branch2.norm_b.1.block.0", "restore": "branch2.norm_b.1.block.2"}[rest[0]]
        return ".".join([f"blocks.{int(stage) + 1}.res_blocks.{block}", *rest])
    return ".".join([f"blocks.{int(stage) + 1}.res_blocks.{block}", parts[part], *rest])


def test_pytorchvideo_x3d(tmp_path: Path) -> None:
    reference = create_model("x3d_s", num_classes=CLASSES, num_frames=FRAMES, input_size=32).eval()
    state = {name_pytorchvideo(k.removeprefix("backbone.")): t for k, t in fill(reference).items()}
    state = {k: t for k, t in state.items() if not k.startswith("blocks.1.res_blocks.0.branch1_norm")}
    for part, value in (
        ("weight", (1 + 1e-5) ** 0.5),
        ("bias", 0.0),
        ("running_mean", 0.0),
        ("running_var", 1.0),
    ):
        getattr(reference.backbone.stages[0][0].shortcut_norm, part).data.fill_(value)
    torch.save({"model_state": state}, tmp_path / "x.pyth")
    with pytest.raises(
        ConfigError, match=r"X3D-S and X3D-M have the same tensors.*--model, one of x3d_s, x3d_m"
    ):
        convert_checkpoint(tmp_path / "x.pyth")
    found = convert_checkpoint(tmp_path / "x.pyth", model="x3d_s", size=32)
    assert (found.protocol.num_frames, found.protocol.frame_stride, found.protocol.sampling) == (
        13,
        6,
        "dense",
    )
    assert len(filled := found.report.names("filled in")) == 5
    assert all(name.startswith("stages.0.0.shortcut_norm.") for name in filled)
    found.report.check()
    clip = torch.randn(1, FRAMES, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.model(clip), reference(clip), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------- what is refused, what is asked


def save_tsm(path: Path, *, change: Callable[[State], None] = lambda state: None) -> Path:
    state = to_tsn(make_resnet("resnet18"), inside=wrap_conv1)
    change(state)
    return save(path, state)


def test_frames_are_asked_for(tmp_path: Path) -> None:
    path = save_tsm(tmp_path / "TSM_kinetics_RGB_resnet18_shift8_blockres_avg_segment8_e50.pth")
    with pytest.raises(ConfigError, match=r"how many frames.*--num_frames \(its name says 8\)"):
        convert_checkpoint(path)
    with pytest.raises(ConfigError, match="num_clips is 0"):
        convert_checkpoint(path, num_frames=8, num_clips=0)


def test_a_model_that_the_file_contradicts(tmp_path: Path) -> None:
    path = save_tsm(tmp_path / "t.pth")
    with pytest.raises(ConfigError, match="--model tsn_resnet18, but the file holds tsm_resnet18"):
        convert_checkpoint(path, model="tsn_resnet18", num_frames=4)


def test_missing_and_left_over(tmp_path: Path) -> None:
    def change(state: State) -> None:
        del state["module.base_model.bn1.weight"]
        del state["module.base_model.bn1.num_batches_tracked"]
        state["module.base_model.layer4.0.extra.weight"] = torch.ones(2, 2)
        state["module.base_model.layer3.0.bn1.weight"] = torch.ones(3)

    found = convert_checkpoint(save_tsm(tmp_path / "t.pth", change=change), num_frames=4, size=32)
    assert found.report.names("missing") == ["bn1.weight", "layer3.0.bn1.weight"]
    assert found.report.names("left over") == [
        "base_model.layer3.0.bn1.weight",
        "base_model.layer4.0.extra.weight",
    ]
    assert found.report.names("harmless") == ["bn1.num_batches_tracked"]
    names = list("abcde")
    for allowed, blamed in (
        ({}, "missing"),
        ({"allow_missing": True}, "extra"),
        ({"allow_extra": True}, "missing"),
    ):
        with pytest.raises(CheckpointError, match=f"--allow_{blamed}"):
            found.save(tmp_path / "out", class_names=names, **allowed)
    assert not (tmp_path / "out").exists()
    found.save(tmp_path / "out", class_names=names, allow_missing=True, allow_extra=True)


def test_old_norms_with_an_axis_too_many(tmp_path: Path) -> None:
    def change(state: State) -> None:
        state["module.base_model.bn1.weight"] = state["module.base_model.bn1.weight"][None]

    found = convert_checkpoint(save_tsm(tmp_path / "t.pth", change=change), num_frames=4, size=32)
    assert found.report.names("reshaped") == ["bn1.weight"]
    found.report.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update({"module.base_model.conv1.weight": torch.ones(64, 10, 7, 7)}),
            "takes 10 channels",
        ),
        (lambda s: s.pop("module.new_fc.weight"), "no classifier new_fc.weight"),
        (lambda s: s["module.new_fc.bias"].fill_(torch.nan), "new_fc.bias holds values that are not finite"),
        (lambda s: [s.pop(k) for k in list(s) if ".layer4.1." in k], "no ResNet"),
    ],
)
def test_networks_that_are_none_of_ours(
    tmp_path: Path, change: Callable[[State], None], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(save_tsm(tmp_path / "t.pth", change=change), num_frames=4)


def test_temporal_pooling_is_not_taken_for_a_shift(tmp_path: Path) -> None:
    state = to_tsn(make_resnet("resnet18"), inside=wrap_conv1)
    state = {name.replace("layer2.", "layer2.net."): tensor for name, tensor in state.items()}
    with pytest.raises(CheckpointError, match="temporal pooling"):
        convert_checkpoint(save(tmp_path / "t.pth", state), num_frames=4)


def test_an_unknown_network_needs_a_name(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 4, 3).state_dict(), tmp_path / "u.pth")
    with pytest.raises(ConfigError, match=r"name the network with --model, <module>_<backbone>"):
        convert_checkpoint(tmp_path / "u.pth", num_frames=4)
    with pytest.raises(CheckpointError, match=r"holds no classifier \(fc.weight of tsn_resnet18\)"):
        convert_checkpoint(tmp_path / "u.pth", model="tsn_resnet18", num_frames=4, size=32)
    torch.save(nn.Conv3d(3, 4, 3).state_dict(), tmp_path / "v.pth")
    with pytest.raises(ConfigError, match="no video network's that kinemix can tell"):
        convert_checkpoint(tmp_path / "v.pth", num_frames=4)


def test_weights_of_temporal_modules_are_not_made_up(tmp_path: Path) -> None:
    torch.save(make_resnet("resnet18"), tmp_path / "r.pth")
    found = convert_checkpoint(tmp_path / "r.pth", model="mixtconv_resnet18", num_frames=4, size=32)
    assert len(found.report.names("missing")) == 4 * 8
    with pytest.raises(CheckpointError, match="32 tensors, such as"):
        found.save(tmp_path / "out", class_names=list("abcde"))


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("bomb-went-off",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": {"w": torch.ones(2, 2)}, "args": argparse.Namespace(x=1)},
            "pickled argparse.Namespace",
        ),
        ({"state_dict": Bomb()}, r"pickled (posix|nt)\.mkdir"),
        (nn.Linear(2, 2), "pickled torch.nn.modules.linear.Linear"),
        ([torch.ones(2, 2)], "holds a list"),
        ({"state_dict": {"lr": 1.0}}, "holds no weights of a network by name, but state_dict"),
    ],
)
def test_pickled_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=message) as refusal:
        convert_checkpoint(tmp_path / "evil.pth", num_frames=4)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize(
    "name", ["zip", "old", "jpeg", "text", "empty", "safe.safetensors", "script", "absent", "folder"]
)
def test_damaged_and_foreign_files(tmp_path: Path, name: str) -> None:
    path, good = tmp_path / name, tmp_path / "good"
    torch.save({"w": torch.ones(100, 100)}, good, _use_new_zipfile_serialization=name != "old")
    whole = good.read_bytes()
    if name == "safe.safetensors":
        whole = safetensors.torch.save({"w": torch.ones(100, 100)})
    if name == "script":
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path))
    elif name == "folder":
        path.mkdir()
    elif name != "absent":
        odd = {"jpeg": b"\xff\xd8\xff\xe0" + bytes(200), "text": b"hello world\n", "empty": b""}
        path.write_bytes(odd.get(name, whole[: len(whole) // 2]))
    reasons = {"script": "TorchScript", "absent": "no such file", "folder": "a folder, not a file"}
    reason = reasons.get(name, "cut short|no whole safetensors")
    with pytest.raises(CheckpointError, match=reason) as refusal:
        convert_checkpoint(path, num_frames=4)
    assert "\n" not in str(refusal.value)


# -------------------------------------------------------------------------------------------- command line


def test_convert_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_tsm(tmp_path / "ckpt.pth.tar")
    (tmp_path / "labels.txt").write_text("wave left\njump\nwave right\nrun\nsit\n")
    out = tmp_path / "out"
    words = ["convert", str(path), "--num_frames", "4", "--size", "32", "--out", str(out)]
    assert main(words) == 2
    assert "--labels" in capsys.readouterr().err
    assert main([*words, "--labels", str(tmp_path / "labels.txt"), "--format", "json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["counts"] == {"renamed": 122}
    assert report["model"]["name"] == "tsm_resnet18"
    assert report["tensors"][0] == {
        "fate": "renamed", "ours": "conv1.weight", "theirs": "base_model.conv1.weight",
        "shape": [64, 3, 7, 7], "their_shape": [64, 3, 7, 7],
    }  # fmt: skip
    assert "note: fold is 8" in printed.err
    video = tmp_path / "video.mp4"
    video.write_bytes(encode_clip(torch.randint(256, (12, 48, 64, 3), dtype=torch.uint8).numpy()))
    assert main(["predict", str(out), str(video), "--format", "json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert {p["label"] for p in answer["predictions"]} == {"wave left", "jump", "wave right", "run", "sit"}
    assert main([*words, "--labels", "numbers"]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_report_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(state: State) -> None:
        del state["module.base_model.bn1.bias"]

    path = save_tsm(tmp_path / "c.pth", change=change)
    assert main(["convert", str(path), "--num-frames", "4", "--size", "32"]) == 2
    printed = capsys.readouterr()
    assert "base_model.layer4.1.conv1.net.weight" in printed.out
    assert "121 renamed, 1 missing" in printed.out
    (line,) = [line for line in printed.err.splitlines() if "error" in line]
    assert "'bn1.bias'" in line


def test_ten_crops_know_their_mirrors(tmp_path: Path) -> None:
    found = convert_checkpoint(save_tsm(tmp_path / "c.pth"), num_frames=4, size=32, num_crops=10)
    folder = found.save(tmp_path / "out", class_names=list("abcde"), mirrored_labels=[1, 0, 2, 3, 4]).parent
    recogniser = kinemix.load(folder, device="cpu")
    assert recogniser.mirrored_labels == [1, 0, 2, 3, 4]
    assert recogniser.protocol.num_crops == 10
