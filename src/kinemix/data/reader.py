"""Open a video, know its frames exactly, read any of them.

A video is a file or a folder of images. Frame i is the i-th frame that decoding the whole file from its start
gives, whichever backend reads it: the container's count and scrambled timestamps are never believed.
"""

import os
from collections.abc import Iterable
from operator import index as as_index
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias, TypedDict

import torch

from kinemix.data._frame_folder import FrameFolderSource
from kinemix.data._frames import FrameSource, refuse_index
from kinemix.data._pyav import PyavSource
from kinemix.data._segment import SegmentSource, SlicedSource
from kinemix.data._shard import ShardSource, is_shard
from kinemix.data.segment import Segment
from kinemix.errors import ConfigError, DataError, UnreadableVideoError
from kinemix.types import Video

Backend: TypeAlias = Literal["auto", "pyav", "torchcodec"]


class _FileOptions(TypedDict):
    short_side: int | None
    num_threads: int
    full_scan: bool | None


class VideoReader:
    """An open video. Made by :func:`open_video`; a context manager.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, path: Path, source: FrameSource) -> None:
        self.path = path
        self._source: FrameSource | None = source

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder and the pictures it keeps. Closing twice is allowed."""
        if self._source is not None:
            self._source.close()
            self._source = None

    @property
    def _open_source(self) -> FrameSource:
        if self._source is None:
            raise DataError(f"{self.path}: the reader is closed; open the video again")
        return self._source

    @property
    def num_frames(self) -> int:
        """Frames that really decode (see ``full_scan`` of :func:`open_video`)."""
        return self._open_source.facts.num_frames

    @property
    def height(self) -> int:
        """Rows of a frame, after rotation and ``short_side``."""
        return self._open_source.facts.height

    @property
    def width(self) -> int:
        """Columns of a frame, after rotation and ``short_side``."""
        return self._open_source.facts.width

    @property
    def frame_rate(self) -> float:
        """Mean frames per second; 25 where nothing tells, as for a folder of images."""
        return self._open_source.facts.frame_rate

    @property
    def timestamps(self) -> tuple[float, ...]:
        """Seconds since the first frame, one a frame; ``i / frame_rate`` where the file's are unusable."""
        return self._open_source.facts.timestamps

    @property
    def problem(self) -> str | None:
        """What is wrong with the file although it gives frames (it ends early, packets fail), or None."""
        return self._open_source.facts.problem

    @property
    def backend(self) -> str:
        """What reads: ``"pyav"``, ``"torchcodec"`` or ``"images"``."""
        return self._open_source.backend

    @property
    def fallback_reason(self) -> str | None:
        """Why PyAV reads although torchcodec was asked for, or None."""
        return self._open_source.note

    def read(self, indices: Iterable[int]) -> Video:
        """Frames by index.

        Args:
            indices: From 0 to ``num_frames - 1``, in any order; repeats are allowed.

        Returns:
            RGB, 0..255, uint8, shape ``T C H W``, in the order asked for.

        Raises:
            DataError: An index is out of range; the message names the count.
            UnreadableVideoError: A frame that was there is no longer (or an image of a folder is damaged).
        """
        asked = [as_index(index) for index in indices]
        source = self._open_source
        for index in asked:
            if not 0 <= index < source.facts.num_frames:
                raise refuse_index(self.path, index, source.facts.num_frames)
        if not asked:
            return torch.empty((0, 3, source.facts.height, source.facts.width), dtype=torch.uint8)
        distinct = sorted(set(asked))
        frames = source.fetch(distinct)
        if asked == distinct:
            return frames
        row = {index: position for position, index in enumerate(distinct)}
        return frames[[row[index] for index in asked]]


def open_video(
    path: str | os.PathLike[str],
    *,
    backend: Backend = "auto",
    short_side: int | None = None,
    num_threads: int = 1,
    full_scan: bool | None = None,
    segment: Segment | None = None,
) -> VideoReader:
    """Open a video file, or a folder of JPEG or PNG frames.

    The first stream that gives frames is read; cover pictures are no stream. Rotation metadata is applied,
    alpha dropped, more than 8 bits rounded to 8. A size that changes on the way is brought back to the first
    frame's.

    Args:
        path: The file or folder. A folder's images are sorted by the numbers in their names.
        backend: ``"auto"`` is PyAV, which is always there. ``"torchcodec"`` gives the same frames (colours
            may differ by the rounding of chroma); where its random access would not, PyAV reads and
            ``fallback_reason`` tells why.
        short_side: Scale so that the shorter side has this many pixels, the aspect kept. A smaller video
            stays as it is. Bilinear with antialiasing.
        num_threads: FFmpeg's threads. One is right where several processes read.
        full_scan: True decodes everything once to count the frames: certain. False trusts the packets of a
            sound MP4 or Matroska file (H.264, HEVC, VP9, AV1 ...) once its first frame and its last group of
            pictures have decoded: fast on long videos, and wrong only where a packet in between is damaged,
            which reading the frames there notices and mends (``num_frames`` then shrinks). None: certain
            where the decoded video fits in 128 MiB, which costs little because the pictures are kept for
            reading; packets where it does not.
        segment: Read only this part, as a video of its own: its frames count from 0. A part in seconds of a
            sound file is found by seeking, so a long video costs no more than a short one; a part in frames
            of a folder opens no more images than are asked for. Of a shard of prepared clips
            (:mod:`kinemix.data._shard`) it names the clip.

    Raises:
        UnreadableVideoError: No frame can be had; the reason says why (missing, empty, not a video, audio
            only, header only, encrypted, no decodable frame, no permission).
        ConfigError: The backend is unknown or does not load, or an option is out of range.
    """
    for name, value in (("short_side", short_side), ("num_threads", num_threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}={value}: give at least 1")
    if backend not in ("auto", "pyav", "torchcodec"):
        raise ConfigError(f"backend={backend!r}: choose 'auto', 'pyav' or 'torchcodec'")
    place = Path(path)

    def open_whole() -> FrameSource:
        options: _FileOptions = {
            "short_side": short_side, "num_threads": num_threads, "full_scan": full_scan
        }  # fmt: skip
        if backend == "torchcodec":
            # Imported late: it is optional and takes seconds to load.
            from kinemix.data._torchcodec import TorchcodecSource

            return TorchcodecSource(place, **options)
        return PyavSource(place, **options)

    source: FrameSource
    if is_folder(place):
        source = FrameFolderSource(place, short_side=short_side, segment=segment)
    elif is_shard(place):
        source = ShardSource(place, segment, short_side=short_side)
    elif segment is None:
        source = open_whole()
    elif segment.unit == "seconds" and not full_scan:
        source = SegmentSource(
            place, segment, short_side=short_side, num_threads=num_threads, open_whole=open_whole
        )
    else:
        source = SlicedSource(open_whole(), segment, place)
    return VideoReader(place, source)


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder; anything but a folder or a readable, filled file is refused.

    Raises:
        UnreadableVideoError: it is neither.
    """
    try:
        if path.is_dir():
            return True
        if not path.exists():
            raise UnreadableVideoError(path, "no such file")
        if not path.is_file():
            raise UnreadableVideoError(path, "not a regular file")
        if not os.access(path, os.R_OK):
            raise UnreadableVideoError(path, "no permission to read it")
        if path.stat().st_size == 0:
            raise UnreadableVideoError(path, "empty file (0 bytes)")
    except OSError as error:
        raise UnreadableVideoError(path, explain_system_error(error)) from error
    return False


def explain_system_error(error: OSError) -> str:
    """The system's reason in lower case, as one line."""
    return (error.strerror or str(error)).lower()
