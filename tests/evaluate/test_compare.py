"""McNemar's test against SciPy's binomial test, the bootstrap against SciPy's and against a naive loop."""

import numpy as np
import pytest
from scipy import stats

from kinemix.errors import DataError
from kinemix.evaluate.compare import (
    compare_scores,
    is_right,
    mcnemar_exact,
    measure_confusion,
    measure_scores,
)
from kinemix.evaluate.metrics import compute_metrics
from kinemix.evaluate.scores import Scores
from kinemix.label_space import LabelSpace


def make_scores(seed, *, count=120, num_classes=7, help_=1.0):
    labels = np.random.default_rng(0).integers(0, num_classes - 1, count)  # the last class has no sample
    logits = np.random.default_rng(seed).normal(size=(count, num_classes))
    logits[np.arange(count), labels] += help_
    return Scores(
        ids=tuple(f"v{i}" for i in range(count)),
        indices=np.arange(count),
        logits=logits.astype(np.float32),
        labels=labels,
        space=LabelSpace(class_names=tuple("abcdefg"[:num_classes])),
        protocol=None,
    )


@pytest.mark.parametrize(
    ("b", "c"), [(0, 0), (0, 1), (5, 0), (3, 3), (10, 25), (193, 69), (700, 812), (4000, 4100)]
)
def test_mcnemar_is_the_binomial_test(b, c):
    wanted = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar_exact(c, b) == mcnemar_exact(b, c)


def test_comparison_counts_pairs():
    first, second = make_scores(1, help_=2), make_scores(2)
    found = compare_scores(first, second, draws=200)
    a = first.logits.argmax(1) == first.labels
    b = second.logits.argmax(1) == second.labels
    table = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for pair in zip(a.tolist(), b.tolist(), strict=True):
        table[pair] += 1
    assert (found.both, found.only_first, found.only_second, found.neither) == tuple(table.values())
    assert found.difference.value == pytest.approx(a.mean() - b.mean())
    assert found.difference.low <= found.difference.value <= found.difference.high
    assert found.p_value == pytest.approx(
        stats.binomtest(found.only_first, found.only_first + found.only_second).pvalue
    )


def test_a_network_does_not_differ_from_itself():
    found = compare_scores(make_scores(1), make_scores(1), draws=50)
    assert (found.p_value, found.difference.value, found.difference.low, found.difference.high) == (
        1,
        0,
        0,
        0,
    )


def test_other_samples_are_not_compared():
    with pytest.raises(DataError, match="align"):
        compare_scores(make_scores(1), make_scores(1, count=100))


def test_bootstrap_equals_a_naive_loop():
    scores = make_scores(3)
    figures = measure_scores(scores, draws=100, seed=5)
    metrics = scores.metrics()
    assert (figures.top1.value, figures.top5.value, figures.mean_class.value) == (
        metrics.top1,
        metrics.top5,
        metrics.mean_class,
    )
    generator = np.random.default_rng(5)
    drawn = []
    for _ in range(100):
        rows = generator.integers(120, size=120)
        again = compute_metrics(scores.logits[rows], scores.labels[rows], scores.class_names)
        drawn.append((again.top1, again.top5, again.mean_class))
    for interval, values in zip(
        (figures.top1, figures.top5, figures.mean_class), zip(*drawn, strict=True), strict=True
    ):
        assert interval.low == pytest.approx(np.percentile(values, 2.5))
        assert interval.high == pytest.approx(np.percentile(values, 97.5))


def test_bootstrap_agrees_with_scipy():
    scores = make_scores(3, count=400)
    right = is_right(scores).astype(float)
    theirs = stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    )
    ours = measure_scores(scores, draws=2000).top1
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


@pytest.mark.parametrize("right", [True, False])
def test_where_all_samples_agree_the_interval_is_the_exact_one(right):
    scores = make_scores(3, help_=100.0 if right else -100.0)
    wanted = stats.binomtest(120 * right, 120).proportion_ci(0.95, method="exact")
    for figures in (
        measure_scores(scores, draws=20),
        measure_confusion(scores.metrics().confusion, draws=20),
    ):
        for interval in (figures.top1, figures.mean_class):
            assert interval.value == right
            assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high))


def test_the_seed_decides():
    scores = make_scores(3)
    assert measure_scores(scores, draws=50, seed=1) == measure_scores(scores, draws=50, seed=1)
    assert measure_scores(scores, draws=50, seed=1) != measure_scores(scores, draws=50, seed=2)


def test_a_confusion_matrix_gives_the_same_figures():
    scores = make_scores(3)
    metrics = scores.metrics()
    figures = measure_confusion(metrics.confusion, draws=400)
    assert (figures.count, figures.top5) == (120, None)
    assert figures.top1.value == metrics.top1
    assert figures.mean_class.value == metrics.mean_class
    whole = measure_scores(scores, draws=400)
    assert figures.top1.low == pytest.approx(whole.top1.low, abs=0.02)  # other rows are drawn
    with pytest.raises(DataError, match="no samples"):
        measure_confusion(np.zeros((3, 3), int))
