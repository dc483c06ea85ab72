"""Decoded frames kept on disk: a video is decoded once, and every later epoch and run maps its frames.

One ``.npy`` a video, ``T C H W`` uint8, in a folder that any number of processes may share. Its name is a
digest of the video's absolute path, size and modification time, the short side and the reader, so a changed
video is simply another entry. An entry appears whole or not at all; one that is damaged is built again.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinemix.atomic import write_atomically
from kinemix.data._frame_folder import list_frames
from kinemix.data.reader import Backend, VideoReader, open_video
from kinemix.data.segment import Segment
from kinemix.errors import DataError, UnreadableVideoError
from kinemix.types import Video

_FORMAT = 1  # part of every name: a change of layout leaves old entries behind instead of misreading them
_CHUNK_BYTES = 256 * 2**20


class CachedVideo:
    """Frames of one video from the cache, with the interface of a reader.

    Attributes:
        path: the video, not the entry.
        num_frames, height, width: as decoded, after ``short_side``.
        problem: what was wrong with the file although it gave frames, or None.
    """

    def __init__(self, path: str, frames: NDArray[np.uint8], problem: str | None) -> None:
        self.path, self.problem = path, problem
        self._frames = frames
        self.num_frames, _, self.height, self.width = frames.shape

    def read(self, indices: Sequence[int]) -> Video:
        """Frames at ``indices`` (0 to num_frames - 1, any order, repeats allowed): uint8 RGB, T C H W."""
        return torch.from_numpy(np.array(self._frames[np.asarray(indices, dtype=np.int64)]))

    def close(self) -> None:
        """Nothing to do: the mapping ends with the last reference."""

    def __enter__(self) -> "CachedVideo":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_cached_video(
    path: str | Path,
    *,
    cache: str | Path,
    backend: Backend = "auto",
    short_side: int | None = None,
    segment: Segment | None = None,
) -> CachedVideo:
    """Open a video through the cache; decode and store it first if need be.

    Args:
        path: video file, or folder of frames.
        cache: folder of the cache, made if it is not there.
        backend, short_side, segment: as in :func:`kinemix.data.reader.open_video`. Each segment of a video
            has an entry of its own.

    Raises:
        UnreadableVideoError: the video gives no frames. Nothing is stored then.
        DataError: the cache cannot be written (no permission, disk full).
    """
    try:
        key = _make_key(path, backend=backend, short_side=short_side, segment=segment)
    except OSError as error:
        raise UnreadableVideoError(path, f"cannot be read ({error.strerror})") from error
    entry = Path(cache) / key[:2] / f"{key}.npy"
    frames = _map_entry(entry)
    if frames is None:
        try:
            _build_entry(entry, path, backend=backend, short_side=short_side, segment=segment)
            frames = _map_entry(entry)
        except OSError as error:
            raise DataError(
                f"{cache}: decoded frames cannot be stored ({error.strerror}): free some space, or choose "
                "another folder with data.cache, or leave it out"
            ) from error
        if frames is None:
            raise DataError(f"{entry}: was damaged right after it was written: choose another data.cache")
    problem = _problem_file(entry)
    return CachedVideo(str(path), frames, problem.read_text(encoding="utf-8") if problem.exists() else None)


def _make_key(
    path: str | Path, *, backend: Backend, short_side: int | None, segment: Segment | None = None
) -> str:
    video = Path(path).absolute()
    facts: list[object] = [_FORMAT, str(video), backend, short_side]
    if segment is not None:
        facts.append(str(segment) if segment.unit == "frames" else (segment.start, segment.stop))
    # A folder's own time does not change when one of its frames is written over.
    if segment is not None and video.is_dir():
        files = [video / name for name in list_frames(video, segment)]
    else:
        files = sorted(video.iterdir()) if video.is_dir() else [video]
    for file in files:
        status = file.stat()
        facts += [file.name, status.st_size, status.st_mtime_ns]
    return hashlib.blake2b(repr(facts).encode(), digest_size=20).hexdigest()


def _map_entry(entry: Path) -> NDArray[np.uint8] | None:
    """The frames of an entry, or ``None`` if it is missing, cut short or no entry at all."""
    try:
        frames = np.load(entry, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = isinstance(frames, np.ndarray) and frames.dtype == np.uint8 and frames.ndim == 4
    return frames if whole and frames.size else None


def _build_entry(
    entry: Path, path: str | Path, *, backend: Backend, short_side: int | None, segment: Segment | None = None
) -> None:
    """Decode a video into a file beside the entry, then rename. Several may do so at once; the last wins."""
    # A segment is sought: decoding hours to be certain of the count of seconds would defeat the cache.
    scan = True if segment is None else None
    with open_video(path, backend=backend, short_side=short_side, full_scan=scan, segment=segment) as video:
        entry.parent.mkdir(parents=True, exist_ok=True)
        if video.problem is not None:
            _problem_file(entry).write_text(str(video.problem), encoding="utf-8")
        write_atomically(entry, lambda partial: _write_frames(partial, video), durable=False)


def _write_frames(path: Path, video: VideoReader) -> None:
    """Written and not mapped: a full disk raises on write, but kills the process on a mapped page."""
    chunk = max(1, _CHUNK_BYTES // (3 * video.height * video.width))
    with path.open("wb") as file:
        shape = (video.num_frames, 3, video.height, video.width)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, video.num_frames, chunk):
            frames = video.read(range(start, min(start + chunk, video.num_frames)))
            file.write(frames.contiguous().numpy().data)


def _problem_file(entry: Path) -> Path:
    return entry.with_suffix(".problem")
