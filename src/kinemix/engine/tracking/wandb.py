"""Weights & Biases. Its own variables apply: ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_MODE=offline``, ..."""

import json
import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinemix.engine.tracking.base import PATIENCE, Opening, Outcome, Tracker, list_scalars

_FILE_HEADER, _PART_HEADER, _BLOCK = 7, 7, 32 * 1024  # bytes
_WHOLE, _LAST = 1, 4

_KINDS = ("train", "val")
"""Of records, with steps."""

_EXIT_CODES: Mapping[Outcome, int] = {"finished": 0, "stopped": 255, "failed": 1}
"""What W&B takes for finished, killed and failed."""


class WandbTracker(Tracker):
    """One W&B run for each run directory; its files lie in ``wandb/`` there.

    Steps are a metric of their own (``train/iteration``): W&B's own step counts what was logged, and would drop a
    validation that is logged behind the steps of a process that was killed.
    """

    name = "wandb"
    title = "W&B"
    package = "wandb"

    def __init__(self, opening: Opening) -> None:
        import wandb

        known = opening.identity
        self._run = wandb.init(
            dir=str(opening.directory.absolute()),
            id=known.get("id") or uuid.uuid4().hex[:8],
            entity=known.get("entity"),
            project=known.get("project") or os.environ.get("WANDB_PROJECT", "kinemix"),
            name=None if known else os.environ.get("WANDB_NAME", opening.directory.name),
            resume="allow",
            # Sent again on resuming: a kill takes along what W&B had not written yet.
            config={**opening.config, **opening.count()},
            allow_val_change=True,
            settings=wandb.Settings(
                console="off",  # the terminal is the bar's
                silent=True,
                finish_timeout=0.75 * PATIENCE,  # else a program without a network does not come to its end
                finish_timeout_raises=True,
            ),
        )
        for kind in _KINDS:
            self._run.define_metric(f"{kind}/*", step_metric=f"{kind}/iteration")
        self.identity = {"id": self._run.id, "project": self._run.project, "entity": self._run.entity}
        self._files = Path(self._run.dir).parent
        self.link = None if self._run.offline else self._run.url
        if known and self._run.offline:
            parts = (opening.directory / "wandb").glob(f"*-{self._run.id}/run-{self._run.id}.wandb")
            newest = read_newest(sorted(parts))
        else:
            newest = dict(self._run.summary) if known else {}
        self._held = {name: int(newest[name]) for kind in _KINDS if (name := f"{kind}/iteration") in newest}

    def holds(self, kind: str, iteration: int) -> bool:
        return iteration <= self._held.get(f"{kind}/iteration", -1)

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            self._run.log(list_scalars(record))

    def close(self, outcome: Outcome) -> None:
        try:
            self._run.finish(exit_code=_EXIT_CODES[outcome])
        except TimeoutError as error:
            raise TimeoutError(f"not all is sent: `wandb sync {self._files}` does so later") from error


def read_newest(paths: Iterable[Path]) -> dict[str, Any]:
    """The last value of every curve in W&B's files of a run that was not online.

    A process that is killed takes with it what it had not yet put into its file, so what was sent is not the answer.

    Args:
        paths: of the files, the oldest first.
    """
    from wandb.proto import wandb_internal_pb2

    newest = {}
    for path in paths:
        for content in _read_entries(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            for item in record.history.item:
                newest[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return newest


def _read_entries(data: bytes) -> Iterator[bytes]:
    """What is whole in a file of LevelDB's log format, which W&B has behind a header of its own.

    Source: https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    entry, place = b"", _FILE_HEADER
    while place + _PART_HEADER <= len(data):
        _, size, kind = struct.unpack_from("<IHB", data, place)
        if kind and place + _PART_HEADER + size <= len(data):
            entry += data[place + _PART_HEADER : place + _PART_HEADER + size]
            if kind in (_WHOLE, _LAST):
                yield entry
                entry = b""
        place += _PART_HEADER + size
        if (room := -place % _BLOCK) < _PART_HEADER:  # too little for another part: the block ends with zeros
            place += room
