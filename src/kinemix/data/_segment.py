"""Frames of a segment of a long video, found by seeking: neither what lies before it nor behind it is decoded.

The packets around the segment are read from the key frame before it; their times tell which frames belong to
it. Where packets do not promise the frames (see :func:`kinemix.data._frame_table.tabulate_by_packets`), the
whole video is opened instead and cut by its timestamps. Both ways give the same frames.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from av.packet import Packet
from av.video.frame import VideoFrame

from kinemix.data._container import Decoding, StreamHeader, read_stream_headers
from kinemix.data._frame_table import (
    INDEXED_CONTAINERS,
    SEEKABLE_CODECS,
    AstrayError,
    FrameTable,
    Stream,
    Walk,
    drop_leading,
    increase_strictly,
)
from kinemix.data._frames import ASSUMED_FRAME_RATE, FrameSource, VideoFacts
from kinemix.data._pyav import RgbConverter
from kinemix.data.segment import TIME_TOLERANCE, Segment
from kinemix.errors import DataError
from kinemix.types import Video

_OPENING_PACKETS = 32
"""Packets at the start of a file among which its first frame is looked for."""


class SlicedSource:
    """Some consecutive frames of an open video, as a video of their own."""

    def __init__(self, whole: FrameSource, segment: Segment, path: Path) -> None:
        self._whole, self._segment, self._path = whole, segment, path
        self._frames = segment.find_frames(whole.facts.timestamps, path=path)

    @property
    def backend(self) -> str:
        return self._whole.backend

    @property
    def note(self) -> str | None:
        return self._whole.note

    @property
    def facts(self) -> VideoFacts:
        facts = self._whole.facts
        inside = range(self._frames.start, min(self._frames.stop, facts.num_frames))
        return _cut_facts(facts, facts.timestamps[inside.start : inside.stop])

    def fetch(self, indices: Sequence[int]) -> Video:
        """See :class:`kinemix.data._frames.FrameSource`."""
        return self._whole.fetch([self._frames.start + index for index in indices])

    def close(self) -> None:
        self._whole.close()


class SegmentSource:
    """Frames of a segment by seeking; the whole video's, cut, where that proves wrong.

    Args:
        path: a video file.
        segment: in seconds.
        open_whole: opens the video without a segment.
    """

    note: str | None = "segments are found by PyAV"

    def __init__(
        self,
        path: Path,
        segment: Segment,
        *,
        short_side: int | None,
        num_threads: int,
        open_whole: Callable[[], FrameSource],
    ) -> None:
        self.path, self._segment, self._open_whole = path, segment, open_whole
        self._walk: Walk | None = None
        self._fallback: SlicedSource | None = None
        header = read_stream_headers(path)[0]
        found = _locate(path, header, segment, num_threads)
        if found is None:
            self._fall_back()
            return
        self._stream, self._table, self._frames = found
        try:
            self._walk = Walk(self._stream, self._table)
            first = next(self._walk.visit([self._frames.start]))
        except AstrayError:
            self._fall_back()
            return
        self._converter = RgbConverter(first, short_side=short_side, num_threads=num_threads)
        self._facts = self._gather_facts(header)

    @property
    def backend(self) -> str:
        return self._fallback.backend if self._fallback else "pyav"

    @property
    def facts(self) -> VideoFacts:
        return self._fallback.facts if self._fallback else self._facts

    def fetch(self, indices: Sequence[int]) -> Video:
        """See :class:`kinemix.data._frames.FrameSource`."""
        if self._fallback is None:
            try:
                return self._decode(indices)
            except AstrayError:
                self._fall_back()
        assert self._fallback is not None
        count = self._fallback.facts.num_frames
        if indices[-1] >= count:
            raise DataError(f"{self.path}: frame {indices[-1]} asked for, but {self._segment} has {count}")
        return self._fallback.fetch(indices)

    def close(self) -> None:
        if self._walk is not None:
            self._walk.close()
            self._walk = None
        if self._fallback is not None:
            self._fallback.close()

    def _decode(self, indices: Sequence[int]) -> Video:
        if self._walk is None:
            self._walk = Walk(self._stream, self._table)
        out = np.empty((len(indices), 3, *self._converter.displayed_size), dtype=np.uint8)
        frames = self._walk.visit([self._frames.start + index for index in indices])
        for row, frame in enumerate(frames):
            out[row] = self._converter.convert(frame)
        return torch.from_numpy(out)

    def _fall_back(self) -> None:
        self.close()
        whole = self._open_whole()
        try:
            self._fallback = SlicedSource(whole, self._segment, self.path)
        except BaseException:
            whole.close()
            raise

    def _gather_facts(self, header: StreamHeader) -> VideoFacts:
        assert header.time_base is not None
        ticks = [
            time for time in self._table.times[self._frames.start : self._frames.stop] if time is not None
        ]
        seconds = tuple(float((time - ticks[0]) * header.time_base) for time in ticks)
        rate = header.frame_rate or ASSUMED_FRAME_RATE
        height, width = self._converter.displayed_size
        whole = VideoFacts(len(seconds), height, width, rate, seconds)
        return _cut_facts(whole, seconds)


class _StreamFrom(Stream):
    """A stream whose every pass begins at a key frame instead of at the start of the file."""

    def __init__(self, stream: Stream, key_time: int, *, num_threads: int) -> None:
        super().__init__(stream.path, stream.index, num_threads=num_threads)
        self._key_time = key_time

    def open(self) -> Decoding:
        decoding = _DecodingFrom(self.path, self._key_time, self.index, self._num_threads)
        if not _seek(decoding, self._key_time):
            decoding.close()
            raise AstrayError
        return decoding


class _DecodingFrom(Decoding):
    """One pass from a key frame on, without the frames shown before it (they need earlier pictures)."""

    def __init__(self, path: Path, key_time: int, stream_index: int, num_threads: int) -> None:
        super().__init__(path, stream_index=stream_index, num_threads=num_threads)
        self._key_time = key_time

    def frames(self, packets: Iterator[Packet] | None = None) -> Iterator[VideoFrame]:
        frames = super().frames(packets)
        return drop_leading(frames, self._key_time) if packets is None else frames


def _locate(
    path: Path, header: StreamHeader, segment: Segment, num_threads: int
) -> tuple[Stream, FrameTable, range] | None:
    """The stream from the key frame before the segment, its frames until the segment has ended, and which of
    them are the segment's; None where packets do not promise them."""
    base = header.time_base
    whole = Stream(path, header.index, num_threads=num_threads)
    if base is None:
        return None
    with whole.open() as decoding:
        origin = _read_origin(decoding)
        if origin is None:
            return None
        ends = (segment.start - TIME_TOLERANCE, segment.stop - TIME_TOLERANCE)
        start, stop = (origin + end / float(base) for end in ends)
        for earlier in (0.0, 1.0, 5.0):  # a seek may land late where reordering moves times past each other
            if not _seek(decoding, max(origin, int(start - earlier / float(base)))):
                return None
            times, keys = _read_times(decoding, stop)
            if times and times[0] <= max(start, origin):
                break
        else:
            return None
    if not keys or times[0] != keys[0] or not increase_strictly(times):
        return None
    first = bisect_left(times, start)
    last = bisect_left(times, stop)
    if first >= last:
        return None  # between two frames, or behind the end: the whole video tells which
    points = tuple(bisect_left(times, key) for key in keys)
    table = FrameTable(tuple(times), points, decoded=False)
    return _StreamFrom(whole, times[0], num_threads=num_threads), table, range(first, last)


def _read_origin(decoding: Decoding) -> int | None:
    """The time of the video's first frame; None where seeking is not to be trusted."""
    formats = set(decoding.container.format.name.split(","))
    context = getattr(decoding.stream, "codec_context", None)
    if context is None or context.name not in SEEKABLE_CODECS or not formats & INDEXED_CONTAINERS:
        return None
    packets = [packet for packet in islice(decoding.packets(), _OPENING_PACKETS) if packet.size]
    if not packets or not packets[0].is_keyframe or any(packet.is_discard for packet in packets):
        return None
    origin = packets[0].pts
    if any(packet.pts is None or origin is None or packet.pts < origin for packet in packets):
        return None  # frames shown before the first key frame: whether they decode is the decoder's secret
    return origin


def _seek(decoding: Decoding, time: int) -> bool:
    try:
        decoding.container.seek(time, stream=decoding.stream, backward=True)
    except (av.FFmpegError, OSError):
        return False
    return True


def _read_times(decoding: Decoding, stop: float) -> tuple[list[int], list[int]]:
    """Times of the frames from where the file stands until ``stop`` has passed, and those of key packets.

    A packet is never shown before it is decoded, so once a packet's decoding time has reached ``stop`` no
    frame before ``stop`` can follow. Both lists are empty where a packet breaks the rules.
    """
    times: list[int] = []
    keys: list[int] = []
    for packet in decoding.packets():
        if not packet.size:
            continue
        if packet.pts is None or packet.dts is None or packet.is_discard:
            return [], []
        if not keys and not packet.is_keyframe:
            return [], []
        if packet.is_keyframe:
            keys.append(packet.pts)
        if packet.pts >= keys[0]:
            times.append(packet.pts)
        if packet.dts >= stop:
            break
    if decoding.failures or decoding.truncated or decoding.encrypted:
        return [], []
    return sorted(times), sorted(keys)


def _cut_facts(whole: VideoFacts, timestamps: Sequence[float]) -> VideoFacts:
    first = timestamps[0] if timestamps else 0.0
    own = tuple(time - first for time in timestamps)
    rate = (len(own) - 1) / own[-1] if len(own) > 1 and own[-1] > 0 else whole.frame_rate
    return replace(whole, num_frames=len(own), timestamps=own, frame_rate=rate)
