"""One clip: read, encode, verify. This runs in a guarded child, and what it says is data."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from kinemix.atomic import write_atomically
from kinemix.data._container import explain_error
from kinemix.data._shard import INDEX_SUFFIX, SHARD_SUFFIX
from kinemix.data.prepare.encode import encode_clip
from kinemix.data.prepare.settings import Settings
from kinemix.data.prepare.shards import make_piece
from kinemix.data.reader import VideoReader, open_video
from kinemix.data.sampling import sparse_test
from kinemix.data.segment import Segment
from kinemix.errors import DataError, UnreadableVideoError

CHUNK_BYTES = 64 * 2**20
"""Decoded frames in memory at a time, about."""

NUM_COMPARED = 8
"""Frames of each clip that are compared with their source."""

LEAST_PSNR = 15.0
"""Decibels below which a clip does not show what its source shows."""

_HASHED_WHOLE = 2**28


@dataclass(frozen=True)
class Job:
    """A clip to be prepared.

    Attributes:
        key: of the clip, in the tar and of its files in ``folder``.
        path, segment: what to read.
        folder: where the piece and its rows are left.
        settings: how.
        facts: kept beside the clip in the shard.
    """

    key: str
    path: str
    segment: Segment | None
    folder: Path
    settings: Settings
    facts: Mapping[str, Any]


def prepare_clip(job: Job) -> dict[str, Any]:
    """Prepare a clip; its piece and its rows are then in the job's folder.

    Returns:
        What the manifest says of it.

    Raises:
        UnreadableVideoError: the source gives no frames; or what was made does not show the same.
    """
    scan = (
        True if job.segment is None else None
    )  # a segment is sought, a whole video is read to its end anyway
    side = job.settings.short_side
    with open_video(job.path, short_side=side, full_scan=scan, segment=job.segment) as video:
        compared = _choose_compared(video.num_frames)
        kept: dict[int, NDArray[np.uint8]] = {}
        micros = _count_micros(video)
        frames = _read_frames(video, compared, kept)
        try:
            encoded = encode_clip(frames, micros=micros, frame_rate=video.frame_rate, settings=job.settings)
        except UnreadableVideoError:
            raise
        except (av.FFmpegError, ValueError, DataError) as error:
            raise UnreadableVideoError(job.path, f"cannot be encoded ({explain_error(error)})") from error
        if len(encoded.frames) != video.num_frames:
            raise UnreadableVideoError(
                job.path, f"gave {video.num_frames} frames at first, then {len(encoded.frames)}"
            )
        facts: dict[str, Any] = {"frame_rate": round(video.frame_rate, 6), "problem": video.problem}
    piece, rows = make_piece(job.key, encoded, micros=micros, facts={**job.facts, "frames": len(micros)})
    place = job.folder / f"{job.key}{SHARD_SUFFIX}"
    write_atomically(place.with_suffix(INDEX_SUFFIX), lambda path: path.write_bytes(rows.tobytes()))
    write_atomically(place, lambda path: path.write_bytes(piece))
    quality = _verify(place, job, len(micros), kept)
    return {
        "num_frames": len(micros),
        "height": encoded.height,
        "width": encoded.width,
        **facts,
        "psnr": quality,
        "bytes": len(piece),
        "sha256": hashlib.sha256(piece).hexdigest(),
        **fingerprint(Path(job.path)),
    }


def _choose_compared(num_frames: int) -> set[int]:
    return set(sparse_test(num_video_frames=num_frames, num_frames=NUM_COMPARED, clip=0, num_clips=1))


def _count_micros(video: VideoReader) -> list[int]:
    """Times in whole microseconds that still increase."""
    micros: list[int] = []
    for seconds in video.timestamps:
        micros.append(max(round(seconds * 1e6), micros[-1] + 1 if micros else 0))
    return micros


def _read_frames(
    video: VideoReader, compared: set[int], kept: dict[int, NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
    """All frames, H W 3; those to be compared are kept."""
    chunk = max(1, CHUNK_BYTES // (3 * video.height * video.width))
    for start in range(0, video.num_frames, chunk):
        frames = video.read(range(start, min(start + chunk, video.num_frames))).permute(0, 2, 3, 1).numpy()
        for index, frame in enumerate(frames, start=start):
            if index in compared:
                kept[index] = frame.copy()
            yield np.ascontiguousarray(frame)


def _verify(place: Path, job: Job, num_frames: int, kept: Mapping[int, NDArray[np.uint8]]) -> float:
    """Read every frame of the piece, as training would; the worst PSNR of those that were kept."""
    worst = math.inf
    with open_video(place, segment=Segment(1, 1 + num_frames, unit="frames")) as video:
        for index in range(video.num_frames):
            frame = video.read([index])[0].permute(1, 2, 0).numpy()
            if index in kept:
                worst = min(worst, measure_psnr(kept[index], frame))
    if worst < LEAST_PSNR:
        raise UnreadableVideoError(
            job.path, f"came out {worst:.1f} dB from its source: choose another --quality"
        )
    return round(min(worst, 99.0), 2)


def measure_psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures in decibels; infinite for equal ones."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and digest of a source; of a large file its first and last mebibyte stand for the rest.

    A folder of frames is told by the names and sizes of its files.
    """
    if path.is_dir():
        files = sorted((entry.name, entry.stat().st_size) for entry in os.scandir(path) if entry.is_file())
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        return {"source_bytes": sum(size for _, size in files), "source_sha256": digest}
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            ends = hashlib.sha256(file.read(2**20))
            file.seek(-(2**20), os.SEEK_END)
            ends.update(file.read())
            digest = f"ends:{ends.hexdigest()}"
    return {"source_bytes": size, "source_sha256": digest}
