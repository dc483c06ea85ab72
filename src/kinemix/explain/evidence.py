"""When a network found what it answers: the score of each frame, without each frame, and in other orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kinemix.evaluate.evaluator import score_classes, score_each_view
from kinemix.explain.axes import clean_axes_, shorten_names
from kinemix.explain.filmstrip import spread_frames, wrap_label
from kinemix.explain.last_map import DoesNotApplyError, find_last_map
from kinemix.explain.palette import COLORS, SOFT_INK
from kinemix.explain.view import Trained, View
from kinemix.label_space import LabelSpace
from kinemix.models.video import Fold, VideoModel
from kinemix.types import Clip

NUM_SHUFFLES = 8

_ORDERS = {"forward": COLORS[0], "reversed": COLORS[1], "shuffled": COLORS[2]}
_SHOWN_FRAMES = 16
_SHOWN_CLASSES = 5
_NAME_LETTERS = 64


@dataclass(frozen=True)
class Evidence:
    """Logits of one clip, whole and changed. K classes, T frames.

    Attributes:
        forward: of the clip as it is.
        by_step: of each step of the network by itself, whose mean is ``forward``; a clip network may have fewer
            steps than frames. ``None`` where the logits are no such mean.
        without: of the clip without each of its frames in turn; ``None`` where there is one frame only.
        reversed: of the frames played backwards.
        shuffled: of them in several orders, drawn at random.
        remarks: what does not apply and why, and how a frame was taken away.
    """

    forward: Float[Tensor, " K"]
    by_step: Float[Tensor, "t K"] | None
    without: Float[Tensor, "T K"] | None
    reversed: Float[Tensor, " K"]
    shuffled: Float[Tensor, "S K"]
    remarks: tuple[str, ...] = ()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every array by its name; what there is not is left out."""
        names = ("forward", "by_step", "without", "reversed", "shuffled")
        return {name: value.numpy() for name in names if (value := getattr(self, name)) is not None}


def measure_evidence(
    trained: Trained, view: View, *, num_shuffles: int = NUM_SHUFFLES, seed: int = 0
) -> Evidence:
    """Score a clip whole, without each frame, backwards and shuffled.

    A frame is taken away by playing the others. A network that is bound to a number of frames gets the nearest
    frame in its place.

    Args:
        trained: from :func:`kinemix.load`.
        view: from :func:`kinemix.explain.read_view`.
        num_shuffles: orders drawn.
        seed: of them.
    """
    model = trained.model
    num_frames = len(view.frames)
    generator = torch.Generator().manual_seed(seed)
    forward = list(range(num_frames))
    shuffles = [torch.randperm(num_frames, generator=generator).tolist() for _ in range(num_shuffles)]
    orders = _score_orders(trained, view, [forward, forward[::-1], *shuffles])
    by_step, reason = _score_steps(model, view.normalize().to(trained.device))
    remarks = [reason] if reason else []
    without = None
    if num_frames > 1:
        repeat = model.fixed_length is not None
        left = [_leave_out(place, num_frames, repeat=repeat) for place in forward]
        without = _score_orders(trained, view, left)
        remarks.append(
            f"A frame is taken away by repeating the one beside it, because {model.fixed_length} is bound to its "
            "number of frames."
            if repeat
            else "A frame is taken away by playing the others."
        )
    return Evidence(orders[0], by_step, without, orders[1], orders[2:], tuple(remarks))


def _leave_out(place: int, num_frames: int, *, repeat: bool) -> list[int]:
    order = list(range(num_frames))
    if repeat:
        order[place] = place - 1 if place else 1
        return order
    return order[:place] + order[place + 1 :]


def _score_orders(trained: Trained, view: View, orders: Sequence[Sequence[int]]) -> Float[Tensor, "S K"]:
    clips = torch.cat([view.normalize(order) for order in orders])
    # As if they were views of one video, none of them mirrored.
    protocol = replace(view.protocol, num_clips=len(orders), num_crops=1)
    return score_each_view(trained.model, clips[None], protocol=protocol, device=trained.device)[0]


@torch.no_grad()
def _score_steps(model: VideoModel, clip: Clip) -> tuple[Float[Tensor, "t K"] | None, str]:
    """Logits of every step, or the reason why there are none."""
    if isinstance(model.layout, Fold):
        return model.forward_frames(clip)[0].float().cpu(), ""
    try:
        last = find_last_map(model, clip)
    except DoesNotApplyError as error:
        return None, f"No score by frame: {error}."
    if last.weights is None or last.bias is None:
        return None, f"No score by frame: {last.reason}."
    steps = last.features.mean(dim=(3, 4)) @ last.weights.T + last.bias
    return steps[0].float().cpu(), ""


def plot_evidence(
    view: View, evidence: Evidence, space: LabelSpace, *, label: int | None = None, title: str = ""
) -> Figure:
    """The frames, the class's score in each, what is lost without each, and the answers in other orders.

    Args:
        view: the clip.
        evidence: of it.
        space: what the logits are about.
        label: the class; by default the answer.
        title: above all.
    """
    label = find_answer(evidence.forward, space) if label is None else label
    num_frames = len(view.frames)
    width = min(max(4.5, 0.62 * num_frames), 8.0)
    shown = min(_SHOWN_FRAMES, num_frames)
    thumbnails = (width - 0.8) / shown * view.frames.shape[2] / view.frames.shape[3]
    figure = Figure(figsize=(width + 4.2, 4.2 + thumbnails), layout="constrained")
    cells = figure.add_gridspec(1, 2, width_ratios=(width, 4.2))
    left, right = (figure.add_subfigure(cells[0, column]) for column in range(2))
    axes = left.subplots(3, 1, height_ratios=(thumbnails, 1.6, 1.6))
    _draw_frames(axes[0], view)
    _draw_steps(axes[1], evidence, space, label, num_frames)
    _draw_losses(axes[2], evidence, label, view)
    _draw_orders(right.subplots(), evidence, space, label)
    figure.suptitle(title or space.class_names[label], fontsize=10)
    return figure


def _draw_frames(axes: Axes, view: View) -> None:
    """Thumbnails above the bars of their frames."""
    shown = spread_frames(len(view.frames), min(_SHOWN_FRAMES, len(view.frames)))
    room = len(view.frames) / len(shown)
    height, width = view.frames.shape[2:]
    for index in shown:
        middle, half = index + 0.5, 0.47 * room
        box = (middle - half, middle + half, 0.0, 2 * half * height / width)
        axes.imshow(view.frames[index].permute(1, 2, 0).numpy(), extent=box)
    axes.set(xlim=(0, len(view.frames)), ylim=(0, room * height / width))
    axes.set_anchor("S")
    axes.axis("off")


def _draw_steps(axes: Axes, evidence: Evidence, space: LabelSpace, label: int, num_frames: int) -> None:
    axes.set(xlim=(0, num_frames), ylim=(0, 1.02), xticks=[], ylabel="score by frame")
    clean_axes_(axes)
    if evidence.by_step is None:
        axes.text(0.5, 0.5, "does not apply", transform=axes.transAxes, ha="center", color=SOFT_INK)
        return
    scores = score_classes(evidence.by_step, space)[:, label].numpy()
    width = num_frames / len(scores)
    axes.bar((np.arange(len(scores)) + 0.5) * width, scores, 0.8 * width, color=COLORS[0])


def _draw_losses(axes: Axes, evidence: Evidence, label: int, view: View) -> None:
    num_frames = len(view.frames)
    axes.set(xlim=(0, num_frames), ylabel="logit, change\nwithout the frame", xlabel="frame of the video")
    shown = spread_frames(num_frames, min(_SHOWN_FRAMES, num_frames))
    axes.set_xticks(
        [index + 0.5 for index in shown], [str(view.indices[index] + 1) for index in shown], fontsize=8
    )
    clean_axes_(axes)
    if evidence.without is None:
        axes.text(0.5, 0.5, "one frame only", transform=axes.transAxes, ha="center", color=SOFT_INK)
        return
    change = (evidence.without[:, label] - evidence.forward[label]).numpy()
    colors = [COLORS[1] if value < 0 else COLORS[5] for value in change]
    axes.bar(np.arange(num_frames) + 0.5, change, 0.8, color=colors)
    axes.axhline(0, color="0.2", linewidth=0.8)
    room = max(1e-3, 1.15 * float(np.abs(change).max()))
    axes.set_ylim(-room, room)


def _draw_orders(axes: Axes, evidence: Evidence, space: LabelSpace, label: int) -> None:
    """The scores of the class and of what is answered in each order."""
    rows = {
        "forward": evidence.forward[None],
        "reversed": evidence.reversed[None],
        "shuffled": evidence.shuffled,
    }
    scores = {name: score_classes(logits, space) for name, logits in rows.items() if len(logits)}
    shown = _choose_classes(scores, space, label)
    height = 0.8 / len(scores)
    for row, (name, values) in enumerate(scores.items()):
        places = np.arange(len(shown)) + (row - (len(scores) - 1) / 2) * height
        axes.barh(places, values.mean(dim=0)[shown].numpy(), 0.9 * height, color=_ORDERS[name], label=name)
        if len(values) > 1:
            axes.plot(
                values[:, shown].numpy().T, places, ".", color="0.1", markersize=3, clip_on=False, zorder=3
            )
    names = shorten_names(space.class_names, _NAME_LETTERS)
    axes.set_yticks(
        range(len(shown)), [wrap_label(names[space.class_names[k]], 20, 4) for k in shown], fontsize=8
    )
    axes.set(xlim=(0, 1.0), xlabel="score")
    axes.invert_yaxis()
    clean_axes_(axes)
    axes.figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)


def _choose_classes(scores: Mapping[str, Tensor], space: LabelSpace, label: int) -> list[int]:
    """The class itself, then the highest of its task in any of the orders, up to five in all."""
    best = torch.stack([rows.mean(dim=0) for rows in scores.values()]).amax(dim=0)
    places = [range(place.start, place.stop) for place in space.places.values()]
    task = next((place for place in places if label in place), range(len(best)))
    ranked = sorted(task, key=lambda k: -float(best[k]))
    return [label, *(k for k in ranked if k != label)][:_SHOWN_CLASSES]


def find_answer(logits: Float[Tensor, " K"], space: LabelSpace) -> int:
    """The class with the highest logit; of several tasks, that of the leading one."""
    if space.leading is None:
        return int(logits.argmax())
    place = space.places[space.leading]
    return place.start + int(logits[place].argmax())
