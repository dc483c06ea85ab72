"""Temporal kernels: which sizes and dilations are allowed, and the values they start from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kinemix.errors import ConfigError, did_you_mean


def check_kernel_size(kernel_size: int) -> int:
    """The size, or a :class:`~kinemix.errors.ConfigError` unless it is odd and positive."""
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size < 1:
        raise ConfigError(f"kernel_size {kernel_size!r} is no positive whole number: give 1, 3, 5, 7, ...")
    if kernel_size % 2 == 0:
        raise ConfigError(
            f"kernel_size {kernel_size} is even and has no middle frame: "
            f"give {kernel_size - 1} or {kernel_size + 1}"
        )
    return kernel_size


def check_dilation(dilation: int) -> int:
    """The dilation, or a :class:`~kinemix.errors.ConfigError` unless it is 1 or more."""
    if isinstance(dilation, bool) or not isinstance(dilation, int) or dilation < 1:
        raise ConfigError(
            f"dilation {dilation!r} is no positive whole number: give 1 for neighbouring frames"
        )
    return dilation


def check_kernel_sizes(kernel_sizes: int | Sequence[int], channels: int) -> tuple[int, ...]:
    """One odd kernel size a channel group, with at least one channel a group."""
    sizes = _read_tuple(kernel_sizes, "kernel_sizes", "(1, 3, 5, 7)")
    if not sizes:
        raise ConfigError("kernel_sizes is empty: give at least one, such as (1, 3, 5, 7)")
    if len(sizes) > channels:
        raise ConfigError(
            f"kernel_sizes {sizes} makes {len(sizes)} channel groups of only {channels} channels: "
            f"give at most {channels} sizes, or leave out this site"
        )
    return tuple(check_kernel_size(size) for size in sizes)


def check_dilations(dilations: int | Sequence[int], num_groups: int) -> tuple[int, ...]:
    """One dilation a channel group; a single number holds for all groups."""
    if isinstance(dilations, int):
        return (check_dilation(dilations),) * num_groups
    values = _read_tuple(dilations, "dilations", "1 or (1, 2, 3)")
    if len(values) != num_groups:
        raise ConfigError(
            f"dilations {values} has {len(values)} values for {num_groups} kernel sizes: "
            "give one for each, or a single number"
        )
    return tuple(check_dilation(value) for value in values)


def _read_tuple(value: object, option: str, example: str) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{option} {value!r} is neither a number nor a list of numbers: give {example}")
    return tuple(value)


def check_init(init: str, known: Sequence[str]) -> str:
    """The name of an initialisation, or a :class:`~kinemix.errors.ConfigError` that suggests the nearest."""
    if init not in known:
        raise ConfigError(f"unknown init {init!r}: {did_you_mean(str(init), known)}")
    return init


def make_delta_kernels(channels: int, kernel_size: int, *, middle: int) -> Tensor:
    """``channels x kernel_size``: one at the present frame (``middle``), so that a clip passes unchanged."""
    kernels = torch.zeros(channels, kernel_size)
    kernels[:, middle] = 1
    return kernels


def make_shift_kernels(channels: int, kernel_size: int, *, middle: int, fold: int) -> Tensor:
    """``channels x kernel_size``, as in the authors' released code of "MixTConv".

    The first ``fold`` channels sum the frames before the present one, the next ``fold`` those after it, the
    rest pass unchanged: ``[1, 0, 0]``, ``[0, 0, 1]``, ``[0, 1, 0]`` for size 3, ``[1, 1, 0, 0, 0]``, ... for
    size 5, not normalised. Index 0 multiplies the earliest frame; in "TSM" the first fold takes the next one.
    Where nothing comes before or after, those channels pass unchanged too (size 1; ``causal`` has no after).
    """
    kernels = make_delta_kernels(channels, kernel_size, middle=middle)
    for first, frames in ((0, slice(0, middle)), (fold, slice(middle + 1, kernel_size))):
        if frames.start < frames.stop:
            kernels[first : first + fold] = 0
            kernels[first : first + fold, frames] = 1
    return kernels
