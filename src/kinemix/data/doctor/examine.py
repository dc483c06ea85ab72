"""One video's facts: every frame decoded once through the reader's own doors, and little else.

The pass is the one that the reader makes itself when it opens a short video (same streams, same order, same
care for damage), so what is found here is what training would meet.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from kinemix.data._container import (
    Decoding,
    StreamHeader,
    _read_header,
    explain_error,
    has_decoder,
    open_container,
    read_stream_headers,
)
from kinemix.data._frame_folder import list_frames
from kinemix.data._frame_table import SEEKABLE_CODECS, FrameTable, increase_strictly
from kinemix.data._pyav import KEEP_BYTES, RgbConverter, _describe_shortfall, _tell_times
from kinemix.data.doctor.fingerprint import NUM_FRAMES, SIDE, Fingerprint, take_fingerprint
from kinemix.data.doctor.record import Task, VideoRecord
from kinemix.data.reader import is_folder, open_video
from kinemix.errors import UnreadableVideoError

_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273
_GAP_TOLERANCE = 0.1  # of the median gap; below, a gap counts as even


def examine_video(task: Task) -> VideoRecord:
    """Look at one video, whatever its state: a file that gives no frames is a record too."""
    started, deadline = time.perf_counter(), time.process_time() + task.seconds
    path = Path(task.path)
    if not path.exists():
        return VideoRecord(path=task.path, status="missing", reason="no such file")
    record = VideoRecord(path=task.path, status="readable")
    try:
        if is_folder(path):
            record = _examine_folder(task, deadline)
        else:
            record = replace(record, num_bytes=path.stat().st_size)
            record, headers = _read_headers(path, record)
            if not headers:
                read_stream_headers(path)  # refuses it, and tells what there is instead
            if not task.quick:
                record = _decode(task, record, headers, deadline)
    except UnreadableVideoError as error:
        num_bytes = path.stat().st_size if path.is_file() else None
        record = replace(record, status="unreadable", reason=error.reason, num_bytes=num_bytes)
    return replace(record, seconds=time.perf_counter() - started)


def digest_file(path: str) -> str:
    """A digest of the file's bytes; equal for equal files."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_headers(path: Path, record: VideoRecord) -> tuple[VideoRecord, list[StreamHeader]]:
    """What the container and its moving streams claim: the first in the record, all for decoding.

    The file is opened once for both, since opening costs as much as decoding several frames.
    """
    with open_container(path) as container:
        streams = container.streams.video
        moving = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
        record = replace(
            record,
            container=container.format.name,
            video_streams=len(moving),
            covers=len(streams) - len(moving),
        )
        headers = [_read_header(container, stream) for stream in moving]
        if not moving:
            return record, headers
        stream = moving[0]
        record = replace(
            record,
            promised_frames=max(0, stream.frames),
            frame_rate=float(stream.average_rate) if stream.average_rate else None,
        )
        if not has_decoder(stream):
            return record, headers
        context = stream.codec_context
        record = replace(
            record,
            codec=context.codec.canonical_name,
            pixel_format=context.pix_fmt or "",
            width=context.width,
            height=context.height,
            pixel_aspect=float(stream.sample_aspect_ratio or 1) or 1.0,
            **_describe_pixels(context.format),
        )
        return record, headers


def _describe_pixels(pixels: Any) -> dict[str, Any]:
    """Bits and alpha of a pixel format; PyAV gives None where the header does not tell."""
    if pixels is None:
        return {}
    components = pixels.components
    return {
        "alpha": any(component.is_alpha for component in components),
        "bits": max(component.bits for component in components),
    }


@dataclass
class _Tally:
    """What is noted of the frames of one stream as they come."""

    capacity: int
    times: list[int | None] = field(default_factory=list)
    key_frames: list[int] = field(default_factory=list)
    sizes: dict[tuple[int, int], None] = field(default_factory=dict)
    interlaced: int = 0
    kept: list[VideoFrame] = field(default_factory=list)  # frames 0, stride, 2 stride, ...
    stride: int = 1

    def add(self, frame: VideoFrame) -> None:
        index = len(self.times)
        self.times.append(frame.pts)
        self.sizes.setdefault((frame.width, frame.height))
        self.interlaced += frame.interlaced_frame
        if frame.key_frame and frame.pict_type == PictureType.I:
            self.key_frames.append(index)
        if index % self.stride == 0:
            self.kept.append(frame)
            if len(self.kept) > self.capacity:
                del self.kept[1::2]
                self.stride *= 2

    def pick(self) -> list[VideoFrame]:
        """8 frames at the same shares of the video, whatever its length; repeated if it is shorter."""
        wanted = [(place + 0.5) / NUM_FRAMES * len(self.times) for place in range(NUM_FRAMES)]
        return [self.kept[min(len(self.kept) - 1, int(index / self.stride))] for index in wanted]


def _decode(task: Task, record: VideoRecord, headers: list[StreamHeader], deadline: float) -> VideoRecord:
    """The record completed by a pass over the first stream that gives frames."""
    first_error = None
    for header in headers:
        try:
            return _decode_stream(task, record, header, deadline)
        except UnreadableVideoError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _decode_stream(task: Task, record: VideoRecord, header: StreamHeader, deadline: float) -> VideoRecord:
    path = Path(task.path)
    hidden, cut_short = 0, False
    # Kept pictures cost memory: a power of two of them within the reader's own budget, never below 8.
    capacity = 32 if header.picture_bytes * 32 <= KEEP_BYTES else 16 if header.picture_bytes < 2**23 else 8
    tally = _Tally(capacity)
    with Decoding(path, stream_index=header.index, num_threads=1) as decoding:

        def count_hidden() -> Iterator[av.Packet]:
            nonlocal hidden
            for packet in decoding.packets():
                hidden += packet.is_discard
                yield packet

        for frame in decoding.frames(count_hidden()):
            tally.add(frame)
            if len(tally.times) % 16 == 1 and time.process_time() > deadline:  # asking costs a system call
                cut_short = True
                break
        if not tally.times:
            raise UnreadableVideoError(path, decoding.explain_no_frames())
        failures = decoding.describe_failures()
    table = FrameTable(tuple(tally.times), (), decoded=True)
    timestamps, frame_rate = _tell_times(table, header)
    shortfall = None if cut_short else _describe_shortfall(header, timestamps, frame_rate)
    first, sound = tally.kept[0], increase_strictly(tally.times)
    sizes = list(tally.sizes)
    return replace(
        record,
        problem="; ".join(part for part in (failures, shortfall) if part) or None,
        codec=record.codec or "unknown",
        pixel_format=first.format.name,
        width=sizes[0][0],
        height=sizes[0][1],
        other_sizes=tuple(sizes[1:]),
        promised_frames=header.num_frames,
        num_frames=len(tally.times),
        hidden_frames=hidden,
        cut_short=cut_short,
        frame_rate=frame_rate,
        **_measure_gaps(timestamps if sound else (), header),
        sound_times=sound or len(tally.times) == 1,
        rotation=int(first.rotation),
        interlaced=tally.interlaced,
        transfer=_TRANSFERS.get(int(first.color_trc), ""),
        **_describe_pixels(first.format),
        key_frames=tuple(tally.key_frames) if sound and record.codec in SEEKABLE_CODECS else (),
        segment_frames=_count_segments(task, timestamps),
        fingerprint=take_fingerprint(_shrink(path, tally.pick())),
    )


def _measure_gaps(timestamps: tuple[float, ...], header: StreamHeader) -> dict[str, Any]:
    """Shortest, median and longest time between frames in ms, and how many are uneven."""
    gaps = [1000 * float(gap) for gap in np.diff(np.asarray(timestamps))]
    if not gaps:
        return {}
    middle = median(gaps)
    tolerance = max(_GAP_TOLERANCE * middle, 2000 * float(header.time_base or 0))
    odd = sum(abs(gap - middle) > tolerance for gap in gaps)
    return {"gaps": (min(gaps), middle, max(gaps)), "odd_gaps": odd}


def _count_segments(task: Task, timestamps: tuple[float, ...]) -> tuple[int | None, ...]:
    counts: list[int | None] = []
    for segment in task.segments:
        try:
            counts.append(len(segment.find_frames(timestamps, path=task.path)))
        except UnreadableVideoError:
            counts.append(None)
    return tuple(counts)


def _shrink(path: Path, frames: list[VideoFrame]) -> list[NDArray[np.uint8]]:
    """Frames as small grey pictures, turned as they are displayed.

    Raises:
        UnreadableVideoError: the pixel format does not convert, so the reader could give no frame either.
    """
    turns = frames[0].rotation // 90 % 4 if frames[0].rotation % 90 == 0 else 0
    reformatter = VideoReformatter()
    try:
        RgbConverter(frames[0], short_side=SIDE, num_threads=1).convert(frames[0])
        small = [
            reformatter.reformat(frame, width=SIDE, height=SIDE, format="gray", threads=1) for frame in frames
        ]
    except (av.FFmpegError, ValueError) as error:
        reason = f"its pixel format {frames[0].format.name} does not convert to RGB"
        raise UnreadableVideoError(path, f"{reason} ({explain_error(error)})") from error
    return [np.rot90(frame.to_ndarray(), turns) for frame in small]


def _examine_folder(task: Task, deadline: float) -> VideoRecord:
    """A folder of frames: every image is decoded, as the reader would."""
    path = Path(task.path)
    names = list_frames(path)
    sizes: dict[tuple[int, int], None] = {}
    pictures: list[NDArray[np.uint8]] = []
    bad, cut_short, examined = "", False, len(names)
    wanted = [int((place + 0.5) / NUM_FRAMES * len(names)) for place in range(NUM_FRAMES)]
    with open_video(path) as reader:  # decodes the first
        for index, name in enumerate(names[:1] if task.quick else names):
            try:
                frame = reader.read([index])[0]
                with Image.open(path / name) as image:
                    sizes.setdefault(image.size)
            except UnreadableVideoError as error:
                bad = bad or error.reason
                continue
            if index in wanted:
                grey = Image.fromarray(frame.permute(1, 2, 0).numpy()).convert("L")
                small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
                pictures += [small] * wanted.count(index)
            if time.process_time() > deadline:
                cut_short, examined = True, index + 1
                break
        timestamps, frame_rate = reader.timestamps, reader.frame_rate
    found = list(sizes)
    fingerprint: Fingerprint | None = None
    if len(pictures) == NUM_FRAMES:
        fingerprint = take_fingerprint(pictures)
    return VideoRecord(
        path=task.path,
        status="readable",
        num_bytes=sum((path / name).stat().st_size for name in names),
        container="images",
        codec=Path(names[0]).suffix.lower().lstrip("."),
        width=found[0][0] if found else 0,
        height=found[0][1] if found else 0,
        other_sizes=tuple(found[1:]),
        promised_frames=len(names),
        num_frames=examined if cut_short else len(names),
        cut_short=cut_short,
        frame_rate=frame_rate,
        video_streams=1,
        key_frames=tuple(range(len(names))),
        bad_image=bad,
        left_out=_describe_numbering(names),
        segment_frames=_count_segments(task, timestamps),
        fingerprint=fingerprint,
    )


def _describe_numbering(names: list[str]) -> str:
    """Numbers that are left out between the first and the last image, in words; empty if there are none."""
    numbers = [int(found[-1]) for name in names if (found := re.findall(r"\d+", Path(name).stem))]
    if len(numbers) != len(names):
        return ""
    absent = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
    if not absent or len(absent) > len(numbers):  # numbered by time or stride, not counted
        return ""
    return f"{len(absent)} numbers are left out, the first is {absent[0]}"
