"""What a mirror does to a label, in space or in time: "turn left" becomes "turn right", and some must stay.

Mirroring is only safe where the label goes along. Something-Something has three such pairs, Jester its swipes
and turns; the released code of several papers mirrors without swapping or with a table that is off by one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kinemix.data.annotations import Label
from kinemix.errors import ConfigError, did_you_mean
from kinemix.label_space import LabelSpace

# A direction counts as a word of its own: between non-letters, or with a capital inside "SwipeLeft".
_DIRECTIONS = {
    r"counter[\s_-]*clock[\s_-]*wise|anti[\s_-]*clock[\s_-]*wise|ccw": "<ccw>",
    r"clock[\s_-]*wise|cw": "<cw>",
    r"left": "<left>",
    r"right": "<right>",
}
# "pulling it right out" is no direction.
_ADVERB = r"(?<![A-Za-z])(?i:right)(?=\s+(?i:out|away|after|before|now)(?![A-Za-z]))"
_OPPOSITE = {"<left>": "<right>", "<right>": "<left>", "<cw>": "<ccw>", "<ccw>": "<cw>"}


@dataclass(frozen=True)
class Swap:
    """What a change of the clip (a mirror, time reversed) does to its label.

    Attributes:
        partners: for each task, and each of its classes, the class that its clips then show; ``None`` where they
            show none, so that they must stay as they are.
        multilabel: whether a label is any number of classes. A clip may then show a class that no one has
            labelled, because its mirror image alone is one; so none is changed unless every class has a partner.
    """

    partners: tuple[tuple[int | None, ...], ...]
    multilabel: bool = False

    def __call__(self, label: Label) -> Label | None:
        """The label of the changed clip, or ``None`` if the clip must not be changed."""
        if isinstance(label, int):
            return self.partners[0][label]
        if self.multilabel and None in self.partners[0]:
            return None
        tasks = self.partners * len(label) if self.multilabel else self.partners
        found = [task[one] for task, one in zip(tasks, label, strict=True)]
        known = tuple(one for one in found if one is not None)
        return known if len(known) == len(found) else None

    @property
    def row(self) -> list[int | None]:
        """The partners as places in a row of logits, where the tasks stand side by side."""
        places: list[int | None] = []
        for task in self.partners:
            start = len(places)
            places += [None if one is None else start + one for one in task]
        return places


def mirror_space(
    space: LabelSpace,
    *,
    flip: Literal["auto", "on", "off"] = "auto",
    flip_labels: Mapping[str, str] | None = None,
) -> Swap:
    """What a mirror does to the labels; see :func:`mirror_labels`.

    Of several tasks, ``flip_labels`` speaks for those of which it names a class; the others follow ``flip``.
    """
    tasks = _divide_pairs(space, flip_labels or {}, option="augment.flip_labels")
    partners = (mirror_labels(names, flip=flip, flip_labels=pairs) for names, pairs in tasks)
    return Swap(tuple(partners), space.multilabel)


def reverse_space(space: LabelSpace, pairs: Mapping[str, str]) -> Swap:
    """What playing backwards does to the labels; see :func:`reverse_labels`.

    Of several tasks, each must name its class: a clip whose noun stays the same needs it paired with itself.
    """
    tasks = _divide_pairs(space, pairs, option="augment.reverse_labels")
    return Swap(tuple(reverse_labels(names, own) for names, own in tasks), space.multilabel)


def _divide_pairs(
    space: LabelSpace, pairs: Mapping[str, str], *, option: str
) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """The class names of each task, and the pairs that are about them."""
    tasks = [space.pick(task).class_names for task in space.tasks] or [space.class_names]
    for name in pairs:
        if not any(name in names for names in tasks):
            raise ConfigError(f"{option}: no class {name!r}: {did_you_mean(name, space.class_names)}")
    return [(names, {name: other for name, other in pairs.items() if name in names}) for names in tasks]


def mirror_labels(
    class_names: Sequence[str],
    *,
    flip: Literal["auto", "on", "off"] = "auto",
    flip_labels: Mapping[str, str] | None = None,
) -> tuple[int | None, ...]:
    """For each class, the class of its mirror image, or ``None`` where a clip must not be mirrored.

    The order of the classes does not matter; only their names do.

    Args:
        class_names: K names.
        flip: ``auto`` pairs names that differ by left/right or clockwise/counterclockwise as whole words
            (``Swiping Left`` and ``Swiping Right``); a name with such a word whose partner is no class is
            never mirrored; the others keep their label. Names that are all numbers say nothing about
            direction, so none is mirrored. ``on``: every class keeps its label. ``off``: none is mirrored.
        flip_labels: pairs given by hand, each name to its mirror's name (to itself if it looks the same);
            classes that it does not name are not mirrored. Takes the place of ``auto``.

    Returns:
        K indices or ``None``. Mirroring twice gives the class back.

    Raises:
        ConfigError: ``flip_labels`` names an unknown class or contradicts itself.

    >>> mirror_labels(["turn right", "jump", "turn left", "wave left"])
    (2, 1, 0, None)
    """
    if flip == "off":
        return (None,) * len(class_names)
    if flip_labels:
        return _pair_by_hand(class_names, flip_labels, option="augment.flip_labels")
    if flip == "on":
        return tuple(range(len(class_names)))
    if all(re.fullmatch(r"\d+", name) for name in class_names):
        return (None,) * len(class_names)
    canonical = [_name_directions(name) for name in class_names]
    partners: list[int | None] = []
    for index, name in enumerate(canonical):
        mirrored = re.sub(r"<\w+>", lambda found: _OPPOSITE[found[0]], name)
        if mirrored == name:
            partners.append(index)
        # Two names of one meaning ("turn cw", "turn clockwise") would leave the partner open.
        elif canonical.count(name) == 1 == canonical.count(mirrored):
            partners.append(canonical.index(mirrored))
        else:
            partners.append(None)
    return tuple(partners)


def reverse_labels(class_names: Sequence[str], pairs: Mapping[str, str]) -> tuple[int | None, ...]:
    """For each class, the class that its clips show when they are played backwards, or ``None`` if none does.

    Names never tell what a reversed action is, so the pairs are always given by hand.

    Args:
        class_names: K names.
        pairs: each name to its reversal's name (to itself if it looks the same).

    Raises:
        ConfigError: as :func:`mirror_labels`.

    >>> reverse_labels(["close", "jump", "open"], {"open": "close"})
    (2, None, 0)
    """
    return _pair_by_hand(class_names, pairs, option="augment.reverse_labels")


def _name_directions(name: str) -> str:
    """The name in lower case with every direction word replaced by its mark and one kind of separator."""
    name = re.sub(_ADVERB, "straight", name)
    for words, mark in _DIRECTIONS.items():
        for word in (rf"(?<![A-Za-z])(?i:{words})(?![A-Za-z])", _capitalised(words)):
            name = re.sub(word, f" {mark} ", name)
    return " ".join(re.sub(r"[\s_-]+", " ", name).lower().split())


def _capitalised(words: str) -> str:
    """The direction as a part of a CamelCase name: SwipeLeft, LeftTurn, TurnCounterClockwise."""
    capital = "|".join(f"(?-i:{word[0].upper()})(?i:{word[1:]})" for word in words.split("|"))
    return rf"(?<![A-Z])(?:{capital})(?![a-z])"


def _pair_by_hand(
    class_names: Sequence[str], pairs: Mapping[str, str], *, option: str
) -> tuple[int | None, ...]:
    index_of = {name: index for index, name in enumerate(class_names)}
    partner: dict[int, int] = {}
    for name, mirror in pairs.items():
        for given in (name, mirror):
            if given not in index_of:
                raise ConfigError(f"{option}: no class {given!r}: {did_you_mean(given, index_of)}")
        for a, b in ((name, mirror), (mirror, name)):
            known = partner.setdefault(index_of[a], index_of[b])
            if known != index_of[b]:
                raise ConfigError(
                    f"{option}: {a!r} is paired with both {class_names[known]!r} and {b!r}; "
                    "name one for each class"
                )
    return tuple(partner.get(index) for index in range(len(class_names)))
