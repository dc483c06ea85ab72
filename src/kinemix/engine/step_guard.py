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

MOST_SKIPPED = 100
"""Steps that the scaler of half precision may leave out one after the other; its scale halves at each, and that of
float16 begins at 65,536, so what still overflows is no matter of scale."""

_MOST_NAMED = 4
"""Videos that the error itself names, where the report names them all."""


class StepGuard:
    """Looks at every micro-batch, its loss and the gradient; what is wrong in one process stops all.

    Args:
        fabric: launched.
        directory: of the run, for a report.
        samples: of the training split.
        model: named in a report are its tensors that are not finite.
        unreadable: videos that could not be read.
        mix: what is done to a batch before the network sees it, so that a report shows what it saw.
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
        mix: Callable[[Batch], Batch],
        position: Position,
        rate: Callable[[int], float],
        saved_iteration: Callable[[], int],
    ) -> None:
        self._fabric, self._directory, self._samples, self._model = fabric, directory, samples, model
        self._unreadable, self._position, self._mix = unreadable, position, mix
        self._rate, self._saved_iteration = rate, saved_iteration
        self._rng: dict[str, Any] = {}
        self._batches: list[Batch] = []
        self._skipped = 0

    def begin_step(self) -> None:
        """A step begins: remember the random numbers that it will draw."""
        self._rng, self._batches = collect_rng_state(self._fabric.device), []

    def check_batch(self, batch: Batch) -> None:
        """Note which of a micro-batch's videos could be read, and which not.

        Raises:
            DataError: they are too many; in this process alone.
        """
        self._unreadable.note_read(self._samples.samples[index].name for index in batch.indices.tolist())
        self._unreadable.add((video.path, video.reason) for video in batch.unreadable)

    def check_loss(self, batch: Batch, loss: float) -> None:
        """Raise a :class:`KinemixError` in all processes if the loss is not finite in one of them.

        Args:
            batch: as the loader gave it. Its copy on the device is not held: memory there is what many micro-batches
                a step are to save.
            loss: of the batch.
        """
        self._batches.append(batch)
        agree(self._fabric, None if math.isfinite(loss) else self._report(f"the loss is {loss}"))

    def check_gradient(self, norm: float) -> None:
        """Raise a :class:`KinemixError` if the gradient is not finite and nothing skips the step.

        In half precision it overflows now and then; the scaler leaves such a step out and scales less. If that
        never ends, nothing is learned any more.
        """
        if math.isfinite(norm):
            self._skipped = 0
            return
        self._skipped += 1
        if not self._fabric.strategy.precision.state_dict():
            agree(self._fabric, self._report(f"the gradient is {norm}"))
        elif self._skipped == MOST_SKIPPED:
            agree(self._fabric, self._report(f"the gradient has been {norm} for {MOST_SKIPPED} steps"))

    def _report(self, what: str) -> KinemixError:
        """Write down what must not be learned from; the error names its videos."""
        epoch, iteration = self._position.epoch + 1, self._position.iteration + 1
        lr = self._rate(iteration - 1)
        facts = {"epoch": epoch, "iteration": iteration, "process": self._fabric.global_rank, "rate": lr}
        indices = [index for batch in self._batches for index in batch.indices.tolist()]
        files = [self._samples.samples[index].path for index in indices]
        shown = _MOST_NAMED
        try:
            written: Path | str = write_bad_batch(
                self._directory,
                what=what,
                batches=[self._mix(batch) for batch in self._batches],
                samples=self._samples,
                model=self._model,
                rng=self._rng,
                facts=facts,
                resume_from=self._saved_iteration(),
            )
        except OSError as error:
            written, shown = f"not written down, {error}", len(files)
        more = f" and {len(files) - shown} more" if len(files) > shown else ""
        return KinemixError(
            f"{what} in epoch {epoch}, step {iteration}: lower optim.lr (the rate is now {lr:g}), or look at the "
            f"videos of this batch ({written}): {', '.join(files[:shown])}{more}"
        )
