"""The challenge's file, field by field, and what cannot become one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kinemix.data.catalog.epic_kitchens import EpicKitchens55, list_actions
from kinemix.errors import DataError
from kinemix.evaluate.scores import Scores
from kinemix.evaluate.submission import check_space, write_submission
from kinemix.label_space import UNLABELLED, LabelSpace

NAMES = {task: EpicKitchens55.class_names(task=task) for task in ("verb", "noun", "action")}
SPACE = LabelSpace.of_tasks(NAMES)


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    return Scores(
        ids=("P01_11.MP4#0.00-1.89s", "P01_11.MP4#1.56-2.45s"),
        uids=("1924", "1925"),
        indices=np.arange(2),
        logits=generator.normal(size=(2, len(SPACE.class_names))).astype(np.float32),
        labels=np.full((2, 3), UNLABELLED),
        space=SPACE,
        protocol=None,
    )


def test_every_field(scores, tmp_path):
    write_submission(scores, tmp_path / "seen.json")
    content = json.loads((tmp_path / "seen.json").read_text())
    assert list(content) == ["version", "challenge", "results"]
    assert (content["version"], content["challenge"]) == ("0.1", "action_recognition")
    assert list(content["results"]) == ["1924", "1925"]
    for row, entry in enumerate(content["results"].values()):
        assert list(entry) == ["verb", "noun", "action"]
        start = 0
        for task, count in (("verb", 125), ("noun", 352)):
            assert list(entry[task]) == [str(k) for k in range(count)]
            np.testing.assert_allclose(
                list(entry[task].values()), scores.logits[row, start : start + count], atol=1e-6
            )
            start += count
        actions = scores.logits[row, start:]
        assert len(entry["action"]) == 100
        best = sorted(range(2513), key=lambda k: -actions[k])[:100]
        wanted = {f"{list_actions()[k][0]},{list_actions()[k][1]}": float(actions[k]) for k in best}
        assert list(entry["action"]) == list(wanted)
        assert entry["action"] == pytest.approx(wanted, abs=1e-6)
        for pair, k in zip(entry["action"], best, strict=True):
            verb, noun = map(int, pair.split(","))
            assert NAMES["action"][k] == f"{NAMES['verb'][verb]} {NAMES['noun'][noun]}"


def test_the_server_computes_actions_that_were_not_asked(scores, tmp_path):
    space = LabelSpace.of_tasks({"noun": NAMES["noun"], "verb": NAMES["verb"]})
    logits = np.concatenate([scores.logits[:, 125:477], scores.logits[:, :125]], axis=1)
    write_submission(
        replace(scores, space=space, logits=logits, labels=scores.labels[:, :2]), tmp_path / "s.json"
    )
    entry = json.loads((tmp_path / "s.json").read_text())["results"]["1925"]
    assert list(entry) == ["noun", "verb"]
    assert entry["verb"]["7"] == pytest.approx(float(scores.logits[1, 7]), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uids": ()}, "names segments by their uid"),
        ({"uids": ("1924", "1924")}, "names segments by their uid"),
        ({"unreadable": (("x.MP4", "no frames"),)}, "answers every segment, and 1 could not be read"),
    ],
)
def test_what_is_no_submission(scores, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        write_submission(replace(scores, **changes), tmp_path / "seen.json")
    assert list(tmp_path.iterdir()) == []


def test_other_classes_are_refused():
    with pytest.raises(DataError, match="answers one question: train it on EPIC-Kitchens-55"):
        check_space(LabelSpace(class_names=NAMES["verb"]))
    with pytest.raises(DataError, match="its nouns are not the classes of this run"):
        check_space(LabelSpace.of_tasks({"verb": NAMES["verb"], "noun": ("a", "b")}))
