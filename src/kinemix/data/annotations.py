"""Who is in a dataset: samples with labels, and how labels as written become numbers.

A source (a folder, a list file) reports what it finds as a :class:`Listing`: labels and splits as they are
written, each entry with the place it comes from. Three steps lead from there to :class:`Annotations`, and say
what is wrong with that place at hand: :func:`name_numbers` (numbers become names), then
:func:`collect_class_names` (names become an ordered set), then :func:`index_labels` (names become indices).
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from kinemix.data.segment import Segment
from kinemix.errors import DataError, did_you_mean
from kinemix.label_space import LabelSpace

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


_MOST_EXCLUDED = 10
"""Classes without samples up to which leaving them out is offered as a cure."""


@dataclass(frozen=True)
class Sample:
    """One labelled video.

    Attributes:
        path: absolute path of a video file, or of a folder with its frames.
        label: class index.
        group: whoever or whatever must not be on both sides of a split (a subject, a recording session).
        num_frames: as a list file states it; readers count for themselves.
        segment: the part of the video that is meant, if not all of it.
        labels: class index by task, where a dataset asks more than one question (verb, noun, action).
        label_set: all classes that are seen, where there may be several; ``label`` is the first.
        id: the dataset's own name of the sample, where it has one.
    """

    path: str
    label: int
    group: str | None = None
    num_frames: int | None = None
    segment: Segment | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    label_set: tuple[int, ...] = ()
    id: str | None = None

    @property
    def name(self) -> str:
        """What tells the sample from all others: its path, and its segment if it has one."""
        return name_sample(self.path, self.segment)


@dataclass(frozen=True)
class Annotations:
    """Samples in a fixed order, and the K names that their labels are indices of.

    ``task_names`` holds the class names of each task in ``Sample.labels``.
    """

    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]
    task_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def space(self) -> LabelSpace:
        """What is asked about the samples."""
        return LabelSpace(class_names=self.class_names)

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
        segment, id: as in :class:`Sample`.
        labels: class name by task.
        label_set: all classes, where there may be several.
    """

    path: str
    label: str
    place: str
    part: Part | None = None
    group: str | None = None
    num_frames: int | None = None
    segment: Segment | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    label_set: tuple[str, ...] = ()
    id: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        source: folder or list file, for messages.
        entries: in a fixed order.
        declared: classes that the source names even if they are empty: its folders. Labels are names then,
            even where they look like numbers.
        notices: what was ignored, for the user to read.
        class_names: all classes in their official order, where the dataset has one. A model is then built for
            all of them, even where some have no sample here.
        task_names: likewise for each task of the entries' ``labels``.
        split: which of the dataset's published splits it is.
    """

    source: str
    entries: tuple[Entry, ...]
    declared: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    task_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: str | None = None

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
    start = _find_start(listings, numbers, labels_start_at, first=names[0] if names else "0")
    if names is None:
        names = [str(number) for number in range(start, max(numbers) + 1)]
    named = []
    for listing in listings:
        entries = [_name_number(entry, start, names, names_from) for entry in listing.entries]
        named.append(replace(listing, entries=tuple(entries), declared=tuple(names)))
    return tuple(named)


def collect_class_names(
    listings: Sequence[Listing],
    *,
    order: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    allow_empty: bool = False,
) -> tuple[str, ...]:
    """The classes of a dataset: every declared or used label less ``exclude``.

    Args:
        listings: of one dataset.
        order: all class names in the order wanted; without it they are sorted, numbers by value.
        exclude: classes to leave out.
        allow_empty: classes of ``order`` need no sample: a published list stays whole on a part of the data.

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
    empty = [name for name in names if name not in used]
    if empty and not allow_empty:
        raise DataError(_explain_empty(empty, listings, exclude))
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
    places = {
        task: {name: index for index, name in enumerate(names)} for task, names in listing.task_names.items()
    }
    samples = []
    for entry in listing.entries:
        if entry.label in left_out:
            continue
        if entry.label not in index_of:
            raise DataError(
                f"{entry.place}: unknown class {entry.label!r}: {did_you_mean(entry.label, index_of)}; "
                f"correct it, or leave it out with {format_exclusion([*exclude, entry.label])}"
            )
        samples.append(
            Sample(
                entry.path,
                index_of[entry.label],
                entry.group,
                entry.num_frames,
                entry.segment,
                {task: places[task][name] for task, name in entry.labels.items()},
                tuple(index_of[name] for name in entry.label_set),
                entry.id,
            )
        )
    return Annotations(tuple(samples), tuple(class_names), listing.task_names)


def check_paths(listings: Sequence[Listing], *, cure: str, max_missing: float = 1.0) -> tuple[Entry, ...]:
    """No sample twice, and the files are there.

    Args:
        listings: of one dataset; a sample in two of them would be trained on and tested.
        cure: what to do if no file is found.
        max_missing: largest share of missing samples that is let pass.

    Returns:
        The entries whose file is missing, in their order.

    Raises:
        DataError: a sample is listed twice; every file is missing, or more than ``max_missing`` of them.
    """
    seen: dict[tuple[str, Segment | None, str | None], Entry] = {}
    for entry in (entry for listing in listings for entry in listing.entries):
        first = seen.setdefault((entry.path, entry.segment, entry.id), entry)
        if first is not entry:
            differs = "" if first.label == entry.label else f" as {first.label!r} and as {entry.label!r}"
            raise DataError(
                f"{entry.place}: {name_sample(entry.path, entry.segment)} is listed twice{differs} "
                f"(first at {first.place}): remove one of them"
            )
    exists = {path: os.path.exists(path) for path in {path for path, _, _ in seen}}  # noqa: PTH110 - lists are long
    missing = tuple(entry for entry in seen.values() if not exists[entry.path])
    if not missing:
        return ()
    first = missing[0]
    if len(missing) == len(seen):
        raise DataError(f"{first.place}: none of the {len(seen)} videos exists, e.g. {first.path}: {cure}")
    if len(missing) > max_missing * len(seen):
        raise DataError(
            f"{first.place}: {len(missing)} of {len(seen)} videos are missing, e.g. {first.path}: {cure}, or "
            f"allow for it with data.max_missing (now {max_missing:g})"
        )
    return missing


def describe_missing(missing: Sequence[Entry], *, total: int) -> tuple[str, ...]:
    """A notice that counts the missing videos and names the first of them, if there are any."""
    if not missing:
        return ()
    shown = ", ".join(f"{entry.path} ({entry.place})" for entry in missing[:5])
    more = ", ..." if len(missing) > 5 else ""
    return (f"{len(missing)} of {total} videos are missing and left out: {shown}{more}",)


def name_sample(path: str, segment: Segment | None) -> str:
    """A sample's own name: samples of one video differ by their segments.

    >>> name_sample("P01_01.MP4", Segment(1.5, 3))
    'P01_01.MP4#1.50-3.00s'
    """
    return path if segment is None else f"{path}#{segment}"


def format_exclusion(labels: Iterable[str]) -> str:
    """The option that leaves classes out, as it is written on the command line.

    >>> format_exclusion(["3", "a, b"])
    'data.exclude_labels=[3, "a, b"]'
    """
    plain = re.compile(r"\w[\w ./-]*")
    words = [label if plain.fullmatch(label) else json.dumps(label) for label in labels]
    return f"data.exclude_labels=[{', '.join(words)}]"


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


def _explain_empty(empty: Sequence[str], listings: Sequence[Listing], exclude: Sequence[str]) -> str:
    """Which classes have no sample and, where labels are numbers, which line skips them."""
    source, it, has = (
        listings[0].source,
        "it" if len(empty) == 1 else "them",
        "has" if len(empty) == 1 else "have",
    )
    shown = ", ".join(map(repr, empty[:5])) + (f", ... ({len(empty)} in all)" if len(empty) > 5 else "")
    what = f"class{'' if len(empty) == 1 else 'es'} {shown} {has} no sample"
    cure = f"leave {it} out with {format_exclusion([*exclude, *empty])}"
    if not empty[0].isdecimal():
        return f"{source}: {what}: add some, or {cure}"
    entries = [entry for listing in listings for entry in listing.entries if entry.label.isdecimal()]
    beyond = [entry for entry in entries if int(entry.label) > int(empty[0])]
    if len(empty) > _MOST_EXCLUDED:
        cure = "number the classes without gaps"
    if not beyond or len(beyond) == len(entries):
        return f"{source}: {what}: add some, or {cure}"
    first = min(beyond, key=lambda entry: int(entry.label))
    return f"{first.place}: label {first.label}, but {what}: correct the label, add some, or {cure}"


def _read_numbers(listings: Sequence[Listing]) -> list[int]:
    """All labels as numbers; none if any of them is a name."""
    labels = [entry.label for listing in listings for entry in listing.entries]
    if any(listing.declared is not None for listing in listings):
        return []
    if not all(re.fullmatch(r"-?\d+", label) for label in labels):
        return []
    return [int(label) for label in labels]


def _find_start(
    listings: Sequence[Listing], numbers: Sequence[int], labels_start_at: int | None, *, first: str
) -> int:
    if labels_start_at is not None:
        return labels_start_at
    if min(numbers) > 0:
        raise DataError(
            f"{listings[0].source}: labels run from {min(numbers)} to {max(numbers)} and none is 0: set "
            "data.labels_start_at=1 if the first class is number 1; if it is number 0 and merely has no sample "
            f"here, set data.labels_start_at=0 and leave it out with {format_exclusion([first])}"
        )
    return 0


def _name_number(entry: Entry, start: int, names: Sequence[str], names_from: str) -> Entry:
    number = int(entry.label)
    if number < start:
        raise DataError(
            f"{entry.place}: label {number} is below the first class, {start} (data.labels_start_at): correct "
            "one of them, or remove the line"
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
