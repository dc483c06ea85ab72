"""The front door: from what the user names to who is trained on, who is held out, and what was noticed.

:func:`open_splits` serves training, :func:`open_annotations` a test on other data.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kinemix.config import DataConfig
from kinemix.data.annotations import (
    Annotations,
    Entry,
    Listing,
    Part,
    check_paths,
    describe_missing,
    read_class_file,
)
from kinemix.data.catalog.base import VIDEO_SUFFIXES, Dataset
from kinemix.data.catalog.official import OfficialDataset
from kinemix.data.naming import collect_class_names, collect_task_names, index_labels, name_numbers
from kinemix.data.splits import describe_split, find_groups, hold_out, make_fold
from kinemix.errors import ConfigError, DataError
from kinemix.label_space import LabelSpace
from kinemix.registry import Shelf

DATASETS: Shelf[Dataset] = Shelf("kinemix.data.catalog", "dataset", Dataset)
"""Every kind of dataset: one file in :mod:`kinemix.data.catalog`."""

_PARTS_TO_VALIDATE: tuple[Part, ...] = ("val", "test")
_PARTS_TO_TEST: tuple[Part, ...] = ("test", "val")


@dataclass(frozen=True)
class Splits:
    """A dataset, split.

    Attributes:
        train, val: who is trained on and who is held out.
        class_names: of both, in the order of their indices; of the last task, where there are several.
        notices: what the user should know (ignored files, missing videos, groups, classes without samples).
        missing: paths of videos that are listed but not there; they are on neither side.
    """

    train: Annotations
    val: Annotations
    class_names: tuple[str, ...]
    notices: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def space(self) -> LabelSpace:
        """What is asked about the samples of both."""
        return self.train.space


def open_splits(data: DataConfig) -> Splits:
    """Read a dataset and split it.

    The validation samples are, in this order: those of ``val_source``; one of ``folds``; the source's own
    part called val, else test; a share drawn by class. With ``folds`` the source's own train and val are
    pooled. Groups count in the last two.

    Raises:
        DataError: a folder, list or label cannot be used; the message names the place and the cure.
        ConfigError: the split asked for is impossible.
    """
    if not data.source:
        raise ConfigError("data.source: nothing given: name a folder with one folder a class, or a list file")
    if data.folds is not None and data.val_source is not None:
        raise ConfigError(
            "data.folds holds a part of data.source out, and data.val_source is held out whole: give one of them"
        )
    if data.folds is None and data.fold:
        raise ConfigError(f"data.fold is {data.fold}: of how many? Give data.folds")
    listings = [
        list_videos(
            source,
            root=data.root,
            group_by=data.group_by,
            split=data.split,
            task=data.task,
            label_separator=data.label_separator,
            told_by=option,
        )
        for source, option in ((data.source, "DATA (data.source)"), (data.val_source, "data.val_source"))
        if source is not None
    ]
    names = read_class_file(data.class_file) if data.class_file else None
    listings = list(
        name_numbers(
            listings, names=names, names_from=str(data.class_file), labels_start_at=data.labels_start_at
        )
    )
    notices = [notice for listing in listings for notice in listing.notices]
    _check_labelled(listings, data)
    missing = check_paths(listings, cure=_cure_of_missing(data.root), max_missing=data.max_missing)
    notices += describe_missing(missing, total=sum(len(listing.entries) for listing in listings))
    pool, held, more = _choose_parts(listings, data)
    notices += more
    used = [listing for listing in (pool, held) if listing is not None]
    official = None if names else pool.class_names
    class_names = collect_class_names(
        used, order=names or official, exclude=data.exclude_labels, allow_empty=official is not None
    )
    tasks = collect_task_names(used, class_names)
    pooled = index_labels(pool, class_names, exclude=data.exclude_labels, task_names=tasks)
    if held is not None:
        train = pooled
        val = index_labels(held, class_names, exclude=data.exclude_labels, task_names=tasks)
    else:
        train, val, more = _split(pooled, data)
        notices += more
    # Who is held out was drawn with them: a video that comes back or goes must move no other.
    train, val = _leave_out(train, missing), _leave_out(val, missing)
    notices += describe_split(train, val)
    return Splits(train, val, class_names, tuple(notices), tuple(entry.path for entry in missing))


def open_annotations(
    source: str,
    *,
    class_names: Sequence[str],
    part: Part | Literal["auto", "all"] = "auto",
    root: str | None = None,
    labels_start_at: int | None = None,
    exclude_labels: Sequence[str] = (),
    class_file: str | None = None,
    first_number: int = 0,
    split: str | None = None,
    task: str | None = None,
    task_names: Mapping[str, tuple[str, ...]] | None = None,
    label_separator: str | None = None,
    max_missing: float = 0.1,
) -> tuple[Annotations, tuple[str, ...]]:
    """Read a dataset to test a run on: labels become indices into the run's class names.

    Args:
        source: folder or list file.
        class_names: of the run. Numbers in a list count off these names, or those in ``class_file``; where the
            names are numbers too, they are the same numbers.
        part: of the dataset; ``auto`` is its test part, else its val part, else everything.
        root: folder that relative paths in a list file start from.
        labels_start_at: number of the first class.
        exclude_labels: classes of the data to leave out.
        class_file: names in the order of the numbers, where ``class_names`` are not all of them.
        first_number: number of the run's first class, where its names are numbers.
        split, task, label_separator, max_missing: as in :class:`kinemix.config.DataConfig`.
        task_names: class names of the run's tasks, where it has several; ``class_names`` are those of the last.

    Returns:
        The samples, and notices for the user.

    Raises:
        DataError: as :func:`open_splits`; a class that the run does not know; no sample in that part.
    """
    listing = list_videos(
        source,
        root=root,
        group_by=None,
        split=split,
        task=task,
        label_separator=label_separator,
        told_by="DATA",
    )
    if class_file is not None:
        names, names_from = read_class_file(class_file), class_file
    else:
        names, names_from = tuple(class_names), "the model"
        if all(re.fullmatch(r"0|[1-9]\d*", name) for name in names):
            labels = [one for entry in listing.entries for one in entry.classes if one.isdecimal()]
            names = tuple(map(str, range(first_number, max(map(int, (*names, *labels))) + 1)))
            labels_start_at = first_number if labels_start_at is None else labels_start_at
    (listing,) = name_numbers([listing], names=names, names_from=names_from, labels_start_at=labels_start_at)
    wanted = _PARTS_TO_TEST if part == "auto" else () if part == "all" else (part,)
    chosen = next((name for name in wanted if name in listing.parts), None)
    if chosen is not None:
        listing = _select(listing, [chosen])
    elif part not in ("auto", "all"):
        raise DataError(f"{source}: has no part {part!r}; {_name_parts(listing)}")
    missing = check_paths([listing], cure=_cure_of_missing(root), max_missing=max_missing)
    annotations = index_labels(listing, class_names, exclude=exclude_labels, task_names=task_names)
    annotations = _leave_out(annotations, missing)
    if not annotations.samples:
        raise DataError(f"{source}: no samples are left after data.exclude_labels: leave fewer out")
    notices = describe_missing(missing, total=len(listing.entries))
    return annotations, (*listing.notices, *notices)


def list_videos(
    source: str,
    *,
    root: str | None,
    group_by: str | None,
    split: str | None = None,
    task: str | None = None,
    label_separator: str | None = None,
    told_by: str = "DATA (data.source)",
) -> Listing:
    """What a source holds, whatever kind of dataset it is.

    ``name:path`` says which kind (``folder:data/gestures``, ``ssv2:data/ssv2``); a path alone is recognised.

    Args:
        source: as above.
        root, group_by: as in :meth:`Dataset.list_videos`.
        split, task, label_separator: as in :class:`kinemix.config.DataConfig`; not every dataset knows them.
        told_by: option or argument that named the source, for messages.

    Raises:
        DataError: there is nothing at that path, or it is no dataset.
        ConfigError: a split or task for a dataset that has none, or not that one.
    """
    named, path = locate_source(source)
    if not path.exists():
        if named is None and (meant := find_dataset(path.name)) is not None:
            raise DataError(f"{path.name}: is a dataset's name: say where it lies, {meant.name}:ROOT")
        raise DataError(f"{path}: no such file or folder: check {told_by}")
    kind = named or _recognise(path)
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        raise DataError(
            f"{path}: one video is no dataset: name a folder with one folder a class, or a list file of paths "
            "and labels"
        )
    official = issubclass(kind, OfficialDataset)
    takes = {"split", "task"} if official else kind.takes
    given = {"split": split, "task": task, "label_separator": label_separator}
    options = {option: value for option, value in given.items() if value is not None}
    if refused := options.keys() - takes:
        option = min(refused)
        cure = (
            "or write a list" if option == "label_separator" else f"or name the dataset, as in ucf101:{path}"
        )
        raise ConfigError(
            f"data.{option}={options[option]}: {path} is read as {kind.name!r}, which has none: leave it out, {cure}"
        )
    if issubclass(kind, OfficialDataset):
        listing = kind.list_split(path, root=root, split=split, task=task)
        found = f"{path}: read as {kind.facts.title} ('folder:{path}' reads class folders only)"
        return listing if named else replace(listing, notices=(found, *listing.notices))
    listing = kind.list_videos(path, root=root, group_by=group_by, **options)
    if root is None or kind.has_paths:
        return listing
    unused = f"data.root has no meaning for {path}, whose videos are found in it"
    return replace(listing, notices=(*listing.notices, unused))


def list_published_splits(source: str) -> tuple[str, ...]:
    """The splits that a dataset was published with; none for a folder or list of one's own."""
    named, path = locate_source(source)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder: check DATA (data.source)")
    kind = named or _recognise(path)
    return kind.facts.splits if issubclass(kind, OfficialDataset) else ()


def locate_source(source: str) -> tuple[type[Dataset] | None, Path]:
    """The kind that a source names, if it names one (``name:path``), and its path."""
    name, _, rest = source.partition(":")
    named = find_dataset(name) if rest else None
    return named, Path(rest if named is not None else source).expanduser()


def find_dataset(name: str) -> type[Dataset] | None:
    """The dataset of that name or alias, however it is spelt (``ssv2``, ``UCF-101``); ``None`` if there is none."""
    if name in DATASETS:
        return DATASETS.get(name)
    wanted = re.sub(r"[\W_]", "", name).lower()
    for known in DATASETS.names():
        kind = DATASETS.get(known)
        aliases = kind.aliases if issubclass(kind, OfficialDataset) else ()
        if wanted in {re.sub(r"[\W_]", "", alias).lower() for alias in (known, *aliases)}:
            return kind
    return None


def _recognise(path: Path) -> type[Dataset]:
    """The kind of dataset at a path; a particular one goes before the general folder and list."""
    general = {"folder", "list"}
    for name in sorted(DATASETS.names(), key=lambda name: name in general):
        if DATASETS.get(name).recognises(path):
            return DATASETS.get(name)
    raise DataError(
        f"{path}: is neither a folder nor a file: name a folder with one folder a class, or a list"
    )


def _choose_parts(listings: Sequence[Listing], data: DataConfig) -> tuple[Listing, Listing | None, list[str]]:
    """The samples to train on (or to split), and the held-out ones where the source names them."""
    pool = listings[0]
    if data.val_source is not None:
        held = listings[1]
        chosen = next((part for part in _PARTS_TO_VALIDATE if part in held.parts), None)
        held = _select(held, [chosen]) if chosen else held
        return (_select(pool, ["train"]) if pool.parts else pool), held, []
    if not pool.parts:
        return pool, None, []
    if data.folds is not None:
        notice = f"{pool.source}: its own train and val are pooled for folds"
        return _select(pool, ["train", "val"]), None, [notice]
    chosen = next((part for part in _PARTS_TO_VALIDATE if part in pool.parts), None)
    if chosen is None:
        return pool, None, []
    notices = [] if chosen == "val" else [f"{pool.source}: has no val part: its test part is validated on"]
    return _select(pool, ["train"]), _select(pool, [chosen]), notices


def _check_labelled(listings: Sequence[Listing], data: DataConfig) -> None:
    for listing in listings:
        bare = next((entry for entry in listing.entries if not entry.label), None)
        if bare is not None and not listing.multilabel:
            raise DataError(
                f"{bare.place}: no label: nothing can be learnt from data.split={data.split or listing.split}; "
                "kinemix test RUN DATA makes a submission from it"
            )
    if data.class_file is not None and len(listings[0].asked) > 1:
        raise ConfigError(
            "data.class_file: names the classes of one task; with several, write names in the list"
        )


def _select(listing: Listing, parts: Sequence[Part]) -> Listing:
    selected = listing.select(parts)
    if not selected.entries:
        raise DataError(f"{listing.source}: has no part {' or '.join(parts)}; {_name_parts(listing)}")
    return selected


def _name_parts(listing: Listing) -> str:
    return "its parts are: " + (", ".join(sorted(listing.parts)) or "none")


def _split(pooled: Annotations, data: DataConfig) -> tuple[Annotations, Annotations, list[str]]:
    pooled, groups, notices = _find_groups(pooled, data.group_by)
    labels = pooled.strata
    if data.folds is not None:
        sides = make_fold(labels, folds=data.folds, fold=data.fold, seed=data.split_seed, groups=groups)
    else:
        sides = hold_out(labels, share=data.val_share, seed=data.split_seed, groups=groups)
        share = len(sides[1]) / len(labels)
        if groups is not None and abs(share - data.val_share) > 0.05:
            notices.append(
                f"{share:.0%} of the samples are held out instead of {data.val_share:.0%}: groups stay whole"
            )
    return pooled.pick(sides[0]), pooled.pick(sides[1]), notices


def _find_groups(
    pooled: Annotations, group_by: str | None
) -> tuple[Annotations, tuple[str, ...] | None, list[str]]:
    """Samples with their groups, the groups, and a notice that says where they come from."""
    if group_by is None:
        return pooled, None, []
    written = [sample.group for sample in pooled.samples]
    if any(written):
        # A sample without a group stands for itself.
        groups = tuple(sample.group or f"(no group) {sample.path}" for sample in pooled.samples)
        origin = "their column"
    else:
        found = find_groups([sample.path for sample in pooled.samples])
        if found is None:
            if group_by == "name":
                raise DataError(
                    f"data.group_by='name': {pooled.samples[0].path} carries no group such as g03 in "
                    "v_Class_g03_c01: set data.group_by=null"
                )
            return pooled, None, []
        groups, origin = found, "file names"
    samples = tuple(
        replace(sample, group=group) for sample, group in zip(pooled.samples, groups, strict=True)
    )
    largest, count = Counter(groups).most_common(1)[0]
    notice = (
        f"{len(set(groups))} groups found in {origin} (the largest, {largest}, has {count} samples) are "
        "never on both sides of the split"
    )
    return replace(pooled, samples=samples), groups, [notice]


def _leave_out(annotations: Annotations, missing: Sequence[Entry]) -> Annotations:
    if not missing:
        return annotations
    paths = {entry.path for entry in missing}
    return replace(annotations, samples=tuple(s for s in annotations.samples if s.path not in paths))


def _cure_of_missing(root: str | None) -> str:
    if root is None:
        return "set data.root to the folder that the paths start from"
    return f"check data.root={root}"
