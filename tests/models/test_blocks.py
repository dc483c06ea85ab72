"""Blocks, stages and first convolutions are found by structure: against what the papers' networks are."""

from collections import Counter

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinemix.errors import ConfigError
from kinemix.models.blocks import Block, find_blocks
from kinemix.models.trace import trace_network


def blocks_of(network: nn.Module, size: int = 224) -> list[Block]:
    return find_blocks(trace_network(network, channels=3, input_size=(size, size)))


def make(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=5)


# Blocks a stage, and where the residual branch begins, as the networks' papers draw them.
KNOWN = {
    "resnet18": ([2, 2, 2, 2], {"conv1"}),
    "resnet50": ([3, 4, 6, 3], {"conv1"}),
    "resnet101": ([3, 4, 23, 3], {"conv1"}),
    "resnet50d": ([3, 4, 6, 3], {"conv1"}),
    "seresnet50": ([3, 4, 6, 3], {"conv1"}),
    "resnetv2_50": ([3, 4, 6, 3], {"conv1"}),
    "resnext50_32x4d": ([3, 4, 6, 3], {"conv1"}),
    "res2net50_26w_4s": ([3, 4, 6, 3], {"conv1"}),
    "regnety_002": ([1, 1, 4, 7], {"conv1.conv"}),
    "mobilenetv2_100": ([2, 3, 7, 4], {"conv_pw"}),
    "efficientnet_b0": ([2, 2, 6, 5], {"conv_pw"}),
    "convnext_tiny": ([3, 3, 9, 3], {"conv_dw"}),
    "convnextv2_nano": ([2, 2, 8, 2], {"conv_dw"}),
    "darknet53": ([1, 2, 8, 8, 4], {"conv1.conv"}),
    "densenet121": ([6, 12, 24, 16], {"conv1"}),
    "vgg16": ([1, 2, 3, 3, 3], {""}),  # the stem's convolution is no block
    "inception_v3": ([3, 5, 3], {""}),
    "ghostnet_100": ([1, 2, 2, 6, 5], {"ghost1.primary_conv.0"}),
    "hrnet_w18_small": ([8, 7, 5, 3], {"conv1"}),
    "inception_next_atto": ([2, 2, 6, 2], {"token_mixer"}),  # the module that splits channels stands for them
    "bat_resnext26ts": (
        [2, 2, 2, 2],
        {"conv1_1x1.conv"},
    ),  # not the attention's own residual inside the block
}


@pytest.mark.parametrize("name", KNOWN)
def test_stages_and_first_convolutions(name: str) -> None:
    network = make(name)
    blocks = blocks_of(network, network.pretrained_cfg["input_size"][-1])
    stages = Counter(block.stage for block in blocks)
    counts, first = KNOWN[name]
    assert [stages[stage] for stage in sorted(stages)] == counts
    assert sorted(stages) == list(range(1, len(counts) + 1))
    assert {block.first_conv.removeprefix(block.path).removeprefix(".") for block in blocks} == first


class Zwirbel(nn.Module):
    """A residual block with names that say nothing; its shortcut's projection is declared and run first."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.q = nn.Conv2d(into, out, 1, stride=stride) if into != out else nn.Identity()
        self.gate = nn.Conv2d(into, out, 1)
        self.zz = nn.Conv2d(into, out, 3, stride=stride, padding=1)
        self.b = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        way = self.q(x)
        gate = torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        return torch.add(self.b(F.relu(self.zz(x))) * gate, way).relu_()


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.begin = nn.Conv2d(3, 8, 3, padding=1)
        self.lower = nn.ModuleList([Zwirbel(8, 8, 1), Zwirbel(8, 8, 1)])
        self.upper = nn.ModuleDict({"x": Zwirbel(8, 16, 2)})
        self.end = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.begin(x)
        for step in self.lower:
            x = step(x)
        return self.end(self.upper["x"](x).mean((2, 3)))


def test_a_network_of_ones_own_with_odd_names() -> None:
    assert blocks_of(Odd(), 16) == [
        Block(path="lower.0", first_conv="lower.0.zz", stage=1, index=0),
        Block(path="lower.1", first_conv="lower.1.zz", stage=1, index=1),
        Block(path="upper.x", first_conv="upper.x.zz", stage=2, index=0),
    ]


class Adding(nn.Module):
    """The addition is a module of its own: the block is the module around it that convolves."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(4, 4, 3, padding=1)
        self.plus = Adding()

    def forward(self, x: Tensor) -> Tensor:
        return self.plus(x, self.c(x))


def test_an_addition_that_is_a_module() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), Wrapped(), Wrapped(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    assert [(b.path, b.first_conv) for b in blocks_of(network, 8)] == [("1", "1.c"), ("2", "2.c")]


def test_a_block_that_takes_the_image_is_the_stem() -> None:
    assert [b.path for b in blocks_of(make("repvgg_a0"), 64)][:2] == ["stages.0.0", "stages.0.1"]


def test_a_transformer_has_no_blocks() -> None:
    assert blocks_of(make("vit_tiny_patch16_224")) == []


def test_the_dry_run_changes_nothing() -> None:
    network = timm.create_model("resnet18", num_classes=5).train()
    network.layer2.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    blocks_of(network)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert [m.training for m in network.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(p.device.type == "cpu" for p in network.parameters())


def test_a_network_that_cannot_take_the_frame_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Sequential cannot take a frame of 3 x 8 x 8 in a dry run: .*"):
        trace_network(nn.Sequential(nn.Conv2d(1, 2, 3)), channels=3, input_size=(8, 8))
