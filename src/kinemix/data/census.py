"""What a copy of a published dataset holds, counted against what was published."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kinemix.data.annotations import Part, check_paths
from kinemix.data.catalog.official import OfficialDataset
from kinemix.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Census:
    """A copy, counted.

    Attributes:
        title: of the dataset.
        split: that was counted.
        published, listed, found: samples by part: as published, as the annotations list them, and those whose
            video is there. ``None`` stands for samples of which nothing says the part.
        empty_classes: classes without a sample whose video is there.
        missing: paths where the other videos would be.
        notices: what was noticed on reading.
    """

    title: str
    split: str
    published: Mapping[Part, int]
    listed: Mapping[Part | None, int]
    found: Mapping[Part | None, int]
    empty_classes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notices: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether every published sample is listed and there (labels of many test parts are secret)."""
        asked = {part for part in self.published if part != "test" or "val" not in self.published}
        return not self.missing and all(self.found.get(part) == self.published[part] for part in asked)


def take_census(
    kind: type[OfficialDataset], path: str | Path, *, root: str | None = None, split: str | None = None
) -> Census:
    """Count a copy of a dataset. Nothing is decoded.

    Args:
        kind: of the dataset.
        path: its root, or one of its lists.
        root: where the videos are, if not below it.
        split: published split, or test list without labels; the first split that is there by default.

    Raises:
        DataError: it holds no annotations or no videos; an unknown class; a sample listed twice.
        ConfigError: no such split.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise DataError(f"{place}: no such file or folder: name the root of {kind.facts.title}")
    listing = kind.list_split(place, root=root, split=split, task=None)
    missing = check_paths([listing], cure="set --root to the folder that holds the videos")
    gone = {entry.path for entry in missing}
    there = [entry for entry in listing.entries if entry.path not in gone]
    used = {entry.label for entry in there}
    names = () if used == {""} else listing.class_names or ()  # a test list tells no labels
    chosen = listing.split or kind.facts.splits[0]
    return Census(
        title=kind.facts.title,
        split=chosen,
        published=kind.facts.sizes[chosen]
        if chosen in kind.facts.sizes
        else {"test": kind.facts.test_lists[chosen]},
        listed=dict(Counter(entry.part for entry in listing.entries)),
        found=dict(Counter(entry.part for entry in there)),
        empty_classes=tuple(name for name in names if name not in used),
        missing=tuple(entry.path for entry in missing),
        notices=listing.notices,
    )
