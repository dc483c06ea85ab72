"""Depthwise temporal convolution: every channel looks along time by itself, all with one kernel size."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from kinemix.temporal.base import Insertion, Site, TemporalModule
from kinemix.temporal.kernels import check_dilation, check_kernel_size
from kinemix.temporal.mixtconv import Init, MixedTemporalConv
from kinemix.types import Clip, Frame


class DepthwiseTemporalConv(TemporalModule):
    """A :class:`~kinemix.temporal.mixtconv.MixedTemporalConv` of a single channel group.

    Source: ``TSN+ks3``, ``TSN+ks5`` and ``TSN+ks7`` in Table 2 of "MixTConv".

    Args:
        site: where the module stands.
        kernel_size: odd number of frames.
        dilation: distance between those frames.
        init: ``shift`` (an eighth of the channels starts with the frames before, an eighth with those after,
            as in the authors' released code) or ``delta`` (the identity, bit for bit).
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
        self.causal = causal
        self.conv = MixedTemporalConv(
            site,
            kernel_sizes=check_kernel_size(kernel_size),
            dilations=check_dilation(dilation),
            init=init,
            causal=causal,
        )

    def forward(self, clip: Clip) -> Clip:
        out: Clip = self.conv(clip)
        return out

    def step(self, frame: Frame, state: Tensor | None = None) -> tuple[Frame, Tensor]:
        return self.conv.step(frame, state)

    def macs(self, num_frames: int, height: int, width: int) -> int:
        return self.conv.macs(num_frames, height, width)
