"""The two Inceptions of GSM against other implementations and the published layouts of their weights."""

from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import inception_v3 as make_torchvision

import kinemix
from kinemix.errors import ConfigError
from kinemix.models.backbones import create_backbone, is_backbone
from kinemix.models.networks import bn_inception, inception_v3
from kinemix.models.networks.branches import HalvingPool

MEAN = torch.tensor([104.0, 117.0, 128.0])[:, None, None]  # blue, green, red


@torch.no_grad()
def randomise_(network: nn.Module) -> nn.Module:
    """Weights, norms and statistics that leave no mistake unseen, and keep the signal's size."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def make_frames(size: int) -> Tensor:
    """Two RGB frames, 0 to 255."""
    torch.manual_seed(1)
    return torch.randint(0, 256, (2, 3, size, size)).float()


# ------------------------------------------------------------------------------------------------ BN-Inception


def run_caffe_bn_inception(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network by its published layer names, straight from a flat state dictionary."""

    def conv(x: Tensor, layer: str, stride: int = 1) -> Tensor:
        weight = state[f"{layer}.weight"]
        x = F.conv2d(x, weight, state[f"{layer}.bias"], stride, weight.shape[-1] // 2)
        norm = {k: state[f"{layer}_bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(x, **{k: v.flatten() for k, v in norm.items()}).relu()

    x = F.max_pool2d(conv(x, "conv1_7x7_s2", 2), 3, 2, ceil_mode=True)
    x = conv(conv(x, "conv2_3x3_reduce"), "conv2_3x3")
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        name, stride = f"inception_{block}_", 2 if block in ("3c", "4e") else 1
        three = conv(conv(x, f"{name}3x3_reduce"), f"{name}3x3", stride)
        double = conv(conv(x, f"{name}double_3x3_reduce"), f"{name}double_3x3_1")
        double = conv(double, f"{name}double_3x3_2", stride)
        if stride == 2:
            x = torch.cat([three, double, F.max_pool2d(x, 3, 2, ceil_mode=True)], dim=1)
            continue
        pooled = F.max_pool2d(x, 3, 1, 1) if block == "5b" else F.avg_pool2d(x, 3, 1, 1, ceil_mode=True)
        x = torch.cat([conv(x, f"{name}1x1"), three, double, conv(pooled, f"{name}pool_proj")], dim=1)
    return x.mean(dim=(2, 3)) @ state["fc.weight"].t() + state["fc.bias"]


def publish_bn_inception(network: nn.Module) -> dict[str, Tensor]:
    """The network's weights as TSN's ImageNet file holds them: flat names, norms of 1 x C, no counters."""
    state = {}
    stem = {"conv1": "conv1_7x7_s2", "conv2_reduce": "conv2_3x3_reduce", "conv2": "conv2_3x3"}
    for key, value in network.state_dict().items():
        *path, part, tensor = key.split(".")
        if tensor == "num_batches_tracked":
            continue
        layer = stem.get(path[0], path[0]) if path else part
        if len(path) == 2:
            layer = f"{path[0]}_{path[1].removeprefix('conv_')}"
        state[f"{layer}_bn.{tensor}" if part == "bn" else f"{layer}.{tensor}"] = (
            value[None] if part == "bn" else value
        )
    return state


def test_bn_inception_equals_the_published_network_by_its_names(tmp_path: Path) -> None:
    network = randomise_(bn_inception.BNInception(num_classes=1000))
    published = publish_bn_inception(network)
    assert "inception_3a_1x1_bn.running_mean" in published
    assert len(published) == 69 * 6 + 2
    frames = make_frames(64) / 100
    with torch.no_grad():
        torch.testing.assert_close(
            network(frames), run_caffe_bn_inception(published, frames), rtol=1e-3, atol=1e-3
        )
    torch.save(OrderedDict(published), tmp_path / "bn_inception.pth")
    loaded = create_backbone(
        "bn_inception",
        num_classes=1000,
        pretrained=True,
        backbone_options={"weights": str(tmp_path / "bn_inception.pth")},
    )
    assert loaded.input_spec.color == "bgr"
    ours, theirs = loaded.network.state_dict(), network.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_cadenes_file_and_another_number_of_classes(tmp_path: Path) -> None:
    published = publish_bn_inception(randomise_(bn_inception.BNInception(num_classes=1000)))
    published["last_linear.weight"] = published.pop("fc.weight")
    published["last_linear.bias"] = published.pop("fc.bias")
    torch.save(published, tmp_path / "cadene.pth")
    options = {"weights": str(tmp_path / "cadene.pth")}
    assert "fc.weight" in bn_inception.translate(published)
    model = kinemix.create_model("gsm_bn_inception", num_classes=5, pretrained=True, backbone_options=options)
    loaded = model.backbone.inception_4d.conv_1x1.conv.host.weight
    assert torch.equal(loaded, published["inception_4d_1x1.weight"])
    assert model.backbone.fc.weight.std() < 0.002
    with pytest.raises(ConfigError, match="made for bgr, not rgb"):
        create_backbone("bn_inception", num_classes=5, pretrained=True, color="rgb", backbone_options=options)


def test_layer_names_of_bn_inception() -> None:
    assert bn_inception.name_layer("inception_4d_1x1_bn") == "inception_4d.conv_1x1.bn"
    assert bn_inception.name_layer("inception_3c_double_3x3_2") == "inception_3c.double_3x3_2.conv"
    assert bn_inception.name_layer("new_fc") == "fc"
    assert bn_inception.name_layer("inception_3c_1x1") is None  # a halving block has none
    assert bn_inception.name_layer("gsm_inception_3a_1x1") is None


@pytest.mark.parametrize("size", [32, 75, 112])
def test_bn_inception_takes_sizes_that_leave_odd_maps(size: int) -> None:
    network = bn_inception.BNInception(num_classes=2).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, size, size)).shape == (1, 2)


def test_the_halving_pool() -> None:
    """Caffe's pooling for even sizes; for odd ones the last window holds what is left."""
    for height, width in ((8, 6), (7, 9), (8, 5)):
        x = torch.randn(2, 3, height, width)
        far = F.pad(x, (0, 2, 0, 2), value=-torch.inf)
        expected = far.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(4, 5))
        assert torch.equal(HalvingPool()(x), expected[:, :, : (height + 1) // 2, : (width + 1) // 2])


# ------------------------------------------------------------------------------------------------ Inception V3


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_inception_v3_equals_the_published_network_fed_with_its_own_convention(library: str) -> None:
    if library == "torchvision":
        other = make_torchvision(weights=None, aux_logits=False, init_weights=False)
    else:
        other = timm.create_model("inception_v3.tv_in1k", aux_logits=False)
    randomise_(other)
    network = inception_v3.InceptionV3(num_classes=1000, last_pool="avg").eval()
    network.load_state_dict(inception_v3.translate(other.state_dict()))
    frames = make_frames(75)
    with torch.no_grad():
        expected = other(frames / 127.5 - 1)
        ours = network(frames.flip(1) - MEAN)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_pretrained_inception_v3_from_a_file_keeps_the_papers_input(tmp_path: Path) -> None:
    other = randomise_(make_torchvision(weights=None, aux_logits=True, init_weights=False))
    torch.save(other.state_dict(), tmp_path / "inception_v3.pth")
    options = {"weights": str(tmp_path / "inception_v3.pth"), "last_pool": "avg"}
    loaded = create_backbone("inception_v3", num_classes=1000, pretrained=True, backbone_options=options)
    spec = loaded.input_spec
    assert (spec.size, spec.color, spec.mean, spec.scale) == ((229, 229), "bgr", (104, 117, 128), 255)
    frames = make_frames(75)
    with torch.no_grad():
        expected = other(frames / 127.5 - 1)
        ours = loaded.network.eval()(frames.flip(1) - MEAN)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_the_last_pool_is_an_option() -> None:
    x = torch.randn(1, 3, 75, 75)
    networks = [inception_v3.InceptionV3(num_classes=2, last_pool=pool).eval() for pool in ("max", "avg")]
    networks[1].load_state_dict(networks[0].state_dict())
    assert isinstance(networks[0].Mixed_7c.pool, nn.MaxPool2d)
    with torch.no_grad():
        assert torch.equal(networks[0].Mixed_7b.pool(x), networks[1].Mixed_7b.pool(x))
    with pytest.raises(ConfigError, match="last_pool is 'mean'"):
        inception_v3.InceptionV3(num_classes=2, last_pool="mean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="first_kernel is 'long'"):
        inception_v3.InceptionV3(num_classes=2, first_kernel="long")  # type: ignore[arg-type]


def test_tall_kernels_first_is_the_network_of_turned_frames() -> None:
    """Both orders are one network, mirrored at the diagonal: kernels, frames and maps."""
    wide = randomise_(inception_v3.InceptionV3(num_classes=2))
    tall = inception_v3.InceptionV3(num_classes=2, first_kernel="tall").eval()
    state = wide.state_dict()
    tall.load_state_dict({k: v.transpose(2, 3) if v.ndim == 4 else v for k, v in state.items()})
    assert tall.Mixed_6b.branch7x7_2.conv.kernel_size == (7, 1)
    assert wide.Mixed_6b.branch7x7_2.conv.kernel_size == (1, 7)
    frames = make_frames(75) / 100
    with torch.no_grad():
        expected = wide(frames)
        torch.testing.assert_close(
            tall(frames.transpose(2, 3)), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()
        )


def test_layer_names_of_the_caffe_weights_cover_inception_v3() -> None:
    """Every layer has exactly one Caffe name; TensorFlow numbers the layers of a branch from nought."""
    tower = ("tower_conv", "tower_conv_1", "tower_conv_2")
    tower_1 = tuple(f"tower_1_conv{n}" for n in ("", "_1", "_2", "_3", "_4"))
    mixed = ("tower_conv", "tower_mixed_conv", "tower_mixed_conv_1")
    mixed_1 = ("tower_1_conv", "tower_1_conv_1", "tower_1_mixed_conv", "tower_1_mixed_conv_1")
    layers = {
        **dict.fromkeys((0, 1, 2), ("conv", *tower[:2], *tower_1[:3], "tower_2_conv")),
        3: ("conv", *tower),
        **dict.fromkeys((4, 5, 6, 7), ("conv", *tower, *tower_1, "tower_2_conv")),
        8: (*tower[:2], *tower_1[:4]),
        **dict.fromkeys((9, 10), ("conv", *mixed, *mixed_1, "tower_2_conv")),
    }
    caffe = ["conv", *(f"conv_{i}" for i in range(1, 5))]
    for block, names in layers.items():
        caffe += [f"mixed_{block}_{name}" if block else f"mixed_{name}" for name in names]
    ours = {
        path
        for path, m in inception_v3.InceptionV3(num_classes=2).named_modules()
        if isinstance(m, nn.Conv2d)
    }
    assert len(caffe) == len(ours) == 94
    assert {inception_v3.name_layer(f"{layer}_Conv2D") for layer in caffe} == ours
    norms = {inception_v3.name_layer(f"{layer}_batchnorm") for layer in caffe}
    assert norms == {path.removesuffix("conv") + "bn" for path in ours}
    assert inception_v3.name_layer("mixed_4_tower_1_conv_2_Conv2D") == "Mixed_6b.branch7x7dbl_3.conv"
    assert inception_v3.name_layer("mixed_8_conv_Conv2D") is None
    assert inception_v3.name_layer("mixed_11_conv_Conv2D") is None
    assert inception_v3.name_layer("top_cls_fc") == "fc"


def test_timms_network_stays_reachable() -> None:
    with torch.device("meta"):
        ours = create_backbone("inception_v3", num_classes=2)
        theirs = create_backbone("inception_v3.tv_in1k", num_classes=2)
    assert isinstance(ours.network, inception_v3.InceptionV3)
    assert type(theirs.network).__module__.startswith("timm.")
    assert (theirs.input_spec.size, theirs.input_spec.color) == ((299, 299), "rgb")
    assert is_backbone("inception_v3.tf_in1k")


def test_gray_frames_and_dropout() -> None:
    backbone = create_backbone("bn_inception", num_classes=2, color="gray", dropout=0.5)
    assert backbone.input_spec.mean == (pytest.approx(349 / 3),)
    assert backbone.input_spec.scale == 255
    assert backbone.network.dropout.p == 0.5
    assert backbone.network.conv1.conv.in_channels == 1
