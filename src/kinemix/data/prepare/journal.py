"""What is done so far, kept so that an interrupted preparation goes on where it stopped.

``unfinished/plan.json`` says what is being prepared and how; ``unfinished/journal.jsonl`` grows by a line for
every clip and every shard that is done. A line that was cut off by the end of a process does not count, nor
does one whose files are not there as it says.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinemix.atomic import write_atomically
from kinemix.data._shard import INDEX_SUFFIX, ROW, SHARD_SUFFIX
from kinemix.data.prepare.manifest import format_line
from kinemix.data.prepare.shards import check_shard
from kinemix.errors import ConfigError

PLAN_NAME, JOURNAL_NAME = "plan.json", "journal.jsonl"


class Journal:
    """The journal of one preparation.

    Args:
        folder: ``unfinished``, made if need be.
        shards: folder of the finished shards.
        plan: what is being prepared, and how.
        shard_clips: clips in a shard.

    Attributes:
        clips: what the manifest says of each clip that is done, by its number.
        shards: what ``prepared.json`` says of each shard that is done, by its number.

    Raises:
        ConfigError: something else is being prepared there.
    """

    def __init__(self, folder: Path, shards: Path, *, plan: Mapping[str, Any], shard_clips: int) -> None:
        self.folder, self._shards_folder, self._shard_clips = folder, shards, shard_clips
        self.clips: dict[int, dict[str, Any]] = {}
        self.shards: dict[int, dict[str, Any]] = {}
        self._check_plan(plan)
        self._path = folder / JOURNAL_NAME
        self._read()
        self._file = self._path.open("a", encoding="utf-8")

    def _check_plan(self, plan: Mapping[str, Any]) -> None:
        path = self.folder / PLAN_NAME
        if not path.exists():
            write_atomically(path, lambda partial: partial.write_text(json.dumps(plan, indent=2), "utf-8"))
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        for name, value in plan.items():
            if before.get(name) != value:
                raise ConfigError(
                    f"{self.folder.parent}: another preparation was interrupted there, with {name} "
                    f"{_shorten(before.get(name))} instead of {_shorten(value)}: run that one again, or choose "
                    "another folder"
                )

    def _read(self) -> None:
        """Take over what is really there, and cut off the rest of a broken last line."""
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        whole = 0
        clips: dict[int, dict[str, Any]] = {}
        for line in lines:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if entry is None:
                break
            whole += len(line)
            kept = clips if entry["what"] == "clip" else self.shards
            kept[entry["number"]] = entry["row"]
        if lines:
            os.truncate(self._path, whole)
        self.shards = {n: row for n, row in self.shards.items() if check_shard(self._shards_folder, row)}
        self.clips = {
            number: row
            for number, row in clips.items()
            if number // self._shard_clips in self.shards or self._has_piece(number, row)
        }

    def _has_piece(self, number: int, row: Mapping[str, Any]) -> bool:
        if "unreadable" in row:
            return True
        piece, rows = self.locate(number)
        try:
            sound = hashlib.sha256(piece.read_bytes()).hexdigest() == row["sha256"]
            return sound and rows.stat().st_size == (1 + row["num_frames"]) * ROW.itemsize
        except OSError:
            return False

    def locate(self, number: int) -> tuple[Path, Path]:
        """Where a clip's piece and its rows are until its shard is finished."""
        piece = self.folder / f"{number:08d}{SHARD_SUFFIX}"
        return piece, piece.with_suffix(INDEX_SUFFIX)

    def note_clip(self, number: int, row: dict[str, Any]) -> None:
        """A clip is done, or cannot be read."""
        self.clips[number] = row
        self._write("clip", number, row)

    def note_shard(self, number: int, row: dict[str, Any]) -> None:
        """A shard is done."""
        self.shards[number] = row
        self._write("shard", number, row)

    def _write(self, what: str, number: int, row: Mapping[str, Any]) -> None:
        self._file.write(format_line({"what": what, "number": number, "row": row}))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:36]} ..."
