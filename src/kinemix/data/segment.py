"""A part of a longer video that is one sample: from ``start`` up to, but not including, ``stop``.

::

    frames      0   1   2   3   4   5   6   7        at 2 frames a second
    seconds     0  0.5  1  1.5  2  2.5  3  3.5
                        [           )                Segment(1, 2.5)                  frames 2, 3, 4
                        [           )                Segment(2, 5, unit="frames")     frames 2, 3, 4

Once open, a segment is a short video: its own frames are counted from 0.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kinemix.errors import DataError, UnreadableVideoError

TIME_TOLERANCE = 1e-3
"""Seconds by which a frame may come early and still count as at its time: Matroska rounds times to this."""


@dataclass(frozen=True)
class Segment:
    """Where a sample begins and ends in its video.

    Attributes:
        start: of the first frame; seconds since the video's first frame, or the number of a frame, from 0.
        stop: where it has ended: a frame at exactly ``stop`` is not part of it.
        unit: of both.
    """

    start: float
    stop: float
    unit: Literal["seconds", "frames"] = "seconds"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise DataError(f"segment {self}: it must start at 0 or later and stop after its start")

    def __str__(self) -> str:
        if self.unit == "frames":
            return f"{self.start:g}-{self.stop:g}f"
        return f"{self.start:.2f}-{self.stop:.2f}s"

    def find_frames(self, timestamps: Sequence[float], *, path: object) -> range:
        """The frames of the video that belong to the segment; never none.

        A segment that ends after the video stops with it (annotations are rounded). One that lies between two
        frames is the frame that is on show when it starts.

        Args:
            timestamps: seconds since the first frame, one a frame, increasing.
            path: of the video, for messages.

        Raises:
            UnreadableVideoError: it starts after the last frame has gone.
        """
        count = len(timestamps)
        if self.unit == "frames":
            first, last = int(self.start), min(int(self.stop), count)
            ended = first >= count
        else:
            first, last = (bisect_left(timestamps, end - TIME_TOLERANCE) for end in (self.start, self.stop))
            mean_gap = timestamps[-1] / max(1, count - 1) or 1.0
            ended = self.start >= timestamps[-1] + mean_gap
        if ended:
            end = f"{count} frames" if self.unit == "frames" else f"{timestamps[-1]:.2f} s"
            raise UnreadableVideoError(path, f"segment {self} starts after its end ({end})")
        return range(first, last) if first < last else range(max(0, first - 1), max(1, first))
