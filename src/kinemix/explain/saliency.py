"""Where and when a network found what it answers: saliency tubes, and Grad-CAM frame by frame.

A saliency tube is the last feature map, weighed by the class's row of the classifier, over time and space
(Stergiou et al., "Saliency Tubes: Visual Explanations for Spatio-Temporal Convolutions"; Figures 11 and 12 of
"Gate-Shift Networks"). Where no linear classifier sees the map's mean, Grad-CAM weighs it by gradients instead
(Selvaraju et al., "Grad-CAM").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from kinemix.explain.filmstrip import plot_filmstrip
from kinemix.explain.heatmap import overlay_heat
from kinemix.explain.last_map import DoesNotApplyError, find_last_map
from kinemix.models.video import VideoModel
from kinemix.types import Clip, Video

Way: TypeAlias = Literal["tube", "grad_cam"]


@dataclass(frozen=True)
class Saliency:
    """How much each place of a clip speaks for a class.

    Attributes:
        heat: ``B T H W``, 0 (least in the clip) to 1 (most), of the clip's frames and pixels.
        raw: ``B t h w``, as the network has it, before it was resized and scaled. Of a tube the mean over t, h, w
            is the class's logit without its bias.
        way: how it was found.
        reason: why it is no tube, where it is none.
    """

    heat: Float[Tensor, "B T H W"]
    raw: Float[Tensor, "B t h w"]
    way: Way
    reason: str = ""


def compute_saliency(
    model: VideoModel, clip: Clip, labels: Sequence[int], *, way: Way | None = None
) -> Saliency:
    """Saliency tubes, or Grad-CAM where the network's head is not linear.

    Tube: ``S[t, y, x] = sum_c w[k, c] A[t, c, y, x]`` for the last map ``A`` and the class's weights ``w[k]``;
    resized to the clip (trilinear), then ``(S - min S) / (max S - min S)`` over the whole clip. Grad-CAM, with
    the logit's gradient averaged over every frame's pixels: ``S[t, y, x] = relu(sum_c a[t, c] A[t, c, y, x])``,
    ``a[t, c] = mean_yx d logit / d A[t, c, y, x]``; resized and scaled alike.

    Args:
        model: in evaluation mode; weights and gradients stay as they are.
        clip: ``B T C H W``, normalised.
        labels: the class of each clip.
        way: ``tube`` or ``grad_cam``; by default the tube where there is one.

    Raises:
        DoesNotApplyError: a tube of a network without linear head; a network without maps.
    """
    last = find_last_map(model, clip)
    if way == "tube" or (way is None and last.weights is not None):
        raw, way = last.weigh(labels), "tube"
    else:
        weights = last.differentiate(labels).mean(dim=(3, 4), keepdim=True)
        raw, way = (weights * last.features).sum(dim=2).relu(), "grad_cam"
    return Saliency(scale_to_clip(raw, clip.shape), raw, way, "" if way == "tube" else last.reason)


def scale_to_clip(raw: Float[Tensor, "B t h w"], shape: Sequence[int]) -> Float[Tensor, "B T H W"]:
    """Resize to a clip ``B T C H W`` and bring each clip to 0..1; what is the same everywhere becomes 0."""
    size = (shape[1], shape[3], shape[4])
    heat = F.interpolate(raw.float()[:, None], size=size, mode="trilinear", align_corners=False)[:, 0]
    low, high = (f(heat, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    return (heat - low) / torch.where(high > low, high - low, 1)


def measure_focus(heat: Float[Tensor, "T H W"], inside: Bool[Tensor, "T H W"]) -> float:
    """The share of the heat that lies inside a region, 0 to 1; heat spread evenly has ``inside.mean()``.

    Where there is no heat at all, that share as well.
    """
    total = float(heat.sum())
    return float(heat[inside].sum()) / total if total > 0 else float(inside.float().mean())


def plot_saliency(
    frames: Video,
    heats: Mapping[str, Float[Tensor, "T H W"]],
    *,
    num_frames: int | None = None,
    headings: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """A film strip: the frames, and below them the heat of one network or of several over the same frames.

    Args:
        frames: ``T 3 H W``, uint8.
        heats: caption of each row -> heat, as in :class:`Saliency`.
        num_frames: columns; by default up to 16, spread evenly.
        headings: of the frames.
        title: above all.
    """
    rows = {"frames": frames} | {name: overlay_heat(frames, heat) for name, heat in heats.items()}
    return plot_filmstrip(rows, num_frames=num_frames or min(16, len(frames)), headings=headings, title=title)


__all__ = [
    "DoesNotApplyError",
    "Saliency",
    "compute_saliency",
    "measure_focus",
    "plot_saliency",
    "scale_to_clip",
]
