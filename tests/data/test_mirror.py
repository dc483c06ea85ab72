"""A mirror swaps the labels that it must, whatever the order of the classes."""

import random

import pytest

from kinemix.data.mirror import mirror_labels
from kinemix.errors import ConfigError

PAIRS = [
    ("Swiping Left", "Swiping Right"),
    ("rotate_cw", "rotate_ccw"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
    ("spin clockwise", "spin anti-clockwise"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("TurnLeft", "TurnRight"),
    ("left", "right"),
]
ALONE = ["jump", "bright light", "copyright", "Holding something", "leftover"]
UNPAIRED = ["wave left", "Turn Right only"]


@pytest.mark.parametrize("seed", range(5))
def test_auto_pairs_directions_in_any_order(seed: int) -> None:
    names = [name for pair in PAIRS for name in pair] + ALONE + UNPAIRED
    random.Random(seed).shuffle(names)
    mirrors = mirror_labels(names)
    for left, right in PAIRS:
        assert mirrors[names.index(left)] == names.index(right)
        assert mirrors[names.index(right)] == names.index(left)
    assert all(mirrors[names.index(name)] == names.index(name) for name in ALONE)
    assert all(mirrors[names.index(name)] is None for name in UNPAIRED)


def test_something_something_pairs() -> None:
    """The three pairs of Something-Something v2, by name; their numbers follow from the alphabet."""
    names = [
        "Pulling something from left to right",
        "Pulling something from right to left",
        "Pushing something from left to right",
        "Pushing something from right to left",
        "Turning the camera left while filming something",
        "Turning the camera right while filming something",
        "Turning the camera upwards while filming something",
    ]
    assert mirror_labels(names) == (1, 0, 3, 2, 5, 4, 6)


def test_on_off_and_numbers() -> None:
    assert mirror_labels(["left", "right"], flip="on") == (0, 1)
    assert mirror_labels(["left", "right"], flip="off") == (None, None)
    assert mirror_labels(["0", "1"]) == (None, None)


def test_by_hand_leaves_the_others_alone() -> None:
    names = ["a", "b", "c", "d"]
    assert mirror_labels(names, flip_labels={"a": "c", "d": "d"}) == (2, None, 0, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": "bb"}, "no class 'bb': did you mean 'b'?"),
        ({"a": "b", "c": "b"}, "'b' is paired with both 'a' and 'c'"),
    ],
)
def test_by_hand_errors(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mirror_labels(["a", "b", "c"], flip_labels=given)
