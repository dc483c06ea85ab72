"""What training minimises, and what it counts on the way: the one place that knows how logits meet labels.

One task is a cross entropy, several are the weighted mean of theirs, and several labels a sample are one binary
cross entropy for each class. Labels come as a batch has them (:class:`kinemix.label_space.LabelSpace`), or as soft
targets ``B K`` of floats, in which each task's classes share a sum of one: what mixing two clips gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kinemix.errors import ConfigError, did_you_mean
from kinemix.label_space import LabelSpace
from kinemix.types import Logits


@dataclass(frozen=True)
class Loss:
    """What the network is trained to make small.

    Attributes:
        total: the scalar whose gradient is taken.
        by_task: the loss of each task, unweighted; empty where there is one.
    """

    total: Float[Tensor, ""]
    by_task: dict[str, Float[Tensor, ""]] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """``loss``, and ``verb_loss`` and its like, as numbers."""
        parts = {f"{task}_loss": loss.item() for task, loss in self.by_task.items()}
        return {"loss": self.total.item(), **parts}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Logits and labels to a loss.

    Attributes:
        space: what the logits are about.
        label_smoothing: share of the target spread over all classes; of several labels, over yes and no.
        task_weights: of the tasks in the mean of their losses; those that are not named have 1.
        class_weights: of the K classes (:func:`weigh_classes`); empty where all have 1. The mean over samples is
            then over their weights too.

    Raises:
        ConfigError: a weight of an unknown task, a negative one, or nothing but zeros.
    """

    space: LabelSpace
    label_smoothing: float = 0.0
    task_weights: Mapping[str, float] = field(default_factory=dict)
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        tasks = self.space.tasks
        for task, weight in self.task_weights.items():
            if task not in tasks:
                cure = did_you_mean(task, tasks) if tasks else "there is one task only: leave it out"
                raise ConfigError(f"optim.task_weights: no task {task!r}: {cure}")
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"optim.task_weights: {task} has {weight}: it must be 0 or more")
        if tasks and not any(self._weights.values()):
            raise ConfigError("optim.task_weights: all are 0, so there is nothing to learn")

    def loss(self, logits: Logits, labels: Tensor) -> Loss:
        """The loss of B samples, a mean over them.

        Args:
            logits: ``B K``.
            labels: as a batch has them, or ``B K`` of floats.
        """
        if self.space.multilabel:
            return Loss(self._binary_cross_entropy(logits, labels))
        if not self.space.tasks:
            return Loss(self._cross_entropy(logits, labels, slice(None)))
        by_task = {
            task: self._cross_entropy(logits[:, place], target, place)
            for task, (place, target) in self._split(labels).items()
        }
        return self._join(by_task)

    @property
    def num_losses(self) -> int:
        """Losses whose mean is trained on: one for each task."""
        return max(len(self.space.tasks), 1)

    def weigh(self, labels: Tensor) -> list[float]:
        """What B samples weigh in each loss: how many there are, or the sum of their classes' weights.

        Args:
            labels: as a batch has them.
        """
        if not self.class_weights or self.space.multilabel:
            return [float(len(labels))] * self.num_losses
        weights = torch.tensor(self.class_weights, dtype=torch.float64)
        if not self.space.tasks:
            return [float(weights[labels].sum())]
        return [float(weights[place][target].sum()) for place, target in self._split(labels).values()]

    def share(self, loss: Loss, shares: Sequence[float]) -> Loss:
        """A process's part of the loss of samples that are shared among several.

        Args:
            loss: of this process's samples.
            shares: what each of its losses is to be multiplied by, so that the mean over the processes is the mean
                over all samples.
        """
        if not loss.by_task:
            return Loss(loss.total * shares[0])
        by_task = {
            task: part * share for (task, part), share in zip(loss.by_task.items(), shares, strict=True)
        }
        return self._join(by_task)

    def _join(self, by_task: dict[str, Tensor]) -> Loss:
        weights = self._weights
        total = torch.stack([weights[task] * loss for task, loss in by_task.items()]).sum()
        return Loss(total / sum(weights.values()), by_task)

    def count_right(self, logits: Logits, labels: Tensor) -> dict[str, int]:
        """How many of B samples are answered rightly, by the name of the figure.

        ``top-1``, or one for each task; ``exact match`` where there may be several labels: those with a score of one
        half or more are the sample's. A soft target counts as its largest part, or as what is above one half.
        """
        if self.space.multilabel:
            return {"exact match": int(((logits >= 0) == (labels > 0.5)).all(dim=1).sum())}
        if not self.space.tasks:
            return {"top-1": _count_equal(logits, labels)}
        return {
            f"{task} top-1": _count_equal(logits[:, place], target)
            for task, (place, target) in self._split(labels).items()
        }

    def plain(self) -> "Objective":
        """The same without what serves training alone: the loss of a validation."""
        return replace(self, label_smoothing=0.0, class_weights=())

    @property
    def _weights(self) -> dict[str, float]:
        return {task: self.task_weights.get(task, 1.0) for task in self.space.tasks}

    def _split(self, labels: Tensor) -> dict[str, tuple[slice, Tensor]]:
        """Where each task's logits stand, and its labels."""
        soft = labels.is_floating_point()
        return {
            task: (place, labels[:, place] if soft else labels[:, number])
            for number, (task, place) in enumerate(self.space.places.items())
        }

    def _cross_entropy(self, logits: Logits, labels: Tensor, place: slice) -> Tensor:
        weight, smoothing = self._find_weights(logits, place), self.label_smoothing
        soft = labels.is_floating_point()
        if weight is None and not soft:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # Of soft targets, torch's mean would leave the weights out of what it divides by. Where all samples weigh
        # nothing, there is nothing to learn from them: 0, and not 0 / 0.
        total = F.cross_entropy(logits, labels, weight=weight, label_smoothing=smoothing, reduction="sum")
        if weight is None:
            return total / labels.sum()
        weighed = (labels * weight).sum() if soft else weight[labels].sum()
        return total / torch.where(weighed > 0, weighed, 1)

    def _binary_cross_entropy(self, logits: Logits, labels: Tensor) -> Tensor:
        targets = labels.to(logits.dtype)
        targets = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        weight = self._find_weights(logits, slice(None))
        return F.binary_cross_entropy_with_logits(logits, targets, weight=weight)

    def _find_weights(self, logits: Logits, place: slice) -> Tensor | None:
        return logits.new_tensor(self.class_weights[place]) if self.class_weights else None


def weigh_classes(
    wish: str | Mapping[str, float], *, counts: Sequence[int], space: LabelSpace
) -> tuple[float, ...]:
    """Weights of the K classes.

    Args:
        wish: ``none``; ``balanced`` for n / (classes x samples of the class), as scikit-learn has it, within each
            task; or weights by name.
        counts: training samples of each of the K classes.
        space: what the classes are.

    Raises:
        ConfigError: a weight of an unknown class, or a negative one.
    """
    if wish == "none":
        return ()
    if wish == "balanced":
        places = space.places.values() or [slice(0, len(counts))]
        return tuple(weight for place in places for weight in _balance(counts[place]))
    assert isinstance(wish, Mapping)
    for name, weight in wish.items():
        if name not in space.class_names:
            raise ConfigError(
                f"optim.class_weights: no class {name!r}: {did_you_mean(name, space.class_names)}"
            )
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"optim.class_weights: {name!r} has {weight}: it must be 0 or more")
    return tuple(wish.get(name, 1.0) for name in space.class_names)


def _balance(counts: Sequence[int]) -> list[float]:
    """A class without samples, which no target names, has 1."""
    share = sum(counts) / max(sum(count > 0 for count in counts), 1)
    return [share / count if count else 1.0 for count in counts]


def _count_equal(logits: Logits, labels: Tensor) -> int:
    answers = labels.argmax(dim=1) if labels.is_floating_point() else labels
    return int((logits.argmax(dim=1) == answers).sum())
