"""Film strips: frames of videos in rows, time from left to right."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

_COLUMNS = 8
_FRAME_INCHES = 1.15
_CAPTION_INCHES = 1.4
_CAPTION_LETTERS, _LINE_INCHES = 22, 0.165
"""Letters of a caption's line, at its size in the inches that it has, and the height of a line."""


def plot_filmstrip(
    videos: Mapping[str, Tensor],
    *,
    num_frames: int | None = 8,
    headings: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Frames of some videos, one row a video; more than eight frames go on in a second band of rows, and so on.

    Args:
        videos: caption -> frames ``T C H W``, uint8 RGB; long lines of captions are wrapped.
        num_frames: frames shown of each, evenly spread from the first to the last; ``None`` for all of them.
        headings: one for each frame of the videos, which must then be of one length; stand above the columns.
        title: above all.
    """
    longest = max(len(frames) for frames in videos.values())
    num_frames = min(num_frames or longest, longest)
    bands = -(-num_frames // _COLUMNS)
    columns = -(-num_frames // bands)
    captions = [wrap_label(caption) for caption in videos]
    heights = [
        max(_FRAME_INCHES * frames.shape[2] / frames.shape[3], _LINE_INCHES * (caption.count("\n") + 1))
        for caption, frames in zip(captions, videos.values(), strict=True)
    ] * bands
    extra = (0.3 if title else 0.0) + (0.2 * bands if headings else 0.0)
    figure = Figure(
        figsize=(_FRAME_INCHES * columns + _CAPTION_INCHES, sum(heights) + extra), layout="constrained"
    )
    grid = figure.subplots(bands * len(videos), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for number, (caption, frames) in enumerate(zip(captions, videos.values(), strict=True)):
        rows = grid[number :: len(videos)]
        for axes, index in zip(rows.flat, spread_frames(len(frames), num_frames), strict=False):
            axes.imshow(frames[index].permute(1, 2, 0).numpy())
            if headings is not None and number == 0:
                axes.set_title(headings[index], fontsize=8)
        for row in rows:
            row[0].set_ylabel(caption, rotation=0, ha="right", va="center", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def spread_frames(count: int, shown: int) -> list[int]:
    """Indices of so many frames, evenly spread from the first to the last of ``count``."""
    return [int(index) for index in np.linspace(0, count - 1, shown).round()]


def wrap_label(text: str, letters: int = _CAPTION_LETTERS, lines: int = 4) -> str:
    """A class name or path in lines of so many letters; what does not fit into the lines ends in dots.

    A text of several lines is wrapped line by line.
    """
    return "\n".join(
        textwrap.fill(line, letters, max_lines=lines, placeholder=" ...", break_on_hyphens=True)
        for line in text.split("\n")
    )


def wrap_path(path: str, letters: int = _CAPTION_LETTERS) -> str:
    """A module's dotted path in lines of so many letters, broken behind dots."""
    lines = [""]
    for part in path.replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
