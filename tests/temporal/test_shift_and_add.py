"""The fast operation against equation (1) of "MixTConv", written as loops over channels, frames and taps."""

from collections.abc import Sequence
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kinemix.temporal import shift_and_add
from kinemix.temporal.base import split_channels
from kinemix.temporal.shift_and_add import (
    align_kernels,
    convolve_along_time,
    convolve_newest_frame,
    is_channels_last,
    plan_taps,
)


def convolve_naively(
    clip: Tensor, kernels: Sequence[Tensor], dilations: Sequence[int], causal: bool
) -> Tensor:
    """Equation (1): Z[i, t] = sum over j of F[t + j, i] W[(k - 1) / 2 + j], zeros outside the clip."""
    num_frames, frames = clip.shape[1], []
    for t in range(num_frames):
        channels, i = [], 0
        for kernel, dilation in zip(kernels, dilations, strict=True):
            k = kernel.shape[1]
            for weights in kernel:
                z = torch.zeros_like(clip[:, t, i])
                for j in range(-(k - 1), 1) if causal else range(-(k - 1) // 2, (k - 1) // 2 + 1):
                    if 0 <= t + j * dilation < num_frames:
                        z = (
                            z
                            + clip[:, t + j * dilation, i]
                            * weights[k - 1 + j if causal else (k - 1) // 2 + j]
                        )
                channels.append(z)
                i += 1
        frames.append(torch.stack(channels, dim=1))
    return torch.stack(frames, dim=1)


def make_clip(*shape: int, channels_last: bool = False, dtype: torch.dtype = torch.float64) -> Tensor:
    """A random clip, laid out as the view of folded frames that a backbone hands over."""
    B, T = shape[:2]
    frames = torch.randn(B * T, *shape[2:], dtype=dtype)
    if channels_last:
        frames = frames.contiguous(memory_format=torch.channels_last)
    return frames.unflatten(0, (B, T))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    kernel_sizes = draw(st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=4))
    groups = len(kernel_sizes)
    return {
        "kernel_sizes": kernel_sizes,
        "dilations": draw(st.lists(st.integers(1, 3), min_size=groups, max_size=groups)),
        "shape": (
            draw(st.integers(1, 2)),
            draw(st.integers(1, 9)),
            draw(st.integers(groups, 11)),
            draw(st.integers(1, 3)),
            draw(st.integers(1, 3)),
        ),
        "channels_last": draw(st.booleans()),
        "causal": draw(st.booleans()),
        "block_bytes": draw(st.sampled_from([1, 1000, 1 << 20])),
    }


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_values_and_gradients_equal_the_naive_loops(case: dict) -> None:
    channels = case["shape"][2]
    sizes = split_channels(channels, len(case["kernel_sizes"]))
    plan = plan_taps(sizes, case["kernel_sizes"], case["dilations"], causal=case["causal"])
    kernels = [
        torch.randn(size, k, dtype=torch.float64, requires_grad=True)
        for size, k in zip(sizes, case["kernel_sizes"], strict=True)
    ]
    clip = make_clip(*case["shape"], channels_last=case["channels_last"]).requires_grad_()
    expected = convolve_naively(clip, kernels, case["dilations"], case["causal"])
    with patch.object(shift_and_add, "BLOCK_BYTES", case["block_bytes"]):
        out = convolve_along_time(clip, align_kernels(kernels, case["dilations"], plan), plan)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
        assert out.stride() == clip.stride()

        grad = torch.randn_like(expected)
        got = torch.autograd.grad(out, [clip, *kernels], grad)
    for ours, theirs in zip(got, torch.autograd.grad(expected, [clip, *kernels], grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_the_traced_way_equals_the_eager_one(case: dict) -> None:
    sizes = split_channels(case["shape"][2], len(case["kernel_sizes"]))
    plan = plan_taps(sizes, case["kernel_sizes"], case["dilations"], causal=case["causal"])
    kernels = [
        torch.randn(size, k, dtype=torch.float64) for size, k in zip(sizes, case["kernel_sizes"], strict=True)
    ]
    clip = make_clip(*case["shape"], channels_last=case["channels_last"])
    weights = align_kernels(kernels, case["dilations"], plan)
    with patch.object(torch.compiler, "is_compiling", return_value=True):
        traced = convolve_along_time(clip, weights, plan)
    torch.testing.assert_close(traced, convolve_along_time(clip, weights, plan), rtol=1e-12, atol=1e-12)
    if is_channels_last(clip):
        assert traced.stride(2) == 1


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_frame_by_frame_equals_the_clip(case: dict) -> None:
    sizes = split_channels(case["shape"][2], len(case["kernel_sizes"]))
    plan = plan_taps(sizes, case["kernel_sizes"], case["dilations"], causal=True)
    kernels = [torch.randn(size, k) for size, k in zip(sizes, case["kernel_sizes"], strict=True)]
    weights = align_kernels(kernels, case["dilations"], plan)
    clip = make_clip(*case["shape"], channels_last=case["channels_last"], dtype=torch.float32)
    past, frames = None, []
    for frame in clip.unbind(1):
        out, past = convolve_newest_frame(frame, past, weights, plan)
        frames.append(out)
    torch.testing.assert_close(torch.stack(frames, 1), convolve_along_time(clip, weights, plan))


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradcheck(channels_last: bool) -> None:
    plan = plan_taps([1, 1, 1, 2], (1, 3, 5, 3), (1, 1, 1, 2))
    clip = make_clip(2, 4, 5, 2, 2, channels_last=channels_last).requires_grad_()
    weights = torch.randn(plan.reach + 1 + plan.ahead, 5, dtype=torch.float64)
    for tap in plan.taps:  # weights outside the taps are never read: their gradient is zero by right
        weights[plan.reach + tap.offset, tap.start : tap.stop].uniform_(-1, 1)
    assert torch.autograd.gradcheck(
        lambda c, w: convolve_along_time(c, w, plan), (clip, weights.requires_grad_()), fast_mode=False
    )


def test_gradient_that_comes_in_another_layout() -> None:
    plan = plan_taps([4], (3,), (1,))
    clip = make_clip(2, 3, 4, 2, 2, channels_last=True).requires_grad_()
    weights = torch.randn(3, 4, dtype=torch.float64)
    (expanded,) = torch.autograd.grad(convolve_along_time(clip, weights, plan).sum(), clip)
    (dense,) = torch.autograd.grad(
        convolve_along_time(clip, weights, plan), clip, torch.ones(2, 3, 4, 2, 2).double()
    )
    torch.testing.assert_close(expanded, dense)
    assert expanded.stride() == clip.stride()


def test_only_the_needed_gradient() -> None:
    plan = plan_taps([4], (3,), (1,))
    clip = make_clip(1, 3, 4, 2, 2)
    weights = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    convolve_along_time(clip, weights, plan).sum().backward()
    assert clip.grad is None
    assert weights.grad is not None


def test_gradient_of_weights_keeps_precision_in_bfloat16() -> None:
    """Summed in bfloat16 over 8 x 56 x 56 values, a gradient of thousands would stop growing at 256."""
    plan = plan_taps([8], (3,), (1,))
    clip = torch.ones(1, 8, 8, 56, 56, dtype=torch.bfloat16)
    weights = torch.zeros(3, 8, requires_grad=True)
    convolve_along_time(clip, weights, plan).sum().backward()
    assert weights.grad is not None
    expected = torch.tensor([7.0, 8.0, 7.0])[:, None].expand(3, 8) * 56 * 56
    torch.testing.assert_close(weights.grad, expected, rtol=2**-8, atol=0)


def test_taps_of_the_papers_kernels() -> None:
    """Kernel sizes 1, 3, 5, 7: offset 0 for all channels, then three, two, one quarters."""
    plan = plan_taps([4, 4, 4, 4], (1, 3, 5, 7), (1, 1, 1, 1))
    assert {tap.offset: (tap.start, tap.stop) for tap in plan.taps} == {
        0: (0, 16), -1: (4, 16), 1: (4, 16), -2: (8, 16), 2: (8, 16), -3: (12, 16), 3: (12, 16)
    }  # fmt: skip
    assert (plan.taps[0].offset, plan.reach, plan.ahead) == (0, 3, 3)
