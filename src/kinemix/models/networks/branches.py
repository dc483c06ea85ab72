"""Branches side by side, as data: what an Inception block is made of.

A block is a list of branches, a branch a list of layers, each named. The layers are modules of the block
itself, so their paths are the ones under which weights are published.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinemix.models.networks import narrow


@dataclass(frozen=True)
class Conv:
    """A convolution with norm and ReLU.

    Attributes:
        name: in the block.
        channels: that it gives.
        kernel: height and width, or one number for both.
        stride: of the kernel.
        padded: whether zeros around the map keep its size (if ``stride`` is 1).
    """

    name: str
    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padded: bool = True


@dataclass(frozen=True)
class Pool:
    """A pooling of 3 x 3 pixels.

    Attributes:
        kind: average (zeros around the map count) or maximum.
        stride: 1 keeps the size; 2, of maxima only, gives the size of a ``Conv`` of stride 2 with the same
            ``padded``.
        padded: whether windows may reach over the edge.
    """

    kind: Literal["avg", "max"]
    stride: int = 1
    padded: bool = True


Step: TypeAlias = Conv | Pool | tuple[Conv, ...]
"""A layer; or several on the same map, as the last step of a branch."""


class Branches(nn.Module):
    """Several branches on one map, their results concatenated in order.

    Args:
        in_channels: of the map.
        branches: the steps of each, in order.
    """

    def __init__(self, in_channels: int, branches: Sequence[Sequence[Step]]) -> None:
        super().__init__()
        self.out_channels = 0
        self._names: list[list[list[str]]] = []
        for branch in branches:
            names, channels = [], in_channels
            for step in branch:
                layers = step if isinstance(step, tuple) else (step,)
                names.append([self._add(layer, channels) for layer in layers])
                channels = sum(channels if isinstance(layer, Pool) else layer.channels for layer in layers)
            self._names.append(names)
            self.out_channels += channels

    def _add(self, layer: Conv | Pool, channels: int) -> str:
        if isinstance(layer, Pool):
            self.pool = _make_pool(layer)
            return "pool"
        self.add_module(layer.name, ConvNormReLU(channels, layer))
        return layer.name

    def forward(self, x: Tensor) -> Tensor:
        results = []
        for branch in self._names:
            maps = [x]
            for names in branch:
                maps = [getattr(self, name)(maps[0]) for name in names]
            results += maps
        return torch.cat(results, dim=1)


def narrow_layer(layer: Conv, width: float) -> Conv:
    """The same convolution with so many times the channels."""
    return replace(layer, channels=narrow(layer.channels, width))


def narrow_branches(branches: Sequence[Sequence[Step]], width: float) -> list[list[Step]]:
    """The same branches with so many times the channels."""

    def shrink(step: Step) -> Step:
        if isinstance(step, tuple):
            return tuple(narrow_layer(layer, width) for layer in step)
        return step if isinstance(step, Pool) else narrow_layer(step, width)

    return [list(map(shrink, branch)) for branch in branches]


class ConvNormReLU(nn.Module):
    """Convolution with a bias, batch norm, ReLU.

    The norm makes the bias superfluous; the Caffe weights that GSM starts from have it, and so do its counts.
    """

    def __init__(self, in_channels: int, layer: Conv) -> None:
        super().__init__()
        height, width = (layer.kernel, layer.kernel) if isinstance(layer.kernel, int) else layer.kernel
        padding = (height // 2, width // 2) if layer.padded else 0
        self.conv = nn.Conv2d(in_channels, layer.channels, (height, width), layer.stride, padding)
        self.bn = nn.BatchNorm2d(layer.channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class HalvingPool(nn.Module):
    """The maximum of 3 x 3 pixels from every second one on; at the far edges, of what is left of them.

    For even sizes that is Caffe's unpadded pooling, ``ceil_mode``. Odd ones, which Caffe's networks do not
    take, get the size that a padded convolution gives.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2), value=-math.inf)
        return F.max_pool2d(x, 3, stride=2, ceil_mode=True)


def _make_pool(pool: Pool) -> nn.Module:
    if pool.stride == 1:
        return nn.AvgPool2d(3, 1, 1) if pool.kind == "avg" else nn.MaxPool2d(3, 1, 1)
    return HalvingPool() if pool.padded else nn.MaxPool2d(3, pool.stride)


def rename_layers(published: Mapping[str, Any], name_layer: Callable[[str], str | None]) -> dict[str, Tensor]:
    """A state dictionary of published Caffe weights under other names; what has none keeps its own.

    Caffe's norms hold tensors of ``1 x C`` and count no batches; torch's hold ``C`` and do.

    Args:
        published: a state dictionary, or a file's content with one under ``"state_dict"``.
        name_layer: the path of a layer, ``None`` if it is unknown.
    """
    state: dict[str, Tensor] = {}
    for key, value in published.get("state_dict", published).items():
        layer, _, tensor = key.removeprefix("module.").removeprefix("base_model.").rpartition(".")
        path = name_layer(layer)
        if path is None:
            state[key] = value
            continue
        state[f"{path}.{tensor}"] = value[0] if path.endswith(".bn") and value.ndim == 2 else value
        if tensor == "running_var":
            state.setdefault(f"{path}.num_batches_tracked", torch.tensor(0))
    return state
