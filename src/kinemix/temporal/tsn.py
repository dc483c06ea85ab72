"""No temporal module: frames pass as they came, and only the mean over their scores meets them (TSN)."""

from collections.abc import Mapping
from typing import ClassVar

from kinemix.temporal.base import Insertion, Site, TemporalModule, check_clip
from kinemix.types import Clip, Frame


class NoTemporal(TemporalModule):
    """The identity: the baseline that cannot know the order of frames.

    Source: "Temporal Segment Networks", as the baseline of Table 2 in "MixTConv". It has no placements:
    nothing is inserted.
    """

    name: ClassVar[str] = "tsn"
    placements: ClassVar[Mapping[str, Insertion]] = {}
    sees_time: ClassVar[bool] = False
    causal = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        return clip

    def step(self, frame: Frame, state: None = None) -> tuple[Frame, None]:
        return frame, None

    def macs(self, num_frames: int, height: int, width: int) -> int:
        return 0
