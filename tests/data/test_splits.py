"""Splits are by class, keep groups whole, and depend on nothing but the seed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinemix.data.annotations import Annotations, Sample
from kinemix.data.splits import describe_split, find_groups, hold_out, make_fold
from kinemix.errors import ConfigError

samples = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=20, max_size=120)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=8),
    share=st.floats(0.05, 0.9),
    seed=st.integers(0, 99),
)
def test_hold_out_is_by_class(counts: list[int], share: float, seed: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    train, val = hold_out(labels, share=share, seed=seed)
    assert sorted(train + val) == list(range(len(labels)))
    held = Counter(labels[index] for index in val)
    assert all(
        held[label] == min(max(1, round(share * count)), count - 1) for label, count in enumerate(counts)
    )
    assert (train, val) == hold_out(labels, share=share, seed=seed)


@settings(max_examples=60, deadline=None)
@given(drawn=samples, share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_a_group_is_never_on_both_sides(drawn: list[tuple[int, int]], share: float, seed: int) -> None:
    labels, groups = [label for label, _ in drawn], [f"g{group}" for _, group in drawn]
    if len(set(groups)) < 2 or max(Counter(labels).values()) < 2:
        return
    train, val = hold_out(labels, share=share, seed=seed, groups=groups)
    assert train
    assert val
    assert not {groups[index] for index in train} & {groups[index] for index in val}
    assert sorted(train + val) == list(range(len(labels)))


@settings(max_examples=40, deadline=None)
@given(drawn=samples, folds=st.integers(2, 5), seed=st.integers(0, 99), grouped=st.booleans())
def test_folds_partition_the_samples(
    drawn: list[tuple[int, int]], folds: int, seed: int, grouped: bool
) -> None:
    labels, groups = [label for label, _ in drawn], [f"g{group}" for _, group in drawn]
    if max(Counter(labels).values()) < folds or len(set(groups)) < folds:
        return
    given_groups = groups if grouped else None
    parts = [
        make_fold(labels, folds=folds, fold=fold, seed=seed, groups=given_groups) for fold in range(folds)
    ]
    assert sorted(index for _, val in parts for index in val) == list(range(len(labels)))
    for train, val in parts:
        assert sorted(train + val) == list(range(len(labels)))
        if grouped:
            assert not {groups[index] for index in train} & {groups[index] for index in val}


def test_grouped_share_is_near() -> None:
    labels = [label for label in range(4) for _ in range(100)]
    groups = [f"g{index % 20}" for index in range(400)]
    for share in (0.1, 0.2, 0.25, 0.3, 0.5, 0.75):
        _, val = hold_out(labels, share=share, seed=0, groups=groups)
        assert len(val) / 400 == pytest.approx(share, abs=0.03)
        assert max(Counter(labels[index] for index in val).values()) <= 1.1 * share * 100 + 1


def test_the_split_is_the_same_on_every_machine() -> None:
    """Frozen values: a change here would silently mix old runs' training and validation samples."""
    labels = [0] * 10 + [1] * 10
    assert hold_out(labels, share=0.3, seed=0)[1] == [2, 4, 8, 11, 13, 15]
    groups = [f"g{index // 2}" for index in range(20)]
    assert hold_out(labels, share=0.3, seed=0, groups=groups)[1] == [4, 5, 8, 9, 16, 17]
    assert make_fold(labels, folds=4, fold=1, seed=3, groups=groups)[1] == [8, 9, 16, 17, 18, 19]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1, "fold": 0}, "data.folds=1: must be 2 or more"),
        ({"folds": 4, "fold": 4}, "data.fold=4: with 4 folds it must be 0 to 3"),
        (
            {"folds": 4, "fold": 0, "groups": ["a", "b", "c"] * 4},
            r"data.folds=4: more folds than groups \(3\)",
        ),
        ({"folds": 9, "fold": 0}, "data.folds=9: no class has more than 6 samples"),
    ],
)
def test_impossible_folds(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_fold([0, 1] * 6, seed=0, **options)


@pytest.mark.parametrize(
    ("labels", "share", "groups", "message"),
    [
        ([0, 0, 1, 1], 1.0, None, "data.val_share=1.0: must lie between 0 and 1"),
        ([0, 1, 2], 0.2, None, "no class has two samples"),
        ([0, 0, 1, 1], 0.2, ["a"] * 4, r"all samples belong to one group \(a\)"),
    ],
)
def test_impossible_hold_out(labels: list[int], share: float, groups: list[str] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hold_out(labels, share=share, seed=0, groups=groups)


def test_groups_in_file_names() -> None:
    assert find_groups(["a/v_Archery_g03_c01.avi", "b/v_Biking_g11_c02"]) == ("g03", "g11")
    assert find_groups(["person01_boxing_d1.avi", "person12_walking_d3.avi"]) == ("person01", "person12")
    assert find_groups(["S001C002P003R002A013.avi", "S001C002P007R001A002_rgb.avi"]) == ("p003", "p007")
    assert find_groups(["v_Archery_g03_c01.avi", "other.avi"]) is None
    assert find_groups(["a_1.mp4"]) is None


def test_absent_classes_are_named() -> None:
    train = Annotations((Sample("a", 0), Sample("b", 1)), ("x", "y", "z"))
    val = Annotations((Sample("c", 2),), ("x", "y", "z"))
    assert describe_split(train, train.pick([0, 1])) == (
        "no training samples of z: the model cannot learn them",
        "no validation samples of z: its accuracy says nothing of them",
    )
    assert describe_split(train, val)[0] == "no training samples of z: the model cannot learn them"
