"""Heat over frames: arrays in, pictures as arrays out, so that strips, films and pages show the same."""

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinemix.explain.palette import HEAT

Pictures = UInt8[Tensor, "T 3 H W"]


def color_values(
    values: Float[Tensor, "T H W"], *, low: float = 0.0, high: float = 1.0, color_map: str = HEAT
) -> Pictures:
    """Numbers as colours.

    Args:
        values: any; those outside ``low`` to ``high`` take the colour of the nearer end.
        low, high: what the two ends of the colour map stand for.
        color_map: matplotlib's name for it.
    """
    shares = ((values.detach().cpu().double() - low) / (high - low)).clamp(0, 1).numpy()
    colors = matplotlib.colormaps[color_map](shares, bytes=True)[..., :3]
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(colors, -1, -3)))


def overlay_heat(
    frames: Pictures,
    heat: Float[Tensor, "T H W"],
    *,
    strength: float = 0.65,
    color_map: str = HEAT,
) -> Pictures:
    """Frames in grey with heat in colour over them: the hotter, the less of the frame is seen.

    Args:
        frames: uint8 RGB.
        heat: 0 to 1, of the frames' size.
        strength: how much of the frame the greatest heat covers.
        color_map: of the heat.

    Raises:
        ValueError: heat and frames differ in size.
    """
    if heat.shape != (len(frames), *frames.shape[2:]):
        raise ValueError(f"heat of {tuple(heat.shape)} on frames of {tuple(frames.shape)}")
    heat = heat.detach().cpu().float().clamp(0, 1)
    grey = (frames.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    cover = strength * heat[:, None].sqrt()
    mixed = (1 - cover) * grey + cover * color_values(heat, color_map=color_map).float()
    return mixed.round().to(torch.uint8)


def enlarge(frames: Pictures, height: int) -> Pictures:
    """Small frames made larger by whole numbers of pixels, so that they stay sharp; never made smaller."""
    factor = max(1, round(height / frames.shape[2]))
    return frames.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
