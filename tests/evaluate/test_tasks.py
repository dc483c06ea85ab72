"""Figures, scores and averages of several tasks and of several labels, against naive counts and scikit-learn."""

import dataclasses
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score

from kinemix.config import Protocol
from kinemix.errors import DataError
from kinemix.evaluate.evaluator import average_views
from kinemix.evaluate.metrics import (
    MultiLabelMetrics,
    TaskMetrics,
    compute_metrics,
    list_figures,
    measure_many_shot,
    metrics_to_dict,
)
from kinemix.evaluate.scores import Scores, join_tasks, merge_scores, read_scores, write_scores
from kinemix.label_space import UNLABELLED, LabelSpace

NAMES = {
    "verb": ("cut", "wash", "peel"),
    "noun": ("egg", "pan"),
    "action": ("cut egg", "wash pan", "peel egg", "x"),
}
OFTEN = {"verb": ("cut", "peel"), "action": ("cut egg",)}
TASKS = LabelSpace.of_tasks(NAMES, OFTEN)
SEVERAL = LabelSpace(class_names=("a", "b", "c", "d"), multilabel=True)


def make_scores(space, count=20, views=0, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, len(space.class_names))).astype(np.float32)
    if space.multilabel:
        labels = generator.integers(0, 2, size=(count, len(space.class_names)))
        labels[:, 3] = 0
    else:
        labels = np.stack([generator.integers(0, k, size=count) for k in space.tasks.values()], axis=1)
    return Scores(
        ids=tuple(f"{n}.mp4" for n in range(count)),
        uids=tuple(str(100 + n) for n in range(count)),
        indices=np.arange(count),
        logits=logits,
        labels=labels.astype(np.int64),
        space=space,
        protocol=Protocol(),
        view_logits=generator.normal(size=(count, views, len(space.class_names))).astype(np.float32)
        if views
        else None,
    )


# --------------------------------------------------------------------------------------------------- figures


def test_each_task_is_measured_by_itself():
    scores = make_scores(TASKS)
    metrics = scores.metrics()
    assert isinstance(metrics, TaskMetrics)
    start = 0
    for number, (task, names) in enumerate(NAMES.items()):
        logits = scores.logits[:, start : start + len(names)]
        start += len(names)
        alone = compute_metrics(logits, scores.labels[:, number], names)
        assert metrics.by_task[task].top1 == alone.top1
        assert metrics.by_task[task].top5 == alone.top5
        assert (metrics.by_task[task].confusion == alone.confusion).all()
        right = sum(
            row.argmax() == label for row, label in zip(logits, scores.labels[:, number], strict=True)
        )
        assert alone.top1 == right / 20
    assert metrics.headline == metrics.by_task["action"].top1
    assert metrics.summary()["verb_top1"] == metrics.by_task["verb"].top1
    assert metrics.describe().startswith("verb top-1 ")
    told = metrics_to_dict(metrics)
    assert told["count"] == 20
    assert told["tasks"]["verb"]["many_shot_classes"] == 2
    assert "many_shot_precision" not in told["tasks"]["noun"]


@pytest.mark.parametrize("space", [TASKS, SEVERAL], ids=["tasks", "labels"])
def test_figures_are_known_before_anything_is_measured(space):
    assert list_figures(space) == tuple(make_scores(space).metrics().summary())
    assert list_figures(LabelSpace(class_names=("a", "b"))) == ("top1", "top5", "mean_class")


def test_many_shot_precision_and_recall_written_out():
    generator = np.random.default_rng(1)
    logits, labels = generator.normal(size=(60, 6)), generator.integers(0, 4, size=60)  # no sample of 4 and 5
    answers = logits.argmax(axis=1)
    found = measure_many_shot(logits, labels, {0, 2, 4})
    precisions, recalls = [], []
    for k in (0, 2):
        right = sum(a == k and b == k for a, b in zip(answers, labels, strict=True))
        precisions.append(right / sum(answers == k))
        recalls.append(right / sum(labels == k))
    assert found.classes == 2
    assert found.precision == pytest.approx(sum(precisions) / 2)
    assert found.recall == pytest.approx(sum(recalls) / 2)
    assert measure_many_shot(logits, labels, {4, 5}) is None
    never = measure_many_shot(np.eye(6)[np.zeros(60, int)], labels, {1})
    assert (never.precision, never.recall) == (0, 0)


def test_mean_average_precision_is_scikit_learns():
    scores = make_scores(SEVERAL, count=50)
    metrics = scores.metrics()
    assert isinstance(metrics, MultiLabelMetrics)
    wanted = average_precision_score(scores.labels[:, :3], scores.logits[:, :3], average="macro")
    assert metrics.mean_average_precision == pytest.approx(wanted)
    assert metrics.absent == ("d",)
    assert metrics.headline == metrics.mean_average_precision
    told = metrics_to_dict(metrics)
    assert told["without_positives"] == ["d"]
    assert told["per_class"]["d"] == {"count": 0, "average_precision": None}
    assert told["mean_average_precision"] == metrics.mean_average_precision


def test_average_precision_written_out():
    """The mean, over the positives, of the share of positives among what ranks as high."""
    scores = make_scores(SEVERAL, count=30)
    for k, one in enumerate(scores.metrics().per_class[:3]):
        ranked = [int(scores.labels[row, k]) for row in np.argsort(-scores.logits[:, k])]
        precisions = [sum(ranked[: i + 1]) / (i + 1) for i, positive in enumerate(ranked) if positive]
        assert one.average_precision == pytest.approx(sum(precisions) / len(precisions))


def test_a_large_confusion_is_written_as_its_entries():
    labels = np.array([0, 5, 5, 1200])
    logits = np.zeros((4, 1201))
    logits[[0, 1, 2, 3], [0, 7, 7, 1200]] = 1
    told = metrics_to_dict(compute_metrics(logits, labels, [str(k) for k in range(1201)]))
    assert told["confusion_entries"] == [[0, 0, 1], [5, 7, 2], [1200, 1200, 1]]
    assert "confusion" not in told


def test_labels_that_nobody_knows_have_no_figures():
    scores = make_scores(TASKS)
    unknown = dataclasses.replace(scores, labels=np.full_like(scores.labels, UNLABELLED))
    assert scores.labelled
    assert not unknown.labelled
    with pytest.raises(DataError, match="labels run from -1"):
        unknown.metrics()


# ---------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("views", [0, 3])
@pytest.mark.parametrize("space", [TASKS, SEVERAL], ids=["tasks", "several"])
@pytest.mark.parametrize("count", [5, 0])
def test_round_trip(tmp_path, space, views, count):
    scores = make_scores(space, count=count, views=views)
    write_scores(scores, tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    for field in dataclasses.fields(scores):
        ours, theirs = getattr(scores, field.name), getattr(back, field.name)
        assert np.array_equal(ours, theirs), field.name
        assert np.shape(ours) == np.shape(theirs), field.name
    if count:
        assert back.metrics().headline == scores.metrics().headline


def test_rows_of_tasks_can_be_read_without_kinemix(tmp_path):
    scores = make_scores(TASKS, count=3)
    unknown = scores.labels.copy()
    unknown[1] = UNLABELLED
    write_scores(dataclasses.replace(scores, labels=unknown), tmp_path / "scores.parquet")
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert list(rows[0]) == [
        *("id", "index", "view", "uid"),
        *(f"{task}_{column}" for task in NAMES for column in ("label", "label_name", "logits")),
    ]
    assert rows[0]["noun_label_name"] == NAMES["noun"][scores.labels[0, 1]]
    assert rows[1]["noun_label_name"] is None
    assert rows[2]["noun_logits"] == scores.logits[2, 3:5].tolist()
    assert rows[2]["uid"] == "102"


def test_rows_of_several_labels_can_be_read_without_kinemix(tmp_path):
    scores = make_scores(SEVERAL, count=4)
    write_scores(scores, tmp_path / "scores.parquet")
    for row, labels in zip(
        pq.read_table(tmp_path / "scores.parquet").to_pylist(), scores.labels, strict=True
    ):
        assert row["label"] == np.flatnonzero(labels).tolist()
        assert row["label_name"] == [SEVERAL.class_names[k] for k in row["label"]]


def test_tasks_are_taken_apart_and_joined():
    scores = make_scores(TASKS, views=2)
    parts = {task: scores.take_task(task) for task in NAMES}
    assert parts["noun"].class_names == NAMES["noun"]
    assert parts["action"].space.many_shot == {0}
    joined = join_tasks(parts)
    for field in dataclasses.fields(scores):
        assert np.array_equal(getattr(joined, field.name), getattr(scores, field.name)), field.name


@pytest.mark.parametrize("space", [TASKS, SEVERAL], ids=["tasks", "several"])
def test_parts_of_processes_become_one(space):
    whole = make_scores(space, count=7)

    def part(rows):
        return dataclasses.replace(
            whole,
            ids=tuple(whole.ids[row] for row in rows),
            uids=tuple(whole.uids[row] for row in rows),
            indices=whole.indices[rows],
            logits=whole.logits[rows],
            labels=whole.labels[rows],
        )

    merged = merge_scores([part([1, 3, 5, 0]), part([0, 2, 4, 6])])
    for field in dataclasses.fields(whole):
        assert np.array_equal(getattr(merged, field.name), getattr(whole, field.name)), field.name


def test_probabilities_are_averaged_within_each_task():
    logits = torch.randn(3, 4, len(TASKS.class_names), generator=torch.Generator().manual_seed(0))
    found = average_views(logits, protocol=Protocol(average="probabilities"), space=TASKS)
    start = 0
    for names in NAMES.values():
        place = slice(start, start + len(names))
        start += len(names)
        wanted = torch.stack([row[:, place].softmax(dim=1).mean(dim=0) for row in logits])
        torch.testing.assert_close(found[:, place].softmax(dim=1), wanted)
    torch.testing.assert_close(average_views(logits, protocol=Protocol(), space=TASKS), logits.mean(dim=1))


def test_probabilities_of_several_labels_are_averaged_class_by_class():
    logits = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    logits[0, :, 0] = 200  # all views are sure
    found = average_views(logits, protocol=Protocol(average="probabilities"), space=SEVERAL)
    torch.testing.assert_close(found.sigmoid(), logits.sigmoid().mean(dim=1))
    assert all(map(math.isfinite, found.flatten().tolist()))
