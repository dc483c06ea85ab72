"""What a run needs beside the weights to go on as if it had never stopped, and where it lies.

The state lies beside the weights in a file of its own, and the checkpoint's JSON, which is replaced last and
in one step, names both: at any moment the JSON, the weights and the state are of the same iteration. It is
read with ``torch.load(weights_only=True)``: tensors and numbers, no code.
"""

import io
import os
import random
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from kinemix.atomic import flush_to_disk, write_atomically
from kinemix.errors import CheckpointError
from kinemix.models.checkpoint import JSON_NAME, load_checkpoint, read_description, save_checkpoint
from kinemix.models.video import VideoModel

Number = TypeVar("Number", int, float)


@dataclass
class Position:
    """How far a run has come; what a schedule, a sampler and a log need to go on.

    Attributes:
        epoch: whole epochs done.
        batch: micro-batches done in the epoch under way.
        iteration: steps of the optimizer since the start.
        clips: clips seen in the epoch under way, on this process.
        losses: sums of their losses, by name (:meth:`kinemix.engine.objective.Loss.values`).
        right: how many of them were answered rightly while training on them, by figure.
        best: highest validation figure so far (:attr:`kinemix.evaluate.metrics.Metrics.headline`).
        best_epoch: number of epochs done when it was reached, for the last time.
        improved: likewise, for the first time.
        stopped: whether validations found nothing better for so long that the run is over.
    """

    epoch: int = 0
    batch: int = 0
    iteration: int = 0
    clips: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    right: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None
    improved: int | None = None
    stopped: bool = False

    def count(self, *, clips: int, losses: Mapping[str, float], right: Mapping[str, int]) -> None:
        """Count a micro-batch.

        Args:
            clips: of it.
            losses: sums over them.
            right: how many of them were answered rightly, by figure.
        """
        self.clips += clips
        self.losses = join_sums([self.losses, losses])
        self.right = join_sums([self.right, right])

    def end_epoch(self) -> None:
        """Count the epoch under way as done."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.clips, self.losses, self.right = 0, {}, {}


def join_positions(positions: Sequence[Position], *, first: bool) -> Position:
    """Where a run goes on with another number of processes: the first of them has what all have counted.

    Args:
        positions: of the processes that were.
        first: whether this is the first one.
    """
    joined = replace(positions[0], clips=0, losses={}, right={})
    if first:
        joined.clips = sum(position.clips for position in positions)
        joined.losses = join_sums([position.losses for position in positions])
        joined.right = join_sums([position.right for position in positions])
    return joined


def join_sums(parts: Sequence[Mapping[str, Number]]) -> dict[str, Number]:
    """Sums by name; where a name is missing it counts nothing."""
    total: dict[str, Number] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total


def seed_generators_(seed: int) -> None:
    """Seed every global random number generator: torch's, NumPy's and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def collect_rng_state(device: torch.device) -> dict[str, Any]:
    """States of the global random number generators that this process draws from: the CPU's and its device's.

    The other devices are other processes' business, and another machine may have more or fewer of them. Loader
    workers have none to save: what they draw is a function of seed, epoch and sample.
    """
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "python": random.getstate(),
    }


def restore_rng_state_(state: dict[str, Any], device: torch.device) -> None:
    """Undo what was drawn since :func:`collect_rng_state`; a device of another kind keeps its own state."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and isinstance(state["cuda"], Tensor):
        torch.cuda.set_rng_state(state["cuda"], device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])


def write_checkpoint(
    folder: Path,
    *,
    model: VideoModel,
    metadata: dict[str, Any],
    state: dict[str, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint; the one that is in the folder stays whole until the new one is.

    Args:
        folder: made if missing.
        model: its weights.
        metadata: goes into the checkpoint's JSON.
        state: what the run needs to go on, if it shall be able to.
        weights: of the model, where it holds parts of them alone.

    Raises:
        CheckpointError: it cannot be written (the disk is full); the one before is untouched.
    """
    name = f"training-{metadata['iteration']:08d}.pt" if state is not None else None
    try:
        if name is not None:
            _write_state(folder / name, state)
        save_checkpoint(folder, model=model, metadata={**metadata, "training_state": name}, weights=weights)
    finally:
        named = _read_state_name(folder)
        # A process that was killed leaves what it was writing; nobody else writes here.
        for path in (*folder.glob("training-*.pt"), *folder.glob(".training-*.partial")):
            if path.name != named:
                path.unlink(missing_ok=True)


def read_checkpoint_(folder: Path, *, model: VideoModel) -> dict[str, Any]:
    """Load the weights into ``model`` and return the ``state`` that was saved with them.

    Raises:
        CheckpointError: a part is missing, damaged, or belongs to another model.
    """
    _, metadata = load_checkpoint(folder, model=model)
    name = metadata.get("training_state")
    if name is None:
        raise CheckpointError(f"{folder}: holds no state to resume from; give a run directory's `last`")
    try:
        # On the CPU: the optimizer moves its own tensors, and states of generators must stay there.
        return torch.load(folder / name, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever the reader stumbles over
        raise CheckpointError(
            f"{folder / name}: is damaged ({type(error).__name__}): restore it from a copy, or start another run from "
            f"the weights beside it: --init_from {folder} and another --out"
        ) from error


def list_resumable(directory: Path) -> list[Path]:
    """The checkpoints of a run that it can go on from, the newest first."""
    folders = [directory / "last", *sorted((directory / "earlier").glob("step-*"), reverse=True)]
    return [folder for folder in folders if (folder / JSON_NAME).is_file()]


def keep_earlier(directory: Path, *, keep: int, whole: int, iteration: int) -> None:
    """Before a new ``last`` is written: keep the one that is there among the earlier ones, and drop the oldest.

    Args:
        directory: of the run.
        keep: checkpoints to keep, ``last`` included.
        whole: iteration of the one that is there; another one that lies there is damaged and not kept.
        iteration: of the new one; what was saved after it, before the run was resumed, is dropped.

    Raises:
        CheckpointError: no room, no permission; nothing was changed.
    """
    last, earlier = directory / "last", directory / "earlier"
    try:
        if keep > 1 and whole < iteration and _read_iteration(last) == whole:
            earlier.mkdir(exist_ok=True)
            _link_checkpoint(last, earlier / f"step-{whole:08d}")
        kept = sorted(earlier.glob("step-*"))
        obsolete = [folder for folder in kept if int(folder.name.removeprefix("step-")) >= iteration]
        kept = [folder for folder in kept if folder not in obsolete]
        for folder in [*obsolete, *kept[: max(0, len(kept) - keep + 1)], *earlier.glob(".partial-*")]:
            (folder / JSON_NAME).unlink(missing_ok=True)  # first, so that half of it is never taken for one
            shutil.rmtree(folder)
    except OSError as error:
        raise CheckpointError(
            f"{earlier}: the checkpoint before cannot be kept there ({error}): free some room or lower keep_last"
        ) from error


def _link_checkpoint(source: Path, target: Path) -> None:
    """The same files under a second name, or a copy where the disk knows no links."""
    if target.exists():
        return
    partial = target.with_name(f".partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir()
    for file in source.iterdir():
        if not file.name.startswith("."):
            try:
                os.link(file, partial / file.name)
            except OSError:
                shutil.copy2(file, partial / file.name)
                flush_to_disk(partial / file.name)
    flush_to_disk(partial)
    partial.replace(target)


def _read_iteration(folder: Path) -> int | None:
    """Steps of the optimizer in a checkpoint; ``None`` if there is none, or a damaged one."""
    try:
        return int(read_description(folder)["metadata"]["iteration"])
    except CheckpointError:
        return None


def _read_state_name(folder: Path) -> str | None:
    """The file that the checkpoint in the folder belongs with, if there is one."""
    if not (folder / JSON_NAME).is_file():
        return None
    return read_description(folder)["metadata"].get("training_state")


def _write_state(path: Path, state: dict[str, Any] | None) -> None:
    buffer = io.BytesIO()  # because torch.save turns a full disk into a RuntimeError without a number
    torch.save(state, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda partial: partial.write_bytes(buffer.getbuffer()))
    except OSError as error:
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written ({error}); the one before is untouched: "
            "free some room or choose another folder"
        ) from error
