"""BN-Inception: the Inception network that came with batch normalisation, as TSN and GSM use it.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift" (2015), in the form of the published Caffe weights: every convolution has a bias, frames are BGR from 0
to 255 with their mean subtracted.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kinemix.config import InputSpec
from kinemix.models.networks import Network, narrow
from kinemix.models.networks.branches import (
    Branches,
    Conv,
    ConvNormReLU,
    Pool,
    Step,
    narrow_branches,
    rename_layers,
)

FEATURES = 1024
"""Channels of the last map, which the classifier sees averaged."""


class BNInception(nn.Module):
    """``N C H W`` to ``N x classes``, for frames of any size from 32 pixels up.

    Args:
        num_classes: logits a frame.
        in_channels: of the frames.
        dropout: probability, before the classifier (GSM: 0.5; Diving48: 0.7).
        width: factor on all channels, for networks that small machines can train.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.0, width: float = 1.0
    ) -> None:
        super().__init__()
        first, channels = narrow(64, width), narrow(192, width)
        self.conv1 = ConvNormReLU(in_channels, Conv("conv1", first, 7, stride=2))
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2_reduce = ConvNormReLU(first, Conv("conv2_reduce", first))
        self.conv2 = ConvNormReLU(first, Conv("conv2", channels, 3))
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, branches in BLOCKS.items():
            block = Branches(channels, narrow_branches(branches, width))
            self.add_module(name, block)
            channels = block.out_channels
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.pool1(self.conv1(frames))
        x = self.pool2(self.conv2(self.conv2_reduce(x)))
        for name in BLOCKS:
            x = getattr(self, name)(x)
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


def _describe_block(
    one: int, three: tuple[int, int], double: tuple[int, int], pool: Pool, projected: int
) -> list[list[Step]]:
    """Branches that keep the size; of ``three`` and ``double``, the channels before and in the 3 x 3 kernels."""
    return [
        [Conv("conv_1x1", one)],
        [Conv("conv_3x3_reduce", three[0]), Conv("conv_3x3", three[1], 3)],
        [
            Conv("double_3x3_reduce", double[0]),
            Conv("double_3x3_1", double[1], 3),
            Conv("double_3x3_2", double[1], 3),
        ],
        [pool, Conv("pool_proj", projected)],
    ]


def _describe_halving_block(three: tuple[int, int], double: tuple[int, int]) -> list[list[Step]]:
    """Branches that halve height and width."""
    return [
        [Conv("conv_3x3_reduce", three[0]), Conv("conv_3x3", three[1], 3, stride=2)],
        [
            Conv("double_3x3_reduce", double[0]),
            Conv("double_3x3_1", double[1], 3),
            Conv("double_3x3_2", double[1], 3, stride=2),
        ],
        [Pool("max", stride=2)],
    ]


_AVG, _MAX = Pool("avg"), Pool("max")

BLOCKS = {
    "inception_3a": _describe_block(64, (64, 64), (64, 96), _AVG, 32),
    "inception_3b": _describe_block(64, (64, 96), (64, 96), _AVG, 64),
    "inception_3c": _describe_halving_block((128, 160), (64, 96)),
    "inception_4a": _describe_block(224, (64, 96), (96, 128), _AVG, 128),
    "inception_4b": _describe_block(192, (96, 128), (96, 128), _AVG, 128),
    "inception_4c": _describe_block(160, (128, 160), (128, 160), _AVG, 128),
    "inception_4d": _describe_block(96, (128, 192), (160, 192), _AVG, 128),
    "inception_4e": _describe_halving_block((128, 192), (192, 256)),
    "inception_5a": _describe_block(352, (192, 320), (160, 224), _AVG, 128),
    "inception_5b": _describe_block(352, (192, 320), (192, 224), _MAX, 128),
}
"""The ten blocks, in order. The pooling of the last one takes maxima."""


# ---------------------------------------------------------------------------------------- published weights

_STEM = {"conv1_7x7_s2": "conv1", "conv2_3x3_reduce": "conv2_reduce", "conv2_3x3": "conv2"}
_LAYER = re.compile(r"(inception_[345][a-e])_([a-z0-9_]+?)(_bn)?")
_CLASSIFIERS = ("fc", "new_fc", "last_linear")


def name_layer(layer: str) -> str | None:
    """Our path of a layer of the published networks (``inception_3a_1x1_bn``), ``None`` if there is none."""
    if layer in _CLASSIFIERS:
        return "fc"
    stem = layer.removesuffix("_bn")
    if stem in _STEM:
        return f"{_STEM[stem]}.{'conv' if stem == layer else 'bn'}"
    match = _LAYER.fullmatch(layer)
    if match is None:
        return None
    block, name, norm = match.groups()
    name = f"conv_{name}" if name[0].isdigit() else name
    known = {layer.name for branch in BLOCKS.get(block, []) for layer in branch if isinstance(layer, Conv)}
    return f"{block}.{name}.{'bn' if norm else 'conv'}" if name in known else None


def translate(published: Mapping[str, Any]) -> dict[str, Tensor]:
    """The published Caffe weights, as TSN's and Cadene's files hold them, under this network's names.

    Args:
        published: a state dictionary (``conv1_7x7_s2.weight``), or a file's content with one under
            ``"state_dict"``.

    Returns:
        The state dictionary. What is no part of this network keeps its name.
    """
    return rename_layers(published, name_layer)


NETWORKS = {
    "bn_inception": Network(
        make=BNInception,
        input_spec=InputSpec(
            size=(224, 224), color="bgr", mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), scale=255.0
        ),
        translate=translate,
    )
}
