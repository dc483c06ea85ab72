"""What a mirror does to a label, in space or in time: "turn left" becomes "turn right", and some must stay.

Mirroring is only safe where the label goes along. Something-Something has three such pairs, Jester its swipes
and turns; the released code of several papers mirrors without swapping or with a table that is off by one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from kinemix.errors import ConfigError, did_you_mean

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
