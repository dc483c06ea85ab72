"""CTM's kernels: one of 3 x 3 over time and channels for every place of the map."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from kinemix.explain.filmstrip import wrap_path
from kinemix.explain.last_map import DoesNotApplyError
from kinemix.explain.palette import SHARES, SIGNED
from kinemix.explain.watching import list_modules
from kinemix.models.video import VideoModel
from kinemix.temporal.ctm import CollaborativeTemporal, TemporalChannelConv

_TIMES = ("frame before", "same frame", "frame after")


def read_position_kernels(model: VideoModel) -> dict[str, Float[Tensor, "H W 3 3"]]:
    """The kernels of every TCC ("CTM", equation 1), by the path of the block that it stands at.

    The last two axes are time (the frame before, the same, the one after) and channel (the one before, ...).

    Raises:
        DoesNotApplyError: the network has no CTM with a spatial-aware path.
    """
    modules = list_modules(model, CollaborativeTemporal, what="kernels for every place")
    found = {
        path: part.kernels.detach().float().cpu()
        for path, module in modules.items()
        for part in module.modules()
        if isinstance(part, TemporalChannelConv)
    }
    if not found:
        raise DoesNotApplyError(
            "its CTM blocks have the path 'temporal' alone, whose kernel is the same everywhere"
        )
    return found


def share_times(kernels: Float[Tensor, "H W 3 3"]) -> Float[Tensor, "3 H W"]:
    """Of the sum of absolute weights at each place, the share of the frame before, the same and the one after."""
    sums = kernels.abs().sum(dim=3)
    return (sums / sums.sum(dim=2, keepdim=True).clamp_min(1e-12)).permute(2, 0, 1)


def plot_position_kernels(layers: Mapping[str, Float[Tensor, "H W 3 3"]], *, title: str = "") -> Figure:
    """One row a block: all kernels where they stand, and how much of each looks back, at the frame, and ahead.

    Args:
        layers: from :func:`read_position_kernels`.
        title: above all.
    """
    sides = [kernels.shape[0] / kernels.shape[1] for kernels in layers.values()]
    figure = Figure(figsize=(11.0, 2.7 * sum(sides) + 1.2), layout="constrained")
    grid = figure.subplots(len(layers), 4, squeeze=False, height_ratios=sides)
    highest = max(float(share_times(kernels).max()) for kernels in layers.values())
    high = float(np.quantile(torch.cat([k.flatten() for k in layers.values()]).abs().numpy(), 0.995))
    for row, (path, kernels) in zip(grid, layers.items(), strict=True):
        mosaic = _lay_out(kernels)
        drawn = row[0].imshow(mosaic, cmap=SIGNED, vmin=-high, vmax=high, interpolation="nearest")
        row[0].set_ylabel(wrap_path(path), fontsize=8)
        for axes, share in zip(row[1:], share_times(kernels), strict=True):
            shares = axes.imshow(
                100 * share.numpy(), cmap=SHARES, vmin=0, vmax=100 * highest, interpolation="nearest"
            )
    for axes, name in zip(grid[0, 1:], _TIMES, strict=True):
        axes.set_title(name, fontsize=8)
    grid[0, 0].set_title("kernels where they stand\n(each: time downwards, channels across)", fontsize=8)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for axes, picture, label in (
        (grid[:, 0], drawn, "weight"),
        (grid[:, 1:], shares, "weight on this frame, %"),
    ):
        bar = figure.colorbar(picture, ax=axes, location="bottom", shrink=0.6, aspect=30, label=label)
        bar.ax.tick_params(labelsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _lay_out(kernels: Float[Tensor, "H W 3 3"]) -> np.ndarray:
    """A picture of all kernels, with an empty line of pixels between neighbours."""
    height, width = kernels.shape[:2]
    mosaic = np.full((4 * height - 1, 4 * width - 1), np.nan, np.float32)
    for row in range(height):
        for column in range(width):
            mosaic[4 * row : 4 * row + 3, 4 * column : 4 * column + 3] = kernels[row, column].numpy()
    return mosaic
