"""How labels as they are written become numbers.

Three steps lead from a :class:`~kinemix.data.annotations.Listing` to
:class:`~kinemix.data.annotations.Annotations`, and say what is wrong with the place at hand: :func:`name_numbers`
(numbers become names), then :func:`collect_class_names` (names become an ordered set), then :func:`index_labels`
(names become indices).
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kinemix.data.annotations import Annotations, Entry, Listing, Sample
from kinemix.errors import ConfigError, DataError, did_you_mean
from kinemix.label_space import UNLABELLED

_MOST_EXCLUDED = 10
"""Classes without samples up to which leaving them out is offered as a cure."""


ALL_TASKS = "all"
"""What ``data.task`` says where every question of a dataset is learnt at once."""


def choose_tasks(task: str | None, known: Iterable[str], *, title: str) -> tuple[str, ...]:
    """The questions that are asked, in the order in which they are named; by default the last one known.

    Args:
        task: one name, several with commas between them, or ``all``.
        known: tasks of the dataset; where there are none, only ``None`` is let pass.
        title: of the dataset, for messages.

    Raises:
        ConfigError: an unknown task, or one that is named twice.

    >>> choose_tasks("verb, action", ["verb", "noun", "action"], title="EPIC-Kitchens-55")
    ('verb', 'action')
    """
    known = list(known)
    if task is None:
        return tuple(known[-1:])
    if task == ALL_TASKS and known:
        return tuple(known)
    asked = tuple(name.strip() for name in task.split(","))
    for place, name in enumerate(asked):
        if name not in known:
            cure = did_you_mean(name, known) if known else "it asks one question only: leave it out"
            raise ConfigError(f"data.task={task}: {title} has no task {name!r}: {cure}")
        if name in asked[:place]:
            raise ConfigError(f"data.task={task}: names {name!r} twice")
    return asked


def ask_tasks(listing: Listing, tasks: Sequence[str]) -> Listing:
    """The listing with these of its tasks asked; the last gives every entry its label, and the class names.

    Args:
        listing: its entries have ``labels``.
        tasks: one or more of those.
    """
    leading = tasks[-1]
    return replace(
        listing,
        entries=tuple(replace(entry, label=entry.labels[leading]) for entry in listing.entries),
        declared=listing.task_names.get(leading),
        class_names=listing.task_names.get(leading),
        asked=tuple(tasks),
    )


def split_labels(listing: Listing, separator: str) -> Listing:
    """Labels as they are written in one field, ``open|close``, to the classes of a sample that may have several.

    Raises:
        DataError: a class is named twice, or is empty between two separators.
    """
    entries = []
    for entry in listing.entries:
        names = tuple(name.strip() for name in entry.label.split(separator)) if entry.label else ()
        if "" in names or len(set(names)) < len(names):
            what = "an empty class" if "" in names else "one class twice"
            raise DataError(
                f"{entry.place}: {entry.label!r} names {what} (data.label_separator {separator!r})"
            )
        entries.append(replace(entry, label=names[0] if names else "", label_set=names))
    return replace(listing, entries=tuple(entries), multilabel=True)


def name_numbers(
    listings: Sequence[Listing],
    *,
    names: Sequence[str] | None = None,
    names_from: str = "",
    labels_start_at: int | None = None,
) -> tuple[Listing, ...]:
    """Replace numeric labels by names; leave listings whose labels are names as they are.

    Args:
        listings: of one dataset, whose numbers mean the same. Where several tasks are asked, numbers are names.
        names: in the order of the numbers; without them a number is its own name.
        names_from: where the names come from, for messages.
        labels_start_at: number of the first class, 0 or 1. Where it is not given the numbers must start at 0:
            nothing is guessed.

    Raises:
        DataError: the numbers do not start at 0 and nothing says where they do; a number is below the start
            or has no name.
    """
    numbers = [] if len(listings[0].asked) > 1 else _read_numbers(listings)
    if not numbers:
        first, *others = listings
        if labels_start_at is not None:
            unused = f"data.labels_start_at has no meaning for {first.source}, whose labels are names"
            first = replace(first, notices=(*first.notices, unused))
        return (first, *others)
    start = _find_start(listings, numbers, labels_start_at, first=names[0] if names else "0")
    if names is None:
        names = [str(number) for number in range(start, max(numbers) + 1)]
    named = []
    for listing in listings:
        entries = [_name_numbers(entry, start, names, names_from) for entry in listing.entries]
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
    used = {label for listing in listings for entry in listing.entries for label in entry.classes}
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


def collect_task_names(listings: Sequence[Listing], class_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Class names of every task: the dataset's own, else all that occur; those of the last asked are given.

    Args:
        listings: of one dataset.
        class_names: of the last task that is asked, which is that of the entries' ``label``.

    Raises:
        DataError: a task that is asked has fewer than two classes.
    """
    first, names = listings[0], dict(listings[0].task_names)
    for task in first.asked:
        used = {entry.labels[task] for listing in listings for entry in listing.entries}
        names.setdefault(task, tuple(sorted(used, key=_sort_key)))
        if len(names[task]) < 2:
            raise DataError(
                f"{first.source}: task {task!r} has one class alone: a recogniser needs at least two"
            )
    if first.asked:
        names[first.asked[-1]] = tuple(class_names)
    return names


def index_labels(
    listing: Listing,
    class_names: Sequence[str],
    *,
    exclude: Sequence[str] = (),
    task_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Annotations:
    """Names to indices, samples of ``exclude`` left out.

    Where a sample may have several labels, it loses those; it is left out if it had no other.

    Args:
        listing: labels as names.
        class_names: of ``Entry.label``.
        exclude: classes to leave out.
        task_names: class names of each task; by default the listing's own.

    Raises:
        DataError: a label is not among the class names.
    """
    task_names = listing.task_names if task_names is None else task_names
    index_of = {name: index for index, name in enumerate(class_names)}
    places = {task: {name: index for index, name in enumerate(names)} for task, names in task_names.items()}
    samples = []
    for entry in listing.entries:
        kept = [name for name in entry.classes if name not in exclude]
        if entry.classes and not kept:
            continue
        indices = tuple(_find_index(name, index_of, entry.place, exclude) for name in kept)
        labels = {
            task: _find_index(name, places[task], entry.place, (), of=f" of task {task!r}")
            for task, name in entry.labels.items()
            if name and task in places
        }
        samples.append(
            Sample(
                entry.path,
                indices[0] if indices else UNLABELLED,
                entry.group,
                entry.num_frames,
                entry.segment,
                labels,
                indices if listing.multilabel else (),
                entry.id,
            )
        )
    return Annotations(
        tuple(samples), tuple(class_names), task_names, listing.asked, listing.multilabel, listing.many_shot
    )


def format_exclusion(labels: Iterable[str]) -> str:
    """The option that leaves classes out, as it is written on the command line.

    >>> format_exclusion(["3", "a, b"])
    'data.exclude_labels=[3, "a, b"]'
    """
    plain = re.compile(r"\w[\w ./-]*")
    words = [label if plain.fullmatch(label) else json.dumps(label) for label in labels]
    return f"data.exclude_labels=[{', '.join(words)}]"


def _find_index(
    name: str, index_of: Mapping[str, int], place: str, exclude: Sequence[str], *, of: str = ""
) -> int:
    if name in index_of:
        return index_of[name]
    cure = "" if of else f", or leave it out with {format_exclusion([*exclude, name])}"
    raise DataError(f"{place}: unknown class {name!r}{of}: {did_you_mean(name, index_of)}; correct it{cure}")


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
    labels = [label for listing in listings for entry in listing.entries for label in entry.classes]
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


def _name_numbers(entry: Entry, start: int, names: Sequence[str], names_from: str) -> Entry:
    named = tuple(_name_number(int(label), entry.place, start, names, names_from) for label in entry.classes)
    return replace(entry, label=named[0] if named else "", label_set=named if entry.label_set else ())


def _name_number(number: int, place: str, start: int, names: Sequence[str], names_from: str) -> str:
    if number < start:
        raise DataError(
            f"{place}: label {number} is below the first class, {start} (data.labels_start_at): correct "
            "one of them, or remove the line"
        )
    if number - start >= len(names):
        other = 1 - start
        raise DataError(
            f"{place}: label {number} is out of range: {names_from} has {len(names)} classes, so "
            f"labels run from {start} to {start + len(names) - 1}; correct it, or set "
            f"data.labels_start_at={other} if the list counts from {other}"
        )
    return names[number - start]


def _sort_key(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if re.fullmatch(r"\d+", name) else (1, 0, name)
