"""Networks side by side: classes that changed, order, confidence, agreement, published points."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from answers import draw_scores, make_scores
from kinemix.errors import DataError
from kinemix.evaluate.calibration import measure_calibration
from kinemix.evaluate.class_changes import compare_classes, rank_changes
from kinemix.evaluate.compare import measure_agreement
from kinemix.evaluate.ensemble import to_probabilities
from kinemix.evaluate.order_sensitivity import measure_order
from kinemix.evaluate.papers import NUM_CLASSES
from kinemix.evaluate.papers.points import list_points

NAMES = ("fold", "unfold", "open", "close")


def test_a_class_tells_who_was_put_right_and_what_it_was_taken_for() -> None:
    labels = [0, 0, 0, 0, 1, 1, 2, 2]
    first = make_scores(labels, [1, 1, 2, 0, 1, 1, 2, 2], NAMES)
    second = make_scores(labels, [0, 0, 0, 1, 3, 1, 2, 2], NAMES)
    fold, unfold, opened, close = compare_classes(first, second)
    assert (fold.right_before, fold.right_after, fold.gain) == (1, 3, 2)
    assert fold.corrected == (0, 1, 2)
    assert (fold.was_taken_for.answer, fold.was_taken_for.count) == ("unfold", 2)
    assert fold.lost == (3,)
    assert fold.is_taken_for.answer == "unfold"
    assert (unfold.gain, unfold.is_taken_for.answer) == (-1, "close")
    assert (opened.gain, opened.corrected, opened.was_taken_for) == (0, (), None)
    assert close.count == 0
    improved, worsened = rank_changes([fold, unfold, opened, close])
    assert [c.name for c in improved] == ["fold"]
    assert [c.name for c in worsened] == ["unfold"]


def test_gains_of_classes_add_up_to_the_gain_in_accuracy() -> None:
    first, second = (draw_scores(9, 7, share=share, seed=seed) for share, seed in ((0.3, 1), (0.6, 2)))
    changes = compare_classes(first, second)
    gain = second.metrics().top1 - first.metrics().top1
    assert sum(c.gain for c in changes) == pytest.approx(gain * len(first.ids))
    for c in changes:
        assert c.gain == len(c.corrected) - len(c.lost)


def test_other_samples_are_refused() -> None:
    first = make_scores([0, 1], [0, 1], NAMES)
    other = make_scores([0, 2], [0, 1], NAMES)
    for compare in (compare_classes, measure_agreement):
        with pytest.raises(DataError, match="same samples"):
            compare(first, other)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_error_is_torchmetrics(bins: int) -> None:
    scores = draw_scores(6, 40, share=0.5, seed=3)
    calibration = measure_calibration(scores, bins=bins)
    for norm, ours in (("l1", calibration.error), ("max", calibration.worst)):
        theirs = multiclass_calibration_error(
            torch.tensor(to_probabilities(scores)), torch.tensor(scores.labels), 6, n_bins=bins, norm=norm
        )
        assert ours == pytest.approx(float(theirs), abs=1e-6)
    assert calibration.counts.sum() == len(scores.labels)


def test_one_who_is_as_sure_as_right_has_no_calibration_error() -> None:
    # Probability 3/4 in every answer, and three of four are right.
    logits = np.full((8, 2), np.log(0.25), np.float32)
    logits[:, 0] = np.log(0.75)
    labels = np.array([0, 0, 0, 1] * 2)
    scores = replace(make_scores(labels, [0] * 8, ("a", "b")), logits=logits)
    calibration = measure_calibration(scores, bins=10)
    assert calibration.error == pytest.approx(0, abs=1e-6)
    assert calibration.counts.tolist() == [0, 0, 0, 0, 0, 0, 0, 8, 0, 0]
    assert np.isnan(calibration.accuracy[0])


def test_order_tells_who_is_sent_to_the_opposite_and_who_does_not_notice() -> None:
    labels = np.array([0, 0, 1, 1])
    blind = {order: make_scores(labels, [0, 0, 0, 0], NAMES) for order in ("forward", "reverse", "shuffle")}
    order = measure_order(blind)
    assert order.unchanged == {"forward": 1, "reverse": 1, "shuffle": 1}
    assert [c.need for c in order.classes] == [0, 0]
    assert order.classes[0].reversed_answer == "fold"
    seeing = {
        "forward": make_scores(labels, labels, NAMES),
        "reverse": make_scores(labels, [1, 1, 0, 3], NAMES),
        "shuffle": make_scores(labels, [0, 1, 1, 2], NAMES),
        "single": make_scores(labels, [2, 2, 1, 2], NAMES),
    }
    order = measure_order(seeing)
    assert order.accuracy == {"forward": 1, "reverse": 0, "shuffle": 0.5, "single": 0.25}
    assert order.unchanged["reverse"] == 0
    fold, unfold = order.classes  # classes without samples have no order
    assert (fold.reversed_answer, fold.reversed_share, fold.need) == ("unfold", 1, 0.5)
    assert (unfold.reversed_answer, unfold.reversed_share) == ("fold", 0.5)


def test_order_needs_its_three_tests() -> None:
    with pytest.raises(DataError, match="'reverse'"):
        measure_order({"forward": make_scores([0], [0], NAMES), "shuffle": make_scores([0], [0], NAMES)})


def test_agreement_counts_every_sample_once() -> None:
    labels = [0, 0, 0, 0, 1, 1]
    first = make_scores(labels, [0, 0, 1, 1, 2, 1], NAMES)
    second = make_scores(labels, [0, 1, 0, 1, 3, 1], NAMES)
    a = measure_agreement(first, second)
    parts = (a.both_right, a.only_first, a.only_second, a.same_mistake, a.other_mistake)
    assert parts == (2, 1, 1, 1, 1)
    assert a.share == 0.5
    # By hand: observed 1/2; expected (2/6)(2/6) + (3/6)(3/6) + 0 = 13/36.
    assert a.kappa == pytest.approx((1 / 2 - 13 / 36) / (1 - 13 / 36))
    same = make_scores([0, 0], [0, 0], NAMES)
    assert measure_agreement(same, same).kappa == 1


def test_published_points_are_the_papers_figures() -> None:
    points = {(p.paper, p.label): p for p in list_points("Something-Something v1")}
    mstnet = points["mixtconv", "MSTNet (ResNet-50, RGB, 16)"]
    assert (mstnet.accuracy, mstnet.macs, mstnet.parameters, mstnet.own) == (0.484, 65.3e9, 24.3e6, True)
    stm = points["gsm", "STM (ResNet-50, ImageNet, 16x30)"]  # 66.5 G a view, 30 views
    assert stm.macs == pytest.approx(1995e9)
    assert stm.parameters is None
    assert not stm.own
    for dataset in NUM_CLASSES:
        for point in list_points(dataset):
            assert 0 < point.accuracy < 1
            assert 1e9 < point.macs < 1e14
