"""Modules that replace convolutions: which ones they find, that nothing else changes, and MTConv in networks."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import video as torchvision_video

import kinemix
from kinemix import create_model, temporalize
from kinemix.errors import ConfigError
from kinemix.evaluate.complexity import measure_complexity
from kinemix.models.checkpoint import load_checkpoint, save_checkpoint
from kinemix.models.insertion import find_sites
from kinemix.models.video import VideoModel
from kinemix.temporal import Insertion, Site, TemporalModule
from kinemix.temporal.mtconv import MultiTemporalConv

CONVS = Insertion(at="convs", place="instead")


class Twin(TemporalModule):
    """A 3D convolution that does what the one it replaces did."""

    name = "twin"
    placements = {"convs": CONVS}

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        assert site.convolution is not None
        c = site.convolution
        self.conv = nn.Conv3d(
            c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding, c.dilation, c.groups, c.bias
        )

    def forward(self, clip: Tensor) -> Tensor:
        return self.conv(clip.transpose(1, 2)).transpose(1, 2)

    def take_over_(self, host: nn.Module) -> None:
        own = self.conv.state_dict()
        self.conv.load_state_dict({k: v.reshape(own[k].shape) for k, v in host.state_dict().items()})


def find_paths(name: str, **options: Any) -> list[str]:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=2)
    return [s.path for s in find_sites(network, CONVS, input_size=(32, 32), num_frames=4, **options)]


# Convolutions of the residual branches, counted in the papers' own tables of layers.
@pytest.mark.parametrize(
    ("name", "count", "some", "none"),
    [
        ("resnet18", 16, "layer2.0.conv2", "downsample"),
        ("resnet50", 48, "layer4.2.conv3", "downsample"),
        (
            "seresnet50",
            48,
            "layer1.0.conv3",
            "se.",
        ),  # at 32 pixels the last maps are one pixel, as a gate's are
        ("resnetblur18", 16, "layer2.0.conv1", "aa"),  # whose fixed filters are no layer
        ("mobilenetv3_small_100", 30, "blocks.4.2.conv_dw", "se."),
        ("convnext_atto", 36, "stages.0.blocks.0.mlp.fc2", "downsample"),
        ("densenet121", 116, "features.denseblock4.denselayer16.conv2", "transition"),
        ("vgg11", 7, "features.18", "features.0."),
    ],
)
def test_finds_the_convolutions_of_the_residual_branch(name: str, count: int, some: str, none: str) -> None:
    found = find_paths(name)
    assert len(found) == count
    assert some in found
    assert not any(none in f"{path}." for path in found)


def test_describes_them() -> None:
    network = timm.create_model("resnet18", num_classes=2)
    sites = find_sites(network, CONVS, input_size=(32, 32), num_frames=4)
    first, second = (site.convolution for site in sites[4:6])
    assert sites[4].path == "layer2.0.conv1"
    assert (sites[4].channels, sites[4].height, sites[4].place) == (64, 8, "instead")
    assert first is not None
    assert (first.in_channels, first.out_channels, first.bias) == (64, 128, False)
    assert (first.kernel_size, first.stride, first.padding) == ((1, 3, 3), (1, 2, 2), (0, 1, 1))
    assert (first.is_last, first.is_flat) == (False, True)
    assert second is not None
    assert (second.in_channels, second.is_last) == (128, True)
    assert [site.convolution.is_last for site in sites if site.convolution] == [False, True] * 8


NETWORKS = {
    "resnet18": lambda: timm.create_model("resnet18", num_classes=3),
    "resnetblur18": lambda: timm.create_model("resnetblur18", num_classes=3),
    "regnety_002": lambda: timm.create_model("regnety_002", num_classes=3),  # groups and gates
    "mobilenetv3": lambda: timm.create_model("mobilenetv3_small_050", num_classes=3),
    "convnext": lambda: timm.create_model("convnext_atto", num_classes=3),
    "chain": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, (3, 5), 2, dilation=(2, 1)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    ),
    "r3d_18": lambda: torchvision_video.r3d_18(num_classes=3),
    "r2plus1d_18": lambda: torchvision_video.r2plus1d_18(num_classes=3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_twin_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    model = temporalize(network, Twin, num_frames=3, input_size=32).eval()
    clip = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        if isinstance(network, torchvision_video.VideoResNet):
            expected = network(clip.transpose(1, 2))
        else:
            expected = network(clip.flatten(0, 1)).unflatten(0, (2, 3)).mean(1)
        torch.testing.assert_close(model(clip), expected)
    # Every weight that was replaced is gone, and stands in the module instead.
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in network.parameters())
    assert len(model.temporal_modules()) == len(model.sites)
    state = model.state_dict()
    assert not any("host.weight" in key or "host.bias" in key for key in state)
    assert all(f"backbone.{site.path}.temporal.conv.weight" in state for site in model.sites)


def test_what_is_asked_of_a_replaced_convolution_reaches_it() -> None:
    model = temporalize(NETWORKS["resnet18"](), Twin, num_frames=2, input_size=32)
    inserted = model.backbone.get_submodule("layer2.0.conv1")
    assert inserted.stride == (2, 2)
    assert inserted.out_channels == 128
    assert not list(model.backbone.get_submodule("layer2.0.conv1.host").parameters())


def test_stages_and_blocks() -> None:
    model = temporalize(NETWORKS["resnet18"](), Twin, num_frames=2, input_size=32, stages=[3])
    assert [site.path for site in model.sites] == [f"layer3.{b}.conv{c}" for b in (0, 1) for c in (1, 2)]


class Padded(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(input, (0, 1, 0, 1)))


class Renamed(nn.Conv2d):
    """Nothing but another constructor, as torchvision's and many others'."""


class Residual(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Plain(nn.Module):
    """A stem, one residual block, and a classifier."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = Residual(conv)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize(
    "conv",
    [
        Padded(4, 4, 2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    ],
)
def test_what_is_more_than_a_convolution_is_not_replaced(conv: nn.Module) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot be replaced.*placement={'at': 'convs', 'place': 'before'}"
    ):
        temporalize(Plain(conv), Twin, num_frames=2, input_size=8)


def test_a_subclass_with_another_constructor_is_replaced() -> None:
    model = temporalize(Plain(Renamed(4, 4, 3, padding=1)), Twin, num_frames=2, input_size=8)
    assert [site.path for site in model.sites] == ["block.conv"]


def test_what_is_no_convolution_is_not_replaced() -> None:
    with pytest.raises(ConfigError, match="is no convolution"):
        temporalize(
            NETWORKS["resnet18"](),
            Twin,
            num_frames=2,
            input_size=32,
            placement=Insertion(at="block", place="instead"),
        )


# ------------------------------------------------------------------------------------------ MTConv in networks

FAST = ["mtconv_mobilenetv3_small_100", "mtconv_resnet18"]
SLOW = ["mtconv_torchvision.r3d_18", "mtconv_torchvision.r2plus1d_18", "mtnet_s", "mtconv_resnet50"]


def make(name: str) -> VideoModel:
    """A network whose residual branches count: many start with norms of zero."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, num_frames=4, input_size=64)
    for norm in (m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d))):
        nn.init.ones_(norm.weight)
    return model


def check_block(model: VideoModel) -> None:
    """Squeeze-and-Recursion stands after the last convolution of each block, and nowhere else."""
    modules = list(model.temporal_modules().values())
    assert all(isinstance(module, MultiTemporalConv) for module in modules)
    for site, module in zip(model.sites, modules, strict=True):
        assert site.convolution is not None
        assert isinstance(module, MultiTemporalConv)
        assert (module.recursion is not None) == site.convolution.is_last
    blocks = {(site.stage, site.block) for site in model.sites}
    assert sum(site.convolution.is_last for site in model.sites if site.convolution) == len(blocks)


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_builds_runs_trains_and_comes_back(name: str, tmp_path: Path) -> None:
    model = make(name)
    check_block(model)
    clip = torch.randn(2, 4, 3, 64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = {key: value.clone() for key, value in model.named_parameters()}
    logits = model.train()(clip)
    assert logits.shape == (2, 3)
    with torch.no_grad():
        assert not torch.allclose(model(clip.flip(1)), logits, rtol=1e-3)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    assert any(not torch.equal(before[key], p) for key, p in model.named_parameters() if ".temporal." in key)
    save_checkpoint(tmp_path, model=model, metadata={})
    loaded, _ = load_checkpoint(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(clip), model.eval()(clip))
        assert model(clip[:, :3, :, :40, :48]).isfinite().all()


def check_export(model: VideoModel) -> None:
    dynamic = {0: torch.export.Dim("num_clips", max=64)}
    clip = torch.randn(2, 4, 3, *model.input_spec.size)
    program = torch.export.export(model.eval(), (clip,), dynamic_shapes=(dynamic,)).module()
    other = torch.randn(3, 4, 3, *model.input_spec.size)
    torch.testing.assert_close(program(other), model(other), rtol=1e-4, atol=1e-5)


def test_exports_with_any_number_of_clips() -> None:
    check_export(
        temporalize(
            Plain(nn.Conv2d(4, 4, 3, padding=1)), "mtconv", num_frames=4, input_size=(9, 8), delta=0.5
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtconv_resnet18", "mtconv_torchvision.r3d_18", "mtnet_s"])
def test_networks_export_with_any_number_of_clips(name: str) -> None:
    check_export(make(name))


def test_the_local_branch_starts_from_the_networks_filters() -> None:
    host = timm.create_model("resnet18", num_classes=3)
    model = temporalize(host, "mtconv", num_frames=4, input_size=32)
    module = model.temporal_modules()["backbone.layer2.0.conv2.temporal"]
    assert isinstance(module, MultiTemporalConv)
    weight = module.local.conv.weight
    assert torch.equal(weight[:, :, 1], host.get_parameter("layer2.0.conv2.weight")[:112])
    assert weight[:, :, [0, 2]].count_nonzero() == 0


def test_plug_in_keeps_the_networks_convolutions() -> None:
    model = create_model(
        "mtconv_resnet18", num_classes=3, num_frames=4, input_size=32, placement="first_conv"
    )
    assert len(model.sites) == 8
    assert model.state_dict()["backbone.layer1.0.conv1.host.weight"].shape == (64, 64, 3, 3)
    modules = [m for m in model.temporal_modules().values() if isinstance(m, MultiTemporalConv)]
    assert all(m.recursion is not None and m.local.conv.kernel_size == (3, 3, 3) for m in modules)


def test_recurrent_cells_are_counted() -> None:
    """Two layers, three gates, two matrices of C x C, once a frame (GRU)."""
    options: dict[str, Any] = {"num_classes": 3, "num_frames": 4, "input_size": 32, "stages": [1]}
    with_cells = measure_complexity(create_model("mtconv_resnet18", **options))
    without = measure_complexity(create_model("mtconv_resnet18", cell=None, **options))
    assert with_cells.macs - without.macs == 2 * 4 * 2 * 3 * 2 * 64 * 64
    assert with_cells.parameters - without.parameters == 2 * 2 * 3 * (2 * 64 * 64 + 2 * 64)


def test_convolutions_are_counted_at_their_resolutions() -> None:
    model = create_model("mtconv_resnet18", num_classes=3, num_frames=4, input_size=32, stages=[1], cell=None)
    plain = create_model("tsn_resnet18", num_classes=3, num_frames=4, input_size=32)
    found = measure_complexity(model).macs - measure_complexity(plain).macs
    local, prolonged = 56 * 64 * 27 * 4 * 8 * 8, (56 + 64) * 8 * 27 * 2 * 4 * 4
    assert found == 4 * (local + prolonged - 64 * 64 * 9 * 4 * 8 * 8)


def test_names() -> None:
    assert {"mtnet_s", "mtnet_m", "mtnet_l", "mtconv_resnet50"} <= set(kinemix.list_models("mt*"))
