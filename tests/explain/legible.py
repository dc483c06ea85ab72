"""Whether the texts of a figure can be read."""

from itertools import combinations

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text


def assert_no_overlap(figure: Figure) -> None:
    """No two names beside or below an axis, and no two remarks in a diagram, cover each other; none is cut off."""
    figure.draw_without_rendering()
    window = figure.bbox.padded(1)
    names = [axes.yaxis.label for axes in figure.axes]
    for axes in figure.axes:
        below, beside = (_find_labels(axis) for axis in (axes.xaxis, axes.yaxis))
        for texts in (below, beside, axes.texts, names):
            boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
            for box in boxes:
                assert window.contains(*box.min), axes.get_title()
                assert window.contains(*box.max), axes.get_title()
            for a, b in combinations([box.shrunk(0.9, 0.9) for box in boxes], 2):
                assert not a.overlaps(b)


def _find_labels(axis: Axis) -> list[Text]:
    """The labels of the ticks that are within the axis, and so are drawn."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
