"""Figures against scikit-learn's own and against counting by hand."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from kinemix.errors import DataError
from kinemix.evaluate.metrics import compute_metrics, metrics_to_dict, opposite_share, topk_accuracy

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
