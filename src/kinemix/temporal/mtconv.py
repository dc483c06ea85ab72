"""MTConv: one convolution becomes two, for brief and for prolonged motion, that share its output channels.

The local branch is the convolution itself with fewer filters. The prolonged branch sees the same input, and what
the local branch made of it, at half the resolution in time and space, so that the same kernel reaches twice as
far; what it finds is interpolated back. After the last convolution of a block, recurrent cells weigh the
channels of every frame (:mod:`~kinemix.temporal.squeeze_recursion`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinemix.errors import ConfigError, did_you_mean
from kinemix.temporal.base import Convolution, Insertion, Site, TemporalModule, check_clip
from kinemix.temporal.frame_selection import find_frames, select_frames
from kinemix.temporal.interpolation import interpolate_volume
from kinemix.temporal.pooling import POOLINGS, Pooling, pool_volume
from kinemix.temporal.shift_and_add import is_channels_last
from kinemix.temporal.squeeze_recursion import CELLS, Cell, SqueezeRecursion
from kinemix.types import Clip


class MultiTemporalConv(TemporalModule):
    """A convolution for two time scales, with Squeeze-and-Recursion at the end of a block.

    Source: "Multi-Temporal Convolutions for Human Action Recognition in Videos" (MTConv, MTNet), eq. 1-11. Of
    the output channels, ``floor(delta C)`` are the local branch's and the rest the prolonged one's; the output
    is in this order. Every convolution has its batch norm and ReLU. Where the paper is silent, our choices:

    - Instead of a convolution, the module has its channels, kernel, stride, padding, dilation, groups and bias.
      In an image network a kernel of more than one pixel gets three taps along time. The norm and the activation
      that the network has after it stay, so any network can be cut. As a plug-in before a convolution, it is one
      of 3 x 3 x 3 that keeps the channels, with Squeeze-and-Recursion.
    - Of a grouped (depthwise) convolution, eq. 1 splits the groups, and the local branch keeps the first
      ``floor(delta groups)`` of them with their inputs. The prolonged branch sees all inputs, in as many groups
      as the host's groups and its own channels have as a common divisor.
    - The prolonged convolutions pad so that a map keeps its size; the one on the input has the host's stride.
      Where an odd map or a stride in time makes two sizes of it, each is interpolated by itself (trilinear,
      pixels aligned at their edges).

    Args:
        site: where the module stands, and the convolution that it replaces, if it does.
        delta: share of the local branch, above 0; with 1 there is no other.
        cell: recurrent cells of Squeeze-and-Recursion; ``None`` leaves it out.
        num_layers: layers of these cells.
        pooling: how the prolonged branch halves height and width.
        frame_selection: it keeps half of the frames, those that differ most; without, it pools over time as well.
        split_input: as in the authors' released code: each branch sees its own share of the input channels, and
            the frames kept are those most alike (by squared cosines). That code pools with ``"average"``.

    Raises:
        ConfigError: an option is out of range.
    """

    name: ClassVar[str] = "mtconv"
    placements: ClassVar[Mapping[str, Insertion]] = {
        "convs": Insertion(at="convs", place="instead"),
        "first_conv": Insertion(at="first_conv", place="before"),
    }

    def __init__(
        self,
        site: Site,
        *,
        delta: float = 0.875,
        cell: Cell | None = "gru",
        num_layers: int = 2,
        pooling: Pooling = "soft",
        frame_selection: bool = True,
        split_input: bool = False,
    ) -> None:
        super().__init__(site)
        _check_options(delta, cell, num_layers, pooling)
        self.delta, self.cell, self.num_layers = delta, cell, num_layers
        self.pooling, self.frame_selection, self.split_input = pooling, frame_selection, split_input
        conv = _shape_convolution(site)
        self.channels = channels = _split_convolution(conv, delta, split_input=split_input, path=site.path)
        reach = conv.dilation[0] * (conv.kernel_size[0] - 1)
        self.keeps_frames = conv.stride[0] == 1 and 2 * conv.padding[0] == reach
        self.local = Branch(conv, channels.local_in, channels.local, groups=channels.local_groups)
        self.local_to_prolonged: Branch | None = None
        self.prolonged: Branch | None = None
        if channels.prolonged:
            on_input = replace(conv, padding=_pad_to_keep_size(conv))
            on_local = replace(on_input, stride=(1, 1, 1))
            self.local_to_prolonged = Branch(on_local, channels.local, channels.prolonged)
            self.prolonged = Branch(on_input, channels.prolonged_in, channels.prolonged)
        self.recursion: SqueezeRecursion | None = None
        if cell is not None and conv.is_last:
            self.recursion = SqueezeRecursion(conv.out_channels, cell=cell, num_layers=num_layers)

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        volume = self.convolve(clip.transpose(1, 2).contiguous())
        if self.recursion is not None:
            volume = self.recursion(volume)
        return _lay_out_like(clip, volume)

    def convolve(self, volume: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T2 H2 W2"]:
        """Both branches of a map, one above the other (eq. 2)."""
        local = self.local(volume[:, : self.channels.local_in])
        if self.prolonged is None or self.local_to_prolonged is None:
            return local
        from_local = self.local_to_prolonged(self.halve(local))
        from_input = self.prolonged(self.halve(volume[:, -self.channels.prolonged_in :]))
        size = local.shape[2:]
        if from_local.shape[3:] == from_input.shape[3:] and self.keeps_frames:
            prolonged = interpolate_volume(from_local + from_input, size)
        else:
            prolonged = interpolate_volume(from_local, size) + interpolate_volume(from_input, size)
        return torch.cat([local, prolonged.to(local.dtype)], dim=1)

    def halve(self, volume: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C t h w"]:
        """A map at half the resolution in time and space, as the prolonged branch sees it (eq. 5-7)."""
        pooled = self._pool(volume)
        return select_frames(pooled, most_alike=self.split_input) if self.frame_selection else pooled

    def _pool(self, volume: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C t h w"]:
        return pool_volume(
            volume, pooling=self.pooling, over_time=not self.frame_selection, training=self.training
        )

    def choose_frames(self, clip: Clip) -> dict[str, Bool[Tensor, "B t"]]:
        """Which frames the prolonged branch keeps: of the ``input``, and of the ``local`` branch's output.

        Nothing where the module selects none: without frame selection, or with no prolonged branch.
        """
        if self.prolonged is None or not self.frame_selection:
            return {}
        volume = clip.transpose(1, 2)
        seen = {
            "input": volume[:, -self.channels.prolonged_in :],
            "local": self.local(volume[:, : self.channels.local_in]),
        }
        return {name: self._mark_kept(part) for name, part in seen.items()}

    def _mark_kept(self, volume: Float[Tensor, "B C T H W"]) -> Bool[Tensor, "B T"]:
        kept = find_frames(self._pool(volume), most_alike=self.split_input)
        marks = torch.zeros(len(volume), volume.shape[2], dtype=torch.bool, device=volume.device)
        return marks.scatter(1, kept, True)

    @torch.no_grad()
    def take_over_(self, host: nn.Module) -> None:
        """Let the local branch start from the host's first filters, at the middle frame if it has no time."""
        conv = self.local.conv
        weight = host.get_parameter("weight")[: conv.out_channels, : conv.weight.shape[1]]
        if weight.ndim == 4:
            conv.weight.zero_()
            conv.weight[:, :, conv.kernel_size[0] // 2] = weight
        else:
            conv.weight.copy_(weight)
        if conv.bias is not None:
            conv.bias.copy_(host.get_parameter("bias")[: conv.out_channels])

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, delta={self.delta}, cell={self.cell}, pooling={self.pooling}, "
            f"frame_selection={self.frame_selection}, split_input={self.split_input}"
        )


class Branch(nn.Module):
    """A convolution like another, but with these channels; batch norm; ReLU (eq. 3).

    Args:
        conv: what the convolution is like.
        in_channels, out_channels: instead of its own.
        groups: by default, the most into which its groups and these channels can be divided.
    """

    def __init__(
        self, conv: Convolution, in_channels: int, out_channels: int, *, groups: int | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            groups or math.gcd(conv.groups, in_channels, out_channels),
            conv.bias,
        )
        self.norm = nn.BatchNorm3d(out_channels)

    def forward(self, volume: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D t h w"]:
        return F.relu(self.norm(self.conv(volume)))


@dataclass(frozen=True, kw_only=True)
class BranchChannels:
    """How a convolution's channels are shared out.

    Attributes:
        local_in, local: input channels, from the first on, and filters of the local branch.
        local_groups: its groups.
        prolonged_in, prolonged: input channels, up to the last, and filters of the prolonged branch.
    """

    local_in: int
    local: int
    local_groups: int
    prolonged_in: int
    prolonged: int


def _split_convolution(conv: Convolution, delta: float, *, split_input: bool, path: str) -> BranchChannels:
    """Eq. 1, over groups where there are several; a branch of the local kind is always left."""
    units = conv.groups if conv.groups > 1 else conv.out_channels
    kept = max(1, math.floor(delta * units))
    local = kept * conv.out_channels // units
    prolonged = conv.out_channels - local
    local_in = prolonged_in = conv.in_channels
    if conv.groups > 1:
        local_in = kept * conv.in_channels // units
    elif split_input and prolonged:
        local_in = max(1, math.floor(delta * conv.in_channels))
    if split_input and prolonged:
        prolonged_in = conv.in_channels - local_in
        if not prolonged_in:
            raise ConfigError(
                f"split_input cannot share out the {conv.in_channels} input channel of {path!r}: "
                "leave this site out, or use split_input=False"
            )
    return BranchChannels(
        local_in=local_in,
        local=local,
        local_groups=kept if conv.groups > 1 else 1,
        prolonged_in=prolonged_in,
        prolonged=prolonged,
    )


def _shape_convolution(site: Site) -> Convolution:
    """The convolution to be made of two: the host's with time in it, or a plain one for a plug-in."""
    C, host = site.channels, site.convolution
    if host is None:
        return Convolution(
            in_channels=C, out_channels=C, kernel_size=(3, 3, 3), padding=(1, 1, 1), is_last=True
        )
    if not host.is_flat or max(host.kernel_size) == 1:
        return host
    return replace(host, kernel_size=(3, *host.kernel_size[1:]), padding=(1, *host.padding[1:]))


def _pad_to_keep_size(conv: Convolution) -> tuple[int, int, int]:
    """Padding with which a convolution of stride 1 loses no pixel; of an even kernel, it wins one."""
    time, height, width = (
        math.ceil(dilation * (kernel - 1) / 2)
        for kernel, dilation in zip(conv.kernel_size, conv.dilation, strict=True)
    )
    return time, height, width


def _lay_out_like(clip: Clip, volume: Float[Tensor, "B C T H W"]) -> Clip:
    """A volume as a clip in the memory format of the one that came in; that of a clip network is a volume's."""
    if clip.is_contiguous() or is_channels_last(clip):
        frames: Clip = _ToFrames.apply(volume, is_channels_last(clip))
        return frames
    return volume.transpose(1, 2)


class _ToFrames(torch.autograd.Function):
    """``B C T H W`` to frames ``B T C H W`` that lie one behind the other in memory.

    The gradient comes back as a contiguous volume: one copy here saves one in every layer before, whose
    arithmetic then does not depend on the format of the frames.
    """

    @staticmethod
    def forward(volume: Tensor, channels_last: bool) -> Clip:
        if channels_last:
            return volume.permute(0, 2, 3, 4, 1).contiguous().movedim(-1, 2)
        return volume.transpose(1, 2).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, bool], output: Clip) -> None:
        """Nothing to keep."""

    @staticmethod
    def backward(ctx: Any, grad: Clip) -> tuple[Tensor, None]:
        return grad.transpose(1, 2).contiguous(), None


def _check_options(delta: float, cell: str | None, num_layers: int, pooling: str) -> None:
    if delta == 0:
        raise ConfigError(
            "delta is 0: the prolonged branch reads the local one's output, which cannot be left out: "
            "give a share above 0 and up to 1"
        )
    if not 0 < delta <= 1:
        raise ConfigError(
            f"delta is {delta}: the local branch's share of the channels is above 0 and up to 1"
        )
    if cell is not None and cell not in CELLS:
        raise ConfigError(f"unknown cell {cell!r}: {did_you_mean(cell, CELLS)} (None for no recurrence)")
    if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
        raise ConfigError(f"num_layers is {num_layers!r}: it must be 1 or more (cell=None for no recurrence)")
    if pooling not in POOLINGS:
        raise ConfigError(f"unknown pooling {pooling!r}: {did_you_mean(pooling, POOLINGS)}")
