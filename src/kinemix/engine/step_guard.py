"""Before a step changes the weights: whether what it learns from is sound, in every process."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from torch import nn

from kinemix.data.annotations import Annotations
from kinemix.data.dataset import Batch
from kinemix.engine.bad_batch import write_bad_batch
from kinemix.engine.processes import agree
from kinemix.engine.training_state import Position, collect_rng_state
from kinemix.engine.unreadable import UnreadableList
from kinemix.errors import KinemixError


class StepGuard:
    """Looks at every micro-batch, its loss and the gradient; what is wrong in one process stops all.

    Args:
        fabric: launched.
        directory: of the run, for a report.
        samples: of the training split.
        model: named in a report are its tensors that are not finite.
        unreadable: videos that could not be read.
        position: of the run.
        rate: learning rate of an iteration.
        saved_iteration: steps of the optimizer in the run's last checkpoint.
    """

    def __init__(
        self,
        fabric: Fabric,
        *,
        directory: Path,
        samples: Annotations,
        model: nn.Module,
        unreadable: UnreadableList,
        position: Position,
        rate: Callable[[int], float],
        saved_iteration: Callable[[], int],
    ) -> None:
        self._fabric, self._directory, self._samples, self._model = fabric, directory, samples, model
        self._unreadable, self._position = unreadable, position
        self._rate, self._saved_iteration = rate, saved_iteration
        self._rng: dict[str, Any] = {}
        self._batches: list[Batch] = []

    def begin_step(self) -> None:
        """A step begins: remember the random numbers that it will draw."""
        self._rng, self._batches = collect_rng_state(), []

    def check_batch(self, batch: Batch) -> None:
        """Note a micro-batch's unreadable videos.

        Raises:
            DataError: they are too many; in this process alone.
        """
        self._unreadable.add((video.path, video.reason) for video in batch.unreadable)

    def check_loss(self, batch: Batch, loss: float) -> None:
        """Raise a :class:`KinemixError` in all processes if the loss is not finite in one of them."""
        self._batches.append(batch)
        agree(self._fabric, None if math.isfinite(loss) else self._report(f"the loss is {loss}"))

    def check_gradient(self, norm: float) -> None:
        """Raise a :class:`KinemixError` if the gradient is not finite and nothing skips the step.

        In half precision it overflows now and then; the scaler leaves such a step out and scales less.
        """
        if not (math.isfinite(norm) or self._fabric.strategy.precision.state_dict()):
            agree(self._fabric, self._report(f"the gradient is {norm}"))

    def _report(self, what: str) -> KinemixError:
        """Write down what must not be learned from; the error names its videos."""
        epoch, iteration = self._position.epoch + 1, self._position.iteration + 1
        lr = self._rate(iteration - 1)
        facts = {"epoch": epoch, "iteration": iteration, "process": self._fabric.global_rank, "rate": lr}
        try:
            written: Path | str = write_bad_batch(
                self._directory,
                what=what,
                batches=self._batches,
                samples=self._samples,
                model=self._model,
                rng=self._rng,
                facts=facts,
                resume_from=self._saved_iteration(),
            )
        except OSError as error:
            written = f"not written down, {error}"
        indices = [index for batch in self._batches for index in batch.indices.tolist()]
        files = ", ".join(self._samples.samples[index].path for index in indices)
        return KinemixError(
            f"{what} in epoch {epoch}, step {iteration}: lower optim.lr (the rate is now {lr:g}), or look at the "
            f"videos of this batch ({written}): {files}"
        )
