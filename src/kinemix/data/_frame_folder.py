"""A folder of images as a video: frame i is the i-th file in the order a person would count them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from kinemix.data._frames import ASSUMED_FRAME_RATE, VideoFacts, even_timestamps, scale_to_short_side
from kinemix.data.segment import Segment
from kinemix.errors import UnreadableVideoError
from kinemix.types import Video

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
_FLOW = re.compile(
    r"flow_?[xyuv]?_?\d", re.IGNORECASE
)  # beside img_00001.jpg in folders made for two streams
_NUMBERED = re.compile(r"(\D*)(\d+)(\.(?:jpg|jpeg|png))", re.IGNORECASE)


class FrameFolderSource:
    """JPEG and PNG files of one folder, sorted by the numbers in their names (2 before 10).

    The first image must decode; the others are opened when they are asked for, and one that does not decode
    is an error then, because leaving it out would shift the numbers of all after it. All are brought to the
    first one's size. Scaling is Pillow's bilinear, antialiased.
    """

    backend = "images"
    note: str | None = None

    def __init__(self, path: Path, *, short_side: int | None, segment: Segment | None = None) -> None:
        self.path = path
        self._names = list_frames(path, segment)
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


def list_frames(path: Path, segment: Segment | None = None) -> list[str]:
    """Names of the images of a folder in order; those of a segment alone.

    Raises:
        UnreadableVideoError: there are none, or the folder cannot be listed.
    """
    try:
        if segment is not None and (counted := _count_names(path, segment)):
            return counted
        names = _list_names(path)
    except OSError as error:
        raise UnreadableVideoError(path, f"the folder cannot be listed ({error.strerror})") from error
    if not names:
        raise UnreadableVideoError(
            path, "a folder without JPEG or PNG images; if it holds videos, name the videos"
        )
    if segment is None:
        return names
    inside = segment.find_frames(even_timestamps(len(names), ASSUMED_FRAME_RATE), path=path)
    return names[inside.start : inside.stop]


def _list_names(path: Path) -> list[str]:
    """The frames of a folder in order. Optical flow that was extracted beside them is none of them."""
    names = [
        entry.name
        for entry in path.iterdir()
        if entry.suffix.lower() in _IMAGE_SUFFIXES and not entry.name.startswith(".")
    ]
    pictures = [name for name in names if not _FLOW.match(name)]
    return sorted(pictures or names, key=_natural_key)


def _count_names(path: Path, segment: Segment) -> list[str] | None:
    """The names of a segment's frames, counted up from one of them: listing the frames of an hour takes long.

    None where that cannot be: a segment in seconds, or the first or last of the names does not exist.
    """
    if segment.unit != "frames":
        return None
    with os.scandir(path) as children:
        some = next((found for child in children if (found := _NUMBERED.fullmatch(child.name))), None)
    if some is None or _FLOW.match(some[0]):
        return None
    before, digits, after = some.groups()

    def name(number: int) -> str:
        return f"{before}{number:0{len(digits)}d}{after}"

    origin = 0 if (path / name(0)).exists() else 1
    names = [name(origin + index) for index in range(int(segment.start), int(segment.stop))]
    return names if names and all((path / end).exists() for end in (names[0], names[-1])) else None


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """Numbers compare as numbers, the rest as text, and a number comes before text.

    >>> sorted(["f10.jpg", "f2.jpg"], key=_natural_key)
    ['f2.jpg', 'f10.jpg']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]
