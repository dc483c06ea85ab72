"""Pooling: against plain loops, in half precision at its limits, and by counting draws."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kinemix.temporal.pooling import Pooling, cut_windows, pool_softly, pool_volume


def pool_naively(volume: Tensor, pool: Callable[[list[float]], float], *, over_time: bool) -> Tensor:
    """One window after the other, one value after the other."""
    *_, T, H, W = volume.shape
    windows = [min(2, T) if over_time else 1, min(2, H), min(2, W)]
    sizes = [size // window for size, window in zip((T, H, W), windows, strict=True)]
    out = torch.zeros(*volume.shape[:2], *sizes, dtype=volume.dtype)
    for b, c, t, h, w in torch.cartesian_prod(*(torch.arange(n) for n in out.shape)).tolist():
        a, i, j = t * windows[0], h * windows[1], w * windows[2]
        block = volume[b, c, a : a + windows[0], i : i + windows[1], j : j + windows[2]]
        out[b, c, t, h, w] = pool(block.flatten().tolist())
    return out


def pool_by_equation(values: list[float]) -> float:
    """Eq. 5, as it is written."""
    return sum(math.exp(a) * a / sum(math.exp(k) for k in values) for a in values)


def expect(values: list[float]) -> float:
    """Zeiler and Fergus: the probability of a value is its share of the window's sum."""
    positive = [max(a, 0.0) for a in values]
    if not sum(positive):
        return sum(values) / len(values)
    return sum(p / sum(positive) * a for p, a in zip(positive, values, strict=True))


NAIVE: dict[Pooling, Callable[[list[float]], float]] = {
    "soft": pool_by_equation,
    "average": lambda values: sum(values) / len(values),
    "max": max,
    "stochastic": expect,
}


@pytest.mark.parametrize("over_time", [False, True])
@pytest.mark.parametrize("pooling", NAIVE)
@pytest.mark.parametrize("shape", [(2, 2, 5, 5, 4), (1, 2, 1, 3, 1), (1, 1, 3, 1, 1)])
def test_equals_plain_loops(pooling: Pooling, over_time: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    volume = torch.randn(shape, dtype=torch.float64)
    expected = pool_naively(volume, NAIVE[pooling], over_time=over_time)
    torch.testing.assert_close(pool_volume(volume, pooling=pooling, over_time=over_time), expected)


@pytest.mark.parametrize("over_time", [False, True])
def test_average_and_max_are_torchs(over_time: bool) -> None:
    volume = torch.randn(2, 3, 5, 6, 7)
    size = (2 if over_time else 1, 2, 2)
    average = pool_volume(volume, pooling="average", over_time=over_time)
    torch.testing.assert_close(average, F.avg_pool3d(volume, size))
    assert torch.equal(pool_volume(volume, pooling="max", over_time=over_time), F.max_pool3d(volume, size))


@pytest.mark.parametrize("over_time", [False, True])
def test_gradient(over_time: bool) -> None:
    volume = torch.randn(1, 2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: pool_volume(v, over_time=over_time), volume)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1e4, 6e4])
def test_softpool_survives_large_activations(dtype: torch.dtype, size: float) -> None:
    signs = torch.randint(-1, 2, (2, 3, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    volume = (signs * size).to(dtype).requires_grad_()
    pooled = pool_volume(volume)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled.double(), pool_softly(cut_windows(volume.double(), over_time=False)))
    assert torch.equal(
        pooled.detach(), pool_volume(volume, pooling="max").detach()
    )  # e^10000: the rest is nothing
    pooled.float().sum().backward()
    assert volume.grad is not None
    assert volume.grad.isfinite().all()


def test_softpool_in_half_precision_under_autocast() -> None:
    volume = torch.randn(1, 2, 3, 4, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool_volume(volume)
    torch.testing.assert_close(pooled.float(), pool_volume(volume.float()), rtol=2**-8, atol=0)


def test_stochastic_pooling_draws_in_proportion() -> None:
    torch.manual_seed(0)
    window = torch.tensor([[1.0, 2.0], [0.0, 5.0]])
    volume = window.repeat(100, 100).expand(1, 1, 2, 200, 200).clone().requires_grad_()
    drawn = pool_volume(volume, pooling="stochastic", training=True)
    shares = [(drawn == value).double().mean().item() for value in (1, 2, 0, 5)]
    assert shares == pytest.approx([1 / 8, 2 / 8, 0, 5 / 8], abs=0.015)  # 20 000 draws: 4 standard deviations
    drawn.sum().backward()
    assert volume.grad is not None
    assert volume.grad.unique().tolist() == [0, 1]  # the gradient goes where the value came from
    assert volume.grad.sum() == drawn.numel()


def test_stochastic_pooling_of_what_no_relu_left() -> None:
    torch.manual_seed(0)
    mixed = torch.tensor([[-3.0, 2.0], [-1.0, -1.0]]).repeat(20, 20).expand(1, 1, 1, 40, 40)
    assert pool_volume(mixed, pooling="stochastic", training=True).unique().tolist() == [2]
    negative = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]).repeat(20, 20).expand(1, 1, 1, 40, 40)
    assert pool_volume(negative, pooling="stochastic", training=True).unique().tolist() == [-4, -3, -2, -1]
