"""Depthwise convolution along time, written as what it is: shifted frames, scaled and added.

A depthwise temporal convolution touches every value a few times and does almost no arithmetic, so its cost is
memory traffic. Permuting a feature map to ``(B H W) C T`` for ``nn.Conv1d`` moves it twice before the first
product. Here nothing moves: each tap multiplies the map, seen some frames earlier or later, by one weight a
channel and adds it to the result in place, block by block so that a block stays in the processor's
cache while its taps pass over it. Channels that do not use a tap are not visited. Both memory formats are
served as they come, and the result has the strides of the input.

Taps of all channel groups with the same time offset are one pass over one range of channels: with the paper's
kernel sizes 1, 3, 5, 7 the offsets 0, ±1, ±2, ±3 belong to all, the last three, two, one quarters of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kinemix.types import Clip, Frame

BLOCK_BYTES = 4 << 20
"""Input bytes of a block for each thread: small enough for a cache, large enough that starting an operation and
waking the threads for it costs little (halving it for two threads costs a third of the time)."""

PRODUCT_FRAMES = 16
"""Up to so many frames, products of all pairs of frames are the faster way to the kernels' gradient."""


@dataclass(frozen=True)
class Tap:
    """Channels ``start`` to ``stop`` look ``offset`` frames ahead (negative: back)."""

    offset: int
    start: int
    stop: int


@dataclass(frozen=True)
class TapPlan:
    """Which channels look at which frames.

    Attributes:
        taps: one for each time offset in use; the first has offset 0 and covers every channel.
        reach: how many past frames are looked at.
        ahead: how many later frames are looked at.
    """

    taps: tuple[Tap, ...]
    reach: int
    ahead: int


def plan_taps(
    group_sizes: Sequence[int], kernel_sizes: Sequence[int], dilations: Sequence[int], *, causal: bool = False
) -> TapPlan:
    """The taps of contiguous channel groups, each with its own odd kernel size and dilation.

    Weight ``j`` of a kernel of size ``k`` multiplies the frame ``(j - (k - 1) / 2) dilation`` later
    (equation 1 of "MixTConv"), or with ``causal`` the frame ``(j - (k - 1)) dilation`` later, which is never
    in the future.
    """
    spans: dict[int, tuple[int, int]] = {0: (0, sum(group_sizes))}
    start = 0
    for size, kernel, dilation in zip(group_sizes, kernel_sizes, dilations, strict=True):
        for j in range(kernel):
            offset = (j - find_middle(kernel, causal=causal)) * dilation
            first, last = spans.get(offset, (start, start))
            spans[offset] = (first, max(last, start + size))
        start += size
    taps = tuple(Tap(offset, first, last) for offset, (first, last) in spans.items())
    return TapPlan(taps, reach=-min(spans), ahead=max(spans))


def find_middle(kernel_size: int, *, causal: bool) -> int:
    """The weight of a kernel that multiplies the present frame."""
    return kernel_size - 1 if causal else (kernel_size - 1) // 2


def align_kernels(kernels: Sequence[Tensor], dilations: Sequence[int], plan: TapPlan) -> Tensor:
    """The kernels of all groups side by side, one row a time offset, zero where a group has no weight.

    Args:
        kernels: of each channel group, ``channels x kernel_size``.
        dilations: of each channel group.
        plan: from :func:`plan_taps`, with the same groups.

    Returns:
        ``(reach + 1 + ahead) x C``; the row of offset ``o`` is ``reach + o``.
    """
    causal = plan.ahead == 0
    columns = []
    for kernel, dilation in zip(kernels, dilations, strict=True):
        rows, kernel_size = kernel.t(), kernel.shape[1]
        if dilation > 1:
            rows = F.pad(rows.unsqueeze(1), (0, 0, 0, dilation - 1)).flatten(0, 1)
        above = plan.reach - find_middle(kernel_size, causal=causal) * dilation
        below = plan.reach + 1 + plan.ahead - above - kernel_size * dilation
        columns.append(F.pad(rows, (0, 0, above, below)))
    return torch.cat(columns, dim=1)


def convolve_along_time(clip: Clip, weights: Tensor, plan: TapPlan) -> Clip:
    """Convolve every channel along time with zeros beyond both ends.

    Args:
        clip: ``B T C H W``; any strides, best those of contiguous or channels-last folded frames.
        weights: ``offsets x C`` from :func:`align_kernels`; used in the clip's dtype.
        plan: from :func:`plan_taps`; what each row of ``weights`` means.

    Returns:
        A clip of the same shape, dtype and strides.
    """
    weights = weights.to(clip.dtype)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return _convolve_traced(clip, weights, plan)
    result: Tensor = _ShiftAndAdd.apply(clip, weights, plan)
    return result


def convolve_newest_frame(
    frame: Frame, past: Tensor | None, weights: Tensor, plan: TapPlan
) -> tuple[Frame, Tensor]:
    """The last frame of :func:`convolve_along_time` over all frames so far, for a plan that only looks back.

    Args:
        frame: ``B C H W``, the newest frame.
        past: ``B reach C H W``, the frames before it, oldest first; ``None`` stands for zeros.

    Returns:
        The convolved frame, and the past for the next call.
    """
    weights = weights.to(frame.dtype)[..., None, None]
    if past is None:
        past = frame.new_zeros((frame.shape[0], plan.reach, *frame.shape[1:]))
    out = frame * weights[plan.reach]
    for tap in plan.taps[1:]:
        row, channels = plan.reach + tap.offset, slice(tap.start, tap.stop)
        out[:, channels].addcmul_(past[:, row, channels], weights[row, channels])
    return out, torch.cat([past, frame.unsqueeze(1)], dim=1)[:, 1:]


class _ShiftAndAdd(torch.autograd.Function):
    """The eager path. The gradient for the input is the same operation with every offset reversed."""

    @staticmethod
    def forward(clip: Tensor, weights: Tensor, plan: TapPlan) -> Tensor:
        out = torch.empty_like(clip)
        for block in _cut_blocks(clip):
            block.add_taps_(out, clip, weights, plan, sign=1)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, TapPlan], output: Tensor) -> None:
        clip, weights, ctx.plan = inputs
        ctx.save_for_backward(clip, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        clip, weights = ctx.saved_tensors
        needs_clip, needs_weights = ctx.needs_input_grad[:2]
        if grad.stride() != clip.stride():
            grad = torch.empty_like(clip).copy_(grad)
        grad_clip = torch.empty_like(clip) if needs_clip else None
        # Sums over a whole clip do not fit into half precision.
        exact = torch.promote_types(weights.dtype, torch.float32)
        grad_weights = torch.zeros_like(weights, dtype=exact) if needs_weights else None
        by_products = grad_weights is not None and _suits_products(clip)
        if by_products:
            grad_weights = _multiply_frames(grad, clip, ctx.plan)
        for block in _cut_blocks(clip):
            if grad_clip is not None:
                block.add_taps_(grad_clip, grad, weights, ctx.plan, sign=-1)
            if grad_weights is not None and not by_products:
                block.add_weight_gradient_(grad_weights, grad, clip, ctx.plan)
        return grad_clip, None if grad_weights is None else grad_weights.to(weights.dtype), None


_Pair: TypeAlias = tuple[int, slice, Tensor, Tensor]


@dataclass(frozen=True)
class _Block:
    """A part of a clip, over all its frames, that is finished before the next one is begun."""

    clips: slice
    channels: slice
    rows: slice

    def cut(self, clip: Tensor, start: int, stop: int, offset: int, num_frames: int) -> Tensor:
        """This block's share of the channels, in the frames whose neighbour ``offset`` away exists."""
        frames = slice(max(0, -offset), num_frames - max(0, offset))
        return clip[self.clips, frames, start:stop, self.rows]

    def pair(self, plan: TapPlan, target: Tensor, source: Tensor, *, sign: int) -> Iterator[_Pair]:
        """For every tap that reaches this block: where its weights stand, and the two shifted views."""
        num_frames = target.shape[1]
        for tap in plan.taps:
            start, stop = max(tap.start, self.channels.start), min(tap.stop, self.channels.stop)
            offset = sign * tap.offset
            if start < stop and abs(offset) < num_frames:
                here = self.cut(target, start, stop, offset, num_frames)
                there = self.cut(source, start, stop, -offset, num_frames)
                yield plan.reach + tap.offset, slice(start, stop), here, there

    def add_taps_(self, out: Tensor, clip: Tensor, weights: Tensor, plan: TapPlan, *, sign: int) -> None:
        for row, channels, here, there in self.pair(plan, out, clip, sign=sign):
            weight = weights[row, channels, None, None]
            if row == plan.reach:  # offset 0 comes first and covers every channel: it writes, the others add
                torch.mul(there, weight, out=here)
            else:
                here.addcmul_(there, weight)

    def add_weight_gradient_(self, out: Tensor, grad: Tensor, clip: Tensor, plan: TapPlan) -> None:
        for row, channels, here, there in self.pair(plan, grad, clip, sign=1):
            out[row, channels] += _sum_products(here, there, dtype=out.dtype)


def _sum_products(one: Tensor, other: Tensor, *, dtype: torch.dtype) -> Tensor:
    """The sum of ``one * other`` over all but the channels."""
    if one.device.type != "cpu" or one.dtype != dtype:
        return (one * other).sum((0, 1, 3, 4), dtype=dtype)
    # Gathered in the map of one frame, which stays in the cache, and summed up once.
    products = one[:, 0] * other[:, 0]
    for frame in range(1, one.shape[1]):
        products.addcmul_(one[:, frame], other[:, frame])
    return products.sum((0, 2, 3))


def _suits_products(clip: Tensor) -> bool:
    """Whether the frames of one channel are rows of a matrix, few and exact enough to multiply all of them."""
    rows = clip.stride(4) == 1 and clip.stride(3) == clip.shape[4]
    return rows and clip.shape[1] <= PRODUCT_FRAMES and clip.dtype in (torch.float32, torch.float64)


def _multiply_frames(grad: Tensor, clip: Tensor, plan: TapPlan) -> Tensor:
    """The kernels' gradient from the products of every frame of ``grad`` with every frame of ``clip``.

    Only the diagonals are needed, but one matrix product reads either map once.
    """
    num_frames, channels = clip.shape[1:3]
    products = clip.new_zeros((channels, num_frames, num_frames))
    for one, other in zip(grad, clip, strict=True):
        products.baddbmm_(one.flatten(2).transpose(0, 1), other.flatten(2).permute(1, 2, 0))
    gradient = clip.new_zeros((plan.reach + 1 + plan.ahead, channels))
    for tap in plan.taps:
        if abs(tap.offset) < num_frames:
            diagonal = products[tap.start : tap.stop].diagonal(tap.offset, dim1=1, dim2=2)
            gradient[plan.reach + tap.offset, tap.start : tap.stop] = diagonal.sum(dim=1)
    return gradient


def _cut_blocks(clip: Tensor) -> Iterator[_Block]:
    """Blocks of about ``BLOCK_BYTES`` a thread, cut along what is outermost in memory after time: clips, then
    channels (or rows, for channels-last maps). An accelerator takes everything at once.
    """
    B, T, C, H, W = clip.shape
    all_channels, all_rows = slice(0, C), slice(0, H)
    clip_bytes = T * C * H * W * clip.element_size()
    block_bytes = BLOCK_BYTES * torch.get_num_threads()
    if clip.device.type != "cpu":
        yield _Block(slice(0, B), all_channels, all_rows)
    elif clip_bytes <= block_bytes:
        step = max(1, block_bytes // max(1, clip_bytes))
        for b in range(0, B, step):
            yield _Block(slice(b, min(b + step, B)), all_channels, all_rows)
    elif is_channels_last(clip):
        step = max(1, block_bytes * H // clip_bytes)
        for b in range(B):
            for h in range(0, H, step):
                yield _Block(slice(b, b + 1), all_channels, slice(h, min(h + step, H)))
    else:
        step = max(1, block_bytes * C // clip_bytes)
        for b in range(B):
            for c in range(0, C, step):
                yield _Block(slice(b, b + 1), slice(c, min(c + step, C)), all_rows)


def is_channels_last(clip: Tensor) -> bool:
    """Whether the channels of a pixel lie next to each other in memory."""
    return clip.shape[2] > 1 and clip.stride(2) == 1


def _convolve_traced(clip: Tensor, weights: Tensor, plan: TapPlan) -> Tensor:
    """The same without blocks, branches or in-place writes, for compilers and exporters.

    They fuse it into one pass, and it holds for any number of frames, which may be symbolic.
    """
    last = is_channels_last(clip)
    # Padding gives a contiguous tensor, so put the channels where they lie in memory first.
    frames = clip.movedim(2, -1) if last else clip
    scale = weights if last else weights[..., None, None]
    padded = F.pad(frames, (0, 0, 0, 0, 0, 0, plan.reach, plan.ahead))
    num_frames = clip.shape[1]
    out = frames * scale[plan.reach]
    for tap in plan.taps[1:]:
        row = plan.reach + tap.offset
        out = out + padded[:, row : row + num_frames] * scale[row]
    return out.movedim(-1, 2) if last else out
