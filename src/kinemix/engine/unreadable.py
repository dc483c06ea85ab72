"""Videos that give no frames: listed and counted, never replaced, and too many of them stop the run."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from kinemix.errors import DataError

_NAMED = 3
"""Videos that a message names; the list holds all."""


def check_unreadable(
    reasons: Mapping[str, str], *, total: int, limit: float, listed_in: Path | None = None
) -> None:
    """Raise if more videos are unreadable than allowed.

    Args:
        reasons: for each unreadable video why it is.
        total: videos that were asked for.
        limit: share of them that may be unreadable.
        listed_in: file that names all of them.

    Raises:
        DataError: they are more; the message counts them and names the first few.
    """
    if len(reasons) <= limit * total:
        return
    first = [f"{path}: {reason}" for path, reason in list(reasons.items())[:_NAMED]]
    more = ["..."] if len(reasons) > _NAMED else []
    where = f"; all are in {listed_in}" if listed_in is not None else ""
    raise DataError(
        f"{len(reasons)} of {total} videos cannot be read, more than data.max_unreadable = {limit:g} allows: "
        f"{'; '.join(first + more)}{where}: mend or remove them, or raise data.max_unreadable"
    )


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
        self._told = 0

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
        check_unreadable(self.reasons, total=self.total, limit=self.limit, listed_in=self.path)

    def take_news(self) -> str | None:
        """One line that counts all, if some were found since the last line."""
        count, told, self._told = len(self.reasons), self._told, len(self.reasons)
        if count == told:
            return None
        return (
            f"{count} of {self.total} videos ({count / self.total:.2%}) cannot be read and are left out; "
            f"they are listed in {self.path}"
        )

    def _rewrite(self) -> None:
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "reason"))
            writer.writerows(self.reasons.items())
