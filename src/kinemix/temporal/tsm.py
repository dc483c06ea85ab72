"""Temporal shift: some channels come from the next frame, some from the previous one (TSM)."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kinemix.errors import ConfigError
from kinemix.temporal.base import Insertion, Site, TemporalModule, check_clip
from kinemix.temporal.shift_and_add import is_channels_last
from kinemix.types import Clip, Frame

Shifts: TypeAlias = tuple[int, ...]
"""For channel folds from the first on: which frame each takes, as an offset. Later channels stay."""


class TemporalShift(TemporalModule):
    """Shift one part of the channels along time in each direction, with zeros beyond the ends.

    Source: "TSM: Temporal Shift Module for Efficient Video Understanding". The first ``C // fold`` channels
    take the next frame and the second as many the previous frame; the rest stay. A network that runs on a
    stream takes the previous frame in the first fold only (``causal``). Channels are copied; there is no
    arithmetic.

    Args:
        site: where the module stands.
        fold: ``C // fold`` channels are shifted in each direction; with fewer than ``fold`` channels none is.
        causal: take channels from the past only.

    Raises:
        ConfigError: ``fold`` leaves no room for the folds.
    """

    name: ClassVar[str] = "tsm"
    placements: ClassVar[Mapping[str, Insertion]] = {
        "residual": Insertion(at="first_conv", place="before", every=None),
        "block": Insertion(at="block", place="before"),
    }

    def __init__(self, site: Site, *, fold: int = 8, causal: bool = False) -> None:
        super().__init__(site)
        least = 1 if causal else 2
        if isinstance(fold, bool) or not isinstance(fold, int) or fold < least:
            raise ConfigError(
                f"fold {fold!r} does not leave 1/fold of the channels for each direction: "
                f"give a whole number from {least} up, such as 8"
            )
        self.fold = fold
        self.causal = causal
        self.fold_channels = site.channels // fold
        self.shifts: Shifts = (-1,) if causal else (1, -1)

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return _shift_traced(clip, self.fold_channels, self.shifts)
        out: Clip = _Shift.apply(clip, self.fold_channels, self.shifts)
        return out

    def step(self, frame: Frame, state: Tensor | None = None) -> tuple[Frame, Tensor]:
        """State: the first fold of the previous frame, ``B C//fold H W``."""
        if not self.causal:
            return super().step(frame, state)
        now, rest = frame[:, : self.fold_channels], frame[:, self.fold_channels :]
        before = torch.zeros_like(now) if state is None else state
        return torch.cat([before, rest], dim=1), now

    def macs(self, num_frames: int, height: int, width: int) -> int:
        return 0

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, fold={self.fold}, causal={self.causal}"


def shift_channels(clip: Clip, fold_channels: int, shifts: Shifts) -> Clip:
    """A copy of the clip, strides kept, whose folds of channels come from the frames ``shifts`` away."""
    out = torch.empty_like(clip)
    for number, shift in enumerate(shifts):
        channels = slice(number * fold_channels, (number + 1) * fold_channels)
        if shift > 0:
            out[:, :-shift, channels] = clip[:, shift:, channels]
            out[:, -shift:, channels] = 0
        else:
            out[:, -shift:, channels] = clip[:, :shift, channels]
            out[:, :-shift, channels] = 0
    out[:, :, len(shifts) * fold_channels :] = clip[:, :, len(shifts) * fold_channels :]
    return out


class _Shift(torch.autograd.Function):
    """Autograd would copy the whole gradient once for every slice written; the gradient is a shift back."""

    @staticmethod
    def forward(clip: Tensor, fold_channels: int, shifts: Shifts) -> Tensor:
        return shift_channels(clip, fold_channels, shifts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, Shifts], output: Tensor) -> None:
        _, ctx.fold_channels, ctx.shifts = inputs
        ctx.strides = output.stride()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if grad.stride() != ctx.strides:
            grad = torch.empty_strided(grad.shape, ctx.strides, dtype=grad.dtype, device=grad.device).copy_(
                grad
            )
        return shift_channels(grad, ctx.fold_channels, tuple(-s for s in ctx.shifts)), None, None


def _shift_traced(clip: Tensor, fold_channels: int, shifts: Shifts) -> Tensor:
    """The same without branches or in-place writes, for compilers and exporters; the number of frames may be
    symbolic.
    """
    last = is_channels_last(clip)
    # Padding gives a contiguous tensor, so put the channels where they lie in memory first.
    frames, axis = (clip.movedim(2, -1), -1) if last else (clip, 2)
    num_frames, num_folds = clip.shape[1], len(shifts)
    padded = F.pad(frames.narrow(axis, 0, num_folds * fold_channels), (0, 0, 0, 0, 0, 0, 1, 1))
    parts = [
        padded[:, 1 + shift : 1 + shift + num_frames].narrow(axis, number * fold_channels, fold_channels)
        for number, shift in enumerate(shifts)
    ]
    stays = frames.narrow(axis, num_folds * fold_channels, clip.shape[2] - num_folds * fold_channels)
    out = torch.cat([*parts, stays], dim=axis)
    return out.movedim(-1, 2) if last else out
