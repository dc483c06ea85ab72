"""Scores survive the file, and parts of several processes become one."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from kinemix.config import InputSpec, Protocol
from kinemix.errors import CheckpointError
from kinemix.evaluate.scores import Scores, merge_scores, read_scores, write_scores


def make_scores(indices=(0, 1, 2)):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(10, 3)).astype(np.float32)[list(indices)]
    return Scores(
        ids=tuple(f"video {i}.mp4" for i in indices),
        indices=np.array(indices, np.int64),
        logits=logits,
        labels=np.array([i % 3 for i in indices], np.int64),
        class_names=("a", "b", "ç"),
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
