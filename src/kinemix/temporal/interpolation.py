"""Trilinear interpolation of a map to another size, one direction after the other.

The same as torch's ``F.interpolate(mode="trilinear", align_corners=False)``, written as gathered neighbours and
their mixture: torch's compiler takes its own kernel apart into other arithmetic than that of the kernel, and its
gradient is not reproducible on accelerators. This is one arithmetic everywhere, for any length that an exporter
leaves open.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def interpolate_volume(volume: Float[Tensor, "B C T H W"], size: Sequence[int]) -> Float[Tensor, "B C t h w"]:
    """Resize a map, its pixels aligned at their outer edges; beyond the outermost centres it stays constant.

    Args:
        volume: ``B C T H W``.
        size: frames, height and width of the result.
    """
    for dim, length in enumerate(size, start=2):
        present = volume.shape[dim]
        pixels = torch.arange(length, device=volume.device, dtype=torch.float32)
        position = ((pixels + 0.5) * (present / length) - 0.5).clamp(min=0)
        low = position.long()
        high = (low + 1).clamp(max=present - 1)
        share = (position - low).to(volume.dtype).reshape(-1, *[1] * (4 - dim))
        volume = torch.lerp(volume.index_select(dim, low), volume.index_select(dim, high), share)
    return volume
