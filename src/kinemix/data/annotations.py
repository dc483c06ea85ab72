"""Who is in a dataset: samples with labels, and how labels as written become numbers.

A source (a folder, a list file) reports what it finds as a :class:`Listing`: labels and splits as they are
written, each entry with the place it comes from. Three steps lead from there to :class:`Annotations`, and say
what is wrong with that place at hand: :func:`name_numbers` (numbers become names), then
:func:`collect_class_names` (names become an ordered set), then :func:`index_labels` (names become indices).
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kinemix.errors import DataError, did_you_mean

Part = Literal["train", "val", "test"]

PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""How the parts of a dataset are called in folders and in ``split`` columns, in lower case."""


@dataclass(frozen=True)
class Sample:
    """One labelled video.

    Attributes:
        path: absolute path of a video file, or of a folder with its frames.
        label: class index.
        group: whoever or whatever must not be on both sides of a split (a subject, a recording session).
        num_frames: as a list file states it; readers count for themselves.
    """

    path: str
    label: int
    group: str | None = None
    num_frames: int | None = None


@dataclass(frozen=True)
class Annotations:
    """Samples in a fixed order, and the K names that their labels are indices of."""

    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def pick(self, indices: Iterable[int]) -> "Annotations":
        """Some of the samples, with the same class names."""
        return replace(self, samples=tuple(self.samples[index] for index in indices))


@dataclass(frozen=True)
class Entry:
    """One sample as its source wrote it.

    Attributes:
        path: absolute.
        label: a name, or a number as text.
        place: where it is written, for messages: ``list.txt, line 12``, or the path itself.
        part: of the dataset, where the source says so.
        group: value of the grouping column.
        num_frames: as stated.
    """

    path: str
    label: str
    place: str
    part: Part | None = None
    group: str | None = None
    num_frames: int | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        source: folder or list file, for messages.
        entries: in a fixed order.
        declared: classes that the source names even if they are empty: its folders. Labels are names then,
            even where they look like numbers.
        notices: what was ignored, for the user to read.
    """

    source: str
    entries: tuple[Entry, ...]
    declared: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()

    def select(self, parts: Sequence[Part | None]) -> "Listing":
        """Only the entries of these parts."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.part in parts))

    @property
    def parts(self) -> frozenset[Part]:
        """Parts that the source names."""
        return frozenset(entry.part for entry in self.entries if entry.part is not None)


def name_numbers(
    listings: Sequence[Listing],
    *,
    names: Sequence[str] | None = None,
    names_from: str = "",
    labels_start_at: int | None = None,
) -> tuple[Listing, ...]:
    """Replace numeric labels by names; leave listings whose labels are names as they are.

    Args:
        listings: of one dataset, whose numbers mean the same.
        names: in the order of the numbers; without them a number is its own name.
        names_from: where the names come from, for messages.
        labels_start_at: number of the first class, 0 or 1. Where it is not given the numbers must start at 0:
            nothing is guessed.

    Raises:
        DataError: the numbers do not start at 0 and nothing says where they do; a number is below the start
            or has no name.
    """
    numbers = _read_numbers(listings)
    if not numbers:
        return tuple(listings)
    start = _find_start(listings, numbers, labels_start_at)
    if names is None:
        names = [str(number) for number in range(start, max(numbers) + 1)]
    named = []
    for listing in listings:
        entries = [_name_number(entry, start, names, names_from) for entry in listing.entries]
        named.append(replace(listing, entries=tuple(entries), declared=tuple(names)))
    return tuple(named)


def collect_class_names(
    listings: Sequence[Listing], *, order: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> tuple[str, ...]:
    """The classes of a dataset: every declared or used label less ``exclude``.

    Args:
        listings: of one dataset.
        order: all class names in the order wanted; without it they are sorted, numbers by value.
        exclude: classes to leave out.

    Raises:
        DataError: an excluded label does not exist; a class has no sample in any of the listings; fewer than
            two classes are left.
    """
    used = {entry.label for listing in listings for entry in listing.entries}
    known = used.union(*(listing.declared or () for listing in listings)) if order is None else order
    source = listings[0].source
    for label in exclude:
        if label not in known:
            cure = did_you_mean(label, known)
            raise DataError(f"{source}: data.exclude_labels: no class {label!r}: {cure}")
    names = [name for name in order or sorted(known, key=_sort_key) if name not in exclude]
    for name in names:
        if name not in used:
            raise DataError(
                f"{source}: class {name!r} has no sample: add some, or leave it out with "
                f"data.exclude_labels=[{name}]"
            )
    if len(names) < 2:
        raise DataError(f"{source}: {len(names)} class ({', '.join(names)}): a recogniser needs at least two")
    return tuple(names)


def index_labels(listing: Listing, class_names: Sequence[str], *, exclude: Sequence[str] = ()) -> Annotations:
    """Names to indices, samples of ``exclude`` left out.

    Raises:
        DataError: a label is not among the class names.
    """
    index_of = {name: index for index, name in enumerate(class_names)}
    left_out = set(exclude)
    samples = []
    for entry in listing.entries:
        if entry.label in left_out:
            continue
        if entry.label not in index_of:
            raise DataError(
                f"{entry.place}: unknown class {entry.label!r}: {did_you_mean(entry.label, index_of)}; "
                f"correct it, or leave it out with data.exclude_labels=[{entry.label}]"
            )
        samples.append(Sample(entry.path, index_of[entry.label], entry.group, entry.num_frames))
    return Annotations(tuple(samples), tuple(class_names))


def check_paths(listings: Sequence[Listing], *, cure: str) -> tuple[str, ...]:
    """No video twice, and the files are there.

    Args:
        listings: of one dataset; a video in two of them would be trained on and tested.
        cure: what to do if no file is found.

    Returns:
        A notice that counts and lists the missing files, if some are missing. They stay in the annotations:
        the limit on unreadable videos decides about them.

    Raises:
        DataError: a path is listed twice; every file is missing.
    """
    seen: dict[str, Entry] = {}
    for entry in (entry for listing in listings for entry in listing.entries):
        first = seen.setdefault(entry.path, entry)
        if first is not entry:
            differs = "" if first.label == entry.label else f" as {first.label!r} and as {entry.label!r}"
            raise DataError(
                f"{entry.place}: {entry.path} is listed twice{differs} (first at {first.place}): "
                "remove one of them"
            )
    missing = [entry for entry in seen.values() if not os.path.exists(entry.path)]  # noqa: PTH110 - lists are long
    if not missing:
        return ()
    first = missing[0]
    if len(missing) == len(seen):
        raise DataError(f"{first.place}: none of the {len(seen)} videos exists, e.g. {first.path}: {cure}")
    shown = ", ".join(f"{entry.path} ({entry.place})" for entry in missing[:5])
    more = ", ..." if len(missing) > 5 else ""
    return (f"{len(missing)} of {len(seen)} videos are missing and count as unreadable: {shown}{more}",)


def read_class_file(path: str) -> tuple[str, ...]:
    """Class names, one a line, in the order of their numbers; ``3 jump`` is read as ``jump``.

    Numbers in front must count up from 0 or 1 without gaps.

    Raises:
        DataError: the file cannot be read, is empty, names a class twice or skips a number.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    numbered = [(count, line) for count, line in enumerate(lines, start=1) if line]
    if not numbered:
        raise DataError(f"{path}: no class names in it: write one a line")
    names = [line for _, line in numbered]
    split = [re.fullmatch(r"(\d+)[\s,;:]+(.+)", line) for line in names]
    if all(split):
        first = int(split[0][1]) if split[0] else 0
        for place, (found, (count, line)) in enumerate(zip(split, numbered, strict=True)):
            if found is None or int(found[1]) != min(first, 1) + place:
                raise DataError(
                    f"{path}, line {count}: {line!r}: numbers must count up from 0 or 1 without gaps; "
                    "sort the lines, or write the names alone"
                )
        names = [found[2] for found in split if found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DataError(f"{path}, line {numbered[place][0]}: class {name!r} is named twice: remove one")
    return tuple(names)


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: there is no such file, or it is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8 (iconv -t UTF-8)"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path") from error


def _read_numbers(listings: Sequence[Listing]) -> list[int]:
    """All labels as numbers; none if any of them is a name."""
    labels = [entry.label for listing in listings for entry in listing.entries]
    if any(listing.declared is not None for listing in listings):
        return []
    if not all(re.fullmatch(r"-?\d+", label) for label in labels):
        return []
    return [int(label) for label in labels]


def _find_start(listings: Sequence[Listing], numbers: Sequence[int], labels_start_at: int | None) -> int:
    if labels_start_at is not None:
        return labels_start_at
    if min(numbers) > 0:
        raise DataError(
            f"{listings[0].source}: labels run from {min(numbers)} to {max(numbers)} and none is 0: set "
            "data.labels_start_at=1 if the first class is number 1, or 0 if class 0 has no sample here"
        )
    return 0


def _name_number(entry: Entry, start: int, names: Sequence[str], names_from: str) -> Entry:
    number = int(entry.label)
    if number < start:
        raise DataError(
            f"{entry.place}: label {number} is below the first class, {start}: correct it or remove the line"
        )
    if number - start >= len(names):
        other = 1 - start
        raise DataError(
            f"{entry.place}: label {number} is out of range: {names_from} has {len(names)} classes, so "
            f"labels run from {start} to {start + len(names) - 1}; correct it, or set "
            f"data.labels_start_at={other} if the list counts from {other}"
        )
    return replace(entry, label=names[number - start])


def _sort_key(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if re.fullmatch(r"\d+", name) else (1, 0, name)
