"""Pictures show the numbers that they were given."""

import numpy as np
import pytest
import torch
from legible import assert_no_overlap

from kinemix.explain.filmstrip import plot_filmstrip
from kinemix.explain.page import Page
from kinemix.explain.plots import plot_confusion, plot_curves


def test_confusion_shows_per_cent_of_each_class_in_the_asked_order() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 6]])
    figure = plot_confusion(matrix, ["a", "b", "c"], order=["c", "b", "a"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "b", "a"]
    expected = np.array([[75, 0, 25], [0, 0, 0], [0, 25, 75]])  # a class without samples stays dark
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "75"), ((2, 0), "25"), ((1, 2), "25"), ((2, 2), "75"),
    }  # fmt: skip


@pytest.mark.parametrize("count", [4, 30, 174, pytest.param(400, marks=pytest.mark.slow), 500])
def test_confusion_of_any_number_of_classes_can_be_read(count: int) -> None:
    names = [f"Pretending to put something {i} onto something else" for i in range(count)]
    figure = plot_confusion(np.eye(count), names, order=names[::-1])
    assert_no_overlap(figure)
    (axes,) = figure.axes
    assert bool(axes.texts) == (count <= 20)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    if count > 40:
        assert not any("something" in label.get_text() for label in axes.get_xticklabels())
    if count <= 400:
        assert len(set(labels)) == count
        assert all(f" {i} " in label for i, label in zip(reversed(range(count)), labels, strict=True))
    if 40 < count <= 400:
        columns = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        numbers = {round(place): label.get_text() for place, label in columns}
        assert all(labels[row].endswith(f"  {number}") for row, number in numbers.items())


def test_curves_hold_every_epoch_and_only_validated_accuracies() -> None:
    records = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0, "val_top1": 0.5}]
    loss, accuracy = plot_curves({"net": records}, chance=0.5).axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    assert accuracy.lines[0].get_xydata().tolist() == [[2, 50]]


def test_filmstrip_shows_first_and_last_frame() -> None:
    frames = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1).expand(9, 3, 4, 4)
    axes = plot_filmstrip({"clip": frames}, num_frames=5).axes
    assert [int(a.images[0].get_array()[0, 0, 0]) for a in axes] == [0, 2, 4, 6, 8]


def test_page_is_one_file_and_escapes_what_it_is_given() -> None:
    page = Page("a <b>")
    page.add_table(["<script>"], [["1 & 2"]])
    page.add_figures((plot_confusion(np.eye(2), ["x", "y"]), 'a "caption"'))
    text = page.render()
    assert "<script>" not in text
    assert "1 &amp; 2" in text
    assert "http" not in text.replace("data:image/png;base64,", "").split("<body>")[0]
    assert text.count("data:image/png;base64,") == 1
