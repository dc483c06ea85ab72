"""Reliability diagrams: how sure the answers are, and how often they are right."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinemix.evaluate.calibration import Calibration
from kinemix.explain.axes import clean_axes_, shorten_names
from kinemix.explain.palette import COLORS, OTHERS, SOFT_INK

_IN_A_ROW = 3
_NETWORK_LETTERS = 34


def plot_calibration(networks: Mapping[str, Calibration]) -> Figure:
    """A reliability diagram for each network, with the samples of each bin below it.

    Args:
        networks: name -> what was measured.
    """
    columns = min(_IN_A_ROW, len(networks))
    rows = -(-len(networks) // columns)
    figure = Figure(figsize=(3.3 * columns + 0.4, 4.2 * rows + 0.4), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 1] * rows)
    titles = shorten_names(networks, _NETWORK_LETTERS)
    for number, (name, calibration) in enumerate(networks.items()):
        row, column = divmod(number, columns)
        _draw_reliability(grid[2 * row, column], titles[name], calibration, first=column == 0)
        _draw_counts(grid[2 * row + 1, column], calibration, first=column == 0)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    for number in range(len(networks), rows * columns):
        row, column = divmod(number, columns)
        grid[2 * row, column].set_visible(False)
        grid[2 * row + 1, column].set_visible(False)
    return figure


def _draw_reliability(axes: Axes, name: str, calibration: Calibration, *, first: bool) -> None:
    filled = calibration.counts > 0
    left, width = 100 * calibration.edges[:-1][filled], 100 / len(calibration.counts)
    accuracy, confidence = (100 * values[filled] for values in (calibration.accuracy, calibration.confidence))
    axes.bar(left, accuracy, width, align="edge", color=COLORS[5], edgecolor="white", label="right")
    low = np.minimum(accuracy, confidence)
    axes.bar(
        left, np.abs(confidence - accuracy), width, bottom=low, align="edge", facecolor="none",
        edgecolor=COLORS[1], hatch="////", linewidth=0, label="distance from the confidence",
    )  # fmt: skip
    axes.plot([0, 100], [0, 100], color="0.3", linestyle="--", linewidth=1)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    if first:
        axes.set_ylabel("right, %")
    accuracy_of_all = np.nansum(calibration.accuracy * calibration.counts) / calibration.counts.sum()
    axes.set_title(
        f"{name}\nexpected calibration error {calibration.error:.1%}\n"
        f"confidence {calibration.mean_confidence:.1%}, right {accuracy_of_all:.1%}",
        fontsize=9,
        loc="left",
    )
    clean_axes_(axes)
    axes.tick_params(labelbottom=False)  # they stand below the counts


def _draw_counts(axes: Axes, calibration: Calibration, *, first: bool) -> None:
    shares = 100 * calibration.counts / calibration.counts.sum()
    axes.bar(
        100 * calibration.edges[:-1], shares, 100 / len(shares), align="edge", color=OTHERS, edgecolor="white"
    )
    axes.axvline(100 * calibration.mean_confidence, color=SOFT_INK, linewidth=1)
    axes.set(xlim=(0, 100), xlabel="confidence, %")
    if first:
        axes.set_ylabel("samples, %")
    clean_axes_(axes, grid="y")
