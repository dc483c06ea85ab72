"""3D and (2+1)D residual networks, the baselines of MTNet's Table II.

Blocks and stem are those of Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition"
(2018); every later stage halves time as well as space. The deeper networks differ in two points, which give the
counts of MTNet's "3D" row (36.7 M parameters, 53.2 G as two operations for each multiply-add): their bottlenecks
do not expand, as in the authors' released code, and a pooling after the stem halves time and space once more.
The table's (2+1)D row (38.8 M, 56.0 G) is met by no rule for the channels between space and time that is known
to us: Tran's, used here, gives as many parameters as the 3D network by design.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from kinemix.config import InputSpec
from kinemix.models.networks import Network, narrow

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages."""

Kind = Literal["3d", "2plus1d"]
"""``"3d"``: 3x3x3 kernels; ``"2plus1d"``: 1x3x3, norm, ReLU, 3x1x1, with as many parameters."""


class ResNet3D(nn.Module):
    """``N C T H W`` to ``N x classes``, for any number of frames and any size.

    Args:
        num_classes: logits a clip.
        kind: of the convolutions.
        depths: blocks of the four stages.
        bottleneck: blocks of three convolutions (1x1x1, the kind's, 1x1x1) instead of two of the kind's, and a
            pooling after the stem.
        in_channels: of the frames.
        dropout: probability, before the classifier.
        width: factor on all channels, for networks that small machines can train.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        kind: Kind,
        depths: Sequence[int],
        bottleneck: bool,
        in_channels: int = 3,
        dropout: float = 0.0,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        widths = [narrow(channels, width) for channels in WIDTHS]
        before = widths[0]
        self.stem = make_stem(kind, in_channels, before)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1) if bottleneck else nn.Identity()
        make_block = Bottleneck if bottleneck else BasicBlock
        stages: list[nn.Module] = []
        for channels, depth in zip(widths, depths, strict=True):
            first = make_block(kind, before, channels, stride=2 if stages else 1)
            rest = [make_block(kind, channels, channels, stride=1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(first, *rest))
            before = channels
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clip: Tensor) -> Tensor:
        mean = self.stages(self.pool(self.stem(clip))).mean(dim=(2, 3, 4))
        return self.classifier(self.dropout(mean))


class BasicBlock(nn.Module):
    """Two convolutions of the kind, and what came in added."""

    def __init__(self, kind: Kind, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        middle = count_middle_channels(in_channels, out_channels)
        self.conv1 = make_convolution(kind, in_channels, middle, out_channels, stride=stride)
        self.norm1 = nn.BatchNorm3d(out_channels)
        self.conv2 = make_convolution(kind, out_channels, middle, out_channels)
        self.norm2 = nn.BatchNorm3d(out_channels)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = make_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.act(self.norm1(self.conv1(x)))
        return self.act(self.shortcut(x) + self.norm2(self.conv2(branch)))


class Bottleneck(nn.Module):
    """One convolution of the kind between two of one pixel, all of the same width, and what came in added."""

    def __init__(self, kind: Kind, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        middle = count_middle_channels(out_channels, out_channels)
        self.conv1 = nn.Conv3d(in_channels, out_channels, 1, bias=False)
        self.norm1 = nn.BatchNorm3d(out_channels)
        self.conv2 = make_convolution(kind, out_channels, middle, out_channels, stride=stride)
        self.norm2 = nn.BatchNorm3d(out_channels)
        self.conv3 = nn.Conv3d(out_channels, out_channels, 1, bias=False)
        self.norm3 = nn.BatchNorm3d(out_channels)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = make_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.act(self.norm1(self.conv1(x)))
        branch = self.act(self.norm2(self.conv2(branch)))
        return self.act(self.shortcut(x) + self.norm3(self.conv3(branch)))


def make_stem(kind: Kind, in_channels: int, width: int) -> nn.Sequential:
    """7x7 pixels of three frames, halving height and width."""
    if kind == "3d":
        convolution: list[nn.Module] = [
            nn.Conv3d(in_channels, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        ]
    else:
        middle = (
            45 * width // WIDTHS[0]
        )  # (2+1)D's stem has no more parameters than a 3x7x7 convolution of three colours
        convolution = [
            nn.Conv3d(in_channels, middle, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, width, (3, 1, 1), padding=(1, 0, 0), bias=False),
        ]
    return nn.Sequential(*convolution, nn.BatchNorm3d(width), nn.ReLU(inplace=True))


def make_convolution(
    kind: Kind, in_channels: int, middle: int, out_channels: int, *, stride: int = 1
) -> nn.Module:
    """A convolution that looks one pixel and one frame around; its stride is over time and space alike."""
    if kind == "3d":
        return nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(
        nn.Conv3d(in_channels, middle, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, out_channels, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


def count_middle_channels(in_channels: int, out_channels: int) -> int:
    """Channels between the two steps of a (2+1)D convolution, for as many parameters as a 3D one has.

    Tran et al., Section 3.5. As in their code and torchvision's, both convolutions of a basic block take the
    number for the first.
    """
    return (in_channels * out_channels * 27) // (in_channels * 9 + 3 * out_channels)


def make_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity, or a projection where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm3d(out_channels)
    )


def _declare(kind: Kind, depths: Sequence[int], *, bottleneck: bool) -> Network:
    # No weights are published; Kinetics' statistics, as torchvision's video ResNets have them (our choice).
    spec = InputSpec(
        size=(224, 224), color="rgb", mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989)
    )
    return Network(
        make=partial(ResNet3D, kind=kind, depths=depths, bottleneck=bottleneck),
        input_spec=spec,
        takes_clips=True,
    )


NETWORKS = {
    "r3d_resnet18": _declare("3d", (2, 2, 2, 2), bottleneck=False),
    "r3d_resnet34": _declare("3d", (3, 4, 6, 3), bottleneck=False),
    "r3d_resnet50": _declare("3d", (3, 4, 6, 3), bottleneck=True),
    "r3d_resnet101": _declare("3d", (3, 4, 23, 3), bottleneck=True),
    "r2plus1d_resnet18": _declare("2plus1d", (2, 2, 2, 2), bottleneck=False),
    "r2plus1d_resnet34": _declare("2plus1d", (3, 4, 6, 3), bottleneck=False),
    "r2plus1d_resnet50": _declare("2plus1d", (3, 4, 6, 3), bottleneck=True),
    "r2plus1d_resnet101": _declare("2plus1d", (3, 4, 23, 3), bottleneck=True),
}
