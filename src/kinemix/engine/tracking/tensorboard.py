"""TensorBoard: event files in ``tensorboard/`` of the run directory."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from torch.utils.tensorboard import SummaryWriter

from kinemix.engine.tracking.base import Opening, Outcome, Tracker, list_scalars

FOLDER = "tensorboard"


class TensorBoardTracker(Tracker):
    """Writes scalars, and the options as a text."""

    name = "tensorboard"
    title = "TensorBoard"
    is_local = True

    def __init__(self, opening: Opening) -> None:
        folder = opening.directory / FOLDER
        had = any(folder.glob("events*"))
        # TensorBoard drops what earlier processes wrote from this step on. The points of the checkpoint's own step are
        # written again: whether its validation belongs to the run, the log alone knows.
        self._holds_before = opening.resume_at if had and opening.resume_at is not None else 0
        self._board = SummaryWriter(str(folder), purge_step=self._holds_before or None)
        if not had:
            options = yaml.safe_dump(dict(opening.config), sort_keys=False)
            self._board.add_text("options", "\n".join(f"    {line}" for line in options.splitlines()))

    def holds(self, kind: str, iteration: int) -> bool:
        return iteration < self._holds_before

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            kind, iteration = record["kind"], record["iteration"]
            for name, value in list_scalars(record).items():
                if name != f"{kind}/iteration":
                    self._board.add_scalar(name, value, iteration, walltime=record["time"])

    def flush(self) -> None:
        self._board.flush()

    def close(self, outcome: Outcome) -> None:
        self._board.close()
