"""A folder of images as a video: frame i is the i-th file in the order a person would count them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from kinemix.data._frames import ASSUMED_FRAME_RATE, VideoFacts, even_timestamps, scale_to_short_side
from kinemix.errors import UnreadableVideoError
from kinemix.types import Video

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


class FrameFolderSource:
    """JPEG and PNG files of one folder, sorted by the numbers in their names (2 before 10).

    The first image must decode; the others are opened when they are asked for, and one that does not decode
    is an error then, because leaving it out would shift the numbers of all after it. All are brought to the
    first one's size. Scaling is Pillow's bilinear, antialiased.
    """

    backend = "images"
    note: str | None = None

    def __init__(self, path: Path, *, short_side: int | None) -> None:
        self.path = path
        try:
            names = [entry.name for entry in path.iterdir() if entry.suffix.lower() in _IMAGE_SUFFIXES]
        except OSError as error:
            raise UnreadableVideoError(path, f"the folder cannot be listed ({error.strerror})") from error
        self._names = sorted((name for name in names if not name.startswith(".")), key=_natural_key)
        if not self._names:
            raise UnreadableVideoError(path, "a folder without JPEG or PNG images")
        first = self._open(self._names[0])
        self._height, self._width = scale_to_short_side(first.height, first.width, short_side)
        count = len(self._names)
        self.facts = VideoFacts(
            num_frames=count,
            height=self._height,
            width=self._width,
            frame_rate=ASSUMED_FRAME_RATE,
            timestamps=even_timestamps(count, ASSUMED_FRAME_RATE),
        )

    def _open(self, name: str) -> Image.Image:
        try:
            with Image.open(self.path / name) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except (
            OSError,
            UnidentifiedImageError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UnreadableVideoError(self.path, f"image {name} does not decode ({reason})") from error

    def fetch(self, indices: Sequence[int]) -> Video:
        """See :class:`kinemix.data._frames.FrameSource`."""
        out = np.empty((len(indices), 3, self._height, self._width), dtype=np.uint8)
        for row, index in enumerate(indices):
            image = self._open(self._names[index])
            if image.size != (self._width, self._height):
                image = image.resize((self._width, self._height), Image.Resampling.BILINEAR)
            out[row] = np.asarray(image).transpose(2, 0, 1)
        return torch.from_numpy(out)

    def close(self) -> None:
        """Nothing stays open between reads."""


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """Numbers compare as numbers, the rest as text, and a number comes before text.

    >>> sorted(["f10.jpg", "f2.jpg"], key=_natural_key)
    ['f2.jpg', 'f10.jpg']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]
