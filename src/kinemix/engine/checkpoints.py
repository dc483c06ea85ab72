"""The checkpoints of a run under way: when one is due, what goes into it, and the way back.

``last/`` is the newest, ``earlier/step-00000120/`` and the like are the ones before it (``keep_last``), and
``best/`` is the one with the highest validation accuracy, which holds no state to go on from. An earlier one
costs no copy: it is made of links to the files that ``last`` gives up.
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor

from kinemix.config import to_dict
from kinemix.engine.parts import Parts, find_mirrors
from kinemix.engine.processes import any_process, do_all, do_first, gather
from kinemix.engine.training_state import (
    Position,
    collect_rng_state,
    join_positions,
    keep_earlier,
    list_resumable,
    read_checkpoint_,
    write_checkpoint,
)
from kinemix.errors import CheckpointError
from kinemix.evaluate.metrics import AnyMetrics
from kinemix.evaluate.protocol import protocol_to_dict
from kinemix.label_space import label_space_to_dict
from kinemix.models.sharding import gather_whole, load_optimizer_, load_whole_


class Checkpoints:
    """Saves a run, and brings it back to where it was saved.

    Args:
        fabric: launched.
        parts: whose state is saved.
        directory: of the run.
        before_saving: called on the first process before ``last`` is written: what was logged so far belongs to
            it and must be on the disk.

    Attributes:
        saved_iteration: steps of the optimizer in the newest checkpoint.
        notices: what the user should know about the checkpoints.
    """

    def __init__(
        self,
        fabric: Fabric,
        parts: Parts,
        directory: Path,
        *,
        before_saving: Callable[[], None],
    ) -> None:
        self._fabric, self._parts, self._config = fabric, parts, parts.config
        self._directory, self._before_saving = directory, before_saving
        self.saved_iteration, self.notices = 0, list[str]()
        self._saved_at = time.monotonic()

    def is_due(self, iteration: int) -> bool:
        """Whether ``save_steps`` or ``save_minutes`` are over, by any process's clock."""
        steps = self._config.save_steps
        if steps is not None and iteration % steps == 0:
            return True
        due = time.monotonic() - self._saved_at > 60 * self._config.save_minutes
        return any_process(self._fabric, due)

    def save_last(self, position: Position, metrics: AnyMetrics | None = None) -> None:
        """Save everything that it takes to go on from here."""
        mine = {"position": asdict(position), "rng": collect_rng_state(self._fabric.device)}
        state = {**_collect_state(self._fabric, self._parts), "processes": gather(self._fabric, mine)}
        self._write("last", position, metrics, state)
        self._saved_at, self.saved_iteration = time.monotonic(), position.iteration

    def save_best(self, position: Position, metrics: AnyMetrics) -> None:
        """Save the network that has just been measured."""
        self._write("best", position, metrics)

    def restore_(self) -> tuple[Position, dict[str, Any] | None] | None:
        """Go back to the newest checkpoint that can be read.

        Returns:
            Where the run goes on, and the states of the random number generators there, which are of use to as many
            processes as there were; ``None`` if nothing was saved yet.

        Raises:
            CheckpointError: none of the checkpoints can be read.
        """
        if not self._fabric.broadcast(bool(list_resumable(self._directory))):
            return None
        read = do_first(self._fabric, self._read_newest_)
        folder = self._fabric.broadcast(read and read[0])
        state = do_all(
            self._fabric, lambda: read[1] if read else read_checkpoint_(folder, model=self._parts.answering)
        )
        _restore_state_(self._fabric, self._parts, state)
        rank, processes = self._fabric.global_rank, state["processes"]
        positions = [Position(**process["position"]) for process in processes]
        self.saved_iteration = positions[0].iteration
        if len(processes) == self._fabric.world_size:
            return positions[rank], processes[rank]["rng"]
        self.notices.append(
            f"{len(processes)} processes have trained so far, and {self._fabric.world_size} go on: "
            "what dropout draws is other than it would have been"
        )
        return join_positions(positions, first=rank == 0), None

    def tell_how_to_resume(self, iteration: int) -> str:
        """One line for whoever stopped the run."""
        command = f"kinemix train --resume --out {shlex.quote(str(self._directory))}"
        saved = self.saved_iteration
        state = (
            f"and saved after step {saved}"
            if iteration == saved
            else f"after step {iteration}, saved after {saved}"
        )
        return f"stopped {state}; to go on: {command}"

    def _read_newest_(self) -> tuple[Path, dict[str, Any]]:
        folders = list_resumable(self._directory)
        errors = []
        for folder in folders:
            try:
                state = read_checkpoint_(folder, model=self._parts.answering)
            except CheckpointError as error:
                errors.append(error)
            else:
                self.notices += [f"{error}; going on from {folder} instead" for error in errors]
                return folder, state
        raise errors[0]

    def _write(
        self, name: str, position: Position, metrics: AnyMetrics | None, state: dict[str, Any] | None = None
    ) -> None:
        space = self._parts.splits.space
        metadata = {
            "protocol": protocol_to_dict(self._config.protocol),
            "class_names": list(space.class_names),
            "label_space": label_space_to_dict(space),
            "mirrored_labels": find_mirrors(self._config, space),
            "config": to_dict(replace(self._config, resume=False)),  # the same, however often it was resumed
            "epoch": position.epoch,
            "iteration": position.iteration,
            "validation": metrics and metrics.summary(),
            "best": {"figure": position.best, "epoch": position.best_epoch},
        }
        model = self._parts.answering
        weights = gather_whole(model.state_dict(), keep=self._fabric.is_global_zero)
        do_first(self._fabric, partial(self._write_first, name, metadata, state, weights))

    def _write_first(
        self,
        name: str,
        metadata: dict[str, Any],
        state: dict[str, Any] | None,
        weights: dict[str, Tensor],
    ) -> None:
        folder = self._directory / name
        if state is not None:
            self._before_saving()
            keep_earlier(
                self._directory,
                keep=self._config.keep_last,
                whole=self.saved_iteration,
                iteration=metadata["iteration"],
            )
        write_checkpoint(folder, model=self._parts.answering, weights=weights, metadata=metadata, state=state)


def _collect_state(fabric: Fabric, parts: Parts) -> dict[str, Any]:
    """What goes on changing beside the weights that are saved, on any number of processes."""
    state = {
        "optimizer": parts.optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
    }
    if parts.average is not None:
        # The checkpoint's own weights are the mean; these are the ones that go on learning.
        state["weights"] = parts.model.state_dict()
        state["averaged"] = int(parts.average.n_averaged)
    return gather_whole(state, keep=fabric.is_global_zero)


def _restore_state_(fabric: Fabric, parts: Parts, state: dict[str, Any]) -> None:
    """Undo what has changed since :func:`_collect_state`."""
    if parts.average is not None:
        load_whole_(parts.model, state["weights"])
        parts.average.n_averaged.fill_(state["averaged"])
    load_optimizer_(parts.optimizer, state["optimizer"])
    fabric.strategy.precision.load_state_dict(state["precision"])
