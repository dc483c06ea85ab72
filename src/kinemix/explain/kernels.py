"""Learned temporal kernels, layer by layer, beside the fixed ones of TSM.

A depthwise temporal convolution has one short kernel a channel, so all that a network learned about time can be
drawn: what each channel takes from which frame. TSM is the special case that moves an eighth of the channels each
way and leaves the rest ("MixTConv", Figure 2 and the discussion of section 3.2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from kinemix.explain.filmstrip import wrap_path
from kinemix.explain.palette import COLORS, OTHERS, SIGNED
from kinemix.explain.watching import list_modules
from kinemix.models.video import VideoModel
from kinemix.temporal.base import TemporalModule
from kinemix.temporal.depthwise import DepthwiseTemporalConv
from kinemix.temporal.mixtconv import MixedTemporalConv
from kinemix.temporal.shift_and_add import TapPlan, align_kernels
from kinemix.temporal.tsm import TemporalShift

TSM = "TSM (fixed)"
_COLUMNS = 6


@dataclass(frozen=True)
class Kernels:
    """The kernels of one layer.

    Attributes:
        weights: ``C offsets``; zero where a channel has no tap.
        offsets: which frame each column multiplies: negative ones came before.
        groups: channels of each group that has a kernel size of its own, in order.
    """

    weights: Float[Tensor, "C offsets"]
    offsets: tuple[int, ...]
    groups: tuple[int, ...]

    @property
    def directions(self) -> dict[str, float]:
        """The share of channels whose heaviest weight is before, at, or after the present frame."""
        heaviest = torch.tensor(self.offsets)[self.weights.abs().argmax(dim=1)]
        counts = {"before": heaviest < 0, "present": heaviest == 0, "after": heaviest > 0}
        return {name: float(chosen.float().mean()) for name, chosen in counts.items()}


def read_kernels(model: VideoModel) -> dict[str, Kernels]:
    """The kernels of every depthwise temporal layer (MixTConv, depthwise convolution, TSM), by its host's path.

    Raises:
        DoesNotApplyError: the network has no such layer.
    """
    modules = list_modules(
        model,
        MixedTemporalConv,
        DepthwiseTemporalConv,
        TemporalShift,
        what="temporal kernels of one channel each",
    )
    return {path: _read_layer(module) for path, module in modules.items()}


def make_tsm_kernels(channels: int, *, fold: int = 8, reach: int = 1) -> Kernels:
    """TSM's fixed kernels for so many channels: the first fold takes the next frame, the second the previous one.

    Args:
        channels: of the layer.
        fold: ``channels // fold`` are moved each way.
        reach: offsets shown on either side, 1 or more.
    """
    return _shift_kernels(channels, channels // fold, (1, -1), reach=reach)


@torch.no_grad()
def _read_layer(module: TemporalModule) -> Kernels:
    channels = module.site.channels
    if isinstance(module, MixedTemporalConv):
        return _align(tuple(module.weights), module.dilations, tuple(module.group_sizes), module.plan)
    if isinstance(module, DepthwiseTemporalConv):
        return _align((module.weight,), (module.dilation,), (channels,), module.plan)
    assert isinstance(module, TemporalShift)
    return _shift_kernels(channels, module.fold_channels, module.shifts, reach=1)


def _align(
    weights: tuple[Tensor, ...], dilations: tuple[int, ...], groups: tuple[int, ...], plan: TapPlan
) -> Kernels:
    aligned = align_kernels(weights, dilations, plan).T.float().cpu()
    return Kernels(aligned, tuple(range(-plan.reach, plan.ahead + 1)), groups)


def _shift_kernels(channels: int, fold_channels: int, shifts: tuple[int, ...], *, reach: int) -> Kernels:
    weights = torch.zeros(channels, 2 * reach + 1)
    weights[:, reach] = 1
    for number, shift in enumerate(shifts):
        fold = slice(number * fold_channels, (number + 1) * fold_channels)
        weights[fold, reach], weights[fold, reach + shift] = 0, 1
    folds = (fold_channels,) * len(shifts)
    return Kernels(weights, tuple(range(-reach, reach + 1)), (*folds, channels - sum(folds)))


def plot_kernels(layers: Mapping[str, Kernels], *, title: str = "") -> Figure:
    """Every channel's kernel as a row of a picture, layer by layer after TSM's; and where the channels look.

    Args:
        layers: from :func:`read_kernels`.
        title: above all.
    """
    reach = max(max(abs(offset) for offset in layer.offsets) for layer in layers.values())
    channels = next(iter(layers.values())).weights.shape[0]
    panels = {TSM: make_tsm_kernels(channels, reach=max(1, reach)), **layers}
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    bars = 0.24 * len(panels) + 0.7
    figure = Figure(figsize=(1.55 * max(4, columns) + 0.8, 2.5 * rows + bars), layout="constrained")
    cells = figure.add_gridspec(2, 1, height_ratios=(2.5 * rows, bars))
    upper, lower = (figure.add_subfigure(cells[row, 0]) for row in range(2))
    grid = upper.subplots(rows, columns, squeeze=False)
    # One scale for all, symmetric; a few outliers must not make the rest pale.
    weights = torch.cat([layer.weights.flatten() for layer in panels.values()]).abs()
    high = max(1e-6, float(np.quantile(weights.numpy(), 0.995)))
    drawn = None
    for axes, (name, layer) in zip(grid.flat, panels.items(), strict=False):
        drawn = _draw_layer(axes, layer, high)
        axes.set_title(wrap_path(name, 20), fontsize=7)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes in grid[:, 0]:
        axes.set_ylabel("channel", fontsize=7)
    if drawn is not None:
        bar = upper.colorbar(drawn, ax=grid, shrink=0.6, aspect=30, label="weight", extend="both")
        bar.ax.tick_params(labelsize=7)
    _draw_directions(lower.subplots(), panels)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw_layer(axes: Axes, layer: Kernels, high: float) -> AxesImage:
    count, first, last = len(layer.weights), layer.offsets[0], layer.offsets[-1]
    drawn = axes.imshow(
        layer.weights.numpy(),
        cmap=SIGNED, vmin=-high, vmax=high, aspect="auto", interpolation="nearest",
        extent=(first - 0.5, last + 0.5, count, 0),
    )  # fmt: skip
    for border in np.cumsum(layer.groups)[:-1]:
        axes.axhline(border, color="0.3", linewidth=0.6)
    for left, _ in pairwise(layer.offsets):
        axes.axvline(left + 0.5, color="0.85", linewidth=0.4)
    axes.set_xticks(layer.offsets, [f"{offset:+d}" if offset else "0" for offset in layer.offsets])
    axes.set_yticks([0, count])
    axes.tick_params(labelsize=6, length=2)
    return drawn


def _draw_directions(axes: Axes, panels: Mapping[str, Kernels]) -> None:
    """Bars: the share of channels that look back, at the present frame, and ahead."""
    colors = {"before": COLORS[1], "present": OTHERS, "after": COLORS[0]}
    shares = {name: layer.directions for name, layer in panels.items()}
    left = np.zeros(len(panels))
    for part, color in colors.items():
        values = np.array([100 * share[part] for share in shares.values()])
        axes.barh(range(len(panels)), values, left=left, color=color, label=part, height=0.75)
        left += values
    axes.set_yticks(range(len(panels)), list(panels), fontsize=7)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100))
    axes.set_xlabel("channels by the frame that weighs most, %", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
