"""Temporal triplet cosine frame selection: keep the half of the frames that differ most from their neighbours.

Each frame is summed over its pixels to one vector. A frame's score is its cosine with the frame before plus that
with the frame after, and the frames with the lowest scores stay, in their order. Nothing is mixed in time, and
nothing is learnt: the choice has no gradient.
"""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

_NO_NEIGHBOUR = 4.0
"""More than any two cosines make: a frame that lacks a neighbour comes after all that have two."""


def find_frames(volume: Float[Tensor, "B C T H W"], *, most_alike: bool = False) -> Int[Tensor, "B t"]:
    """The frames to keep of each clip, ``max(1, T // 2)`` of them, in temporal order ("MTConv", eq. 6 and 7).

    The first and the last frame are in no triplet, so they are kept only where others do not suffice (clips of
    one or two frames; our choice). Of equal scores the earlier frame is kept. A frame of zeros has cosine 0.

    Args:
        volume: ``B C T H W``.
        most_alike: keep the highest sums of squared cosines instead, as the authors' released code does.
    """
    exact = torch.promote_types(volume.dtype, torch.float32)
    vectors = F.pad(volume.detach().sum(dim=(3, 4), dtype=exact), (1, 1))
    # Each frame's cosine with the one before it; one more at the end, for the frame after the last.
    cosines = F.cosine_similarity(vectors[:, :, 1:], vectors[:, :, :-1], dim=1)
    if most_alike:
        cosines = -cosines.square()
    num_frames = volume.shape[2]
    position = torch.arange(num_frames + 1, device=volume.device)
    cosines = torch.where((position == 0) | (position == num_frames), _NO_NEIGHBOUR, cosines)
    ranking = (cosines[:, :-1] + cosines[:, 1:]).sort(dim=1, stable=True).indices
    return ranking.narrow(1, 0, count_half(num_frames)).sort(dim=1).values


def select_frames(
    volume: Float[Tensor, "B C T H W"], *, most_alike: bool = False
) -> Float[Tensor, "B C t H W"]:
    """The frames that :func:`find_frames` finds."""
    frames = find_frames(volume, most_alike=most_alike)
    B, C, _, H, W = volume.shape
    return volume.gather(2, frames[:, None, :, None, None].expand(B, C, -1, H, W))


def count_half(num_frames: int) -> int:
    """Half of the frames, but at least one.

    An exporter takes for granted that no length of its own making is 1, which half of two or three frames is;
    it gets a number that it knows nothing else about, and the program takes clips of any length.
    """
    if not torch.compiler.is_exporting() or type(num_frames) is int:
        return max(num_frames // 2, 1)
    half = cast(int, torch.scalar_tensor(num_frames // 2, dtype=torch.int64).clamp(min=1).item())
    torch._check(half >= 1)
    torch._check(half <= num_frames)
    return half
