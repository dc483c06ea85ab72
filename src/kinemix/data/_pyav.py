"""Exact frames of a video file through PyAV: what is kept, what is decoded again, and the way to RGB.

A short video is decoded once, whole, and its pictures are kept as the decoder gave them (YUV, half the bytes
of RGB), so that opening and reading together cost one decode. A long one is known by its packets where these
can be trusted, else it is decoded once to count; each read then decodes what is asked for.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from kinemix.data._container import StreamHeader, explain_error, read_stream_headers
from kinemix.data._frame_table import (
    AstrayError,
    FrameTable,
    Stream,
    Walk,
    increase_strictly,
    tabulate_by_decoding,
    tabulate_by_packets,
)
from kinemix.data._frames import (
    ASSUMED_FRAME_RATE,
    VideoFacts,
    even_timestamps,
    refuse_index,
    scale_to_short_side,
)
from kinemix.errors import UnreadableVideoError
from kinemix.types import Video

KEEP_BYTES = 128 * 2**20
"""Decoded pictures that one open video may keep: 1000 of 340 x 256, 97 of 1280 x 720, 43 of 1920 x 1080."""


class PyavSource:
    """Frames of one video file. See :func:`kinemix.data.reader.open_video` for the arguments."""

    backend = "pyav"
    note: str | None = None

    def __init__(
        self, path: Path, *, short_side: int | None, num_threads: int, full_scan: bool | None
    ) -> None:
        self.path = path
        self._seek = True
        self._walk: Walk | None = None
        self._header, self._stream = self._find_stream(num_threads, full_scan)
        self._converter = RgbConverter(self._pictures[0], short_side=short_side, num_threads=num_threads)
        try:
            self._converter.convert(self._pictures[0])
        except (av.FFmpegError, ValueError) as error:
            reason = f"its pixel format {self._pictures[0].format.name} does not convert to RGB"
            raise UnreadableVideoError(path, f"{reason} ({explain_error(error)})") from error
        self.facts = self._gather_facts()

    def _find_stream(self, num_threads: int, full_scan: bool | None) -> tuple[StreamHeader, Stream]:
        """The first video stream that gives frames; its table is made on the way."""
        first_error = None
        for header in read_stream_headers(self.path):
            stream = Stream(self.path, header.index, num_threads=num_threads)
            by_packets = not full_scan if full_scan is not None else _looks_long(header)
            try:
                found = tabulate_by_packets(stream) if by_packets else None
                self._table, self._pictures = found or tabulate_by_decoding(stream, keep_bytes=KEEP_BYTES)
                return header, stream
            except UnreadableVideoError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error

    def _gather_facts(self) -> VideoFacts:
        timestamps, frame_rate = _tell_times(self._table, self._header)
        shortfall = _describe_shortfall(self._header, timestamps, frame_rate)
        height, width = self._converter.displayed_size
        problem = "; ".join(part for part in (self._table.problem, shortfall) if part) or None
        return VideoFacts(len(timestamps), height, width, frame_rate, timestamps, problem)

    @property
    def stream_index(self) -> int:
        return self._header.index

    @property
    def presentation_times(self) -> list[float] | None:
        """The file's own times in seconds where they are sound, for checking a second decoder."""
        times, base = self._table.times, self._header.time_base
        if base is None or not increase_strictly(times):
            return None
        return [float(time * base) for time in times if time is not None]

    def drop_pictures(self) -> None:
        """Free the kept pictures; a later read decodes again."""
        del self._pictures[1:]

    def fetch(self, indices: Sequence[int]) -> Video:
        """See :class:`kinemix.data._frames.FrameSource`."""
        try:
            return self._convert(self._pick(indices), len(indices))
        except AstrayError:
            self._start_over()
        if indices[-1] >= self.facts.num_frames:
            raise refuse_index(self.path, indices[-1], self.facts.num_frames)
        try:
            return self._convert(self._pick(indices), len(indices))
        except AstrayError as error:
            raise UnreadableVideoError(self.path, "gives other frames each time it is decoded") from error

    def _pick(self, indices: Sequence[int]) -> Iterable[VideoFrame]:
        if len(self._pictures) == len(self._table.times):
            return (self._pictures[index] for index in indices)
        if self._walk is None:
            self._walk = Walk(self._stream, self._table, seek=self._seek)
        return self._walk.visit(indices)

    def _convert(self, frames: Iterable[VideoFrame], count: int) -> Video:
        out = np.empty((count, 3, *self._converter.displayed_size), dtype=np.uint8)
        for row, frame in enumerate(frames):
            out[row] = self._converter.convert(frame)
        return torch.from_numpy(out)

    def _start_over(self) -> None:
        """The frames were not the promised ones: know them by decoding, and never seek in this file again."""
        self.close()
        self._seek = False
        if not self._table.decoded:
            self._table, self._pictures = tabulate_by_decoding(self._stream, keep_bytes=KEEP_BYTES)
            self.facts = self._gather_facts()

    def close(self) -> None:
        self.drop_pictures()
        if self._walk is not None:
            self._walk.close()
            self._walk = None


def _looks_long(header: StreamHeader) -> bool:
    return header.likely_frames * header.picture_bytes > KEEP_BYTES


def _tell_times(table: FrameTable, header: StreamHeader) -> tuple[tuple[float, ...], float]:
    """Seconds since the first frame, and the mean frame rate: from the frames' own times where sound."""
    times, base = table.times, header.time_base
    first, last = times[0], times[-1]
    if base is None or first is None or last is None or not increase_strictly(times):
        frame_rate = header.frame_rate or ASSUMED_FRAME_RATE
        return even_timestamps(len(times), frame_rate), frame_rate
    timestamps = tuple(float((time - first) * base) for time in times if time is not None)
    if len(times) == 1:
        return timestamps, header.frame_rate or ASSUMED_FRAME_RATE
    return timestamps, (len(times) - 1) / timestamps[-1]


def _describe_shortfall(header: StreamHeader, timestamps: tuple[float, ...], frame_rate: float) -> str | None:
    """How far the frames stay behind the header's promise, where it is more than headers commonly err."""
    count = len(timestamps)
    if header.num_frames * 0.9 > count + 1:
        return f"the header promises {header.num_frames} frames, {count} decode"
    seconds = timestamps[-1] + 1 / frame_rate
    if not header.num_frames and header.seconds and header.seconds * 0.9 > seconds + 0.5:
        return f"the header promises {header.seconds:.2f} s, the frames end at {seconds:.2f} s"
    return None


class RgbConverter:
    """Turns decoded pictures into RGB of one size: the first picture's, rotated for display and scaled down.

    ``short_side`` is reached in the same pass as the colour conversion, by swscale's bilinear filter, which
    widens with the scale as torchvision's antialiased one does. Alpha is dropped, more than 8 bits are
    rounded to 8, HDR is not tone-mapped; non-square pixels stay as they are.
    """

    def __init__(self, first: VideoFrame, *, short_side: int | None, num_threads: int) -> None:
        rotation = first.rotation  # degrees counter-clockwise, or nonsense from a broken header
        self._quarter_turns = rotation // 90 % 4 if rotation % 90 == 0 and abs(rotation) <= 360 else 0
        self._size = scale_to_short_side(first.height, first.width, short_side)
        self._num_threads = num_threads
        self._reformatter = VideoReformatter()

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Height and width of what :meth:`convert` returns."""
        return self._size if self._quarter_turns % 2 == 0 else self._size[::-1]

    def convert(self, frame: VideoFrame) -> np.ndarray:
        """One picture as ``3 H W`` uint8."""
        height, width = self._size
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=self._num_threads
        )
        return np.rot90(rgb.to_ndarray(), self._quarter_turns).transpose(2, 0, 1)
