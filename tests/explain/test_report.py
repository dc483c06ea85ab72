"""The report holds what was measured, and nothing that the page could stumble over. Its script: test_report_browser."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from reported import open_with_many_clips, train_small

from answers import draw_scores, make_scores
from kinemix import cli
from kinemix.evaluate.confusion import list_confusions, order_by_confusion
from kinemix.explain.report import ReportOptions, write_report
from kinemix.explain.report.clips import choose_clips, encode_strip
from kinemix.explain.report.confusion import (
    describe_confusion,
    embed_json,
    render_confusion,
)
from kinemix.explain.report.samples import render_samples, shorten_paths


def test_classes_that_are_taken_for_each_other_stand_together() -> None:
    generator = np.random.default_rng(0)
    for num_classes in (2, 12, 400):
        confusion = np.diag(np.full(num_classes, 10))
        partner = generator.permutation(num_classes).reshape(-1, 2)
        for a, b in partner:
            confusion[a, b] = confusion[b, a] = 5
        order = order_by_confusion(confusion)
        assert sorted(order) == list(range(num_classes))
        for a, b in partner:
            assert abs(order.index(a) - order.index(b)) == 1


def test_the_page_gets_every_entry_of_the_matrix() -> None:
    confusion = draw_scores(30, 9, share=0.5, seed=0).metrics().confusion
    told = describe_confusion(confusion, [str(k) for k in range(30)])
    again = np.zeros_like(confusion)
    for row, column, count in told["entries"]:
        again[row, column] = count
    np.testing.assert_array_equal(again, confusion)
    assert told["counts"] == confusion.sum(axis=1).tolist()


def test_commonest_mistakes_come_first_and_right_answers_are_none() -> None:
    confusion = np.array([[9, 1, 0], [4, 2, 3], [0, 0, 7]])
    assert list_confusions(confusion) == [(1, 0, 4), (1, 2, 3), (0, 1, 1)]
    assert list_confusions(confusion, most=1) == [(1, 0, 4)]


def test_names_cannot_end_the_data_or_become_markup() -> None:
    evil = '</script><img src=x onerror="alert(1)">'
    block = render_confusion(np.eye(2, dtype=int), [evil, "b"], name="m")
    assert evil not in block
    assert block.count("</script>") == 1
    assert json.loads(embed_json([evil, "\u2028"])) == [evil, "\u2028"]
    scores = make_scores([0], [1], (evil, "b"))
    assert "<img" not in render_samples(scores, np.full((1, 2), 0.5))


def test_worst_clips_are_wrong_and_best_are_right_and_no_class_fills_them() -> None:
    scores = draw_scores(8, 30, share=0.5, seed=4)
    worst, best = choose_clips(scores, worst=8, best=4)
    answers = scores.logits.argmax(axis=1)
    assert (len(worst), len(best)) == (8, 4)
    assert all(answers[clip.row] != scores.labels[clip.row] for clip in worst)
    assert all(answers[clip.row] == scores.labels[clip.row] for clip in best)
    assert [clip.probability for clip in worst] == sorted(clip.probability for clip in worst)
    assert [clip.probability for clip in best] == sorted((clip.probability for clip in best), reverse=True)
    labels = [int(scores.labels[clip.row]) for clip in worst]
    assert max(labels.count(label) for label in labels) <= 2
    # Where only one class is wrong, it fills the row after all.
    only = make_scores([0, 0, 0, 1], [1, 1, 1, 1], ("a", "b"))
    assert len(choose_clips(only, worst=3, best=3)[0]) == 3


def test_strip_holds_the_frames_side_by_side() -> None:
    levels = torch.tensor([10, 90, 170, 250], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 20, 30)
    with Image.open(io.BytesIO(encode_strip(levels, 255 - levels))) as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    assert pixels.shape == (40, 120)
    np.testing.assert_allclose(pixels[10, 15::30], [10, 90, 170, 250], atol=6)
    np.testing.assert_allclose(pixels[30, 15::30], [245, 165, 85, 5], atol=6)
    with Image.open(io.BytesIO(encode_strip(torch.zeros(2, 3, 448, 600, dtype=torch.uint8)))) as picture:
        assert picture.size == (300, 112)


def test_paths_lose_the_folder_that_all_share() -> None:
    assert shorten_paths(["/a/b/c/1.mp4", "/a/b/d/2.mp4"]) == ["c/1.mp4", "d/2.mp4"]
    assert shorten_paths(["x.mp4", "y/z.mp4"]) == ["x.mp4", "y/z.mp4"]
    assert shorten_paths([]) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_small(tmp_path_factory.mktemp("run"))


def test_command_writes_one_page_with_everything(run, tmp_path, capsys) -> None:
    page = tmp_path / "pages" / "report.html"
    words = ["report", str(run), "--latency", "false", "--worst", "3", "--best", "1", "--workers", "0"]
    assert cli.main([*words, "--out", str(page), "--doctor", "none"]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    for heading in (
        "Summary",
        "Training",
        "who is taken for whom",
        "clips",
        "Complexity",
        "How to do it again",
    ):
        assert re.search(rf"<h2[^>]*>{heading}</h2>", text), heading
    assert "Classes that need order" in text
    assert "kinemix train --config" in text
    films = re.findall(r"data:image/webp;base64,([^\"]+)", text)
    assert 1 <= len(films) <= 4  # as many as there are, up to the number asked for
    for film in films:
        with Image.open(io.BytesIO(base64.b64decode(film))) as picture:
            assert picture.size == (4 * 32, 2 * 32)  # four frames, and below them what spoke for the answer
    # Nothing is fetched.
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "@import" not in text
    assert "url(" not in text


def test_thousand_clips_of_400_classes_weigh_less_than_10_mb(run, tmp_path) -> None:
    tested = open_with_many_clips(run, num_classes=400, per_class=3, size=224)
    options = ReportOptions(latency=False, doctor="none")
    page = write_report({"TSN": tested}, tmp_path / "report.html", options=options)
    assert len(tested.scores.ids) == 1200
    assert page.stat().st_size < 10e6
    assert page.read_text().count("data:image/webp;base64,") == 18


def test_doctor_is_asked_and_two_runs_share_one_page(run, tmp_path) -> None:
    tested = {name: open_with_many_clips(run, num_classes=4, per_class=9) for name in ("A", "B")}
    options = ReportOptions(latency=False, workers=1, worst=0, best=0)
    text = write_report(tested, tmp_path / "report.html", options=options).read_text()
    assert text.count('class="confusion"') == 2
    assert "the doctor looked at the headers of 36" in text
    assert "against A" in text


@pytest.mark.parametrize(
    ("wrong", "said"), [(["--worst", "-1"], "worst"), (["--names", "a", "b"], "--names")]
)
def test_wrong_options_are_refused(run, wrong, said, capsys) -> None:
    assert cli.main(["report", str(run), *wrong]) == 2
    assert said in capsys.readouterr().err


def test_runs_are_compared_and_reported_on_when_their_videos_are_gone(tmp_path, capsys) -> None:
    run = train_small(tmp_path)
    words = [str(run), "--latency", "false", "--workers", "0"]
    assert cli.main(["report", *words, "--doctor", "none", "--out", str(tmp_path / "there.html")]) == 0
    (tmp_path / "motion").rename(tmp_path / "elsewhere")
    assert cli.main(["report", *words, "--out", str(tmp_path / "gone.html")]) == 0
    text = (tmp_path / "gone.html").read_text()
    assert "No clip can be shown" in text
    assert "the doctor could not look at it" in text
    capsys.readouterr()
    out = ["--out", str(tmp_path / "out"), "--names", "a", "b"]
    assert cli.main(["compare", str(run), *words, *out, "--figures", "clips", "changes"]) == 0
    assert "no clips are shown" in capsys.readouterr().err
    assert (tmp_path / "out/changes.png").exists()
