"""Reading before and after, timed: what preparing a dataset was for."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kinemix.data.reader import open_video
from kinemix.data.sampling import sparse_test
from kinemix.data.segment import Segment

NUM_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Processor milliseconds to open a clip and read 8 frames that are spread over it; medians.

    Attributes:
        before, after: of the source and of the prepared clip, the medians over clips of each one's median.
        ratio: the median over clips of how many times faster the prepared one is.
        clips: how many were timed.
    """

    before: float
    after: float
    ratio: float
    clips: int


@dataclass(frozen=True)
class Timed:
    """Where a clip is before and after."""

    source: str
    source_segment: Segment | None
    prepared: str
    prepared_segment: Segment


def measure_speed(clips: Sequence[Timed], *, short_side: int, repeats: int = 5) -> Speed:
    """Time sparse sampling, source and prepared clip by turns, so that both see the same machine.

    Both are read to the same short side, as training would. The files are in the system's memory after the
    first turn, which is not timed: what is measured is decoding and not the disk, in processor time, which
    other processes do not disturb.
    """
    before, after, ratios = [], [], []
    for clip in clips:
        slow: list[float] = []
        fast: list[float] = []
        for _ in range(repeats + 1):
            slow.append(_time_reading(clip.source, clip.source_segment, short_side))
            fast.append(_time_reading(clip.prepared, clip.prepared_segment, short_side))
        before.append(statistics.median(slow[1:]))
        after.append(statistics.median(fast[1:]))
        ratios.append(before[-1] / after[-1])
    return Speed(
        before=1e3 * statistics.median(before),
        after=1e3 * statistics.median(after),
        ratio=statistics.median(ratios),
        clips=len(clips),
    )


def _time_reading(path: str, segment: Segment | None, short_side: int) -> float:
    started = time.process_time()
    with open_video(path, short_side=short_side, segment=segment) as video:
        count = video.num_frames
        video.read(sparse_test(num_video_frames=count, num_frames=NUM_FRAMES, clip=0, num_clips=1))
    return time.process_time() - started
