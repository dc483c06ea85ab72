"""A published dataset: what is known of it, and the way from its annotation files to samples.

A subclass stands in its own file and says two things: its :class:`Facts`, and how its annotation files become
:class:`Row` s, which name videos without asking where they are. Everything after that is the same for all:
the videos are looked up (:mod:`kinemix.data.catalog.root_files`), and labels become official class names.
Where there are no annotation files, lists (TSN, TSM, MMAction, SlowFast) and class folders are read instead,
with the official order of the classes.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, NoReturn

from kinemix.data.annotations import Entry, Listing, Part
from kinemix.data.catalog.base import Dataset
from kinemix.data.catalog.list_file import ListFile
from kinemix.data.catalog.root_files import RootFiles, find_part, simplify_name
from kinemix.data.naming import choose_tasks
from kinemix.data.segment import Segment
from kinemix.errors import ConfigError, DataError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a dataset, for people and for checks.

    Attributes:
        title: as papers write it.
        about: one sentence.
        sizes: videos (or segments) by split and part, as published; the first split is the default.
        metric: what is reported.
        frame_rate: frames per second as distributed; ``None`` where it varies.
        sampling: how published results sample frames.
        frame_stride: distance of frames in a dense clip that published results use; ``None`` for sparse ones.
        protocol: views at test time in the papers built here, and what they found.
        licence: in a few words.
        url: where to get it.
        layout: what a root looks like, as a tree.
        flip_pairs: classes that a mirror swaps; every other class stays what it is.
        tasks: number of classes by task, where there are several; the last is learnt by default.
        test_lists: sizes of parts without labels, which a server scores; named like splits, they can be tested
            (for a submission) but not trained on.
        paper_names: what tables of papers call it.
    """

    title: str
    about: str
    sizes: Mapping[str, Mapping[Part, int]]
    metric: str
    frame_rate: float | None
    sampling: str
    frame_stride: int | None = None
    protocol: str
    licence: str
    url: str
    layout: str
    flip_pairs: tuple[tuple[str, str], ...] = ()
    tasks: Mapping[str, int] = field(default_factory=dict)
    test_lists: Mapping[str, int] = field(default_factory=dict)
    paper_names: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.sizes)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One annotated sample; its video is not looked up yet.

    Attributes:
        label: class as it is written, or its number in the official order.
        place: where it is written.
        part: of the dataset.
        names: what the sample's own video may be called, without suffix, likeliest first.
        sources: likewise the longer video that it is a segment of.
        seconds, frames: start and stop in that video; ``frames`` in a folder of frames, from 0.
        group, num_frames, id: as in :class:`kinemix.data.annotations.Entry`.
        labels: class name by task.
    """

    label: str | int
    place: str
    part: Part | None = None
    names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    seconds: tuple[float, float] | None = None
    frames: tuple[int, int] | None = None
    group: str | None = None
    num_frames: int | None = None
    id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class OfficialDataset(Dataset):
    """A published dataset. Subclasses have a ``name`` and are found by it or by one of their ``aliases``."""

    facts: ClassVar[Facts]
    aliases: ClassVar[tuple[str, ...]] = ()
    suffix: ClassVar[str] = ".mp4"
    """Of the videos as they are distributed."""

    @classmethod
    def class_names(cls, *, split: str | None = None, task: str | None = None) -> tuple[str, ...]:
        """All classes in the order of published checkpoints."""
        return read_classes(cls.name)

    @classmethod
    def many_shot_names(cls, task: str) -> tuple[str, ...]:
        """The classes of a task that are frequent enough in training to be judged one by one, where it has a list."""
        return ()

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        """The samples of a split from official annotation files; none where there are no such files.

        Args:
            root: its files.
            split: one of the published ones, or of the test lists; the rows of those have an empty label.

        Raises:
            DataError: a file breaks its format.
        """
        raise NotImplementedError

    @classmethod
    def explain_rows(cls, root: RootFiles, rows: Sequence["Row"]) -> tuple[str, ...]:
        """What the user should know about the rows that were read: samples that are listed but can be no row."""
        return ()

    @classmethod
    def list_split(cls, path: Path, *, root: str | None, split: str | None, task: str | None) -> Listing:
        """Everything in a root (or in one list of it), with official classes in their official order.

        Args:
            path: the root, or a list file.
            root: where the videos are, if not below ``path``.
            split: published split; the first that is there by default.
            task: for datasets with several: one, some with commas between them, or ``all``.

        Raises:
            ConfigError: no such split or task.
            DataError: no annotations, or no videos; an unknown class.
        """
        facts = cls.facts
        known = (*facts.splits, *facts.test_lists)
        if split is not None and split not in known:
            raise ConfigError(
                f"data.split={split}: {facts.title} has no such split: {did_you_mean(split, known)}"
            )
        asked = choose_tasks(task, facts.tasks, title=facts.title)
        videos = Path(root).expanduser() if root is not None else None
        if videos is not None and not videos.is_dir():
            raise DataError(f"data.root={root}: no such folder: give the folder that holds the videos")
        found, rows, used = cls._find_rows(path, videos, split)
        leading = asked[-1] if asked else None
        names = cls.class_names(split=used, task=leading)
        entries = locate_videos(rows, found, names, suffix=cls.suffix, task=leading)
        notices = () if len(facts.splits) == 1 else (f"{path}: split {used} of {', '.join(facts.splits)}",)
        return Listing(
            str(path),
            tuple(entries),
            names,
            (*notices, *(cls.explain_rows(found, rows) if path.is_dir() else ())),
            names,
            task_names={name: cls.class_names(split=used, task=name) for name in facts.tasks},
            split=used,
            asked=asked,
            many_shot={name: cls.many_shot_names(name) for name in facts.tasks},
        )

    @classmethod
    def list_videos(cls, path: Path, *, root: str | None, group_by: str | None) -> Listing:
        """See :meth:`Dataset.list_videos`; the default split, groups as they are published."""
        return cls.list_split(path, root=root, split=None, task=None)

    @classmethod
    def _find_rows(
        cls, path: Path, videos: Path | None, split: str | None
    ) -> tuple[RootFiles, list[Row], str]:
        """The files, the samples, and the split that they are of."""
        default = split or cls.facts.splits[0]
        names = cls.class_names(split=split)
        if path.is_file() and not cls.facts.tasks:
            found = RootFiles(path.parent, videos=videos, class_names=names)
            return found, read_list(path), default
        found = RootFiles(path, videos=videos, class_names=names)
        for candidate in (split,) if split else cls.facts.splits:
            if rows := cls.read_rows(found, split=candidate):
                return found, rows, candidate
        # Neither a list nor a folder says a verb and a noun.
        rows = [] if cls.facts.tasks else read_lists(found, split=default) or read_class_folders(found, names)
        if not rows:
            cls.explain_layout(path)
        return found, rows, default

    @classmethod
    def explain_layout(cls, path: Path) -> NoReturn:
        """Raise the error for a root without annotations."""
        raise DataError(
            f"{path}: neither annotation files of {cls.facts.title} nor class folders of it are there; "
            f"'kinemix data show {cls.name}' draws the layout"
        )


def read_classes(name: str) -> tuple[str, ...]:
    """A class list that is shipped: one class a line."""
    text = (files("kinemix.data.catalog") / "classes" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def locate_videos(
    rows: Sequence[Row], root: RootFiles, class_names: Sequence[str], *, suffix: str, task: str | None = None
) -> list[Entry]:
    """Rows to entries: every video looked up, every label an official class name.

    A video that is not there gets the path where it would be.

    Raises:
        DataError: a label is no class; or there is no video at all.
    """
    official = {simplify_name(name): name for name in class_names}
    if not root.library:
        raise DataError(
            f"{root.videos}: no videos below it: name the folder that holds them with the option root"
        )
    entries = []
    for row in rows:
        found, segment = _look_up(row, root)
        named = (*row.names, *row.sources)[0]
        entries.append(
            Entry(
                found or str(root.videos.absolute() / f"{named}{suffix}"),
                _name_class(row, class_names, official) if task is None else row.labels[task],
                row.place,
                part=row.part,
                group=row.group,
                num_frames=row.num_frames,
                segment=segment,
                labels=row.labels,
                id=row.id,
            )
        )
    return entries


def _look_up(row: Row, root: RootFiles) -> tuple[str | None, Segment | None]:
    for name in row.names:
        if found := root.find_video(name, part=row.part):
            return found, None
    found = next((path for name in row.sources if (path := root.find_video(name, part=row.part))), None)
    if row.frames is not None and found is not None and os.path.isdir(found):  # noqa: PTH112 - lists are long
        return found, Segment(*row.frames, unit="frames")
    return found, None if row.seconds is None else Segment(*row.seconds)


def _name_class(row: Row, class_names: Sequence[str], official: Mapping[str, str]) -> str:
    if isinstance(row.label, int):
        if not 0 <= row.label < len(class_names):
            raise DataError(
                f"{row.place}: label {row.label} is out of range: the {len(class_names)} classes count from 0"
            )
        return class_names[row.label]
    name = official.get(simplify_name(row.label))
    if name is None:
        raise DataError(f"{row.place}: unknown class {row.label!r}: {did_you_mean(row.label, class_names)}")
    return name


def read_list(path: Path) -> list[Row]:
    """The rows of one list of TSN, TSM, MMAction or SlowFast; numbers are places in the official order."""
    listing = ListFile.list_videos(path, root=None, group_by=None)
    part = find_part(path.stem)
    rows = []
    for entry in listing.entries:
        # Strings and not Path objects: lists are long.
        written = os.path.relpath(entry.path, path.parent.absolute())
        name = written if os.path.isdir(entry.path) else re.sub(r"\.[A-Za-z0-9]{2,4}$", "", written)  # noqa: PTH112
        label = int(entry.label) if entry.label.isdecimal() else entry.label
        rows.append(
            Row(
                label=label,
                place=entry.place,
                part=entry.part or part,
                names=(name,),
                num_frames=entry.num_frames,
            )
        )
    return rows


def read_lists(root: RootFiles, *, split: str) -> list[Row]:
    """The rows of the lists in a root; of several for one part those whose videos are there.

    ``train_videofolder.txt`` (TSM), ``sthv2_train_list_rawframes.txt`` and ``ucf101_val_split_1_videos.txt``
    (MMAction), ``train.csv`` (SlowFast) and their like: the name says the part, and the split where there are
    several.
    """
    best: dict[Part, tuple[int, list[Row]]] = {}
    for path in root.documents:
        part = find_part(path.stem)
        number = re.search(r"split_?(\d)|list0(\d)", path.stem.lower())
        if part is None or path.suffix == ".json" or (number and (number[1] or number[2]) != split):
            continue
        try:
            rows = read_list(path)
        except DataError:  # a file of another kind, such as notes on a training
            continue
        there = sum(root.find_video(name, part=part) is not None for row in rows[:100] for name in row.names)
        if there > best.get(part, (0, []))[0]:
            best[part] = (there, [replace(row, part=part) for row in rows])
    return [row for part in ("train", "val", "test") for row in best.get(part, (0, []))[1]]


def read_class_folders(root: RootFiles, class_names: Sequence[str]) -> list[Row]:
    """Every video that stands in a folder named like a class; the folders above it may name its part."""
    rows = []
    for name, paths in root.library.items():
        for path in paths:
            folder = root.find_class(path)
            if folder is not None:
                place = os.path.relpath(path, root.videos.absolute())
                parent = path.split("/")[-2]
                rows.append(Row(label=folder, place=path, part=find_part(place), names=(f"{parent}/{name}",)))
    return sorted(rows, key=lambda row: row.place)
