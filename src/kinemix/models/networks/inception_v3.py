"""Inception V3, as GSM uses it: frames of 229 pixels, BGR from 0 to 255, and maxima in the last block's pooling.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016); the paths are torchvision's
and timm's, whose published weights load. Their own conventions (RGB from -1 to 1, no biases, another epsilon) are
folded into the weights on the way, exactly. The auxiliary classifier is left out.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from kinemix.config import InputSpec
from kinemix.errors import ConfigError
from kinemix.models.networks import Network
from kinemix.models.networks.branches import (
    Branches,
    Conv,
    ConvNormReLU,
    Pool,
    Step,
    narrow_branches,
    narrow_layer,
    rename_layers,
)

INPUT = InputSpec(size=(229, 229), color="bgr", mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), scale=255.0)

LastPool: TypeAlias = Literal["max", "avg"]
FirstKernel: TypeAlias = Literal["wide", "tall"]


class InceptionV3(nn.Module):
    """``N C H W`` to ``N x classes``, for frames of any size from 75 pixels up.

    Args:
        num_classes: logits a frame.
        in_channels: of the frames.
        dropout: probability, before the classifier (GSM: 0.5; Diving48: 0.7).
        last_pool: pooling in the last block: ``max`` in the Caffe weights that GSM starts from, ``avg`` in
            torchvision's and timm's.
        first_kernel: which comes first of a row and a column kernel that follow each other: ``wide`` (1 x 7),
            as in torchvision and timm, or ``tall`` (7 x 1), as in the Caffe weights and so in the networks
            that GSM's authors released.
        width: factor on all channels, for networks that small machines can train.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.0,
        last_pool: LastPool = "max",
        first_kernel: FirstKernel = "wide",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if last_pool not in ("max", "avg"):
            raise ConfigError(f"last_pool is {last_pool!r}: it must be 'max' or 'avg'")
        if first_kernel not in ("wide", "tall"):
            raise ConfigError(f"first_kernel is {first_kernel!r}: it must be 'wide' or 'tall'")
        channels = in_channels
        for layer in STEM:
            if isinstance(layer, Conv):
                layer = narrow_layer(layer, width)
                self.add_module(layer.name, ConvNormReLU(channels, layer))
                channels = layer.channels
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self._blocks: list[str] = []
        for name, branches in _describe_blocks(last_pool, wide_first=first_kernel == "wide").items():
            block = Branches(channels, narrow_branches(branches, width))
            self.add_module(name, block)
            self._blocks.append(name)
            channels = block.out_channels
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames
        for layer in STEM:
            x = getattr(self, layer.name)(x) if isinstance(layer, Conv) else self.pool(x)
        for name in self._blocks:
            x = getattr(self, name)(x)
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


_HALVE = Pool("max", stride=2, padded=False)

STEM: tuple[Conv | Pool, ...] = (
    Conv("Conv2d_1a_3x3", 32, 3, stride=2, padded=False),
    Conv("Conv2d_2a_3x3", 32, 3, padded=False),
    Conv("Conv2d_2b_3x3", 64, 3),
    _HALVE,
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, 3, padded=False),
    _HALVE,
)


def _describe_blocks(last_pool: LastPool, *, wide_first: bool) -> dict[str, list[list[Step]]]:
    return {
        "Mixed_5b": _describe_large_block(32),
        "Mixed_5c": _describe_large_block(64),
        "Mixed_5d": _describe_large_block(64),
        "Mixed_6a": [
            [Conv("branch3x3", 384, 3, stride=2, padded=False)],
            [
                Conv("branch3x3dbl_1", 64),
                Conv("branch3x3dbl_2", 96, 3),
                Conv("branch3x3dbl_3", 96, 3, stride=2, padded=False),
            ],
            [_HALVE],
        ],
        "Mixed_6b": _describe_medium_block(128, wide_first),
        "Mixed_6c": _describe_medium_block(160, wide_first),
        "Mixed_6d": _describe_medium_block(160, wide_first),
        "Mixed_6e": _describe_medium_block(192, wide_first),
        "Mixed_7a": [
            [Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, stride=2, padded=False)],
            [
                Conv("branch7x7x3_1", 192),
                Conv("branch7x7x3_2", 192, _lay(7, wide_first)),
                Conv("branch7x7x3_3", 192, _lay(7, not wide_first)),
                Conv("branch7x7x3_4", 192, 3, stride=2, padded=False),
            ],
            [_HALVE],
        ],
        "Mixed_7b": _describe_small_block(Pool("avg"), wide_first),
        "Mixed_7c": _describe_small_block(Pool(last_pool), wide_first),
    }


def _describe_large_block(projected: int) -> list[list[Step]]:
    """Branches of the largest maps."""
    return [
        [Conv("branch1x1", 64)],
        [Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5)],
        [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3)],
        [Pool("avg"), Conv("branch_pool", projected)],
    ]


def _describe_medium_block(width: int, wide_first: bool) -> list[list[Step]]:
    """Branches whose 7 x 7 kernels are a row and a column."""
    first, second = _lay(7, wide_first), _lay(7, not wide_first)
    return [
        [Conv("branch1x1", 192)],
        [
            Conv("branch7x7_1", width),
            Conv("branch7x7_2", width, first),
            Conv("branch7x7_3", 192, second),
        ],
        [
            Conv("branch7x7dbl_1", width),
            Conv("branch7x7dbl_2", width, second),
            Conv("branch7x7dbl_3", width, first),
            Conv("branch7x7dbl_4", width, second),
            Conv("branch7x7dbl_5", 192, first),
        ],
        [Pool("avg"), Conv("branch_pool", 192)],
    ]


def _describe_small_block(pool: Pool, wide_first: bool) -> list[list[Step]]:
    """Branches of the smallest maps, where row and column kernels stand side by side."""
    first, second = _lay(3, wide_first), _lay(3, not wide_first)
    return [
        [Conv("branch1x1", 320)],
        [Conv("branch3x3_1", 384), (Conv("branch3x3_2a", 384, first), Conv("branch3x3_2b", 384, second))],
        [
            Conv("branch3x3dbl_1", 448),
            Conv("branch3x3dbl_2", 384, 3),
            (Conv("branch3x3dbl_3a", 384, first), Conv("branch3x3dbl_3b", 384, second)),
        ],
        [pool, Conv("branch_pool", 192)],
    ]


def _lay(length: int, wide: bool) -> tuple[int, int]:
    """Height and width of a kernel that is a row or a column."""
    return (1, length) if wide else (length, 1)


# ---------------------------------------------------------------------------------------- published weights

# TensorFlow's names, which the Caffe weights of TSN and GSM keep: a block's prefix, and within it a layer's.
_CAFFE_STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
_CAFFE_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")  # mixed, mixed_1, ...
_CAFFE_LAYERS = {
    "5": {
        "conv": "branch1x1",
        **{f"tower_conv{n}": f"branch5x5_{i}" for i, n in enumerate(("", "_1"), 1)},
        **{f"tower_1_conv{n}": f"branch3x3dbl_{i}" for i, n in enumerate(("", "_1", "_2"), 1)},
        "tower_2_conv": "branch_pool",
    },
    "6a": {
        "conv": "branch3x3",
        **{f"tower_conv{n}": f"branch3x3dbl_{i}" for i, n in enumerate(("", "_1", "_2"), 1)},
    },
    "6": {
        "conv": "branch1x1",
        **{f"tower_conv{n}": f"branch7x7_{i}" for i, n in enumerate(("", "_1", "_2"), 1)},
        **{f"tower_1_conv{n}": f"branch7x7dbl_{i}" for i, n in enumerate(("", "_1", "_2", "_3", "_4"), 1)},
        "tower_2_conv": "branch_pool",
    },
    "7a": {
        **{f"tower_conv{n}": f"branch3x3_{i}" for i, n in enumerate(("", "_1"), 1)},
        **{f"tower_1_conv{n}": f"branch7x7x3_{i}" for i, n in enumerate(("", "_1", "_2", "_3"), 1)},
    },
    "7": {
        "conv": "branch1x1",
        "tower_conv": "branch3x3_1",
        "tower_mixed_conv": "branch3x3_2a",
        "tower_mixed_conv_1": "branch3x3_2b",
        "tower_1_conv": "branch3x3dbl_1",
        "tower_1_conv_1": "branch3x3dbl_2",
        "tower_1_mixed_conv": "branch3x3dbl_3a",
        "tower_1_mixed_conv_1": "branch3x3dbl_3b",
        "tower_2_conv": "branch_pool",
    },
}
_CAFFE_LAYER = re.compile(
    r"(?:mixed(?:_(?P<block>\d+))?_)?(?P<name>(?:tower|conv).*?)_(?P<kind>Conv2D|batchnorm)"
)
_CLASSIFIERS = ("fc", "new_fc", "top_cls_fc")
_STEM_INPUT = "Conv2d_1a_3x3.conv"
_PUBLISHED_EPS = 1e-3


def name_layer(layer: str) -> str | None:
    """Our path of a layer of the Caffe weights (``mixed_4_tower_conv_1_Conv2D``), ``None`` if there is none."""
    if layer in _CLASSIFIERS:
        return "fc"
    match = _CAFFE_LAYER.fullmatch(layer)
    if match is None:
        return None
    name, part = match["name"], "conv" if match["kind"] == "Conv2D" else "bn"
    if not layer.startswith("mixed"):
        path = _CAFFE_STEM.get(name)
        return f"{path}.{part}" if path else None
    number = int(match["block"] or 0)
    if number >= len(_CAFFE_BLOCKS):
        return None
    block = _CAFFE_BLOCKS[number]
    path = (_CAFFE_LAYERS.get(block) or _CAFFE_LAYERS[block[0]]).get(name)
    return f"Mixed_{block}.{path}.{part}" if path else None


def translate(published: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of torchvision's or timm's Inception V3, or TSN's Caffe ones, for this network.

    torchvision's and timm's were made for RGB from -1 to 1; they are changed to give the same for this
    network's input, see :func:`_adopt_convention_`. They were trained with ``last_pool="avg"``. (timm's
    ``gluon_in1k`` wants yet another input: use timm's own ``inception_v3.gluon_in1k``.) The Caffe weights need
    ``first_kernel="tall"``.

    Args:
        published: a state dictionary, or a file's content with one under ``"state_dict"``.

    Returns:
        The state dictionary. What is no part of this network (an auxiliary classifier) keeps its name.
    """
    state = rename_layers(published, name_layer)
    if f"{_STEM_INPUT}.weight" in state and f"{_STEM_INPUT}.bias" not in state:
        _adopt_convention_(state)
    return state


def _adopt_convention_(state: dict[str, Tensor]) -> None:
    """Let weights that were made for RGB from -1 to 1 see this network's input, with the same result.

    A pixel ``v`` of this input is ``(v + mean) / 127.5 - 1`` of theirs. The factor goes into the first
    kernels, whose input channels change places; the rest is a constant, since the first convolution is not
    padded, and goes into its bias. All other biases are zero. The norms' larger epsilon goes into the running
    variances, which is exact in evaluation.
    """
    for key in [key for key in state if key.endswith(".conv.weight")]:
        state[key.removesuffix("weight") + "bias"] = state[key].new_zeros(len(state[key]))
    ours = nn.BatchNorm2d(1).eps
    for key in [key for key in state if key.endswith(".bn.running_var")]:
        state[key] = state[key] + (_PUBLISHED_EPS - ours)
    kernels = state[f"{_STEM_INPUT}.weight"].double().flip(1)
    shift = torch.tensor(INPUT.mean, dtype=kernels.dtype) / 127.5 - 1
    state[f"{_STEM_INPUT}.bias"] = (kernels.sum(dim=(2, 3)) @ shift).to(state[f"{_STEM_INPUT}.weight"].dtype)
    state[f"{_STEM_INPUT}.weight"] = (kernels / 127.5).to(state[f"{_STEM_INPUT}.weight"].dtype)


NETWORKS = {
    "inception_v3": Network(
        make=InceptionV3,
        input_spec=INPUT,
        translate=translate,
        published="Inception_V3_Weights.IMAGENET1K_V1",
    )
}
