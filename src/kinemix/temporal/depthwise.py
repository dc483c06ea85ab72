"""Depthwise temporal convolution: every channel looks along time by itself, all with one kernel size."""

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from kinemix.temporal.base import Insertion, Site, TemporalModule, check_clip
from kinemix.temporal.kernels import (
    check_dilation,
    check_init,
    check_kernel_size,
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


class DepthwiseTemporalConv(TemporalModule):
    """``nn.Conv1d`` with ``groups=channels`` over the frames of every pixel, without bias.

    Source: ``TSN+ks3``, ``TSN+ks5`` and ``TSN+ks7`` in Table 2 of "MixTConv".

    Args:
        site: where the module stands.
        kernel_size: odd number of frames.
        dilation: distance between those frames.
        init: ``shift`` starts like a shift of some channels, as in the authors' released code: the first
            eighth sums the frames before, the second those after. ``delta`` starts as the identity, bit for
            bit.
        causal: look back only; all padding comes before the first frame.

    Raises:
        ConfigError: an option is out of range.
    """

    name: ClassVar[str] = "depthwise"
    placements: ClassVar[Mapping[str, Insertion]] = {
        "head": Insertion(at="first_conv", place="before"),
        "inner": Insertion(at="first_conv", place="after"),
    }

    def __init__(
        self,
        site: Site,
        *,
        kernel_size: int = 3,
        dilation: int = 1,
        init: Init = "shift",
        causal: bool = False,
    ) -> None:
        super().__init__(site)
        self.kernel_size = check_kernel_size(kernel_size)
        self.dilation = check_dilation(dilation)
        self.init = check_init(init, ("shift", "delta"))
        self.causal = causal
        self.plan = plan_taps((site.channels,), (kernel_size,), (dilation,), causal=causal)
        self.weight = nn.Parameter(torch.empty(site.channels, kernel_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start again from ``init``."""
        channels, middle = self.site.channels, find_middle(self.kernel_size, causal=self.causal)
        if self.init == "shift":
            kernels = make_shift_kernels(channels, self.kernel_size, middle=middle, fold=channels // 8)
        else:
            kernels = make_delta_kernels(channels, self.kernel_size, middle=middle)
        self.weight.copy_(kernels)

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        return convolve_along_time(clip, self._align_kernels(), self.plan)

    def step(self, frame: Frame, state: Tensor | None = None) -> tuple[Frame, Tensor]:
        """State: the last ``(kernel_size - 1) dilation`` frames of the input, ``B reach C H W``."""
        if not self.causal:
            return super().step(frame, state)
        return convolve_newest_frame(frame, state, self._align_kernels(), self.plan)

    def _align_kernels(self) -> Tensor:
        return align_kernels((self.weight,), (self.dilation,), self.plan)

    def macs(self, num_frames: int, height: int, width: int) -> int:
        return self.weight.numel() * num_frames * height * width

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"init={self.init}, causal={self.causal}"
        )
