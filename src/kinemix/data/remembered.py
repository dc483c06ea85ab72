"""The frames of a video that a protocol looks at, kept in memory: whoever has them needs the file no more."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinemix.config import Protocol
from kinemix.data.transforms import resize_to_cover
from kinemix.data.views import FrameReader, sample_clip
from kinemix.errors import DataError
from kinemix.types import Video

_AT_ONCE = 8
"""Frames that are in memory at their full size."""


@dataclass(frozen=True)
class RememberedFrames:
    """An open video (:class:`kinemix.data.views.FrameReader`) that holds the frames of one protocol alone.

    It gives the same views as the video does: the frames are resized as :func:`kinemix.data.views.read_crops` does
    it, and what has the right size already is not resized again.

    Attributes:
        frames: ``N 3 h w``, RGB.
        indices: N numbers of them in the video, increasing.
        num_frames: of the video.
        protocol: that they were chosen by.
    """

    frames: UInt8[Tensor, "N 3 h w"]
    indices: tuple[int, ...]
    num_frames: int
    protocol: Protocol

    def read(self, indices: Sequence[int]) -> Video:
        """Frames at ``indices``, in that order; repeats are allowed.

        Raises:
            DataError: the protocol does not look at one of them.
        """
        row = {index: position for position, index in enumerate(self.indices)}
        for index in indices:
            if index not in row:
                raise DataError(f"frame {index} was not remembered: the protocol looks at {len(row)} others")
        return self.frames[[row[index] for index in indices]]

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> "RememberedFrames":
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def remember_frames(reader: FrameReader, protocol: Protocol) -> RememberedFrames:
    """The frames of all clips of a protocol, resized for its crops; few are at their full size at a time.

    Args:
        reader: an open video.
        protocol: frames, clips, crops and size.

    Raises:
        UnreadableVideoError: the video gives no frames.
    """
    num_frames = reader.num_frames
    clips = [sample_clip(num_frames, protocol, clip=clip) for clip in range(protocol.num_clips)]
    wanted = sorted({index for clip in clips for index in clip})
    parts = [
        resize_to_cover(
            reader.read(wanted[start : start + _AT_ONCE]), protocol.input.size, protocol.crop_fraction
        )
        for start in range(0, len(wanted), _AT_ONCE)
    ]
    return RememberedFrames(torch.cat(parts), tuple(wanted), num_frames, protocol)
