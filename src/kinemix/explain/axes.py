"""What the axes of all diagrams have in common, names that fit beside them, and texts that do not overlap."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

_PLACES = tuple(
    (x * gap, y * gap)
    for gap in (5, 10, 16, 24, 34)
    for x, y in ((1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (0, 1.2), (0, -1.2), (1.6, 0), (-1.6, 0))
)
"""Offsets in points at which a text is tried beside its point, the nearest first."""


def clean_axes_(axes: Axes, *, grid: Literal["both", "x", "y"] = "both") -> None:
    """No frame but left and below, and a pale grid behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def shorten_name(name: str, letters: int) -> str:
    """A class name in so many letters: of a long one the middle is left out, for many begin, and many end, alike."""
    if len(name) <= letters:
        return name
    head = (letters - 1) // 2
    return f"{name[:head].rstrip()}…{name[head + 1 - letters :].lstrip()}"


def shorten_names(names: Iterable[str], letters: int) -> dict[str, str]:
    """Names in so many letters that stay distinct: of those that would read alike, the words that differ are kept.

    Returns:
        name -> what is written; longer than asked only where nothing shorter tells names apart.
    """
    names = list(dict.fromkeys(names))
    alike = defaultdict[str, list[str]](list)
    for name in names:
        alike[shorten_name(name, letters)].append(name)
    written = {group[0]: short for short, group in alike.items() if len(group) == 1}
    for group in (group for group in alike.values() if len(group) > 1):
        room = letters
        while len({*(told := _tell_apart(group, room)), *written.values()}) < len(group) + len(written):
            room += 4
        written |= dict(zip(group, told, strict=True))
    return {name: written[name] for name in names}


def _tell_apart(names: Sequence[str], letters: int) -> list[str]:
    """Of names that begin and end alike: some of the beginning, the words that differ, and some of the end."""
    words = [name.split(" ") for name in names]
    begin = _count_common(words)
    end = min(_count_common([w[::-1] for w in words]), min(map(len, words)) - begin)
    told = []
    for name, w in zip(names, words, strict=True):
        head, middle, foot = (
            " ".join(part) for part in (w[:begin], w[begin : len(w) - end], w[len(w) - end :])
        )
        room = letters - len(middle) - 2
        if len(name) <= letters or room < 8:
            told.append(shorten_name(name, letters))
            continue
        half = max(room // 2, room - len(foot))
        head = head if len(head) <= half else f"{head[: half - 1].rstrip()}…"
        rest = room - len(head)
        foot = foot if len(foot) <= rest else f"…{foot[len(foot) - rest + 1 :].lstrip()}"
        told.append(" ".join(part for part in (head, middle, foot) if part))
    return told


def _count_common(rows: Sequence[Sequence[str]]) -> int:
    """How many elements all rows begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))


def place_labels_(
    axes: Axes,
    texts: Sequence[tuple[float, float, str]],
    *,
    size: float = 7,
    radius: float = 2.5,
    avoid: Sequence[Text] = (),
) -> list[Annotation]:
    """Write texts beside points, where they cover neither each other nor a point.

    The first come first served: each takes the nearest free place of those around its point, and a thin line leads
    to it where that is not close by. Limits and scales of the axes must be set before.

    Args:
        axes: laid out as they will be saved.
        texts: x, y in data coordinates, and what is written.
        size: of the letters in points.
        radius: of the points, likewise.
        avoid: texts that stand there already.
    """
    figure = axes.figure.figure  # of a figure within a figure, the outer one
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    points = axes.transData.transform(np.array([(x, y) for x, y, _ in texts]).reshape(-1, 2))
    pixels = figure.dpi / 72
    half = radius * pixels
    taken = [Bbox([[x - half, y - half], [x + half, y + half]]) for x, y in points]
    taken += [Text.get_window_extent(text) for text in avoid]  # without the lines that lead to them
    window = axes.get_window_extent(renderer)
    placed = []
    for x, y, text in texts:
        note = axes.annotate(
            text,
            (x, y),
            xytext=_PLACES[0],
            textcoords="offset points",
            fontsize=size,
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 1},
            zorder=5,
        )
        bare = axes.text(x, y, text, fontsize=size, ha="center", va="center")
        box = bare.get_window_extent(renderer)
        bare.remove()
        place = _find_place(box, taken, window, pixels)
        note.set_position(place)
        taken.append(_move(box, place, pixels))
        placed.append(note)
    return placed


def _find_place(box: Bbox, taken: Sequence[Bbox], window: Bbox, pixels: float) -> tuple[float, float]:
    """The nearest free place, or else the one that covers least; in points."""

    def cost(place: tuple[float, float]) -> float:
        moved = _move(box, place, pixels)
        covered = 0.0
        for other in taken:
            shared = Bbox.intersection(moved, other)
            covered += 0.0 if shared is None else max(shared.width * shared.height, 1e-6)
        outside = not (window.containsx(moved.x0) and window.containsx(moved.x1)
                       and window.containsy(moved.y0) and window.containsy(moved.y1))  # fmt: skip
        return covered + 1e9 * outside

    places = [_clear(box, place, pixels) for place in _PLACES]
    best = places[0]
    for place in places:
        if cost(place) == 0:
            return place
        best = min(best, place, key=cost)
    return best


def _clear(box: Bbox, place: tuple[float, float], pixels: float) -> tuple[float, float]:
    """The place moved outwards by half of the text, so that the text ends where the gap begins."""
    x, y = place
    half_width, half_height = box.width / 2 / pixels, box.height / 2 / pixels
    return x + _sign(x) * half_width, y + (_sign(y) * half_height if x == 0 else 0)


def _move(box: Bbox, place: tuple[float, float], pixels: float) -> Bbox:
    return box.translated(place[0] * pixels, place[1] * pixels).padded(0.5 * pixels)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
