"""What is wrong between the videos: labels, balance, copies, and leaks from training into testing."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kinemix.data.doctor.findings import Finding, Severity
from kinemix.data.doctor.fingerprint import Likeness
from kinemix.data.doctor.members import Collection, Member
from kinemix.data.mirror import mirror_labels
from kinemix.data.splits import hold_out
from kinemix.errors import ConfigError

IMBALANCE = 10
"""Times that the largest class may outnumber the smallest; beyond, the accuracy hides the small ones."""

_SHOWN = 5


def judge_labels(collection: Collection) -> Iterator[Finding]:
    """Labels out of range, classes spelt in two ways, classes without or nearly without samples."""
    if collection.refusal is not None:
        cure = "mend this first; the other findings say more where they can"
        yield Finding("refused", "error", (collection.source,), collection.refusal, cure)
    if not collection.listings:
        return
    yield from _find_strangers(collection)
    yield from _find_variants(collection)
    yield from _find_empty_classes(collection)
    yield from _find_imbalance(collection)
    yield from _find_mirrors(collection)


def _find_strangers(collection: Collection) -> Iterator[Finding]:
    """Labels that no class has: numbers out of range, words among numbers, names that the list lacks."""
    labels = Counter(name for member in collection.members for name in member.classes)
    declared = collection.listings[0].class_names
    if declared is not None:
        for label in sorted(set(labels) - set(declared)):
            yield _blame(collection, label, f"{label!r} is no class of the published list", "correct it")
        return
    if any(listing.declared is not None for listing in collection.listings):
        return  # folders name their own classes; numbers were named already, so they are in range
    numbers = {label for label in labels if re.fullmatch(r"-?\d+", label)}
    words = set(labels) - numbers
    if numbers and words and sum(labels[n] for n in numbers) > sum(labels[w] for w in words):
        for label in sorted(words):
            value = f"{label!r} is a word among numbers, so every number becomes a name"
            yield _blame(collection, label, value, "write its number")
    elif not words:
        # They could not be named, else they were declared: some lie below 0 or beyond the class file.
        first = min((int(label) for label in numbers if int(label) >= 0), default=0)
        for label in sorted(numbers, key=int):
            beyond = collection.num_named is not None and int(label) - min(first, 1) >= collection.num_named
            if int(label) < 0 or beyond:
                yield _blame(collection, label, f"label {label} is out of range", "correct it")


def _blame(collection: Collection, label: str, value: str, cure: str) -> Finding:
    places = tuple(member.place for member in collection.members if label in member.classes)
    return Finding("label_out_of_range", "error", places, value, cure)


def _find_variants(collection: Collection) -> Iterator[Finding]:
    """Classes whose names differ by case, blanks, dashes or underscores alone."""
    if collection.official:
        return
    spelt: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(name for member in collection.members for name in member.classes):
        if re.fullmatch(r"-?\d+", name):
            continue
        spelt[re.sub(r"[\s_-]+", "", name).casefold()].append(name)
    for names in spelt.values():
        if len(names) > 1:
            value = " and ".join(repr(name) for name in sorted(names)) + " count as different classes"
            files = tuple(
                member.place for member in collection.members if set(member.classes) & set(names[1:])
            )
            yield Finding("class_variants", "error", files, value, "spell the class in one way")


def _find_empty_classes(collection: Collection) -> Iterator[Finding]:
    declared = dict.fromkeys(name for listing in collection.listings for name in listing.declared or ())
    names = list(dict.fromkeys((*collection.class_names, *declared)))
    used = {name for member in collection.members for name in member.classes}
    absent = [name for name in names if name not in used]
    if absent:
        severity: Severity = "warning" if collection.official else "error"
        cure = "add some, or leave it out with data.exclude_labels"
        yield Finding(
            "class_without_samples", severity, (collection.source,), f"nowhere: {_join(absent)}", cure
        )
    for part, cost in (("train", "error"), ("val", "warning"), ("test", "warning")):
        inside = {name for member in collection.members if member.part == part for name in member.classes}
        lacking = [name for name in names if name in used and name not in inside]
        if inside and lacking:
            cure = "the network cannot learn it" if part == "train" else "accuracy says nothing of it"
            severity = "error" if cost == "error" else "warning"
            value = f"not in {part}: {_join(lacking)}"
            yield Finding("class_without_samples", severity, (collection.source,), value, cure)


def _find_imbalance(collection: Collection) -> Iterator[Finding]:
    # Where a part is drawn at random, the whole collection is what tells.
    parts = ("train", None) if collection.own_parts else ("train", "val", None)
    chosen = (member for member in collection.members if member.part in parts)
    counts = Counter(name for member in chosen for name in member.classes)
    if len(counts) < 2:
        return
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many > IMBALANCE * few:
        value = f"{most!r} has {many} samples, {least!r} has {few}"
        cure = "look at the mean class accuracy, and collect more of the small classes"
        yield Finding("imbalance", "warning", (collection.source,), value, cure)
    alone = sorted(label for label, count in counts.items() if count == 1)
    if alone:
        value = f"a single sample of {_join(alone)}"
        cure = "collect more, or leave the class out with data.exclude_labels"
        yield Finding("single_sample", "warning", (collection.source,), value, cure)


def _find_mirrors(collection: Collection) -> Iterator[Finding]:
    """Classes that a mirror turns into another, or into none that is there."""
    names = collection.class_names
    if not names or all(re.fullmatch(r"\d+", name) for name in names):
        return
    partners = mirror_labels(names)
    pairs = [f"{names[a]} <-> {names[b]}" for a, b in enumerate(partners) if b is not None and a < b]
    lone = [names[a] for a, b in enumerate(partners) if b is None]
    if pairs:
        cure = "keep augment.flip=auto, which swaps the labels; 'on' would teach lies"
        yield Finding("mirror_pairs", "note", (collection.source,), _join(pairs), cure)
    if lone:
        cure = "augment.flip=auto never mirrors them; 'on' would teach lies"
        yield Finding("mirror_without_partner", "note", (collection.source,), _join(lone), cure)


def judge_copies(
    collection: Collection,
    same_bytes: Iterable[Sequence[str]],
    likenesses: Iterable[tuple[str, str, Likeness]],
) -> Iterator[Finding]:
    """Files of equal bytes, and videos of equal or nearly equal content.

    Args:
        collection: who is in it.
        same_bytes: groups of paths whose files are equal.
        likenesses: pairs of paths that show the same, those of equal bytes left out.
    """
    members_of = _by_path(collection.members)
    yield from _find_listed_twice(members_of)
    for paths in same_bytes:
        yield _judge_group("duplicate", tuple(paths), members_of, "equal byte for byte")
    alike: list[tuple[str, str]] = []
    near: list[tuple[str, str, Likeness]] = []
    for a, b, likeness in likenesses:
        if likeness.same:
            alike.append((a, b))
        else:
            near.append((a, b, likeness))
    for paths in _join_pairs(alike):
        yield _judge_group("same_content", paths, members_of, "show the same, coded differently")
    for a, b, likeness in near:
        value = f"show nearly the same (motion agrees to {likeness.motion or 1:.2f})"
        yield _judge_group("near_duplicate", (a, b), members_of, value)


def _judge_group(
    kind: str, paths: tuple[str, ...], members_of: Mapping[str, Sequence[Member]], value: str
) -> Finding:
    members = [member for path in paths for member in members_of.get(path, ())]
    parts = {member.part for member in members if member.part}
    labels = {member.label for member in members}
    if len(parts) > 1:
        cure = "the test measures memory: keep all copies on one side"
        return Finding(f"leak_{kind}", "error", paths, f"{value}; in {' and '.join(sorted(parts))}", cure)
    if len(labels) > 1:
        cure = "one of the labels lies: look at them, keep one"
        value = f"{value}, but are labelled {_join(sorted(labels))}"
        return Finding(f"contradicting_{kind}", "error", paths, value, cure)
    cure = "keep one: a random split would train on it and test on it"
    return Finding(kind, "warning", paths, value, cure)


def _find_listed_twice(members_of: Mapping[str, Sequence[Member]]) -> Iterator[Finding]:
    """One video in several lines: twice the same, in two parts, or under two labels."""
    for path, members in members_of.items():
        for count, member in enumerate(members):
            for other in members[:count]:
                whole = member.segment is None or other.segment is None
                if not whole and not _overlap(member, other):
                    continue
                places = f"{other.place} and {member.place}"
                if member.part != other.part:
                    value = f"listed in {other.part} and in {member.part} ({places})"
                    cure = "the test measures memory: remove one of the lines"
                    yield Finding("leak_same_file", "error", (path,), value, cure)
                elif member.label != other.label and member.segment == other.segment:
                    value = f"labelled {other.label!r} and {member.label!r} ({places})"
                    yield Finding("contradicting_labels", "error", (path,), value, "remove one of the lines")
                elif member.segment == other.segment:
                    yield Finding("listed_twice", "error", (path,), places, "remove one of the lines")


def _overlap(a: Member, b: Member) -> bool:
    assert a.segment is not None
    assert b.segment is not None
    if a.segment.unit != b.segment.unit:
        return False
    return a.segment.start < b.segment.stop and b.segment.start < a.segment.stop


def judge_groups(collection: Collection, *, share: float, seed: int) -> Iterator[Finding]:
    """Sessions or subjects on both sides of a split: of the one in use, and of one that ignored them."""
    members, origin = collection.members, collection.grouped_from
    groups = {member.group for member in members if member.group}
    if len(groups) < 2:
        return
    leaked = _leaked_groups(members)
    if leaked:
        files = tuple(m.path for m in members if m.group in leaked and m.part in ("val", "test"))
        value = (
            f"{len(leaked)} of {len(groups)} groups from {origin} are on both sides: {_join(sorted(leaked))}"
        )
        if collection.own_parts:
            cure = "background or person give the answer away: split by group"
        elif origin.endswith("does not read"):
            cure = f"a split by clip leaks: train on {collection.source}/{origin.split(',')[0]} instead"
        else:
            cure = "a split by clip leaks: leave data.group_by on auto"
        yield Finding("leak_group", "error", files, value, cure)
    elif not collection.own_parts:
        by_clip = _split_by_clip(members, share=share, seed=seed)
        if by_clip:
            value = (
                f"{len(groups)} groups from {origin}; a split by clip would test {by_clip:.0%} of the held-out "
                "samples beside their own group"
            )
            cure = "keep data.group_by=auto: it keeps groups on one side"
            yield Finding("groups", "note", (collection.source,), value, cure)


def _leaked_groups(members: Sequence[Member]) -> set[str]:
    sides: defaultdict[str, set[bool]] = defaultdict(set)
    for member in members:
        if member.group and member.part:
            sides[member.group].add(member.part == "train")
    return {group for group, found in sides.items() if len(found) > 1}


def _split_by_clip(members: Sequence[Member], *, share: float, seed: int) -> float:
    """The share of held-out samples whose group is trained on, if groups are not heeded."""
    number = {label: index for index, label in enumerate(dict.fromkeys(m.label for m in members))}
    try:
        train, held = hold_out([number[member.label] for member in members], share=share, seed=seed)
    except ConfigError:
        return 0.0
    seen = {members[index].group for index in train} - {None}
    return sum(members[index].group in seen for index in held) / len(held)


def _by_path(members: Iterable[Member]) -> dict[str, list[Member]]:
    found: defaultdict[str, list[Member]] = defaultdict(list)
    for member in members:
        found[member.path].append(member)
    return dict(found)


def _join_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Groups of paths that pairs link together, in the order of the pairs."""
    group_of: dict[str, list[str]] = {}
    for a, b in pairs:
        one, two = group_of.setdefault(a, [a]), group_of.setdefault(b, [b])
        if one is not two:
            one.extend(two)
            for path in two:
                group_of[path] = one
    return [tuple(group) for group in {id(group): group for group in group_of.values()}.values()]


def _join(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
