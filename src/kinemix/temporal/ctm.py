"""Collaborative temporal modelling: one path knows where it looks, the other looks alike everywhere (CTM).

A block stands between the blocks of an image network and adds to its input what two bottlenecks see along
time. The first (TCCM) has a kernel of its own for every position of the map, so a network with it is made for
one size of frames; the second has one temporal convolution for all positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinemix.errors import ConfigError, LayoutError, did_you_mean
from kinemix.temporal.base import Insertion, Site, TemporalModule, check_clip
from kinemix.temporal.conv1d import TemporalConv1d
from kinemix.temporal.shift_and_add import is_channels_last
from kinemix.types import Clip

PATHS = ("tccm", "temporal")
"""The paper's path 1 and path 2."""

NUM_BLOCKS = 3
"""CTM blocks of the paper's network (Figure 5), all in Res4."""


class CollaborativeTemporal(TemporalModule):
    """A residual block that looks along time: ``clip + tccm(clip) + temporal(clip)``.

    Source: "CTM: Collaborative Temporal Modeling for Action Recognition", section 3. Each path is a
    bottleneck: 1x1 convolution to ``channels // reduction``, a look along time, 1x1 convolution back. Batch
    normalisation follows each of the three, ReLU the first two, and convolutions have no bias (our choice; the
    paper draws no more than the convolutions). The scale of each path's last normalisation starts at zero, as
    in the paper, so the block starts as the identity, bit for bit.

    A network with the path ``tccm`` takes frames of the size it was built for. With ``interpolate`` its kernels
    are resized to whatever map comes, and weights that were saved at another size can be loaded.

    Args:
        site: where the module stands.
        paths: ``tccm`` (spatial-aware), ``temporal`` (spatial-unaware), or both (Table 1 of the paper).
        reduction: channels of the map for each one inside a path (our choice: 4).
        interpolate: resize the kernels of ``tccm`` between positions, bilinearly, where a map or saved weights
            have another size than the site.

    Raises:
        ConfigError: an option is out of range.
    """

    name: ClassVar[str] = "ctm"
    any_size_option: ClassVar[str | None] = "interpolate=True"
    placements: ClassVar[Mapping[str, Insertion]] = {
        "res4": Insertion(at="block", place="after", stages=(3,), num_blocks=(1, NUM_BLOCKS))
    }

    def __init__(
        self,
        site: Site,
        *,
        paths: str | Sequence[str] = PATHS,
        reduction: int = 4,
        interpolate: bool = False,
    ) -> None:
        super().__init__(site)
        width = _find_width(site.channels, reduction)
        self.reduction, self.interpolate = reduction, interpolate
        self.paths = nn.ModuleDict(
            {
                path: _Bottleneck(site.channels, width, self._make_look(path, width))
                for path in _read_paths(paths)
            }
        )
        self.any_size = interpolate or "tccm" not in self.paths

    @classmethod
    def choose_insertion(cls, backbone: str, *, stage: int = 4, num_blocks: int | None = None) -> Insertion:
        """CTM blocks in one stage, after evenly spaced blocks of it (Tables 2 and 3 of the paper).

        In Res4 of ResNet-50 one goes before the last block, three go after the 1st, 3rd and 5th, six after
        every one; in ResNet-101 three go after the 6th, 12th and 18th.

        Args:
            backbone: name of the network.
            stage: in the paper's count: 2 to 5 for Res2 to Res5, the first four stages with blocks.
            num_blocks: CTM blocks; by default the paper's three, or as many as the stage has blocks where it
                has fewer (our choice).

        Raises:
            ConfigError: an option is out of range.
        """
        if stage not in (2, 3, 4, 5):
            raise ConfigError(f"stage is {stage!r}: the paper's stages are 2 to 5 (Res2 to Res5)")
        if num_blocks is not None and num_blocks < 1:
            raise ConfigError(f"num_blocks is {num_blocks}: it must be 1 or more")
        insertion = replace(cls.placements["res4"], stages=(stage - 1,))
        if num_blocks == 1:
            return replace(insertion, place="before", blocks=(-1,), num_blocks=None)
        return insertion if num_blocks is None else replace(insertion, num_blocks=(num_blocks, num_blocks))

    def _make_look(self, path: str, width: int) -> nn.Module:
        if path == "tccm":
            return TemporalChannelConv(self.site.height, self.site.width, interpolate=self.interpolate)
        return TemporalConv1d(replace(self.site, channels=width), init="kaiming")

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        out = clip
        for path in self.paths.values():
            out = out + path(clip)
        return out

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, reduction={self.reduction}, interpolate={self.interpolate}"


class TemporalChannelConv(nn.Module):
    """TCC: at every position of the map a 3x3 convolution over time and channels, with its own kernel (eq. 1).

    Args:
        height, width: of the map.
        interpolate: as in :class:`CollaborativeTemporal`.
    """

    def __init__(self, height: int, width: int, *, interpolate: bool = False) -> None:
        super().__init__()
        self.interpolate = interpolate
        # The map's two axes stay apart, so that saved kernels tell the size they were made for.
        self.kernels = nn.Parameter(torch.empty(height, width, 3, 3))
        nn.init.normal_(self.kernels, std=(2 / 9) ** 0.5)

    def forward(self, clip: Clip) -> Clip:
        """Map a clip to a clip of the same shape; the size of its map must be the kernels', or be bridged."""
        height, width = clip.shape[3:]
        weight = self._fit_kernels(height, width).flatten(0, 1).unsqueeze(1)
        # One picture a position, T high and C wide, the positions being its channels. Where the frames lie in
        # memory row by row, that is the channels-last format of such pictures: nothing has to be copied.
        pictures = clip.flatten(3).permute(0, 3, 1, 2)
        out = F.conv2d(pictures, weight, padding=1, groups=height * width)
        out = out.permute(0, 2, 1, 3) if is_channels_last(clip) else out.permute(0, 2, 3, 1)
        out = out.contiguous()
        return (out.transpose(2, 3) if is_channels_last(clip) else out).unflatten(3, (height, width))

    def _fit_kernels(self, height: int, width: int) -> Tensor:
        if self.kernels.shape[:2] == (height, width):
            return self.kernels
        if not self.interpolate:
            raise LayoutError(
                f"ctm was built for maps of {_describe_map(self.kernels)} pixels, got {height}x{width}: give frames "
                "of the size that the network was built for, or create it with input_size= of yours or with "
                "interpolate=True"
            )
        return resize_kernels(self.kernels, height, width)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}kernels")
        if self.interpolate and saved is not None and saved.ndim == 4:
            state_dict[f"{prefix}kernels"] = resize_kernels(saved, *self.kernels.shape[:2])
        elif saved is not None and saved.shape != self.kernels.shape:
            args[-1].append(  # torch's list of what is wrong, of which it makes one error
                f"ctm's kernels were saved for maps of {_describe_map(saved)} pixels, this network's are "
                f"{_describe_map(self.kernels)}: create it with input_size= of theirs or with interpolate=True"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        height, width = self.kernels.shape[:2]
        return f"{height}x{width}, interpolate={self.interpolate}"


def _describe_map(kernels: Tensor) -> str:
    return "x".join(map(str, kernels.shape[:2]))


def resize_kernels(kernels: Tensor, height: int, width: int) -> Tensor:
    """Kernels ``H W 3 3`` of another map: each is a bilinear mean of those that stood nearest."""
    if kernels.shape[:2] == (height, width):
        return kernels
    grid = kernels.permute(2, 3, 0, 1).flatten(0, 1)[None]
    grid = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
    return grid[0].unflatten(0, kernels.shape[2:]).permute(2, 3, 0, 1)


class _Bottleneck(nn.Module):
    """One path: fewer channels, a look along time, all channels again; gives zeros until it has learned."""

    def __init__(self, channels: int, width: int, look: nn.Module) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(width)
        self.look = look
        self.look_norm = nn.BatchNorm2d(width)
        self.restore = nn.Conv2d(width, channels, 1, bias=False)
        self.restore_norm = nn.BatchNorm2d(channels)
        for conv in (self.reduce, self.restore):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.restore_norm.weight)

    def forward(self, clip: Clip) -> Clip:
        num_frames = clip.shape[1]
        frames = F.relu(self.reduce_norm(self.reduce(clip.flatten(0, 1))))
        frames = self.look(frames.unflatten(0, (-1, num_frames))).flatten(0, 1)
        frames = F.relu(self.look_norm(frames))
        return self.restore_norm(self.restore(frames)).unflatten(0, (-1, num_frames))


def _find_width(channels: int, reduction: int) -> int:
    if reduction < 1:
        raise ConfigError(f"reduction is {reduction}: it must be 1 or more")
    if channels < reduction:
        raise ConfigError(f"reduction is {reduction}, but only {channels} channels pass here: give less")
    return channels // reduction


def _read_paths(paths: str | Sequence[str]) -> tuple[str, ...]:
    chosen = (paths,) if isinstance(paths, str) else tuple(paths)
    for path in chosen:
        if path not in PATHS:
            raise ConfigError(f"ctm has no path {path!r}: {did_you_mean(str(path), PATHS)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"paths is {list(chosen)}: give 'tccm', 'temporal' or both, each once")
    return chosen
