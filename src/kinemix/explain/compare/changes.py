"""Which classes another network answers better and which worse, and what they were, or are, taken for."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from kinemix.engine.tested_run import TestedVideos
from kinemix.evaluate.class_changes import ClassChange, rank_changes
from kinemix.evaluate.scores import Scores
from kinemix.explain.axes import clean_axes_, shorten_names
from kinemix.explain.filmstrip import plot_filmstrip, spread_frames
from kinemix.explain.palette import COLORS, SOFT_INK

_GAINED, _LOST = COLORS[0], COLORS[1]
_NAME_LETTERS, _NETWORK_LETTERS = 48, 30

_FRAMES = 8


def plot_changes(changes: Sequence[ClassChange], *, first: str, second: str, most: int = 10) -> Figure:
    """Bars of the classes that gained and lost most from the first network to the second (GSM, Figure 5d).

    To the right the samples that only the second gets right, to the left those that only the first does. Below the
    class's name stands what most of them are taken for by the one that is wrong.

    Args:
        changes: of :func:`kinemix.evaluate.class_changes.compare_classes`.
        first, second: names of the networks.
        most: classes in each of the two groups.
    """
    improved, worsened = rank_changes(changes, most=most)
    groups = [
        (title, group, taken)
        for title, group, taken in (
            ("most improved classes", improved, "was taken for"),
            ("most worsened classes", worsened, "is taken for"),
        )
        if group
    ]
    if not groups:
        figure = Figure(figsize=(8, 1.2))
        figure.text(0.5, 0.5, f"{first} and {second}: no class gained or lost", ha="center", color=SOFT_INK)
        return figure
    heights = [len(group) + 1.0 for _, group, _ in groups]
    figure = Figure(figsize=(10.0, 0.44 * sum(heights) + 0.9), layout="constrained")
    panels = figure.subplots(len(groups), 1, height_ratios=heights, sharex=True, squeeze=False)[:, 0]
    names = shorten_names((change.name for change in changes), _NAME_LETTERS)
    for axes, (title, group, taken) in zip(panels, groups, strict=True):
        _draw_group(axes, group, [_label(change, names, taken) for change in group], title=title)
    shown = [change for _, group, _ in groups for change in group]
    widest = max(max(len(c.corrected), len(c.lost)) for c in shown)
    # Room for the remark on the right; on the left only as much as the bars need.
    panels[-1].set_xlim(-1.1 * max(0.05 * widest, *(len(c.lost) for c in shown)), 1.45 * widest)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    panels[-1].set_xlabel("samples")
    handles, labels = panels[0].get_legend_handles_labels()
    written = shorten_names((first, second), _NETWORK_LETTERS)
    labels = [label.format(first=written[first], second=written[second]) for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw_group(axes: Axes, group: Sequence[ClassChange], labels: Sequence[str], *, title: str) -> None:
    places = range(len(group))
    axes.barh(places, [len(c.corrected) for c in group], 0.62, color=_GAINED, label="only {second} is right")
    axes.barh(places, [-len(c.lost) for c in group], 0.62, color=_LOST, label="only {first} is right")
    axes.axvline(0, color="0.2", linewidth=0.8)
    axes.set_yticks(places, labels)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylim(-0.6, len(group) - 0.4)
    axes.invert_yaxis()
    clean_axes_(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=8)
    for place, change in zip(places, group, strict=True):
        # Beside the longer bar: how many of how many are right now, and before.
        note = f"{change.right_before} \N{RIGHTWARDS ARROW} {change.right_after} of {change.count}"
        axes.annotate(
            note, (len(change.corrected), place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8, color=SOFT_INK,
        )  # fmt: skip


def _label(change: ClassChange, names: Mapping[str, str], taken: str) -> str:
    mistake = change.was_taken_for if change.gain > 0 else change.is_taken_for
    name = names[change.name]
    return name if mistake is None else f"{name}\n{taken} {names[mistake.answer]} ({mistake.count})"


def plot_changed_clips(
    changes: Sequence[ClassChange],
    first: Scores,
    second: Scores,
    videos: TestedVideos,
    *,
    names: tuple[str, str],
    most: int = 4,
) -> Figure | None:
    """One clip of each class that changed most, with both answers (GSM, Figure 6); ``None`` where none changed.

    Args:
        changes: of the two scores.
        first, second: aligned.
        videos: of the test.
        names: of the two networks.
        most: classes that gained, and as many that lost.
    """
    improved, worsened = rank_changes(changes, most=most)
    rows = [change.corrected[0] for change in improved] + [change.lost[0] for change in worsened]
    if not rows:
        return None
    written = shorten_names(first.class_names, _NAME_LETTERS)
    strips: dict[str, Tensor] = {}
    for row in rows:
        lines = [written[first.class_names[first.labels[row]]]]
        for name, scores in zip(names, (first, second), strict=True):
            lines.append(f"{name}: {written[scores.class_names[int(scores.logits[row].argmax())]]}")
        strips["\n".join(lines)] = read_strip(videos, first.ids[row])
    return plot_filmstrip(strips, num_frames=_FRAMES)


def read_strip(videos: TestedVideos, name: str, *, num_frames: int = _FRAMES) -> Tensor:
    """Frames of a tested video, evenly spread: ``T 3 H W``, uint8."""
    with videos.open(name) as reader:
        wanted = spread_frames(reader.num_frames, num_frames)
        distinct = sorted(set(wanted))
        frames = reader.read(distinct)
    return torch.stack([frames[distinct.index(index)] for index in wanted])
