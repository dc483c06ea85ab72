"""A classifier for several questions at once, of which one may bias the others.

Hands that *cut* mostly cut a *tomato*: who knows the action knows more about its verb and its noun. LSTA and GSM let
the action's scores a bias the other two on EPIC-Kitchens, for the features f of a frame or clip:

    a = Wa f,    v = Wv f + Wav a,    n = Wn f + Wan a

Every W has a bias, the scores are raw, and gradients of v and n reach Wa through them.

Sources: Sudhakaran et al., "Gate-Shift Networks for Video Action Recognition", section 4.3 (EPIC-Kitchens);
"LSTA: Long Short-Term Attention for Egocentric Action Recognition".
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinemix.errors import ConfigError, did_you_mean
from kinemix.models.backbones import init_classifier_


class MultiTaskHead(nn.Module):
    """Takes the place of a backbone's classifier; the scores of all tasks stand side by side in what it gives.

    Args:
        replaced: the classifier, a linear layer or a convolution; the new layers are of its kind and take the same.
        tasks: number of classes by task, in the order of the scores.
        task_bias: the task whose scores bias the others'; ``None`` for tasks that know nothing of each other.

    Attributes:
        tasks: names, in the order of the scores.
        classify: Wv, Wn and Wa, in that order.
        bias: Wav and Wan, in that order, without the task that biases.

    Raises:
        ConfigError: no such task; a convolution that sees more than one place.
    """

    def __init__(self, replaced: nn.Module, *, tasks: Mapping[str, int], task_bias: str | None) -> None:
        super().__init__()
        if task_bias is not None and task_bias not in tasks:
            raise ConfigError(f"task_bias is {task_bias!r}: no such task: {did_you_mean(task_bias, tasks)}")
        self.tasks, self.task_bias = tuple(tasks), task_bias
        self._biased = () if task_bias is None else tuple(task for task in tasks if task != task_bias)
        # Lists, because a task may be called as the user likes, and names of modules are not that free.
        self.classify = nn.ModuleList(_resize(replaced, count) for count in tasks.values())
        self.bias = nn.ModuleList(
            _resize(replaced, tasks[task], taken=tasks[str(task_bias)]) for task in self._biased
        )
        self._class_dim = -1 if isinstance(replaced, nn.Linear) else 1
        for layer in (*self.classify, *self.bias):
            init_classifier_(layer)

    def forward(self, features: Tensor) -> Tensor:
        """Scores of all tasks.

        Args:
            features: what the replaced classifier took: ``N F``, or a map ``N F ...`` for a convolution.

        Returns:
            ``N K`` or ``N K ...``, with K classes of all tasks together.
        """
        scores = {task: layer(features) for task, layer in zip(self.tasks, self.classify, strict=True)}
        for task, layer in zip(self._biased, self.bias, strict=True):
            scores[task] = scores[task] + layer(scores[str(self.task_bias)])
        return torch.cat(list(scores.values()), dim=self._class_dim)

    def extra_repr(self) -> str:
        return f"tasks={self.tasks}, task_bias={self.task_bias}"


def _resize(layer: nn.Module, given: int, *, taken: int | None = None) -> nn.Module:
    """A layer of the same kind that gives another number of scores, and takes another number of features."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features if taken is None else taken, given)
    if isinstance(layer, (nn.Conv2d, nn.Conv3d)) and set(layer.kernel_size) == {1} and layer.groups == 1:
        kind = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Conv3d
        return kind(layer.in_channels if taken is None else taken, given, 1)
    raise ConfigError(
        f"the classifier is {layer}: several tasks need one that sees one place at a time: take another backbone"
    )
