"""Frames of a video file through torchcodec, only where they are certain to be the same as PyAV's.

Torchcodec finds frames by presentation time. Where times are scrambled or missing, or hidden frames are
counted, it hands out neighbours of what was asked for. PyAV's frame table is therefore made first, and every
frame that torchcodec returns must carry the time that the table holds for its index; else PyAV reads, and the
note tells why.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from kinemix.data._container import explain_error
from kinemix.data._frames import VideoFacts
from kinemix.data._pyav import PyavSource
from kinemix.errors import ConfigError
from kinemix.types import Video

_BATCH = 32
"""Frames decoded at full size before they are scaled: bounds the memory of one read."""

_TIME_TOLERANCE = 1e-4
"""Seconds by which the two readers' floats may differ; frames of one video lie further apart."""


def import_decoder() -> type:
    """torchcodec's decoder class.

    Raises:
        ConfigError: torchcodec is missing, or finds no FFmpeg that it can load.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    except ImportError as error:
        raise ConfigError(
            "backend='torchcodec': torchcodec is not installed; pip install 'kinemix[torchcodec]', "
            "or use backend='pyav'"
        ) from error
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            "backend='torchcodec': torchcodec does not load on this machine: it needs FFmpeg's shared "
            "libraries and the torch it was built for; install them, or use backend='pyav'"
        ) from error
    return VideoDecoder


class TorchcodecSource:
    """Frames of one video file. See :func:`kinemix.data.reader.open_video` for the arguments."""

    def __init__(
        self, path: Path, *, short_side: int | None, num_threads: int, full_scan: bool | None
    ) -> None:
        decoder_class = import_decoder()
        self.note: str | None = None
        self._pyav = PyavSource(path, short_side=short_side, num_threads=num_threads, full_scan=full_scan)
        self._times = self._pyav.presentation_times or []
        self._decoder = self._start(decoder_class, path, num_threads)
        if self._decoder is not None:
            self._pyav.drop_pictures()

    @property
    def backend(self) -> str:
        return "pyav" if self.note else "torchcodec"

    @property
    def facts(self) -> VideoFacts:
        return self._pyav.facts

    def _start(self, decoder_class: Any, path: Path, num_threads: int) -> Any | None:
        """A decoder whose random access can be trusted, or None with the reason in ``note``."""
        if not self._times:
            self.note = "the file's timestamps do not increase, which torchcodec needs to find frames"
            return None
        if self.facts.problem:
            self.note = f"the file is damaged: {self.facts.problem}"
            return None
        try:
            decoder = decoder_class(
                str(path), stream_index=self._pyav.stream_index, num_ffmpeg_threads=num_threads
            )
        except (RuntimeError, ValueError) as error:
            self.note = f"torchcodec does not open it ({explain_error(error)[:120]})"
            return None
        if len(decoder) != self.facts.num_frames:
            self.note = f"torchcodec counts {len(decoder)} frames, {self.facts.num_frames} decode"
            return None
        return decoder

    def fetch(self, indices: Sequence[int]) -> Video:
        """See :class:`kinemix.data._frames.FrameSource`."""
        if self._decoder is not None:
            batches = []
            for start in range(0, len(indices), _BATCH):
                batch = self._decode(indices[start : start + _BATCH])
                if batch is None:
                    self._decoder = None
                    break
                batches.append(batch)
            else:
                return torch.cat(batches)
        return self._pyav.fetch(indices)

    def _decode(self, indices: Sequence[int]) -> Video | None:
        """Some frames, or None with the reason in ``note`` where they are not those of the table."""
        assert self._decoder is not None
        try:
            batch = self._decoder.get_frames_at(list(indices))
        except (RuntimeError, ValueError, IndexError) as error:
            self.note = f"torchcodec fails inside the file ({explain_error(error)[:120]})"
            return None
        for index, time in zip(indices, batch.pts_seconds.tolist(), strict=True):
            if abs(time - self._times[index]) > _TIME_TOLERANCE:
                self.note = f"torchcodec finds another frame at index {index}"
                return None
        size = (self.facts.height, self.facts.width)
        frames: Video = batch.data
        if tuple(frames.shape[-2:]) == size:
            return frames
        return F.interpolate(frames, size=size, mode="bilinear", antialias=True)

    def close(self) -> None:
        self._decoder = None
        self._pyav.close()
