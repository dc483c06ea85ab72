"""Samplers against the formulas of the papers' code, written naively."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinemix.data.sampling import dense_test, dense_train, sparse_test, sparse_train, trim_ends

lengths = st.integers(1, 400)
counts = st.integers(1, 32)
seeds = st.integers(0, 2**31)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(n=lengths, T=counts, seed=seeds)
def test_sparse_train_draws_within_the_published_segments(n: int, T: int, seed: int) -> None:
    indices = sparse_train(num_video_frames=n, num_frames=T, generator=_generator(seed))
    d = n // T
    assert len(indices) == T
    if d > 0:
        assert all(i * d <= index < i * d + d for i, index in enumerate(indices))
    else:
        assert indices == [int(i * n / T + 1e-9) for i in range(T)]


@given(n=lengths, T=counts, seed=seeds)
def test_equal_segments_cover_the_whole_video(n: int, T: int, seed: int) -> None:
    indices = sparse_train(num_video_frames=n, num_frames=T, generator=_generator(seed), segments="equal")
    edges = [i * n // T for i in range(T + 1)]
    assert edges[0] == 0
    assert edges[-1] == n
    assert indices == sorted(indices)
    if n >= T:
        assert all(low <= index < high for low, high, index in zip(edges, edges[1:], indices, strict=False))


def test_every_frame_of_a_segment_is_drawn_equally_often() -> None:
    generator = _generator(0)
    drawn = [sparse_train(num_video_frames=12, num_frames=4, generator=generator) for _ in range(3000)]
    share = np.bincount(np.ravel(drawn), minlength=12) / 3000
    assert np.abs(share - 1 / 3).max() < 0.04


@pytest.mark.parametrize("segments", ["floor", "equal"])
def test_without_jitter_the_middle_is_taken(segments: Literal["floor", "equal"]) -> None:
    indices = sparse_train(
        num_video_frames=12, num_frames=4, generator=_generator(0), jitter=False, segments=segments
    )
    assert indices == [1, 4, 7, 10]


@given(n=lengths, T=counts)
def test_sparse_test_equals_the_formula(n: int, T: int) -> None:
    t = n / T
    centre = [int(t / 2.0 + t * i) for i in range(T)]
    start = [int(t * i) for i in range(T)]
    assert sparse_test(num_video_frames=n, num_frames=T) == centre
    two = [sparse_test(num_video_frames=n, num_frames=T, clip=clip, num_clips=2) for clip in (0, 1)]
    assert two == [start, centre]


@given(n=lengths, T=counts, num_clips=st.integers(1, 10))
def test_sparse_test_stays_in_the_video(n: int, T: int, num_clips: int) -> None:
    for clip in range(num_clips):
        indices = sparse_test(num_video_frames=n, num_frames=T, clip=clip, num_clips=num_clips)
        assert indices == sorted(indices)
        assert indices[0] >= 0
        assert indices[-1] < n


def _naive_dense(n: int, T: int, start: int) -> list[int]:
    return sorted((i * (64 // T) + start) % n for i in range(T))


@given(n=lengths, T=counts, seed=seeds)
def test_dense_train_is_a_wrapped_window(n: int, T: int, seed: int) -> None:
    indices = dense_train(num_video_frames=n, num_frames=T, generator=_generator(seed))
    assert indices in [_naive_dense(n, T, start) for start in range(max(1, 1 + n - 64))]


@given(n=lengths, T=counts)
def test_dense_test_starts_are_evenly_spaced(n: int, T: int) -> None:
    starts = np.linspace(0, max(1, 1 + n - 64) - 1, num=10, dtype=int)
    for clip, start in enumerate(starts):
        assert dense_test(num_video_frames=n, num_frames=T, clip=clip, num_clips=10) == _naive_dense(
            n, T, start
        )


def test_a_single_dense_clip_is_central() -> None:
    assert dense_test(num_video_frames=100, num_frames=8, num_clips=1) == [18 + 8 * i for i in range(8)]


def test_dense_stride() -> None:
    indices = dense_test(num_video_frames=300, num_frames=4, clip=2, num_clips=3, frame_stride=5)
    assert indices == [280, 285, 290, 295]


@given(n=lengths, share=st.floats(0, 0.49), seed=seeds, keep=st.integers(1, 40))
def test_trim_leaves_the_middle(n: int, share: float, seed: int, keep: int) -> None:
    first, count = trim_ends(num_video_frames=n, share=share, generator=_generator(seed), keep=keep)
    assert 0 <= first <= share * n
    assert 0 <= n - first - count <= share * n
    assert count >= min(n, keep)


def test_no_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_video_frames=0"):
        sparse_test(num_video_frames=0, num_frames=8)
