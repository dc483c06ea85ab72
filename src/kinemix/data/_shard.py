"""Shards: tar files of prepared clips, and an index that finds every frame in them without unpacking anything.

A shard is a plain tar in WebDataset's convention (members that share a key are one sample), so other tools can
read it::

    000000.tar      00000012.json  00000012.mp4                                 --to video
                    00000012.json  00000012.0000.jpg  00000012.0001.jpg  ...    --to frames
    000000.index    a row a frame: where its bytes are in the tar, and when it is shown

The index makes a frame one read and one decode, with no container to parse: a clip is the rows ``start`` to
``stop`` of its shard, ``Segment(start, stop, unit="frames")``. The row before them is the clip's head: its
size, how it is coded, and where the parameter sets are that a video's decoder needs first.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from kinemix.data._container import explain_error
from kinemix.data._frames import ASSUMED_FRAME_RATE, VideoFacts, scale_to_short_side
from kinemix.data.segment import Segment
from kinemix.errors import UnreadableVideoError
from kinemix.types import Video

SHARD_SUFFIX, INDEX_SUFFIX = ".tar", ".index"
IMAGES, H264 = -1, 0

ROW = np.dtype([("offset", "<i8"), ("micros", "<i8"), ("size", "<i4"), ("back", "<i4")])
"""A row of the index.

Of a frame: ``offset`` and ``size`` of its bytes in the tar; ``micros``, microseconds since the clip's first
frame; ``back``, rows back to the frame from which decoding must start, 0 for one that decodes alone. Of a head:
``offset`` and ``size`` of the parameter sets; ``micros`` holds height x 65536 + width, ``back`` how the clip is
coded, :data:`IMAGES` or :data:`H264`.
"""


def is_shard(path: Path) -> bool:
    """Whether ``path`` is a shard with its index."""
    return path.suffix == SHARD_SUFFIX and path.with_suffix(INDEX_SUFFIX).is_file()


class ShardSource:
    """Frames of one clip of a shard. See :func:`kinemix.data.reader.open_video`."""

    note: str | None = None

    def __init__(self, path: Path, segment: Segment | None, *, short_side: int | None) -> None:
        self.path = path
        if segment is None or segment.unit != "frames" or segment.start < 1:
            raise UnreadableVideoError(path, "a shard of many clips: name the folder of the prepared dataset")
        rows = _read_rows(path, int(segment.start) - 1, int(segment.stop))
        head, self._rows = rows[0], rows[1:]
        self._size = scale_to_short_side(*divmod(int(head["micros"]), 2**16), short_side)
        self._reformatter = VideoReformatter()
        self._file = os.open(path, os.O_RDONLY)
        try:
            self._frames = _VideoFrames(self, head) if head["back"] == H264 else None
        except BaseException:
            os.close(self._file)
            raise
        self.facts = self._gather_facts()

    @property
    def backend(self) -> str:
        return "images" if self._frames is None else "pyav"

    def _gather_facts(self) -> VideoFacts:
        seconds = tuple((self._rows["micros"] / 1e6).tolist())
        rate = (
            (len(seconds) - 1) / seconds[-1] if len(seconds) > 1 and seconds[-1] > 0 else ASSUMED_FRAME_RATE
        )
        return VideoFacts(len(seconds), *self._size, rate, seconds)

    @property
    def rows(self) -> NDArray[np.void]:
        """The index of the frames."""
        return self._rows

    def fetch(self, indices: Sequence[int]) -> Video:
        """See :class:`kinemix.data._frames.FrameSource`."""
        out = np.empty((len(indices), 3, *self._size), dtype=np.uint8)
        if self._frames is None:
            for place, index in enumerate(indices):
                out[place] = self._open_image(index)
        else:
            for place, frame in enumerate(self._frames.visit(indices)):
                out[place] = self._convert(frame)
        return torch.from_numpy(out)

    def _convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """To RGB and to size. H.264 codes even sides: an odd one has a row or column more, which is cut off."""
        height, width = self._size
        coded = (height + height % 2, width + width % 2)
        whole = (frame.height, frame.width) == coded  # nothing is to be scaled
        rows, columns = coded if whole else self._size
        rgb = self._reformatter.reformat(frame, width=columns, height=rows, format="rgb24", threads=1)
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)[:height, :width].transpose(2, 0, 1)

    def _open_image(self, index: int) -> NDArray[np.uint8]:
        try:
            with Image.open(io.BytesIO(self.read_bytes(self._rows[index]))) as image:
                picture = image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableVideoError(self.path, f"frame {index} does not decode ({error})") from error
        height, width = self._size
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture).transpose(2, 0, 1)

    def read_bytes(self, row: np.void) -> bytes:
        """What a row points at.

        Raises:
            UnreadableVideoError: the shard is cut short.
        """
        data = os.pread(self._file, int(row["size"]), int(row["offset"]))
        if len(data) != row["size"]:
            raise UnreadableVideoError(self.path, "the shard ends early: prepare it again, or copy it anew")
        return data

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _VideoFrames:
    """Decodes the frames of an H.264 clip from the bytes that the index points at."""

    def __init__(self, source: ShardSource, head: np.void) -> None:
        self._source, self._back = source, source.rows["back"]
        self._next: int | None = None
        decoder = av.CodecContext.create("h264", "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata = source.read_bytes(head)
        decoder.thread_type, decoder.thread_count = "NONE", 1
        self._decoder = decoder

    def visit(self, indices: Iterable[int]) -> Iterator[VideoFrame]:
        """The frames at increasing ``indices``."""
        for index in indices:
            start = index - int(self._back[index])
            if self._next is None or not start <= self._next <= index:
                if self._next is not None:
                    self._decoder.flush_buffers()
                self._next = start
            while self._next < index:
                self._decode(self._next)
            yield self._decode(index)

    def _decode(self, index: int) -> VideoFrame:
        self._next = index + 1
        packet = Packet(self._source.read_bytes(self._source.rows[index]))
        try:
            frames = self._decoder.decode(packet)
        except (av.FFmpegError, ValueError) as error:
            self._next = None
            reason = f"frame {index} does not decode ({explain_error(error)})"
            raise UnreadableVideoError(self._source.path, reason) from error
        if len(frames) != 1:
            raise UnreadableVideoError(self._source.path, f"frame {index} does not decode")
        return frames[0]


def _read_rows(path: Path, start: int, stop: int) -> NDArray[np.void]:
    index = path.with_suffix(INDEX_SUFFIX)
    try:
        with index.open("rb") as file:
            file.seek(start * ROW.itemsize)
            data = file.read((stop - start) * ROW.itemsize)
    except OSError as error:
        raise UnreadableVideoError(path, f"its index cannot be read ({error.strerror})") from error
    if len(data) != (stop - start) * ROW.itemsize or stop - start < 2:
        raise UnreadableVideoError(
            path, f"its index ends before row {stop}: prepare it again, or copy it anew"
        )
    return np.frombuffer(data, dtype=ROW)
