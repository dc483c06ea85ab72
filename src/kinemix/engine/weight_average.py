"""The running mean of the weights, which answers better than the weights themselves while the rate is high.

torch's ``AveragedModel`` keeps it; here stands only how fast it forgets.
"""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kinemix.models.sharding import take_local

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


def decay_at(step: int, *, decay: float) -> float:
    """Share of the mean that stays when one more step is added to it.

    It rises to ``decay`` as ``(1 + step) / (10 + step)``: a mean that is still young looks back on about a tenth
    of the steps so far, so that a short training is not judged by the weights that it started from (the rule of
    TensorFlow's ``ExponentialMovingAverage``).

    Args:
        step: steps that are in the mean already, from 1.
        decay: the share in a long training.
    """
    return min(decay, (1 + step) / (10 + step))


def average_weights(model: nn.Module, *, decay: float) -> AveragedModel:
    """A copy of the model, in evaluation mode, whose ``update_parameters`` takes up a step.

    Parameters and the running statistics of normalisation layers are averaged, whole numbers are copied.

    Args:
        model: on its device.
        decay: as in :func:`decay_at`.
    """

    def blend(mean: Tensors, new: Tensors, steps: Tensor | int) -> None:
        mean, new = take_local(mean), take_local(new)
        if torch.is_floating_point(mean[0]):
            get_ema_multi_avg_fn(decay_at(int(steps), decay=decay))(mean, new, steps)
        else:
            for old, value in zip(mean, new, strict=True):
                old.copy_(value)

    return AveragedModel(model, multi_avg_fn=blend, use_buffers=True).eval()
