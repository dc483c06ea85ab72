"""MTNet's selected frames: which half of the frames each prolonged branch keeps."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kinemix.explain.filmstrip import spread_frames
from kinemix.explain.last_map import DoesNotApplyError
from kinemix.explain.palette import COLORS, OTHERS
from kinemix.explain.watching import ask_modules, list_modules
from kinemix.models.video import VideoModel
from kinemix.temporal.mtconv import MultiTemporalConv
from kinemix.types import Clip, Video

_MOST_ROWS = 60
"""Layers drawn with their names; of more, every second, third, ... is drawn."""

_LOOKS = {"input": (COLORS[0], "o", -0.17), "local": (COLORS[1], "s", 0.17)}
"""Colour, mark and place in its row."""


def find_chosen_frames(model: VideoModel, clip: Clip) -> dict[str, dict[str, Bool[Tensor, "B T"]]]:
    """Which frames every MTConv keeps: of its ``input``, and of its ``local`` branch's output ("MTConv", eq. 6, 7).

    Layers by the path of the convolution that they replaced; T is the number of frames that they see, which the
    network may have reduced.

    Raises:
        DoesNotApplyError: the network has no MTConv, or none that selects frames.
    """
    modules = list_modules(model, MultiTemporalConv, what="frame selection")
    choices = ask_modules(model, clip, modules, lambda module, seen: module.choose_frames(seen))
    found = {
        path: {name: marks.cpu() for name, marks in choice.items()}
        for path, choice in choices.items()
        if choice
    }
    if not found:
        raise DoesNotApplyError(
            "its MTConvs select no frames: they pool over time, or have no prolonged branch"
        )
    return found


def plot_chosen_frames(
    frames: Video,
    choices: Mapping[str, Mapping[str, Bool[Tensor, " T"]]],
    *,
    headings: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Below the frames one row a layer, a mark for every frame kept; and how often each frame is kept.

    Args:
        frames: ``T 3 H W``, uint8.
        choices: of one clip, by layer, as :func:`find_chosen_frames` gives them.
        headings: of the frames.
        title: above all.
    """
    num_frames = len(frames)
    step = -(-len(choices) // _MOST_ROWS)
    shown = dict(list(choices.items())[::step])
    width, rows = min(max(5.0, 0.6 * num_frames), 11.0), 0.19 * len(shown) + 0.5
    strip = (width + 2.3) / num_frames * frames.shape[2] / frames.shape[3]
    figure = Figure(figsize=(width + 2.6, strip + rows + 1.9), layout="constrained")
    axes = figure.subplots(3, 1, height_ratios=(strip, rows, 1.2))
    for index in range(num_frames):
        box = (index + 0.03, index + 0.97, 0.0, 0.94 * frames.shape[2] / frames.shape[3])
        # As wide as the diagrams below, whatever the height: each frame stands above its column.
        axes[0].imshow(frames[index].permute(1, 2, 0).numpy(), extent=box, aspect="auto")
    axes[0].set(xlim=(0, num_frames), ylim=(0, frames.shape[2] / frames.shape[3]))
    axes[0].axis("off")
    _draw_rows(axes[1], shown, num_frames)
    if step > 1:
        axes[1].set_ylabel(f"one of every {step} layers", fontsize=8)
    _draw_counts(axes[2], choices, num_frames)
    places = spread_frames(num_frames, min(16, num_frames))
    names = (
        [str(index + 1) for index in places] if headings is None else [headings[index] for index in places]
    )
    axes[2].set_xticks([place + 0.5 for place in places], names, fontsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw_rows(axes: Axes, choices: Mapping[str, Mapping[str, Tensor]], num_frames: int) -> None:
    for row, choice in enumerate(choices.values()):
        for name, (color, marker, lift) in _LOOKS.items():
            kept = choice[name]
            middles = (np.arange(len(kept)) + 0.5) * num_frames / len(kept)
            axes.plot(middles, np.full(len(kept), row + lift), "|", color=OTHERS, markersize=2)
            chosen = kept.numpy()
            axes.plot(
                middles[chosen], np.full(chosen.sum(), row + lift), marker, color=color, markersize=3.5,
                label=name if row == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(choices)), list(choices), fontsize=6)
    axes.set(xlim=(0, num_frames), ylim=(len(choices) - 0.4, -0.6), xticks=[])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, title="frames kept of")


def _draw_counts(axes: Axes, choices: Mapping[str, Mapping[str, Tensor]], num_frames: int) -> None:
    """The share of layers that keep each frame; where layers have fewer steps, a step stands for its frames."""
    total = np.zeros(num_frames)
    for choice in choices.values():
        for kept in choice.values():
            total += kept.numpy()[np.arange(num_frames) * len(kept) // num_frames]
    axes.bar(np.arange(num_frames) + 0.5, 50 * total / len(choices), 0.8, color=COLORS[5])
    axes.set(xlim=(0, num_frames), ylim=(0, 100), ylabel="kept, %")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
