"""Videos that give no frames: listed and counted, never replaced, and too many of them stop the run."""

import csv
from collections.abc import Iterable
from pathlib import Path

from kinemix.errors import DataError


class UnreadableList:
    """Collects them over a run and keeps ``unreadable.csv`` up to date.

    Args:
        path: the CSV file; it is not made before there is something to list.
        total: samples in the run.
        limit: share of unreadable ones above which the run stops.
        write: whether this process writes the file.
    """

    def __init__(self, path: Path, *, total: int, limit: float, write: bool = True) -> None:
        self.path, self.total, self.limit, self._write = path, total, limit, write
        self.reasons: dict[str, str] = {}

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Note samples and their reasons; one that was noted before is not counted twice.

        Raises:
            DataError: more than the limit.
        """
        new = {path: reason for path, reason in found if path not in self.reasons}
        if not new:
            return
        self.reasons |= new
        if self._write:
            self._rewrite()
        if len(self.reasons) > self.limit * self.total:
            path, reason = next(iter(new.items()))
            raise DataError(
                f"{len(self.reasons)} of {self.total} videos cannot be read, more than "
                f"data.max_unreadable = {self.limit:g} allows; the last: {path}: {reason}; "
                f"all are in {self.path}"
            )

    def _rewrite(self) -> None:
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "reason"))
            writer.writerows(self.reasons.items())
