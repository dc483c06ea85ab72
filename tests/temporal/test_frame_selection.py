"""The frames that a search through all triplets would take."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from kinemix.temporal.frame_selection import find_frames, select_frames


def measure_cosine(one: Tensor, other: Tensor) -> float:
    """Eq. 6, for two frames ``C H W``: of their sums over the pixels."""
    a = [channel.sum().item() for channel in one]
    b = [channel.sum().item() for channel in other]
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5)


def search(clip: Tensor, *, most_alike: bool = False) -> list[int]:
    """Eq. 7 by brute force: of all sets of T // 2 frames in a triplet, the one with the least sum of scores."""
    T = clip.shape[1]
    frames = clip.unbind(1)

    def score(n: int) -> float:
        both = [measure_cosine(frames[n - 1], frames[n]), measure_cosine(frames[n], frames[n + 1])]
        return -sum(c * c for c in both) if most_alike else sum(both)

    sets = combinations(range(1, T - 1), T // 2)
    return list(min(sets, key=lambda chosen: sum(map(score, chosen))))


@pytest.mark.parametrize("most_alike", [False, True])
@pytest.mark.parametrize("num_frames", [3, 4, 5, 8, 9])
def test_finds_what_brute_force_finds(num_frames: int, most_alike: bool) -> None:
    torch.manual_seed(num_frames)
    volume = torch.randn(6, 4, num_frames, 2, 3, dtype=torch.float64)
    expected = [search(clip, most_alike=most_alike) for clip in volume]
    assert find_frames(volume, most_alike=most_alike).tolist() == expected
    assert len({tuple(frames) for frames in expected}) > 1 or num_frames <= 4  # each clip has its own
    for clip, frames, kept in zip(
        volume, expected, select_frames(volume, most_alike=most_alike), strict=True
    ):
        assert torch.equal(kept, clip[:, frames])


@pytest.mark.parametrize(("num_frames", "expected"), [(1, [0]), (2, [0]), (3, [1]), (4, [1, 2])])
def test_short_clips(num_frames: int, expected: list[int]) -> None:
    volume = torch.randn(3, 4, num_frames, 2, 2)
    assert find_frames(volume).tolist() == [expected] * 3


def test_the_odd_frame_stays() -> None:
    volume = torch.ones(1, 2, 8, 1, 1)
    volume[0, :, 3] = torch.tensor([1.0, -1.0])[:, None, None]  # at right angles to the others
    assert find_frames(volume).tolist() == [[1, 2, 3, 4]]  # its neighbours next, then the first of equals
    assert find_frames(volume, most_alike=True).tolist() == [[1, 2, 5, 6]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    volume = (torch.randn(2, 8, 6, 14, 14) * 1e4).to(dtype)
    assert torch.equal(find_frames(volume), find_frames(volume.double()))


def test_zeros_and_nothing_learnt() -> None:
    volume = torch.zeros(1, 3, 6, 2, 2)
    assert find_frames(volume).tolist() == [[1, 2, 3]]
    volume = torch.randn(2, 3, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    kept = select_frames(volume)
    kept.sum().backward()
    assert volume.grad is not None
    assert volume.grad.sum() == kept.numel()
    assert volume.grad.unique().tolist() == [0, 1]
