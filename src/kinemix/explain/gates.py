"""GSM's gates: which features move to the neighbouring frame, pixel by pixel and layer by layer."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from kinemix.explain.filmstrip import spread_frames, wrap_path
from kinemix.explain.palette import SHARES, SIGNED
from kinemix.explain.watching import ask_modules, list_modules
from kinemix.models.video import VideoModel
from kinemix.temporal.gsm import GateShift
from kinemix.types import Clip, Video

_SHOWN_FRAMES = 8
_INCHES = 0.62
_HALVES = ("first half of the channels: to the frame before", "second half: to the frame after")


def read_gates(model: VideoModel, clip: Clip) -> dict[str, Float[Tensor, "B T 2 H W"]]:
    """The gate planes of every GSM, by the path of the convolution that it stands at.

    Plane 0 says how much of the first half of the channels goes to the frame before, plane 1 how much of the second
    half goes to the frame after ("Gate-Shift Networks", equations 1 to 4); with ``tanh`` from -1 to 1.

    Raises:
        DoesNotApplyError: the network has no GSM.
    """
    modules = list_modules(model, GateShift, what="gate planes")
    return ask_modules(model, clip, modules, lambda module, seen: module.find_gate(seen).float().cpu())


def plot_gates(
    frames: Video,
    gates: Mapping[str, Float[Tensor, "T 2 H W"]],
    *,
    headings: Sequence[str] | None = None,
    signed: bool = True,
    title: str = "",
) -> Figure:
    """One row a layer, the planes of the first half on the left and of the second on the right, below the frames.

    All planes share one scale, so that layers can be compared.

    Args:
        frames: ``T 3 H W``, uint8.
        gates: of one clip, by layer.
        headings: of the frames.
        signed: whether gates may be negative (``tanh``); else they run from 0 to 1.
        title: above all.
    """
    shown = spread_frames(len(frames), min(_SHOWN_FRAMES, len(frames)))
    side = frames.shape[2] / frames.shape[3]
    figure = Figure(
        figsize=(2 * len(shown) * _INCHES + 2.8, (len(gates) + 1) * _INCHES * side + 0.9),
        layout="constrained",
    )
    high = _round_up(max(float(planes.abs().max()) for planes in gates.values())) if signed else 1.0
    look = {"cmap": SIGNED if signed else SHARES, "vmin": -high if signed else 0.0, "vmax": high}
    grid = _lay_out(figure, len(gates) + 1, len(shown))
    for half, part in enumerate((grid[:, : len(shown)], grid[:, len(shown) :])):
        for place, index in enumerate(shown):
            part[0, place].imshow(frames[index].permute(1, 2, 0).numpy())
            if headings is not None:
                part[0, place].set_title(headings[index], fontsize=7)
            for axes, planes in zip(part[1:, place], gates.values(), strict=True):
                drawn = axes.imshow(planes[index, half].numpy(), interpolation="nearest", **look)
    for axes, path in zip(grid[1:, 0], gates, strict=True):
        axes.set_ylabel(wrap_path(path), rotation=0, ha="right", va="center", fontsize=7)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_linewidth(0.4)
    figure.colorbar(drawn, ax=grid, shrink=0.6, aspect=30, label="gate").ax.tick_params(labelsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _lay_out(figure: Figure, rows: int, columns: int) -> np.ndarray:
    """Axes ``rows x 2 columns`` in two blocks, each below what it shows."""
    cells = figure.add_gridspec(
        rows + 1,
        2 * columns + 1,
        height_ratios=[0.3] + [1.0] * rows,
        width_ratios=[1.0] * columns + [0.3] + [1.0] * columns,
    )
    grid = np.empty((rows, 2 * columns), dtype=object)
    for half, name in enumerate(_HALVES):
        first = half * (columns + 1)
        heading = figure.add_subplot(cells[0, first : first + columns])
        heading.text(0.5, 0.5, name, ha="center", va="center", fontsize=9)
        heading.axis("off")
        for row in range(rows):
            for column in range(columns):
                grid[row, half * columns + column] = figure.add_subplot(cells[row + 1, first + column])
    return grid


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 in its decade, at most 1: an end of a scale that can be read."""
    if value <= 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    return min(1.0, next(step * decade for step in (1, 2, 5, 10) if value <= step * decade * (1 + 1e-9)))
