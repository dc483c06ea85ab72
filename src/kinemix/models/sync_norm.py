"""Batch normalisation over the clips of all processes: small batches on many devices normalise as one large one.

torch's ``SyncBatchNorm`` runs on GPUs alone. Its kernels do the work there; elsewhere the same sums are written with
tensors, so that a run on CPUs computes the same, and the tests can hold it to one process with the whole batch.
A layer stays what it is (its class, names and weights), so checkpoints do not know of it.

Source: Peng et al., "MegDet: A Large Mini-Batch Object Detector" (cross-GPU batch normalisation).
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinemix.errors import ConfigError
from kinemix.models.video import VideoModel

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WITH_ACTIVATION = "BatchNormAct2d"
"""timm's layer, which applies its ``drop`` and ``act`` behind the normalisation."""


def synchronise_norms_(model: VideoModel) -> None:
    """Let every batch normalisation layer take mean and variance over the clips of all processes.

    It does so in training mode alone, and only where there are several processes.

    Args:
        model: changed in place; weights, their names and what it answers stay the same.

    Raises:
        ConfigError: the network has none, or one of a kind that is not known.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    name = model.description.get("name")
    if not norms:
        raise ConfigError(f"machine.sync_batch_norm: {name} has no batch normalisation: leave it out")
    for norm in norms:
        if type(norm) not in _PLAIN and type(norm).__name__ != _WITH_ACTIVATION:
            raise ConfigError(
                f"machine.sync_batch_norm: {name} has layers of its own, {type(norm).__name__}, which cannot be "
                "synchronised: leave it out"
            )
    for norm in norms:
        norm.__class__ = _synchronise(type(norm))  # type: ignore[assignment, arg-type]


class _Synchronised(nn.Module):
    """What is put before a layer's own class."""

    process_group = None  # all processes; torch's forward asks

    def forward(self, features: Tensor) -> Tensor:
        if not (self.training and _count_processes() > 1):
            return super().forward(features)
        if features.is_cuda:
            normalised = nn.SyncBatchNorm.forward(self, features)  # type: ignore[arg-type]
        else:
            normalised = _normalise(self, features)  # type: ignore[arg-type]
        for name in ("drop", "act"):
            if hasattr(self, name):
                normalised = getattr(self, name)(normalised)
        return normalised

    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels


@cache
def _synchronise(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Synchronised{kind.__name__}", (_Synchronised, kind), {})


def _count_processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _normalise(norm: _BatchNorm, features: Tensor) -> Tensor:
    """``B C ...``, normalised over all dimensions but C, and over the maps of all processes."""
    norm._check_input_dim(features)
    values = features if features.dtype == torch.float64 else features.float()
    dims, shape = [0, *range(2, features.ndim)], [1, -1, *[1] * (features.ndim - 2)]
    count = values.new_tensor([features.numel() / features.shape[1]])
    sums, total = _AddUp.apply(torch.cat([values.sum(dims), count])).split([features.shape[1], 1])
    mean = sums / total
    centred = values - mean.view(shape)
    variance = _AddUp.apply(centred.square().sum(dims)) / total
    _count_statistics_(norm, mean.detach(), variance.detach() * total / (total - 1))
    normalised = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.weight is not None:
        normalised = normalised * norm.weight.view(shape)
    if norm.bias is not None:
        normalised = normalised + norm.bias.view(shape)
    return normalised.to(features.dtype)


@torch.no_grad()
def _count_statistics_(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


class _AddUp(torch.autograd.Function):
    """The sum over all processes. What each does with it counts for all, so the gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total
