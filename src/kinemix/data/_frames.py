"""What every source of frames promises, whatever decodes them.

A source knows its frames by index, in the order in which the decoder gives them, and can fetch any of them.
Everything that differs between a video file and a folder of images stays behind this line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kinemix.errors import DataError
from kinemix.types import Video

ASSUMED_FRAME_RATE = 25.0
"""Frames per second where nothing tells (a folder of images, a broken header): our choice."""


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video once it is open.

    Attributes:
        num_frames: Frames that really decode.
        height: Rows of a frame as it is returned: after rotation and ``short_side``.
        width: Columns of a frame as it is returned.
        frame_rate: Mean frames per second.
        timestamps: Seconds since the first frame, one a frame, strictly increasing.
        problem: What is wrong with the file although it gives frames, or None.
    """

    num_frames: int
    height: int
    width: int
    frame_rate: float
    timestamps: tuple[float, ...]
    problem: str | None = None


class FrameSource(Protocol):
    """Decodes frames by index."""

    @property
    def backend(self) -> str:
        """The name of what decodes."""
        ...

    @property
    def note(self) -> str | None:
        """Why it is not the decoder that was asked for, or None."""
        ...

    @property
    def facts(self) -> VideoFacts: ...

    def fetch(self, indices: Sequence[int]) -> Video:
        """Frames at strictly increasing ``indices``, all in range: RGB, 0..255, ``T C H W``."""
        ...

    def close(self) -> None: ...


def scale_to_short_side(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """The size after scaling the shorter side down to ``short_side``; a smaller picture is never enlarged.

    >>> scale_to_short_side(240, 320, 64)
    (64, 85)
    >>> scale_to_short_side(48, 32, 64)
    (48, 32)
    """
    shorter = min(height, width)
    if short_side is None or shorter <= short_side:
        return height, width
    return max(1, round(height * short_side / shorter)), max(1, round(width * short_side / shorter))


def even_timestamps(num_frames: int, frame_rate: float) -> tuple[float, ...]:
    """Frame i at ``i / frame_rate`` seconds: what is told where the file's own times are unusable."""
    return tuple(i / frame_rate for i in range(num_frames))


def refuse_index(path: Path, index: int, num_frames: int) -> DataError:
    """The error for a frame that does not exist."""
    return DataError(
        f"{path}: frame {index} asked for, but it has {num_frames} frames; ask for 0 to {num_frames - 1}"
    )
