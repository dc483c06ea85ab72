"""Which frames a stream gives, and how to walk to any of them without decoding everything.

Frame i is the i-th frame that the decoder puts out when the stream is decoded from its start. Timestamps
never reorder anything: AVIs with B-frames carry scrambled ones. They only prove a seek: after it, every frame
must carry exactly the time that the table holds for it, else the walk is astray and says so.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import TracebackType

import av
from av.video.frame import PictureType, VideoFrame

from kinemix.data._container import Decoding, has_decoder
from kinemix.errors import UnreadableVideoError

# Codecs in which a key packet starts a run that decodes alone (a GIF's frames build on each other).
SEEKABLE_CODECS = {
    *("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "mpeg4", "mpeg1video", "mpeg2video", "mjpeg"),
}
# Containers that state the presentation time of every packet and keep an index of the key ones.
INDEXED_CONTAINERS = {"mov", "mp4", "matroska", "webm"}


class AstrayError(Exception):
    """Decoding gave other frames than the table holds."""


@dataclass(frozen=True)
class FrameTable:
    """The frames of one stream in the decoder's order.

    Attributes:
        times: Presentation times in ticks of the stream's time base; None where the file has none.
        seek_points: Frames from which decoding may start, increasing; empty where seeking is unsafe.
        decoded: Known by decoding everything, not by packets alone.
        problem: What failed on the way, although there are frames.
    """

    times: tuple[int | None, ...]
    seek_points: tuple[int, ...]
    decoded: bool
    problem: str | None = None


def increase_strictly(times: Sequence[int | None]) -> bool:
    """Whether every time is known and later than the one before."""
    return None not in times and all(a < b for a, b in pairwise(times))  # type: ignore[operator]


class Stream:
    """One stream of one file: where every pass over it begins."""

    def __init__(self, path: Path, index: int, *, num_threads: int) -> None:
        self.path, self.index, self._num_threads = path, index, num_threads

    def open(self) -> Decoding:
        return Decoding(self.path, stream_index=self.index, num_threads=self._num_threads)


def tabulate_by_decoding(stream: Stream, *, keep_bytes: int) -> tuple[FrameTable, list[VideoFrame]]:
    """Decode the whole stream: the only certain count of its frames.

    Returns:
        The table, and all pictures where they take at most ``keep_bytes`` together, else the first alone.

    Raises:
        UnreadableVideoError: No frame decodes.
    """
    times: list[int | None] = []
    key_frames: list[int] = []
    pictures: list[VideoFrame] = []
    with stream.open() as decoding:
        codec = decoding.stream.codec_context.name if has_decoder(decoding.stream) else None
        for index, frame in enumerate(decoding.frames()):
            times.append(frame.pts)
            if frame.key_frame and frame.pict_type == PictureType.I:
                key_frames.append(index)
            if keep_bytes >= 0:
                keep_bytes -= sum(plane.buffer_size for plane in frame.planes)
                pictures.append(frame)
                if keep_bytes < 0:
                    del pictures[1:]
        if not times:
            raise UnreadableVideoError(stream.path, decoding.explain_no_frames())
        problem = decoding.describe_failures()
    seekable = codec in SEEKABLE_CODECS and increase_strictly(times)
    table = FrameTable(tuple(times), tuple(key_frames) if seekable else (), decoded=True, problem=problem)
    return table, pictures


def tabulate_by_packets(stream: Stream) -> tuple[FrameTable, list[VideoFrame]] | None:
    """Read the packets without decoding them, and decode the first frame and the last run to check.

    Right unless a packet in between is damaged inside, which a walk over it notices.

    Returns:
        The table and the first picture, or None where packets do not promise the frames: unknown, repeated or
        hidden ones, a start that is no key packet, a cut or encrypted file, a codec or container without the
        guarantees.
    """
    with stream.open() as decoding:
        formats = set(decoding.container.format.name.split(","))
        if not has_decoder(decoding.stream) or not formats & INDEXED_CONTAINERS:
            return None
        if decoding.stream.codec_context.name not in SEEKABLE_CODECS:
            return None
        packets = [(p.pts, p.is_keyframe, p.is_discard) for p in decoding.packets() if p.size]
        if decoding.failures or decoding.truncated or decoding.encrypted or not packets:
            return None
    if any(time is None or hidden for time, _, hidden in packets):
        return None
    times = sorted(time for time, _, _ in packets if time is not None)
    if packets[0][:2] != (times[0], True) or not increase_strictly(times):
        return None
    key_times = {time for time, is_key, _ in packets if is_key}
    seek_points = tuple(i for i, time in enumerate(times) if time in key_times)
    table = FrameTable(tuple(times), seek_points, decoded=False)
    try:
        with Walk(stream, table) as walk:
            first = next(walk.visit([0]))
            for _ in walk.visit(range(seek_points[-1], len(times))):
                pass
            return (table, [first]) if walk.at_end() else None
    except AstrayError:
        return None


class Walk:
    """Decodes the frames that are asked for in increasing order, and goes on from where it stands.

    Args:
        seek: Jump to the nearest seek point where it lies ahead; else decode everything in between.
    """

    def __init__(self, stream: Stream, table: FrameTable, *, seek: bool = True) -> None:
        self._stream, self._table = stream, table
        self._seek_points = table.seek_points if seek else ()
        self._point_at_time = {table.times[point]: point for point in self._seek_points}
        self._decoding: Decoding | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._position = 0  # of the frame that _frames yields next

    def __enter__(self) -> "Walk":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._frames = iter(())
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None

    def visit(self, indices: Iterable[int]) -> Iterator[VideoFrame]:
        """The frames at increasing ``indices``.

        Raises:
            AstrayError: A frame is missing, or is not the one that the table holds.
        """
        for index in indices:
            self._approach(index)
            while self._position < index:
                self._advance()
            yield self._advance()

    def at_end(self) -> bool:
        """Whether no frame follows. Costs a frame where one does."""
        return next(self._frames, None) is None

    def _advance(self) -> VideoFrame:
        frame = next(self._frames, None)
        if frame is None or frame.pts != self._table.times[self._position]:
            raise AstrayError
        self._position += 1
        return frame

    def _approach(self, index: int) -> None:
        """Stand at or before ``index``, as near as a seek point allows."""
        place = bisect_right(self._seek_points, index)
        nearest = self._seek_points[place - 1] if place else 0
        if self._decoding is not None and nearest <= self._position <= index:
            return
        # A seek may land one key packet late where reordering moves times past each other: try one earlier.
        points = [point for point in self._seek_points[max(0, place - 2) : place] if point > 0]
        if any(self._seek(point, index) for point in reversed(points)):
            return
        if points:
            self._seek_points = ()  # this container finds no key packets (MPEG-TS): stay on the way forward
        self.close()
        self._decoding = self._stream.open()
        self._frames, self._position = self._decoding.frames(), 0

    def _seek(self, point: int, index: int) -> bool:
        """Jump to ``point``; True where the packets then start at a known point at or before ``index``."""
        if self._decoding is None:
            self._decoding = self._stream.open()
        time = self._table.times[point]
        assert time is not None
        try:
            self._decoding.container.seek(time, stream=self._decoding.stream, backward=True)
        except (av.FFmpegError, OSError):
            return False
        packets = self._decoding.packets()
        packet = next(packets, None)
        if packet is None or not packet.is_keyframe or packet.pts not in self._point_at_time:
            return False
        landed = self._point_at_time[packet.pts]
        if landed > index:
            return False
        frames = self._decoding.frames(chain([packet], packets))
        self._frames, self._position = drop_leading(frames, packet.pts), landed
        return True


def drop_leading(frames: Iterator[VideoFrame], start: int | None) -> Iterator[VideoFrame]:
    """Without the frames shown before ``start``: they need pictures from before the seek."""
    for frame in frames:
        if frame.pts is None or start is None or frame.pts >= start:
            yield frame
