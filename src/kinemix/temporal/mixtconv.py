"""Mixed temporal convolution: channel groups look through temporal kernels of different sizes (MixTConv)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from kinemix.temporal.base import Insertion, Site, TemporalModule, check_clip, split_channels
from kinemix.temporal.kernels import (
    check_dilations,
    check_init,
    check_kernel_sizes,
    make_delta_kernels,
    make_shift_kernels,
)
from kinemix.temporal.shift_and_add import (
    align_kernels,
    convolve_along_time,
    convolve_newest_frame,
    find_middle,
    plan_taps,
)
from kinemix.types import Clip, Frame

Init: TypeAlias = Literal["shift", "delta"]


class MixedTemporalConv(TemporalModule):
    """Depthwise temporal convolution with one kernel size, and one dilation, for each group of channels.

    Source: "MixTConv: Mixed Temporal Convolutional Kernels for Efficient Action Recognition", equations 1
    and 2; MSTNet is ResNet-50 with this module at the head of all 16 blocks. Groups are contiguous, in the
    order of ``kernel_sizes``; the last takes the remainder (our choice). No bias, no normalisation, no
    activation.

    Args:
        site: where the module stands.
        kernel_sizes: one odd number of frames for each channel group, or a single one for all channels.
        dilations: distance between the frames of a kernel, one for all groups or one for each.
        init: ``shift`` starts like a shift of some channels, as in the authors' released code: of each group
            the first quarter sums the frames before, the second those after (an eighth where there is only
            one group). ``delta`` starts as the identity, bit for bit.
        causal: look back only; all padding comes before the first frame.

    Raises:
        ConfigError: an option is out of range, or there are fewer channels than groups.
    """

    name: ClassVar[str] = "mixtconv"
    aliases: ClassVar[tuple[str, ...]] = ("mstnet",)
    placements: ClassVar[Mapping[str, Insertion]] = {
        "head": Insertion(at="first_conv", place="before"),
        "inner": Insertion(at="first_conv", place="after"),
    }

    def __init__(
        self,
        site: Site,
        *,
        kernel_sizes: int | Sequence[int] = (1, 3, 5, 7),
        dilations: int | Sequence[int] = 1,
        init: Init = "shift",
        causal: bool = False,
    ) -> None:
        super().__init__(site)
        self.kernel_sizes = check_kernel_sizes(kernel_sizes, site.channels)
        self.dilations = check_dilations(dilations, len(self.kernel_sizes))
        self.init = check_init(init, ("shift", "delta"))
        self.causal = causal
        self.group_sizes = split_channels(site.channels, len(self.kernel_sizes))
        self.plan = plan_taps(self.group_sizes, self.kernel_sizes, self.dilations, causal=causal)
        self.weights = nn.ParameterList(
            torch.empty(size, kernel)
            for size, kernel in zip(self.group_sizes, self.kernel_sizes, strict=True)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start again from ``init``."""
        share = 8 if len(self.kernel_sizes) == 1 else 4
        for weight in self.weights:
            size, kernel = weight.shape
            middle = find_middle(kernel, causal=self.causal)
            if self.init == "shift":
                weight.copy_(make_shift_kernels(size, kernel, middle=middle, fold=size // share))
            else:
                weight.copy_(make_delta_kernels(size, kernel, middle=middle))

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        return convolve_along_time(clip, self._align_kernels(), self.plan)

    def step(self, frame: Frame, state: Tensor | None = None) -> tuple[Frame, Tensor]:
        """State: the frames of the input that the longest kernel looks back on, ``B reach C H W``."""
        if not self.causal:
            return super().step(frame, state)
        weights = self._align_kernels()
        return convolve_newest_frame(frame, state, weights, self.plan)

    def _align_kernels(self) -> Tensor:
        return align_kernels(tuple(self.weights), self.dilations, self.plan)

    def macs(self, num_frames: int, height: int, width: int) -> int:
        return sum(weight.numel() for weight in self.weights) * num_frames * height * width

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, kernel_sizes={self.kernel_sizes}, dilations={self.dilations}, "
            f"init={self.init}, causal={self.causal}"
        )
