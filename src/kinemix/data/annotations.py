"""Who is in a dataset: samples with labels.

A source (a folder, a list file) reports what it finds as a :class:`Listing`: labels and splits as they are
written, each entry with the place it comes from. :mod:`kinemix.data.naming` makes :class:`Annotations` of it, whose
labels are numbers.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from kinemix.data.segment import Segment
from kinemix.errors import DataError
from kinemix.label_space import UNLABELLED, LabelSpace

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


Label: TypeAlias = int | tuple[int, ...]
"""What a sample is labelled with: a class index; one of each task; or those of all classes that are seen."""


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
        label_set: all classes that are seen, where there may be several; ``label`` is the first, or
            :data:`kinemix.label_space.UNLABELLED` where there is none.
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

    @property
    def classes(self) -> tuple[int, ...]:
        """Every class index that it has, of one task."""
        return self.label_set or (self.label,)


@dataclass(frozen=True)
class Annotations:
    """Samples in a fixed order, and the names that their labels are indices of.

    Attributes:
        samples: in that order.
        class_names: K names for ``Sample.label``.
        task_names: class names of each task in ``Sample.labels``.
        asked: the tasks that are learnt, where the dataset has any; ``Sample.label`` is of the last.
        multilabel: whether a sample may have several labels.
        many_shot: by task, the classes that the dataset takes its mean precision and recall over.
    """

    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]
    task_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    multilabel: bool = False
    many_shot: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def space(self) -> LabelSpace:
        """What is asked about the samples."""
        if len(self.asked) > 1:
            return LabelSpace.of_tasks({task: self.task_names[task] for task in self.asked}, self.many_shot)
        often = {name for task in self.asked for name in self.many_shot.get(task, ())}
        return LabelSpace(
            class_names=self.class_names,
            multilabel=self.multilabel,
            many_shot=frozenset(k for k, name in enumerate(self.class_names) if name in often),
        )

    @property
    def strata(self) -> list[int]:
        """The class by which each sample is dealt out: of several the rarest, which must not end on one side alone."""
        counts = Counter(label for sample in self.samples for label in sample.classes)
        return [min(sample.classes, key=lambda label: (counts[label], label)) for sample in self.samples]

    def count_classes(self) -> list[int]:
        """Samples of each of the K classes of :attr:`space`."""
        counts = Counter(k for index in range(len(self)) for k in self.list_classes(index))
        return [counts[k] for k in range(len(self.space.class_names))]

    def list_classes(self, index: int) -> tuple[int, ...]:
        """Every class of a sample, as a place among the K of :attr:`space`."""
        label = self.read_label(index)
        if isinstance(label, int):
            return (label,)
        if self.multilabel:
            return label
        starts = [place.start for place in self.space.places.values()]
        return tuple(start + one for start, one in zip(starts, label, strict=True))

    def read_label(self, index: int) -> Label:
        """What a sample is labelled with, as :attr:`space` has it."""
        sample = self.samples[index]
        if len(self.asked) > 1:
            return tuple(sample.labels.get(task, UNLABELLED) for task in self.asked)
        return sample.label_set if self.multilabel else sample.label

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

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that it has, of one task; where there may be several, there may also be none."""
        return self.label_set or ((self.label,) if self.label else ())


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
        asked, multilabel, many_shot: as in :class:`Annotations`.
    """

    source: str
    entries: tuple[Entry, ...]
    declared: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    task_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: str | None = None
    asked: tuple[str, ...] = ()
    multilabel: bool = False
    many_shot: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def select(self, parts: Sequence[Part | None]) -> "Listing":
        """Only the entries of these parts."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.part in parts))

    @property
    def parts(self) -> frozenset[Part]:
        """Parts that the source names."""
        return frozenset(entry.part for entry in self.entries if entry.part is not None)


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
