"""X3D S, M and L: a 3D network whose only large convolutions across space and time are depthwise.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition" (2020): a tiny image network,
expanded axis by axis. Its blocks are inverted bottlenecks with squeeze-and-excitation in every second one;
time is never strided. MTNet S, M and L stand on it.
"""

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kinemix.config import InputSpec
from kinemix.models.networks import Network, narrow

STEM_WIDTH = 24
WIDTHS = (24, 48, 96, 192)
"""Channels of the four stages."""
EXPANSION = 2.25
"""Channels within a block, relative to those it gives."""
HIDDEN = 2048
"""Features that the classifier sees."""

Depths = tuple[int, int, int, int]
"""Blocks of the four stages."""


class X3D(nn.Module):
    """``N C T H W`` to ``N x classes``, for any number of frames and any size.

    Args:
        num_classes: logits a clip.
        depths: blocks of the four stages.
        in_channels: of the frames.
        dropout: probability, before the classifier (the paper: 0.5).
        first_shortcut_norm: whether the projection in the first stage's shortcut is normalised, as those of
            the other stages are. It is in the author's code; PyTorchVideo's X3D, otherwise equal, leaves it out.
        width: factor on all channels, for networks that small machines can train.
        zero_init_last: whether the last norm of every residual branch starts at zero, so that a block starts as its
            shortcut, which looks along neither time nor space (the author's code). Without it the depthwise
            convolutions are heard, and learn, from the first step on: what short trainings need.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        depths: Depths,
        in_channels: int = 3,
        dropout: float = 0.0,
        first_shortcut_norm: bool = True,
        width: float = 1.0,
        zero_init_last: bool = True,
    ) -> None:
        super().__init__()
        before = narrow(STEM_WIDTH, width)
        self.stem = Stem(in_channels, before)
        stages: list[nn.Module] = []
        for full, depth in zip(WIDTHS, depths, strict=True):
            channels = narrow(full, width)
            blocks = [Block(before if i == 0 else channels, channels, index=i) for i in range(depth)]
            if not (stages or first_shortcut_norm):
                blocks[0].shortcut_norm = nn.Identity()
            stages.append(nn.Sequential(*blocks))
            before = channels
        self.stages = nn.Sequential(*stages)
        self.head = Head(before, narrow(HIDDEN, width), num_classes, dropout)
        _init_(self, zero_init_last=zero_init_last)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(clip)))


class Stem(nn.Module):
    """A convolution over space, then one over time within each channel."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv3d(
            in_channels, width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        )
        self.temporal = nn.Conv3d(width, width, (5, 1, 1), padding=(2, 0, 0), groups=width, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, clip: Tensor) -> Tensor:
        return self.act(self.norm(self.temporal(self.spatial(clip))))


class Block(nn.Module):
    """Expand, look around within each channel, weigh the channels, project, and add what came in.

    Args:
        in_channels, out_channels: they differ in the first block of a stage only.
        index: within the stage. The first block halves height and width; every second one, from the first on,
            has squeeze-and-excitation.
    """

    def __init__(self, in_channels: int, out_channels: int, *, index: int) -> None:
        super().__init__()
        inner = int(EXPANSION * out_channels)
        stride = (1, 2, 2) if index == 0 else (1, 1, 1)
        self.expand = nn.Conv3d(in_channels, inner, 1, bias=False)
        self.expand_norm = nn.BatchNorm3d(inner)
        self.expand_act = nn.ReLU(inplace=True)
        self.depthwise = nn.Conv3d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False)
        self.depthwise_norm = nn.BatchNorm3d(inner)
        self.squeeze = SqueezeExcitation(inner) if index % 2 == 0 else nn.Identity()
        self.depthwise_act = nn.SiLU(inplace=True)  # Swish
        self.project = nn.Conv3d(inner, out_channels, 1, bias=False)
        self.project_norm = nn.BatchNorm3d(out_channels)
        if index == 0:
            self.shortcut: nn.Module = nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut_norm: nn.Module = nn.BatchNorm3d(out_channels)
        else:
            self.shortcut, self.shortcut_norm = nn.Identity(), nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.expand_act(self.expand_norm(self.expand(x)))
        branch = self.squeeze(self.depthwise_norm(self.depthwise(branch)))
        branch = self.project_norm(self.project(self.depthwise_act(branch)))
        return self.act(self.shortcut_norm(self.shortcut(x)) + branch)


class SqueezeExcitation(nn.Module):
    """A weight between 0 and 1 for each channel, from the channels' means over the whole clip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = _round_to_eight(channels / 16)
        self.reduce = nn.Linear(channels, width)
        self.act = nn.ReLU(inplace=True)
        self.restore = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.restore(self.act(self.reduce(x.mean(dim=(2, 3, 4))))).sigmoid()
        return x * weight[:, :, None, None, None]


class Head(nn.Module):
    """Lift the channels, average the clip, and classify from a wide hidden layer that sees the average."""

    def __init__(self, channels: int, hidden: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        lifted = int(EXPANSION * channels)
        self.lift = nn.Conv3d(channels, lifted, 1, bias=False)
        self.lift_norm = nn.BatchNorm3d(lifted)
        self.act = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(lifted, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.act(self.lift_norm(self.lift(x))).mean(dim=(2, 3, 4))
        return self.classifier(self.dropout(self.act(self.hidden(mean))))


def _round_to_eight(width: float) -> int:
    """The nearest multiple of eight, 8 at least, never below nine tenths of the width."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def _init_(network: nn.Module, *, zero_init_last: bool) -> None:
    """He's initialisation, as in the author's code."""
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Block) and zero_init_last:
            nn.init.zeros_(module.project_norm.weight)


# ---------------------------------------------------------------------------------------- published weights

# Ours, PyTorchVideo's, SlowFast's. The names of the stem's convolutions are crossed in PyTorchVideo: its
# `conv_t` is the one over space.
_OUTSIDE = (
    ("stem.spatial", "blocks.0.conv.conv_t", "s1.pathway0_stem.conv_xy"),
    ("stem.temporal", "blocks.0.conv.conv_xy", "s1.pathway0_stem.conv"),
    ("stem.norm", "blocks.0.norm", "s1.pathway0_stem.bn"),
    ("head.lift", "blocks.5.pool.pre_conv", "head.conv_5"),
    ("head.lift_norm", "blocks.5.pool.pre_norm", "head.conv_5_bn"),
    ("head.hidden", "blocks.5.pool.post_conv", "head.lin_5"),
    ("head.classifier", "blocks.5.proj", "head.projection"),
)
_INSIDE = (
    ("expand", "branch2.conv_a", "branch2.a"),
    ("expand_norm", "branch2.norm_a", "branch2.a_bn"),
    ("depthwise", "branch2.conv_b", "branch2.b"),
    ("depthwise_norm", "branch2.norm_b.0", "branch2.b_bn"),
    ("squeeze.reduce", "branch2.norm_b.1.block.0", "branch2.se.fc1"),
    ("squeeze.restore", "branch2.norm_b.1.block.2", "branch2.se.fc2"),
    ("project", "branch2.conv_c", "branch2.c"),
    ("project_norm", "branch2.norm_c", "branch2.c_bn"),
    ("shortcut", "branch1_conv", "branch1"),
    ("shortcut_norm", "branch1_norm", "branch1_bn"),
)
_OUR_NAMES = {theirs: ours for ours, *others in (*_OUTSIDE, *_INSIDE) for theirs in others}

# The first stage is blocks.1 in PyTorchVideo, s2 in SlowFast.
_BLOCK = re.compile(r"(?:blocks\.(?P<ptv>[1-4])\.res_blocks\.|s(?P<slowfast>[2-5])\.pathway0_res)(\d+)\.(.+)")

# What PyTorchVideo and SlowFast write as convolutions of one pixel.
_LINEAR = ("head.hidden", "squeeze.reduce", "squeeze.restore")


def translate(published: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of PyTorchVideo's or SlowFast's X3D under this network's names.

    PyTorchVideo's network has no norm in the first stage's shortcut. It is filled in as the identity, which is
    the same in evaluation; ``first_shortcut_norm=False`` is their network in training as well.

    Args:
        published: a state dictionary, or the file's content: one under ``"model_state"``.

    Returns:
        The state dictionary. What is no part of X3D keeps its name.
    """
    state = {}
    for key, value in published.get("model_state", published).items():
        path, _, tensor = key.rpartition(".")
        layer = _translate_path(path)
        is_kernel = layer.endswith(_LINEAR) and tensor == "weight"
        state[f"{layer}.{tensor}" if path else key] = value.flatten(1) if is_kernel else value
    norm = "stages.0.0.shortcut_norm"
    if "stages.0.0.shortcut.weight" in state and f"{norm}.weight" not in state:
        width, eps = WIDTHS[0], nn.BatchNorm3d(1).eps
        state[f"{norm}.weight"] = torch.full((width,), math.sqrt(1 + eps))
        state[f"{norm}.bias"] = torch.zeros(width)
        state[f"{norm}.running_mean"] = torch.zeros(width)
        state[f"{norm}.running_var"] = torch.ones(width)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    return state


def _translate_path(path: str) -> str:
    """Our name of a published layer; an unknown one's own."""
    block = _BLOCK.fullmatch(path)
    if block is None:
        return _OUR_NAMES.get(path, path)
    first, number = (1, block["ptv"]) if block["ptv"] else (2, block["slowfast"])
    part = _OUR_NAMES.get(block[4], block[4])
    return f"stages.{int(number) - first}.{block[3]}.{part}"


def _declare(depths: Depths, size: int) -> Network:
    return Network(
        make=partial(X3D, depths=depths),
        input_spec=InputSpec(size=(size, size), color="rgb", mean=(0.45,) * 3, std=(0.225,) * 3),
        takes_clips=True,
        translate=translate,
    )


NETWORKS = {  # S and M are one network, for clips of another length and size: 13 and 16 frames; L: 16
    "x3d_s": _declare((3, 5, 11, 7), 160),
    "x3d_m": _declare((3, 5, 11, 7), 224),
    "x3d_l": _declare((5, 10, 25, 15), 312),
}
