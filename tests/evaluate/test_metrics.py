"""Figures against scikit-learn's own and against counting by hand."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.classification import MultilabelAveragePrecision

from kinemix.errors import DataError
from kinemix.evaluate.metrics import (
    compute_metrics,
    compute_multilabel_metrics,
    count_classes,
    mean_class_accuracy,
    metrics_to_dict,
    opposite_share,
    topk_accuracy,
)

NAMES = [f"class {k}" for k in range(7)]


@pytest.fixture
def answers():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 6, 200)  # class 6 has no sample
    logits = generator.normal(size=(200, 7)).astype(np.float32)
    logits[np.arange(200), labels] += 1
    return logits, labels


def test_against_scikit_learn(answers):
    logits, labels = answers
    figures = compute_metrics(logits, labels, NAMES)
    predictions = logits.argmax(1)
    classes = list(range(7))
    assert figures.top1 == pytest.approx(reference.accuracy_score(labels, predictions))
    assert figures.top5 == pytest.approx(reference.top_k_accuracy_score(labels, logits, k=5, labels=classes))
    present = list(range(6))
    recall = reference.recall_score(labels, predictions, labels=present, average=None)
    assert [c.accuracy for c in figures.per_class[:6]] == pytest.approx(recall)
    assert figures.mean_class == pytest.approx(recall.mean())
    assert figures.per_class[6].accuracy is None
    assert figures.per_class[6].count == 0


def test_confusion_by_counting(answers):
    logits, labels = answers
    counts = np.zeros((7, 7), int)
    for row, label in zip(logits, labels, strict=True):
        counts[label, int(np.argmax(row))] += 1
    assert (compute_metrics(logits, labels, NAMES).confusion == counts).all()


def test_topk_of_fewer_classes_is_one():
    assert topk_accuracy(np.array([[0.0, 1.0]]), np.array([0]), k=5) == 1
    assert topk_accuracy(np.array([[0.0, 1.0]]), np.array([0]), k=1) == 0


def test_json_holds_all_figures(answers):
    logits, labels = answers
    assert json.loads(json.dumps(metrics_to_dict(compute_metrics(logits, labels, NAMES))))["count"] == 200


def test_no_samples_and_labels_out_of_range_are_refused():
    with pytest.raises(DataError, match="nothing to count"):
        compute_metrics(np.zeros((0, 2)), np.zeros(0, int), ["a", "b"])
    with pytest.raises(DataError, match="labels run from 0 to 2"):
        compute_metrics(np.zeros((2, 2)), np.array([0, 2]), ["a", "b"])


def test_opposite_share_by_hand():
    names = ["left", "right", "up", "down", "still"]
    labels = np.array([0, 1, 2, 3, 4, 0])
    answered = [1, 0, 2, 2, 4, 1]  # right: the first, second, fourth, last; the fifth has no pair
    logits = np.eye(5)[answered]
    assert opposite_share(logits, labels, names, [("left", "right"), ("up", "down")]) == pytest.approx(4 / 5)
    assert opposite_share(logits, labels, names, [("up", "down")]) == pytest.approx(1 / 2)
    with pytest.raises(DataError, match=r"no class 'lft'.*'left'"):
        opposite_share(logits, labels, names, [("lft", "right")])
    with pytest.raises(DataError, match="not defined"):
        opposite_share(logits, labels, names, [])


def test_figures_of_a_confusion_matrix_alone(answers):
    logits, labels = answers
    figures = compute_metrics(logits, labels, NAMES)
    assert count_classes(figures.confusion, NAMES) == figures.per_class
    assert mean_class_accuracy(count_classes(figures.confusion)) == figures.mean_class


@pytest.fixture
def several():
    """Label 4 has no positive; scores repeat, so that ranks are shared."""
    generator = np.random.default_rng(3)
    targets = (generator.random((80, 5)) < [0.5, 0.1, 0.3, 0.9, 0]).astype(int)
    logits = np.round(generator.normal(size=(80, 5)) + targets, 1)
    return logits, targets


def _naive_average_precision(scores, target):
    """Sum over thresholds of precision x rise in recall, from the highest score down; equal scores fall together."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = target[scores >= threshold]
        now = found.sum() / target.sum()
        area += found.mean() * (now - recall)
        recall = now
    return area


def test_average_precision_three_ways(several):
    logits, targets = several
    figures = compute_multilabel_metrics(logits, targets, list("abcde"))
    ours = [c.average_precision for c in figures.per_class]
    assert ours[4] is None
    assert [c.count for c in figures.per_class] == targets.sum(axis=0).tolist()
    assert ours[:4] == pytest.approx(
        [_naive_average_precision(logits[:, k], targets[:, k]) for k in range(4)]
    )
    assert figures.mean_average_precision == pytest.approx(
        reference.average_precision_score(targets[:, :4], logits[:, :4], average="macro")
    )
    # A library of its own; it wants probabilities, and figures depend on ranks alone.
    judge = MultilabelAveragePrecision(num_labels=4, average="macro", thresholds=None)
    probabilities = torch.from_numpy(logits[:, :4]).sigmoid()
    theirs = judge(probabilities, torch.from_numpy(targets[:, :4]))
    assert figures.mean_average_precision == pytest.approx(float(theirs), abs=1e-6)


def test_average_precision_depends_on_ranks_alone(several):
    logits, targets = several
    plain = compute_multilabel_metrics(logits, targets, list("abcde"))
    assert compute_multilabel_metrics(np.exp(logits), targets, list("abcde")) == plain


def test_targets_of_several_labels_are_checked(several):
    logits, targets = several
    with pytest.raises(DataError, match=r"\(80, 4\)"):
        compute_multilabel_metrics(logits, targets[:, :4], list("abcde"))
    with pytest.raises(DataError, match="0 or 1"):
        compute_multilabel_metrics(logits, targets * 2, list("abcde"))
    with pytest.raises(DataError, match="not defined"):
        compute_multilabel_metrics(logits, targets * 0, list("abcde"))
