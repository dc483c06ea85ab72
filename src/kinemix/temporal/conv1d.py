"""Ordinary temporal convolution: every output channel sees every input channel in neighbouring frames."""

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinemix.temporal.base import Insertion, Site, TemporalModule, check_clip
from kinemix.temporal.kernels import check_dilation, check_init, check_kernel_size, make_delta_kernels
from kinemix.temporal.shift_and_add import find_middle, is_channels_last
from kinemix.types import Clip, Frame

Init: TypeAlias = Literal["delta", "kaiming"]


class TemporalConv1d(TemporalModule):
    """``nn.Conv1d`` over the frames of every pixel, written as a 2D convolution with a ``k x 1`` kernel.

    Source: "Ordinary 1D" in Table 2 of "MixTConv". Costs ``C`` times the arithmetic of the depthwise kind.

    Args:
        site: where the module stands.
        kernel_size: odd number of frames.
        dilation: distance between those frames.
        bias: add one number a channel, zero at the start.
        init: ``delta`` starts as the identity, bit for bit; ``kaiming`` draws normal weights (fan in, ReLU).
        causal: look back only; all padding comes before the first frame.

    Raises:
        ConfigError: an option is out of range.
    """

    name: ClassVar[str] = "conv1d"
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
        bias: bool = False,
        init: Init = "delta",
        causal: bool = False,
    ) -> None:
        super().__init__(site)
        self.kernel_size = check_kernel_size(kernel_size)
        self.dilation = check_dilation(dilation)
        self.init = check_init(init, ("delta", "kaiming"))
        self.causal = causal
        self.reach = (kernel_size - 1) * dilation
        self.weight = nn.Parameter(torch.empty(site.channels, site.channels, kernel_size))
        self.bias = nn.Parameter(torch.empty(site.channels)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start again from ``init``."""
        if self.init == "kaiming":
            nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        else:
            middle = find_middle(self.kernel_size, causal=self.causal)
            self.weight.zero_()
            delta = make_delta_kernels(self.site.channels, self.kernel_size, middle=middle)
            self.weight.diagonal().copy_(delta.t())  # C x C x k has its diagonal as k x C
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        if self.causal:
            return self._convolve(clip, before=self.reach, after=0)
        return self._convolve(clip, before=self.reach // 2, after=self.reach // 2)

    def step(self, frame: Frame, state: Tensor | None = None) -> tuple[Frame, Tensor]:
        """State: the last ``(kernel_size - 1) dilation`` frames of the input, ``B reach C H W``."""
        if not self.causal:
            return super().step(frame, state)
        if state is None:
            state = frame.new_zeros((frame.shape[0], self.reach, *frame.shape[1:]))
        window = torch.cat([state, frame.unsqueeze(1)], dim=1)
        return self._convolve(window, before=0, after=0)[:, 0], window[:, 1:]

    def _convolve(self, clip: Tensor, *, before: int, after: int) -> Tensor:
        # Time is the height of an image that is H W wide: for channels-last frames this view costs nothing.
        image = clip.transpose(1, 2).flatten(3)
        if before != after:
            image = F.pad(image, (0, 0, before - after, 0))
        weight = self.weight.unsqueeze(-1)
        out = F.conv2d(image, weight, self.bias, padding=(after, 0), dilation=(self.dilation, 1))
        out = out.unflatten(3, clip.shape[3:]).transpose(1, 2)
        return out if is_channels_last(clip) else out.contiguous()

    def macs(self, num_frames: int, height: int, width: int) -> int:
        return self.site.channels**2 * self.kernel_size * num_frames * height * width

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"init={self.init}, causal={self.causal}"
        )
