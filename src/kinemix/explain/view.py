"""One clip of a video, twice: as the network sees it, and as people do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import torch
from jaxtyping import Float
from torch import Tensor

from kinemix.config import Protocol
from kinemix.data.transforms import normalize_clip
from kinemix.data.views import FrameReader, read_crops, sample_clip
from kinemix.label_space import LabelSpace
from kinemix.models.video import VideoModel
from kinemix.types import Clip, Video

_CENTRE = {1: 0, 3: 1, 10: 4}
"""The central one of a protocol's crops."""


class Trained(Interface):
    """A trained network and what it needs to read a video: what :func:`kinemix.load` gives."""

    @property
    def model(self) -> VideoModel: ...
    @property
    def protocol(self) -> Protocol: ...
    @property
    def space(self) -> LabelSpace: ...
    @property
    def device(self) -> torch.device: ...

    def open(self, video: Any) -> FrameReader: ...
    def score(self, video: Any) -> Float[Tensor, " K"]: ...
    def rank(self, logits: Float[Tensor, " K"], top: int = 5) -> Sequence[Any]: ...


@dataclass(frozen=True)
class View:
    """The clip and the crop of a video that are looked at.

    Attributes:
        frames: ``T 3 H W``, uint8 RGB, cropped and resized.
        indices: number in the video of each frame, from 0.
        protocol: how they become network input.
    """

    frames: Video
    indices: tuple[int, ...]
    protocol: Protocol

    def normalize(self, order: Sequence[int] | None = None) -> Clip:
        """Network input ``1 T C H W``, of all frames or of some in another order.

        What the protocol takes away from a clip (its mean frame) is that of the frames which are left.
        """
        frames = self.frames if order is None else self.frames[list(order)]
        return normalize_clip(frames, protocol=self.protocol)[None]

    @property
    def headings(self) -> tuple[str, ...]:
        """What stands above the frames in a strip."""
        return tuple(
            f"frame {index + 1}" if not place else str(index + 1) for place, index in enumerate(self.indices)
        )


def read_view(trained: Trained, video: Any) -> View:
    """The middle one of the protocol's clips, in the central one of its crops.

    Args:
        trained: from :func:`kinemix.load`.
        video: a file, a folder of frames, or a tensor ``T C H W``.

    Raises:
        UnreadableVideoError: the file gives no frames.
    """
    with trained.open(video) as reader:
        return sample_view(reader, trained.protocol)


def sample_view(reader: FrameReader, protocol: Protocol) -> View:
    """The same of a video that is open already.

    Args:
        reader: of the video.
        protocol: that it is shown by.
    """
    clip = protocol.num_clips // 2
    crops = read_crops(reader, protocol)
    indices = sample_clip(reader.num_frames, protocol, clip=clip)
    # Whole frames are one crop, whatever the protocol's number.
    num_crops = len(crops) // protocol.num_clips
    return View(crops[clip * num_crops + _CENTRE[num_crops]], tuple(indices), protocol)
