"""What reading costs: time to take a clip's frames from each kind of file, and from it the time of an epoch.

Measured on a few samples of every format, as training reads them. Nothing that comes after (crops, the
network) is counted: this is the fastest that the storage lets an epoch be.
"""

import os
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Literal

from kinemix.data._pyav import KEEP_BYTES
from kinemix.data.doctor.findings import Finding
from kinemix.data.doctor.record import VideoRecord
from kinemix.data.reader import open_video
from kinemix.data.sampling import sparse_test
from kinemix.data.segment import Segment
from kinemix.errors import UnreadableVideoError

Bottleneck = Literal["decode", "seek", "disk"]

SAMPLES_A_FORMAT, SAMPLES = 6, 24
"""Clips that are read for measuring: of one format, and in all."""

WASTEFUL, SLOW_SECONDS = 4.0, 0.02
"""A format is worth preparing if it decodes so many frames for each it uses, and so long a clip (our choice)."""


@dataclass(frozen=True)
class ReadTask:
    """One clip to read for measuring."""

    path: str
    segment: Segment | None
    num_frames: int


@dataclass(frozen=True)
class Reading:
    """How long one clip took.

    Attributes:
        seconds: to open the video and take the frames, its bytes in memory.
        disk_seconds: to read the file's bytes from where it lies (from the disk, where the system lets go of
            its own copy).
    """

    seconds: float
    disk_seconds: float


@dataclass(frozen=True, kw_only=True)
class FormatCost:
    """One kind of file.

    Attributes:
        name: container, codec and size.
        num_samples: of the collection.
        num_read: that were measured.
        num_bytes: mean size of a file.
        key_interval: median of the longest run without a key frame; None where there is no seeking.
        decoded: mean frames that are decoded for a clip.
        seconds, disk_seconds: mean time of a clip (:class:`Reading`).
    """

    name: str
    num_samples: int
    num_read: int
    num_bytes: float
    key_interval: float | None
    decoded: float
    seconds: float
    disk_seconds: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an epoch costs to read.

    Attributes:
        formats: the kinds of file, the most common first.
        num_frames: of a clip.
        workers: processes that the estimate is for.
        epoch_seconds: to read every sample once.
        bottleneck: what most of it goes into: ``decode`` (of frames that are used), ``seek`` (decoding frames
            that are not used, to reach those that are) or ``disk``.
        shares: of the time, by what it goes into.
    """

    formats: tuple[FormatCost, ...]
    num_frames: int
    workers: int
    epoch_seconds: float
    bottleneck: Bottleneck
    shares: Mapping[str, float]


def read_clip(task: ReadTask) -> Reading | None:
    """Read one clip as training does, sparsely; None if it cannot be read (which is reported elsewhere)."""
    disk_seconds = _read_bytes(Path(task.path))
    started = time.perf_counter()
    try:
        with open_video(task.path, segment=task.segment) as reader:
            reader.read(sparse_test(num_video_frames=reader.num_frames, num_frames=task.num_frames))
    except UnreadableVideoError:
        return None
    return Reading(time.perf_counter() - started, disk_seconds)


def _read_bytes(path: Path) -> float:
    """Seconds to read a file (or the images of a folder) that the system has been asked to forget."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    seconds = 0.0
    for file in files:
        with file.open("rb", buffering=0) as opened:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.perf_counter()
            while opened.read(2**20):
                pass
            seconds += time.perf_counter() - started
    return seconds


def choose_samples(
    records: Sequence[VideoRecord], *, segment_of: Mapping[str, Segment | None], num_frames: int
) -> list[ReadTask]:
    """A few videos of every format, drawn with a fixed seed; the most common formats first."""
    by_format = _group(records)
    tasks: list[ReadTask] = []
    for group in by_format.values():
        chosen = random.Random(0).sample(group, min(SAMPLES_A_FORMAT, len(group)))
        tasks += [ReadTask(record.path, segment_of.get(record.path), num_frames) for record in chosen]
    return tasks[:SAMPLES]


def estimate_cost(
    records: Sequence[VideoRecord],
    readings: Mapping[str, Reading],
    *,
    samples_of: Mapping[str, int],
    num_frames: int,
    workers: int,
) -> Cost | None:
    """The cost of an epoch, from readings of some of its videos.

    Args:
        records: of all videos that were examined.
        readings: by path.
        samples_of: samples by path; videos that were not examined count as those of the mean.
        num_frames: of a clip.
        workers: processes that read.

    Returns:
        None if nothing was read.
    """
    formats = []
    for name, group in _group(records).items():
        read = [(record, readings[record.path]) for record in group if record.path in readings]
        if not read:
            continue
        intervals = [record.key_interval for record in group if record.key_interval is not None]
        formats.append(
            FormatCost(
                name=name,
                num_samples=sum(samples_of.get(record.path, 1) for record in group),
                num_read=len(read),
                num_bytes=mean(record.num_bytes or 0 for record in group),
                key_interval=median(intervals) if intervals else None,
                decoded=mean(count_decoded(record, num_frames) for record, _ in read),
                seconds=mean(reading.seconds for _, reading in read),
                disk_seconds=mean(reading.disk_seconds for _, reading in read),
            )
        )
    if not formats:
        return None
    measured = sum(cost.num_samples for cost in formats)
    shares = dict.fromkeys(("decode", "seek", "disk"), 0.0)
    for cost in formats:
        useful = min(1.0, num_frames / cost.decoded)
        shares["decode"] += cost.num_samples * cost.seconds * useful
        shares["seek"] += cost.num_samples * cost.seconds * (1 - useful)
        shares["disk"] += cost.num_samples * cost.disk_seconds
    total = sum(shares.values())
    everyone = sum(samples_of.values())
    bottlenecks: tuple[Bottleneck, ...] = ("decode", "seek", "disk")
    return Cost(
        formats=tuple(formats),
        num_frames=num_frames,
        workers=workers,
        epoch_seconds=total * everyone / measured / workers,
        bottleneck=max(bottlenecks, key=lambda name: shares[name]),
        shares={name: share / total for name, share in shares.items()},
    )


def count_decoded(record: VideoRecord, num_frames: int) -> int:
    """Frames that the reader decodes for one sparse clip.

    A short video is decoded whole, once. In a long one each frame is approached from the key frame before it,
    or from the frame taken before; a segment is decoded whole, from half a key interval before it on average.
    """
    count = record.num_frames or 1
    if record.segment_frames:
        return round(mean(frames or 1 for frames in record.segment_frames) + (record.key_interval or 0) / 2)
    if record.container == "images":
        return min(count, num_frames)
    picture_bytes = record.width * record.height * 3 // 2
    if count * picture_bytes <= KEEP_BYTES or not record.key_frames:
        return count
    decoded, position = 0, 0
    for index in sparse_test(num_video_frames=count, num_frames=num_frames):
        start = max((key for key in record.key_frames if key <= index), default=0)
        decoded += index + 1 - max(start, position)
        position = index + 1
    return decoded


def judge_cost(cost: Cost) -> list[Finding]:
    """Formats that are worth preparing."""
    findings = []
    for kind in cost.formats:
        if kind.decoded < WASTEFUL * cost.num_frames or kind.seconds < SLOW_SECONDS:
            continue
        interval = f", key frames up to {kind.key_interval:.0f} apart" if kind.key_interval else ""
        value = (
            f"{kind.num_samples} samples in {kind.name}: {1000 * kind.seconds:.0f} ms a clip, "
            f"{kind.decoded:.0f} frames decoded for {cost.num_frames}{interval}"
        )
        findings.append(Finding("slow_to_sample", "note", (kind.name,), value, "run 'kinemix prepare' on it"))
    return findings


def _group(records: Sequence[VideoRecord]) -> dict[str, list[VideoRecord]]:
    groups: defaultdict[str, list[VideoRecord]] = defaultdict(list)
    for record in records:
        if record.status == "readable" and record.num_frames and not record.cut_short:
            groups[record.format].append(record)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))
