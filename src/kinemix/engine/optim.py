"""The optimizer's parts: which parameters decay, and the learning rate as a pure function of the iteration.

There is no scheduler object and so no scheduler state: a run that is resumed at iteration ``n`` asks
:func:`rate_at` for iteration ``n``, and that is all.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from kinemix.errors import ConfigError, did_you_mean

WARMUP_START = 0.01
"""Share of the rate at which the warm-up starts."""


def rate_at(
    iteration: int,
    *,
    lr: float,
    iterations_per_epoch: int,
    epochs: int,
    schedule: str = "cosine",
    milestones: Sequence[float] = (),
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
) -> float:
    """The learning rate of one step of the optimizer.

    Within the warm-up it rises in a straight line from a hundredth of the scheduled rate; then ``cosine``
    falls along half a cosine that reaches zero after the last iteration, ``step`` multiplies by ``gamma`` at
    each milestone, ``constant`` stays.

    Args:
        iteration: number of the step, from 0.
        lr: the rate after warm-up.
        iterations_per_epoch: steps in an epoch.
        epochs: epochs in the whole run, the warm-up's included.
        schedule: ``cosine``, ``step`` or ``constant``.
        milestones: of ``step``, in epochs from the start of the run.
        gamma: of ``step``.
        warmup_epochs: length of the warm-up.

    Raises:
        ConfigError: an unknown schedule.
    """
    epoch = iteration / iterations_per_epoch
    if schedule == "step":
        scheduled = lr * gamma ** sum(epoch >= milestone for milestone in milestones)
    elif schedule == "cosine":
        length = max(epochs - warmup_epochs, 1e-9)
        done = min(max(epoch - warmup_epochs, 0.0) / length, 1.0)
        scheduled = lr * 0.5 * (1 + math.cos(math.pi * done))
    elif schedule == "constant":
        scheduled = lr
    else:
        raise ConfigError(
            f"optim.schedule {schedule!r}: {did_you_mean(schedule, ['step', 'cosine', 'constant'])}"
        )
    if epoch < warmup_epochs:
        scheduled *= WARMUP_START + (1 - WARMUP_START) * epoch / warmup_epochs
    return scheduled


def group_parameters(model: nn.Module, *, weight_decay: float, decay_norms: bool) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: those that decay, and those that do not.

    Biases and the parameters of normalisation layers are the ones with one dimension or none.

    Args:
        model: parameters that need no gradient are left out.
        weight_decay: of the first group.
        decay_norms: put biases and normalisation layers in the first group too.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if decay_norms or p.ndim > 1]
    spared = [p for p in trained if not (decay_norms or p.ndim > 1)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: nn.Module,
    *,
    name: str,
    lr: float,
    weight_decay: float,
    decay_norms: bool = True,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameter groups of ``model``.

    Raises:
        ConfigError: an unknown name, or Nesterov's momentum without momentum.
    """
    groups = group_parameters(model, weight_decay=weight_decay, decay_norms=decay_norms)
    if name == "sgd":
        if nesterov and momentum <= 0:
            raise ConfigError(f"optim.nesterov needs optim.momentum above 0, which is {momentum}")
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    raise ConfigError(f"optim.name {name!r}: {did_you_mean(name, ['sgd', 'adamw'])}")


def set_rate_(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
