"""A comparison shows what was measured, and its names can be read with few classes and with many."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from legible import assert_no_overlap
from matplotlib.text import Text

from answers import draw_scores, make_scores
from kinemix import cli
from kinemix.config import Protocol
from kinemix.evaluate.calibration import measure_calibration
from kinemix.evaluate.class_changes import compare_classes
from kinemix.evaluate.compare import measure_agreement
from kinemix.evaluate.order_sensitivity import measure_order
from kinemix.evaluate.papers.points import list_points
from kinemix.evaluate.scores import write_scores
from kinemix.explain.axes import shorten_names
from kinemix.explain.compare import (
    TradeOff,
    compare_runs,
    plot_agreement,
    plot_calibration,
    plot_changed_clips,
    plot_changes,
    plot_class_accuracies,
    plot_order,
    plot_trade_off,
    write_comparison,
)


@pytest.fixture(params=[4, 174])
def pair(request):
    per_class = 20 if request.param == 4 else 6
    return [
        draw_scores(request.param, per_class, share=share, seed=seed) for share, seed in ((0.3, 1), (0.7, 2))
    ]


def test_changes_can_be_read(pair) -> None:
    figure = plot_changes(compare_classes(*pair), first="TSN", second="MSTNet")
    assert_no_overlap(figure)
    assert figure.axes[0].get_title(loc="left") == "most improved classes"


def test_changes_show_the_samples_of_either_side() -> None:
    first = make_scores([0, 0, 0, 1, 1], [1, 1, 0, 1, 1], ("fold", "unfold"))
    second = make_scores([0, 0, 0, 1, 1], [0, 0, 1, 0, 1], ("fold", "unfold"))
    improved, worsened = plot_changes(compare_classes(first, second), first="A", second="B").axes
    assert [bar.get_width() for bar in improved.patches] == [2, -1]
    assert [bar.get_width() for bar in worsened.patches] == [0, -1]
    assert improved.get_yticklabels()[0].get_text() == "fold\nwas taken for unfold (2)"
    assert worsened.get_yticklabels()[0].get_text() == "unfold\nis taken for fold (1)"
    same = plot_changes(compare_classes(first, first), first="A", second="A")
    assert "no class gained or lost" in same.texts[0].get_text()


def test_order_can_be_read_and_shows_the_opposite(pair) -> None:
    forward = pair[1]
    tests = {"forward": forward, "single": pair[0], "shuffle": pair[0]}
    turned = make_scores(forward.labels, forward.labels ^ 1, forward.class_names, order="reverse")
    blind = dict.fromkeys(("forward", "reverse", "shuffle"), pair[0])
    figure = plot_order(
        {"blind": measure_order(blind), "seeing": measure_order({**tests, "reverse": turned})}
    )
    assert_no_overlap(figure)
    one, two = figure.axes
    data = {line.get_label(): line.get_xdata() for line in one.lines}
    np.testing.assert_array_equal(data["forward"], data["reversed"])
    opposite = {name: forward.class_names[k ^ 1] for k, name in enumerate(forward.class_names)}
    shown = [label.get_text() for label in one.get_yticklabels()]
    names, answers = shorten_names(opposite, 34), shorten_names(opposite, 26)
    by_short = {names[name]: answers[other] for name, other in opposite.items()}
    assert [text.get_text() for text in two.texts] == [f"reversed: 100%\n{by_short[name]}" for name in shown]


@pytest.mark.parametrize("count", [4, 174, 400])
def test_every_class_has_a_row_that_can_be_read(count: int) -> None:
    classes = draw_scores(count, 2, share=0.5, seed=0).metrics().per_class
    figure = plot_class_accuracies({"one": classes, "two": classes})
    assert_no_overlap(figure)
    names = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(shorten_names((c.name for c in classes), 36).values())


def test_calibration_shows_the_bins(pair) -> None:
    calibration = measure_calibration(pair[0])
    figure = plot_calibration({"a": calibration, "b": calibration, "c": calibration, "d": calibration})
    assert_no_overlap(figure)
    heights = [bar.get_height() for bar in figure.axes[0].containers[0]]
    np.testing.assert_allclose(heights, 100 * calibration.accuracy[calibration.counts > 0])


def test_agreement_adds_up(pair) -> None:
    agreement = measure_agreement(*pair)
    figure = plot_agreement({("a", "b"): agreement})
    widths = [bar.get_width() for container in figure.axes[0].containers[:5] for bar in container]
    assert sum(widths) == pytest.approx(100)
    assert widths[0] == pytest.approx(100 * agreement.both_right / len(pair[0].labels))


@pytest.mark.parametrize("same", [True, False])
def test_published_points_have_numbers_that_do_not_overlap(same: bool) -> None:
    points = list_points("Something-Something v1")
    networks = [
        TradeOff(name="TSN", accuracy=0.2, cost=33.0, parameters=24_000_000),
        TradeOff(name="MSTNet", accuracy=0.47, cost=33.2, parameters=24_000_000),
    ]
    figure = plot_trade_off(networks, cost_label="G", published=points, dataset="it", same_dataset=same)
    assert len(figure.axes) == (1 if same else 2)
    figure.draw_without_rendering()
    own = figure.axes[0]
    assert {text.get_text() for text in own.texts} >= {"TSN", "MSTNet"}
    numbers = [text for text in figure.axes[-1].texts if text.get_text().isdecimal()]
    assert [text.get_text() for text in numbers] == [str(n + 1) for n in range(len(points))]
    boxes = [Text.get_window_extent(text).shrunk(0.8, 0.8) for text in numbers]  # without their lines
    overlapping = sum(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert overlapping == 0


class FewVideos:
    """Videos in memory, each of its own grey."""

    def open(self, name):
        grey = int(Path(name).stem)

        class Reader:
            num_frames = 5

            def read(self, indices):
                return torch.full((len(indices), 3, 6, 8), grey, dtype=torch.uint8)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

        return Reader()


def test_clips_that_changed_stand_with_both_answers() -> None:
    first = make_scores([0, 0, 1], [0, 1, 1], ("fold", "unfold"))
    second = make_scores([0, 0, 1], [0, 0, 0], ("fold", "unfold"))
    figure = plot_changed_clips(compare_classes(first, second), first, second, FewVideos(), names=("A", "B"))
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["fold\nA: unfold\nB: fold", "unfold\nA: unfold\nB: fold"]
    assert int(figure.axes[0].images[0].get_array()[0, 0, 0]) == 1


def test_page_and_numbers_are_written(tmp_path: Path) -> None:
    names = ("fold", "unfold")
    scores = {
        "<TSN>": make_scores([0, 0, 1], [0, 1, 1], names),
        "MSTNet": make_scores([0, 0, 1], [0, 0, 1], names),
        "GSM": make_scores([0, 0, 1], [0, 0, 0], names),
    }
    files = write_comparison(compare_runs(scores), tmp_path / "out", videos=FewVideos())
    assert {file.name for file in files} == {
        *("changes-2.png", "changes-3.png", "clips-2.png", "clips-3.png", "classes.png"),
        *("confusion-1.png", "confusion-2.png", "confusion-3.png"),
        *("calibration.png", "agreement.png", "comparison.json", "index.html"),
    }
    numbers = json.loads((tmp_path / "out/comparison.json").read_text())
    assert numbers["first"] == "<TSN>"
    assert numbers["networks"]["MSTNet"]["figures"]["top1"]["value"] == 1
    fold = numbers["against_first"]["GSM"]["classes"][0]
    assert (fold["corrected"], fold["lost"], fold["was_taken_for"]) == (
        1,
        0,
        {"answer": "unfold", "count": 1},
    )
    assert len(numbers["agreement"]) == 3
    page = (tmp_path / "out/index.html").read_text()
    assert "&lt;TSN&gt;" in page
    assert "<TSN>" not in page


def test_pictures_of_an_earlier_comparison_are_taken_away(tmp_path: Path) -> None:
    first, second = (make_scores([0, 0, 1], answers, ("a", "b")) for answers in ([0, 1, 1], [0, 0, 1]))
    write_comparison(compare_runs({"one": first, "two": second}), tmp_path)
    (tmp_path / "mine.png").write_bytes(b"")
    alone = compare_runs({"one": first})
    write_comparison(alone, tmp_path, figures=["classes"])  # one of several that are drawn one by one
    assert (tmp_path / "agreement.png").exists()
    written = write_comparison(alone, tmp_path)
    assert set(tmp_path.iterdir()) == {*written, tmp_path / "mine.png"}
    assert not (tmp_path / "agreement.png").exists()


@pytest.mark.parametrize("difference", ["none", "clip_median"])
def test_a_single_frame_of_a_network_without_stills_is_explained(tmp_path: Path, difference: str) -> None:
    scores = make_scores([0, 1], [0, 1], ("a", "b"))
    scores = replace(scores, protocol=Protocol(difference=difference))
    order = measure_order(dict.fromkeys(("forward", "reverse", "shuffle", "single"), scores))
    comparison = replace(compare_runs({"one": scores}), order={"one": order})
    write_comparison(comparison, tmp_path, figures=["order"])
    told = "Single frames of one say nothing" in (tmp_path / "index.html").read_text()
    assert told == (difference != "none")


def test_command_compares_files_of_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, share in (("a", 0.3), ("b", 0.8)):
        write_scores(draw_scores(4, 10, share=share, seed=len(name)), tmp_path / f"{name}.parquet")
    words = [
        "compare",
        str(tmp_path / "a.parquet"),
        str(tmp_path / "b.parquet"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main([*words, "--figures", "changes"]) == 0
    assert "b" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("changes.png", "comparison.json", "index.html"),
    ]
    for wrong, cure in (
        (["--figures", "change"], "changes"),
        (["--published", "Something"], "--published"),
        (["--names", "one"], "--names"),
    ):
        assert cli.main([*words, *wrong]) == 2
        assert cure in capsys.readouterr().err
