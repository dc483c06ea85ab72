"""Pooling over small windows that do not overlap: the mean, the maximum, a random draw, or SoftPool.

A window is two pixels wide in every direction it pools, and starts every second pixel; a last row or column that
fills no window is left out. A map of one pixel keeps it. The arithmetic is done in single precision at least,
because the exponentials of half precision overflow at 12.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from kinemix.temporal.frame_selection import count_half

Pooling: TypeAlias = Literal["soft", "average", "max", "stochastic"]
Windows: TypeAlias = Float[Tensor, "n B C T H W"]


def pool_volume(
    volume: Float[Tensor, "B C T H W"],
    *,
    pooling: Pooling = "soft",
    over_time: bool = False,
    training: bool = False,
) -> Float[Tensor, "B C t h w"]:
    """Halve a map's height and width, and its frames if asked (floor, but at least 1).

    Args:
        volume: ``B C T H W``.
        pooling: ``"soft"`` (:func:`pool_softly`), ``"average"``, ``"max"`` or ``"stochastic"``
            (:func:`pool_stochastically`).
        over_time: windows of 2 x 2 x 2 instead of 2 x 2.
        training: lets ``"stochastic"`` draw; otherwise it gives its expectation.

    Returns:
        The pooled map in the dtype of ``volume``.
    """
    windows = cut_windows(volume.to(torch.promote_types(volume.dtype, torch.float32)), over_time=over_time)
    if pooling == "stochastic":
        return pool_stochastically(windows, training=training).to(volume.dtype)
    return POOL[pooling](windows).to(volume.dtype)


def cut_windows(volume: Float[Tensor, "B C T H W"], *, over_time: bool) -> Windows:
    """The values of every window, stacked: ``n`` of them each (8, 4, 2 or 1)."""
    for dim, is_pooled in ((4, True), (3, True), (2, over_time)):
        size = 2 if is_pooled and volume.shape[dim] > 1 else 1
        count = count_half(volume.shape[dim]) if size == 2 else volume.shape[dim]
        volume = volume.narrow(dim, 0, size * count).unflatten(dim, (count, size))
    return volume.permute(3, 5, 7, 0, 1, 2, 4, 6).flatten(0, 2)  # from B C T t H h W w


def pool_softly(windows: Windows) -> Float[Tensor, "B C T H W"]:
    """SoftPool: every value of a window weighted by its softmax in there ("MTConv", eq. 5)."""
    return (windows.softmax(dim=0) * windows).sum(dim=0)


def pool_stochastically(windows: Windows, *, training: bool) -> Float[Tensor, "B C T H W"]:
    """Draw one value of each window with probability in proportion to it; or, not in training, the expectation.

    Source: Zeiler and Fergus, "Stochastic pooling for regularization of deep convolutional neural networks".
    They pool what a ReLU left. Of other maps the negative values are never drawn, and where a window has no
    positive one all are equally likely (our choice).
    """
    positive = windows.detach().clamp(min=0)
    total = positive.sum(dim=0)
    chances = torch.where(total > 0, positive / total, 1 / len(windows))
    if not training:
        return (chances * windows).sum(dim=0)
    # The first of several exponential clocks rings with a probability in proportion to its rate.
    drawn = (chances / torch.empty_like(chances).exponential_()).argmax(dim=0, keepdim=True)
    return windows.gather(0, drawn)[0]


POOL: Mapping[str, Callable[[Windows], Tensor]] = MappingProxyType(
    {
        "soft": pool_softly,
        "average": lambda windows: windows.mean(dim=0),
        "max": lambda windows: windows.amax(dim=0),
    }
)
POOLINGS: tuple[str, ...] = (*POOL, "stochastic")
