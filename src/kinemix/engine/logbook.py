"""The logbook: one JSON line a record, which programs read and trackers follow."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from kinemix.atomic import flush_to_disk, write_atomically
from kinemix.engine.training_state import Position

FILE_NAME = "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is told about one step of the optimizer, over all processes.

    Attributes:
        losses: means over the clips of the step: ``loss``, and that of each task where there are several.
        clips: how many there were.
        rate: learning rate.
        gradient_norm: before clipping; ``None`` where no video could be read, or where half precision
            overflowed and the step was left out.
        seconds: that it took this process.
        waiting: of them, spent waiting for data of its own.
    """

    losses: Mapping[str, float]
    clips: int
    rate: float
    gradient_norm: float | None
    seconds: float
    waiting: float


class Logbook:
    """Writes records to ``log.jsonl`` in a run directory.

    Args:
        directory: the run directory.
        resume_at: position from which a resumed run goes on: what an earlier process wrote after it will be
            written again, so it is dropped. ``None`` starts afresh.
    """

    def __init__(self, directory: Path, *, resume_at: Position | None = None) -> None:
        self.path = directory / FILE_NAME
        if resume_at is not None and self.path.exists():
            _drop_records_after(self.path, resume_at)
        self._file: IO[str] = self.path.open("a", encoding="utf-8")

    def write(self, kind: str, *, iteration: int, epoch: float, **values: Any) -> dict[str, Any]:
        """One record, which is returned as it was written.

        Args:
            kind: what it tells about (``train``, ``val``, ...).
            iteration: steps of the optimizer so far.
            epoch: epochs so far, as a fraction.
            values: numbers become curves in trackers; everything else stands in the JSON line only.
        """
        record = {
            "time": round(time.time(), 3),
            "kind": kind,
            "iteration": iteration,
            "epoch": epoch,
            **values,
        }
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        return record

    def flush(self) -> None:
        """Wait until all records are on the disk: a checkpoint must not know more than the log."""
        flush_to_disk(self.path)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_log(directory: Path) -> list[dict[str, Any]]:
    """All records of a run, oldest first; a line that a killed process left half-written is not one."""
    records = []
    for line in (directory / FILE_NAME).read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def read_curve(directory: Path) -> list[dict[str, float]]:
    """The run epoch by epoch: ``epoch``, mean ``train_loss``, and ``val_top1`` where it was validated."""
    validated: dict[int, dict[str, float]] = {}
    losses: dict[int, list[float]] = {}
    for record in read_log(directory):
        if record["kind"] == "train":
            losses.setdefault(math.ceil(record["epoch"]), []).append(record["loss"])
        elif record["kind"] == "val" and "top1" in record:
            validated[int(record["epoch"])] = {"val_top1": record["top1"]}
    return [
        {"epoch": epoch, "train_loss": sum(values) / len(values), **validated.get(epoch, {})}
        for epoch, values in sorted(losses.items())
    ]


def _drop_records_after(path: Path, position: Position) -> None:
    kept = [
        record
        for record in read_log(path.parent)
        if record["iteration"] <= position.iteration
        # A validation belongs to the end of its epoch: one that was cut off before that is done again.
        and not (record["kind"] == "val" and record["epoch"] > position.epoch)
    ]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
