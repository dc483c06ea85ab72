"""Scores survive the file, and parts of several processes become one."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinemix.config import InputSpec, Protocol
from kinemix.errors import CheckpointError
from kinemix.evaluate.protocol import protocol_to_dict
from kinemix.evaluate.scores import Scores, merge_scores, read_scores, write_scores
from kinemix.label_space import LabelSpace


def make_scores(indices=(0, 1, 2)):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(10, 3)).astype(np.float32)[list(indices)]
    return Scores(
        ids=tuple(f"video {i}.mp4" for i in indices),
        indices=np.array(indices, np.int64),
        logits=logits,
        labels=np.array([i % 3 for i in indices], np.int64),
        space=LabelSpace(class_names=("a", "b", "ç")),
        protocol=Protocol(input=InputSpec(size=(64, 80), color="gray", mean=(0.5,), std=(0.2,))),
        order="reverse",
        model={"name": "tsn_resnet10t"},
        unreadable=(("broken.mp4", "no frames"),),
    )


@pytest.mark.parametrize("indices", [(0, 1, 2), ()], ids=["some", "none"])
def test_round_trip(tmp_path, indices):
    scores = make_scores(indices)
    write_scores(scores, tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    for field in dataclasses.fields(scores):
        assert np.array_equal(getattr(back, field.name), getattr(scores, field.name)), field.name
    assert back.logits.dtype == np.float32
    assert [p.name for p in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.mark.parametrize("indices", [(0, 1, 2), ()], ids=["some", "none"])
def test_views_are_kept(tmp_path, indices):
    scores = make_scores(indices)
    views = np.random.default_rng(1).normal(size=(len(indices), 4, 3)).astype(np.float32)
    scores = dataclasses.replace(scores, view_logits=views, protocol=None)
    path = tmp_path / "scores.parquet"
    write_scores(scores, path)
    back = read_scores(path)
    assert back.protocol is None
    assert back.describe_protocol() == "views not recorded"
    assert back.ids == scores.ids
    assert np.array_equal(back.logits, scores.logits)
    assert np.array_equal(back.view_logits, views)
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 5 * len(indices)
    for row in rows:
        number = indices.index(row["index"])
        wanted = scores.logits[number] if row["view"] is None else views[number, row["view"]]
        assert row["logits"] == wanted.tolist()
        assert row["id"] == scores.ids[number]
        assert row["label"] == scores.labels[number]


def test_files_from_before_views_are_read(tmp_path):
    """Such a file had no column for views, and no count of them."""
    scores = make_scores()
    about = {
        "class_names": scores.class_names,
        "protocol": {k: v for k, v in protocol_to_dict(scores.protocol).items() if k != "crop_size"},
        "order": "reverse",
        "model": scores.model,
        "unreadable": scores.unreadable,
    }
    table = pa.table(
        {
            "id": pa.array(scores.ids),
            "index": pa.array(scores.indices),
            "label": pa.array(scores.labels),
            "label_name": pa.array(["a", "b", "ç"]),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(scores.logits.reshape(-1)), 3),
        }
    ).replace_schema_metadata({"kinemix": json.dumps(about)})
    pq.write_table(table, tmp_path / "old.parquet")
    back = read_scores(tmp_path / "old.parquet")
    for field in dataclasses.fields(scores):
        assert np.array_equal(getattr(back, field.name), getattr(scores, field.name)), field.name


def test_rows_can_be_read_without_kinemix(tmp_path):
    write_scores(make_scores(), tmp_path / "scores.parquet")
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert rows[2]["label_name"] == "ç"
    assert len(rows[2]["logits"]) == 3


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.parquet"
    if content:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no file of scores"):
        read_scores(path)


def test_merged_parts_hold_each_sample_once():
    whole = make_scores(range(7))
    merged = merge_scores([make_scores((1, 3, 5, 0)), make_scores((0, 2, 4, 6))])  # 0 is a sampler's padding
    assert merged.ids == whole.ids
    assert np.array_equal(merged.logits, whole.logits)
    assert np.array_equal(merged.labels, whole.labels)
    assert merged.unreadable == whole.unreadable


def test_merged_parts_keep_their_views():
    def with_views(indices):
        views = np.array(indices, np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
        return dataclasses.replace(make_scores(indices), view_logits=views)

    merged = merge_scores([with_views((1, 3)), with_views((0, 2, 1))])
    assert merged.view_logits[:, 0, 0].tolist() == [0, 1, 2, 3]
