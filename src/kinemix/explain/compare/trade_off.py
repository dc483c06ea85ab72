"""Accuracy against what it costs: multiply-adds with bubbles for parameters (GSM, Figure 7), or seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from kinemix.evaluate.papers.points import Point
from kinemix.explain.axes import clean_axes_, place_labels_, shorten_name, shorten_names
from kinemix.explain.palette import COLORS, SOFT_INK

_MOST_AREA, _LEAST_AREA, _UNKNOWN_AREA = 700.0, 14.0, 22.0
"""Of bubbles, in square points."""

_NETWORK_LETTERS = 30
_NARROWEST = 8.0
"""Least ratio of the ends of the axis of costs."""

_KEY_COLUMNS, _KEY_LETTERS = 3, 46


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """One of one's own networks.

    Attributes:
        name: of the network.
        accuracy: top-1 as a share.
        cost: in the diagram's unit.
        parameters: of the network.
    """

    name: str
    accuracy: float
    cost: float
    parameters: int


def plot_trade_off(
    networks: Sequence[TradeOff],
    *,
    cost_label: str,
    published: Sequence[Point] = (),
    dataset: str = "",
    same_dataset: bool = False,
) -> Figure:
    """Accuracy over cost; the area of a bubble is the number of parameters.

    Args:
        networks: one's own.
        cost_label: what is counted, with its unit.
        published: of the papers, in multiply-adds; the cost must then be billions of multiply-adds.
        dataset: that the published ones were measured on.
        same_dataset: the own ones too: all stand in one diagram. Otherwise the published have one beside it, for
            accuracies on different data cannot be compared.
    """
    apart = bool(published) and not same_dataset
    key_rows = -(-len(published) // _KEY_COLUMNS)
    figure = Figure(
        figsize=(11.5 if published else 6.5, 4.6 + (0.17 * key_rows + 0.5 if published else 0)),
        layout="constrained",
    )
    above: FigureBase = figure
    if published:
        (above,), (below,) = figure.subfigures(
            2, 1, squeeze=False, height_ratios=(4.6, 0.17 * key_rows + 0.5)
        )
        _write_key(below, published)
        _explain_marks(below, published)
    panels = list(above.subplots(1, 2, width_ratios=(1, 1.9))) if apart else [above.subplots()]
    scale = _MOST_AREA / max([*(n.parameters for n in networks), *(p.parameters or 0 for p in published)])
    if published:
        _draw_published(panels[-1], published, scale)
        panels[-1].set_title(f"published on {dataset}", fontsize=10, loc="right" if same_dataset else "left")
    _draw_own(panels[0], networks, scale)
    panels[0].set_title("these networks", fontsize=10, loc="left", color=COLORS[1])
    for axes in panels:
        _scale_axes_(axes, cost_label)
    _draw_sizes(panels[-1], scale)
    written = shorten_names((n.name for n in networks), _NETWORK_LETTERS)
    own = [(n.cost, 100 * n.accuracy, written[n.name]) for n in networks]
    radius = np.sqrt(max(_area(n.parameters, scale) for n in networks) / np.pi)
    names = place_labels_(panels[0], own, size=9, radius=radius)
    numbers = [(p.macs / 1e9, 100 * p.accuracy, str(n)) for n, p in enumerate(published, start=1)]
    place_labels_(panels[-1], numbers, size=7, avoid=() if apart else names)
    return figure


def _scale_axes_(axes: Axes, cost_label: str) -> None:
    """A logarithmic axis of costs that is never so narrow that its numbers say nothing."""
    axes.set(xscale="log", xlabel=cost_label, ylabel="right, %")
    axes.margins(0.14)
    low, high = axes.get_xlim()
    if high / low < _NARROWEST:
        middle, half = np.sqrt(low * high), np.sqrt(_NARROWEST)
        axes.set_xlim(middle / half, middle * half)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    clean_axes_(axes)


def _draw_own(axes: Axes, networks: Sequence[TradeOff], scale: float) -> None:
    axes.scatter(
        [n.cost for n in networks],
        [100 * n.accuracy for n in networks],
        s=[_area(n.parameters, scale) for n in networks],
        color=COLORS[1],
        alpha=0.8,
        edgecolor="white",
        zorder=4,
    )


def _draw_published(axes: Axes, published: Sequence[Point], scale: float) -> None:
    for own, color in ((False, COLORS[5]), (True, COLORS[0])):
        for known in (True, False):
            points = [p for p in published if p.own == own and (p.parameters is not None) == known]
            axes.scatter(
                [p.macs / 1e9 for p in points],
                [100 * p.accuracy for p in points],
                s=[_area(p.parameters, scale) if p.parameters is not None else _UNKNOWN_AREA for p in points],
                facecolor=color if known else "none",
                edgecolor="white" if known else color,
                alpha=0.75 if known else 1.0,
                marker="o" if known else "D",
                zorder=2,
            )


def _draw_sizes(axes: Axes, scale: float) -> None:
    """Two bubbles of round sizes."""
    top = 10 ** np.floor(np.log10(_MOST_AREA / scale))
    bubbles = [
        axes.scatter([], [], s=_area(size, scale), color="0.75", label=f"{_round(size)} parameters")
        for size in (top / 10, top)
    ]
    axes.legend(
        handles=bubbles, frameon=False, fontsize=8, loc="lower right", labelspacing=1.8, borderpad=1.4,
        handletextpad=1.4,
    )  # fmt: skip


def _round(size: float) -> str:
    return f"{size / 1e6:g} M" if size >= 1e6 else f"{size / 1e3:g} k"


def _write_key(figure: FigureBase, published: Sequence[Point]) -> None:
    """The numbered names, in columns below the diagram."""
    rows = -(-len(published) // _KEY_COLUMNS)
    for number, point in enumerate(published):
        column, row = divmod(number, rows)
        figure.text(
            0.02 + column / _KEY_COLUMNS,
            1 - (row + 0.6) / (rows + 2),
            f"{number + 1}  {shorten_name(point.label, _KEY_LETTERS)}, {point.paper}",
            fontsize=7,
            color="0.1" if point.own else SOFT_INK,
            va="center",
        )


def _explain_marks(figure: FigureBase, published: Sequence[Point]) -> None:
    marks = [
        Line2D([], [], marker="o", linestyle="", color=COLORS[0], label="the papers' own networks"),
        Line2D([], [], marker="o", linestyle="", color=COLORS[5], label="networks that they compare with"),
    ]
    if any(p.parameters is None for p in published):
        label = "parameters not printed"
        marks.append(Line2D([], [], marker="D", linestyle="", fillstyle="none", color=COLORS[0], label=label))
    figure.legend(handles=marks, loc="lower center", ncols=3, frameon=False, fontsize=8)


def _area(parameters: float, scale: float) -> float:
    return max(_LEAST_AREA, scale * parameters)
