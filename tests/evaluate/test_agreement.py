"""The order of two tables, against hand counts and formulas."""

import itertools

import pytest
from scipy import stats

from kinemix.evaluate.agreement import compare_orders, describe_agreement

THEIRS = {"a": 19.7, "b": 41.0, "c": 45.6, "d": 45.9, "e": 46.7}


def test_ranks_against_the_formulas():
    ours = {"a": 10.0, "b": 50.0, "c": 30.0, "d": 40.0, "e": 60.0}
    agreement = compare_orders(ours, THEIRS)
    # Ranks 1 4 2 3 5 against 1 2 3 4 5: squared differences 0 4 1 1 0.
    assert agreement.spearman == pytest.approx(1 - 6 * 6 / (5 * 24))
    assert (agreement.pairs, agreement.same, agreement.tied) == (10, 8, 0)
    assert agreement.kendall == pytest.approx((8 - 2) / 10)
    assert [(pair.better, pair.worse) for pair in agreement.turned] == [("d", "b"), ("c", "b")]
    assert [pair.theirs for pair in agreement.turned] == pytest.approx([4.9, 4.6])
    assert [pair.ours for pair in agreement.turned] == [-10, -20]


def test_every_order_of_four_against_scipy():
    names = "abcd"
    for order in itertools.permutations((1.0, 2.0, 3.0, 4.0)):
        ours = dict(zip(names, order, strict=True))
        theirs = {name: THEIRS[name] for name in names}
        agreement = compare_orders(ours, theirs)
        tau = stats.kendalltau(order, list(theirs.values())).statistic
        assert (agreement.same - len(agreement.turned)) / agreement.pairs == pytest.approx(tau)
        assert agreement.spearman == pytest.approx(stats.spearmanr(order, list(theirs.values())).statistic)


def test_ties_spreads_and_missing_rows():
    ours = {"a": 10.0, "b": 50.0, "c": 50.0, "d": 49.0, "unknown": 1.0}
    deviations = {"a": 1.0, "b": 1.0, "c": 0.1, "d": 0.2}
    agreement = compare_orders(ours, THEIRS, deviations)
    assert (agreement.rows, agreement.pairs, agreement.same, agreement.tied) == (4, 6, 3, 1)
    assert {pair.worse: pair.within_spread for pair in agreement.turned} == {"b": True, "c": False}
    assert compare_orders(ours, THEIRS).turned[0].within_spread is None
    equal = compare_orders({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 5.0, "b": 5.0, "c": 6.0})
    assert (equal.pairs, equal.same) == (2, 2)
    lines = describe_agreement(agreement)
    assert lines[0].startswith(
        "3 of 6 pairs of rows are in the order of the paper, 1 are equal here, 2 the other way"
    )
    assert (
        "d is 4.90 points above b in the paper and 1.00 below it here, within the spread of the two." in lines
    )


@pytest.mark.parametrize("names", ["", "a", "ab"])
def test_too_few_rows(names):
    agreement = compare_orders(dict.fromkeys(names, 1.0), {name: THEIRS[name] for name in names})
    assert agreement.spearman is None
    assert agreement.kendall is None
    if len(names) < 2:
        assert describe_agreement(agreement) == ["Fewer than two rows can be compared."]
