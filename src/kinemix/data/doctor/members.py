"""Who is in the collection: every listed sample with its label, its part and its group, as training has them.

What training would refuse is read all the same, as far as it can be, so that one mistake does not hide the rest.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinemix.config import DataConfig
from kinemix.data.annotations import Entry, Listing, read_class_file
from kinemix.data.catalog.base import VIDEO_SUFFIXES
from kinemix.data.catalog.list_file import ListFile
from kinemix.data.naming import name_numbers
from kinemix.data.segment import Segment
from kinemix.data.sources import Splits, list_videos, locate_source, open_splits
from kinemix.data.splits import find_groups
from kinemix.errors import DataError, KinemixError


@dataclass(frozen=True)
class Member:
    """One listed sample.

    Attributes:
        path, segment: of the video.
        label: class name; empty where there is none; of several, all of them.
        part: train, val or test; as the source says, else as training would draw it; None if it cannot.
        group: subject, session or the like; None if nothing tells.
        place: where it is written.
        several: its classes, where there may be several.
    """

    path: str
    segment: Segment | None
    label: str
    part: str | None
    group: str | None
    place: str
    several: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that it has."""
        return self.several or ((self.label,) if self.label else ())


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What the user named.

    Attributes:
        source: as given.
        members: in their order.
        listings: as the sources wrote them; none for videos without labels.
        class_names: in the order of their indices, as training would have them; those used, if it refuses.
        official: the class names are a published list, or a class file.
        num_named: classes that a class file names; None without one.
        own_parts: the source says who is trained on.
        grouped_from: where groups come from, in words; empty if there are none.
        groups_used: training keeps them on one side by itself.
        refusal: why training would stop, or None.
        notices: what was noticed on reading.
    """

    source: str
    members: tuple[Member, ...]
    listings: tuple[Listing, ...]
    class_names: tuple[str, ...]
    official: bool
    num_named: int | None
    own_parts: bool
    grouped_from: str
    groups_used: bool
    refusal: str | None
    notices: tuple[str, ...]


def read_collection(data: DataConfig) -> Collection:
    """Read what training would read.

    Raises:
        DataError: there is nothing at the path, or nothing in it that can be looked at.
        ConfigError: an option does not fit the source.
    """
    try:
        listings = tuple(
            # Groups are looked for even where the split is not to heed them: that is what may leak.
            list_videos(
                source,
                root=data.root,
                group_by=data.group_by or "auto",
                split=data.split,
                task=data.task,
                label_separator=data.label_separator,
            )
            for source in (data.source, data.val_source)
            if source is not None
        )
    except DataError as error:
        return _read_unlabelled(data.source, error)
    splits, refusal = _try_splits(data)
    named = _try_names(listings, data)
    own_parts = bool(named[0].parts) or len(named) > 1
    parts = _part_by_name(splits) if splits is not None and not own_parts else {}
    members = []
    for listing, side in zip(named, ("train", "val"), strict=False):
        for entry in listing.entries:
            part = entry.part or parts.get((entry.path, entry.segment))
            if len(named) > 1:
                part = entry.part if side == "train" and listing.parts else side
            label = ", ".join(sorted(entry.classes))
            members.append(
                Member(entry.path, entry.segment, label, part, entry.group, entry.place, entry.label_set)
            )
    grouped, origin, used = _find_groups(members, data)
    used_names = tuple(dict.fromkeys(name for member in members for name in member.classes))
    return Collection(
        source=data.source,
        members=grouped,
        listings=named,
        class_names=splits.class_names if splits is not None else named[0].class_names or used_names,
        official=named[0].class_names is not None or data.class_file is not None,
        num_named=_count_names(data),
        own_parts=own_parts,
        grouped_from=origin,
        groups_used=used,
        refusal=refusal,
        notices=splits.notices if splits is not None else named[0].notices,
    )


def _try_splits(data: DataConfig) -> tuple[Splits | None, str | None]:
    try:
        return open_splits(data), None
    except KinemixError as error:
        return None, str(error)


def _try_names(listings: Sequence[Listing], data: DataConfig) -> tuple[Listing, ...]:
    """Numbers as names, where that works; as they are written, where it does not."""
    try:
        names = read_class_file(data.class_file) if data.class_file else None
        return name_numbers(
            listings, names=names, names_from=str(data.class_file), labels_start_at=data.labels_start_at
        )
    except DataError:
        return tuple(listings)


def _count_names(data: DataConfig) -> int | None:
    try:
        return len(read_class_file(data.class_file)) if data.class_file else None
    except DataError:
        return None  # it is the refusal


def _part_by_name(splits: Splits) -> dict[tuple[str, Segment | None], str]:
    return {
        (sample.path, sample.segment): part
        for part, side in (("train", splits.train), ("val", splits.val))
        for sample in side.samples
    }


def _find_groups(members: Sequence[Member], data: DataConfig) -> tuple[tuple[Member, ...], str, bool]:
    """Members with their groups, where these come from, and whether training would heed them."""
    if any(member.group for member in members):
        return tuple(members), "the list", data.group_by is not None
    written = find_groups([member.path for member in members])
    if written is not None:
        grouped = [replace(member, group=group) for member, group in zip(members, written, strict=True)]
        return tuple(grouped), "file names", data.group_by is not None
    for entries, name in _list_beside(locate_source(data.source)[1]):
        group_of = {os.path.realpath(entry.path): entry.group for entry in entries if entry.group}
        grouped = [replace(m, group=group_of.get(os.path.realpath(m.path))) for m in members]
        if any(member.group for member in grouped):
            return tuple(grouped), f"{name}, which a folder does not read", False
    return tuple(members), "", False


def _list_beside(folder: Path) -> list[tuple[tuple[Entry, ...], str]]:
    """Lists that lie in a folder of class folders: they may know more than the folders tell."""
    found = []
    for path in sorted(folder.glob("*.csv")) + sorted(folder.glob("*.tsv")) if folder.is_dir() else []:
        try:
            found.append((ListFile.list_videos(path, root=None, group_by="auto").entries, path.name))
        except DataError:
            continue  # some other table
    return found


def _read_unlabelled(source: str, refusal: DataError) -> Collection:
    """Videos without labels: one file, or a folder of them without class folders."""
    path = locate_source(source)[1]
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        found = [path]
    elif path.is_dir():
        found = sorted(child for child in path.rglob("*") if child.suffix.lower() in VIDEO_SUFFIXES)
    else:
        raise refusal
    if not found:
        raise refusal
    members = tuple(Member(str(p.absolute()), None, "", None, None, str(p)) for p in found)
    return Collection(
        source=source,
        members=members,
        listings=(),
        class_names=(),
        official=False,
        num_named=None,
        own_parts=False,
        grouped_from="",
        groups_used=False,
        refusal=str(refusal),
        notices=(),
    )
