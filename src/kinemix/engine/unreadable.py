"""Videos that give no frames: listed and counted, never replaced, and too many of them stop the run."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from kinemix.atomic import write_atomically
from kinemix.errors import DataError

_HEADER = ("path", "reason")

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
    """Collects them over a run and keeps ``unreadable.csv`` up to date; a run that is resumed goes on with its list.

    Args:
        path: the CSV file; it is not made before there is something to list.
        total: samples in the run.
        limit: share of unreadable ones above which the run stops.
        write: whether this process writes the file.

    Attributes:
        reasons: for each unreadable sample why it is.
        mended: samples that an earlier part of the run could not read, and this one could: somebody has mended them.
    """

    def __init__(self, path: Path, *, total: int, limit: float, write: bool = True) -> None:
        self.path, self.total, self.limit, self._write = path, total, limit, write
        self.reasons: dict[str, str] = dict(_read_rows(path))
        self.mended: set[str] = set()
        self._earlier = frozenset(self.reasons)
        self._told = len(self.reasons)

    def note_read(self, names: Iterable[str]) -> None:
        """Note samples that could be read."""
        if self._earlier:
            self.mended |= self._earlier.intersection(names)

    def drop(self, mended: Iterable[str]) -> None:
        """Take samples off the list."""
        kept = {name: reason for name, reason in self.reasons.items() if name not in set(mended)}
        if len(kept) < len(self.reasons):
            self.reasons, self._told = kept, min(self._told, len(kept))
            if self._write:
                self._rewrite()

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Note samples and their reasons; one that was noted before is not counted twice.

        Raises:
            DataError: more than the limit.
        """
        told = dict(found)
        self.mended.difference_update(told)
        new = {path: reason for path, reason in told.items() if path not in self.reasons}
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
        write_atomically(self.path, self._write_rows)

    def _write_rows(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_HEADER)
            writer.writerows(self.reasons.items())


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """What is listed there; nothing where there is no list."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(row[_HEADER[0]], row[_HEADER[1]]) for row in csv.DictReader(file)]
