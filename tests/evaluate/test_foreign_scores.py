"""Score files of other people: each kind gives the same scores, and what could run code is refused."""

import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kinemix.config import Protocol
from kinemix.errors import DataError
from kinemix.evaluate.foreign_scores import Confusion, Keys, names_classes, names_samples, read_any_scores
from kinemix.evaluate.plain_pickle import read_plain_pickle
from kinemix.evaluate.scores import Scores, write_scores
from kinemix.label_space import LabelSpace

LOGITS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1, 0, 2])
NAMES = [f"folder/{i}.avi" for i in range(6)]


def write_npz(path, **more):
    np.savez(path, scores=LOGITS, labels=LABELS, names=np.array(NAMES), **more)


def write_csv(path):
    lines = ["video,label,run,jump,sit"]
    for name, label, row in zip(NAMES, LABELS, LOGITS, strict=True):
        lines.append(",".join([name, ["run", "jump", "sit"][label], *map(repr, row.tolist())]))
    path.write_text("\n".join(lines))


def write_parquet(path):
    pq.write_table(pa.table({"name": NAMES, "label": LABELS, "scores": LOGITS.tolist()}), path)


def write_dicts(path):
    rows = [
        {"pred_score": row, "gt_label": np.array([label]), "id": name}
        for row, label, name in zip(LOGITS, LABELS, NAMES, strict=True)
    ]
    path.write_bytes(pickle.dumps(rows))


def write_items(path):
    rows = [
        {"pred_scores": {"item": row}, "gt_labels": {"item": np.array([label])}, "id": name}
        for row, label, name in zip(LOGITS, LABELS, NAMES, strict=True)
    ]
    path.write_bytes(pickle.dumps(rows))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.npz", write_npz),
        ("x.csv", write_csv),
        ("x.parquet", write_parquet),
        ("x.pkl", write_dicts),
        ("x.pickle", write_items),
    ],
)
def test_every_kind_gives_the_same_scores(tmp_path, name, write):
    write(tmp_path / name)
    scores = read_any_scores(tmp_path / name)
    np.testing.assert_allclose(scores.logits, LOGITS, rtol=1e-6)
    assert scores.labels.tolist() == LABELS.tolist()
    assert scores.ids == tuple(NAMES)
    assert scores.class_names == (("run", "jump", "sit") if name == "x.csv" else ("0", "1", "2"))
    assert scores.protocol is None
    assert names_samples(scores)
    assert names_classes(scores) == (name == "x.csv")


def test_own_files_and_runs(tmp_path):
    scores = Scores(
        ids=tuple(NAMES),
        indices=np.arange(6),
        logits=LOGITS,
        labels=LABELS,
        space=LabelSpace(class_names=("a", "b", "c")),
        protocol=Protocol(),
    )
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(DataError, match="no scores there: make them with kinemix test"):
        read_any_scores(run)
    write_scores(scores, run / "test-held-out-8x1x1.parquet")
    assert read_any_scores(run).protocol == Protocol()
    write_scores(scores, run / "test-held-out-8x2x1.parquet")
    with pytest.raises(DataError, match=r"several tests .*8x1x1.parquet, test-held-out-8x2x1.parquet"):
        read_any_scores(run)


def test_views_are_averaged_and_kept(tmp_path):
    views = np.stack([LOGITS, LOGITS + 1], axis=1)
    np.savez(tmp_path / "x.npz", logits=views, label=LABELS)
    scores = read_any_scores(tmp_path / "x.npz")
    np.testing.assert_allclose(scores.logits, LOGITS + 0.5, rtol=1e-5)
    np.testing.assert_allclose(scores.view_logits, views, rtol=1e-6)
    assert not names_samples(scores)
    assert scores.ids[0] == "#0"


def test_unusual_names_of_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", fused=LOGITS, truth=LABELS)
    with pytest.raises(DataError, match=r"fused, truth: name it with --scores_key"):
        read_any_scores(tmp_path / "x.npz")
    scores = read_any_scores(tmp_path / "x.npz", keys=Keys(scores="fused", labels="truth"))
    assert scores.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("named", [True, False])
def test_labels_from_a_list(tmp_path, named):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(list(LOGITS)))
    with pytest.raises(DataError, match="without labels: give --labels FILE"):
        read_any_scores(tmp_path / "x.pkl")
    lines = [f"{name} 30 {label}" if named else str(label) for name, label in zip(NAMES, LABELS, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    scores = read_any_scores(tmp_path / "x.pkl", labels=tmp_path / "list.txt")
    assert scores.labels.tolist() == LABELS.tolist()
    assert names_samples(scores) == named
    np.save(tmp_path / "x.npy", LOGITS)
    np.save(tmp_path / "labels.npy", LABELS)
    assert (
        read_any_scores(tmp_path / "x.npy", labels=tmp_path / "labels.npy").labels.tolist() == LABELS.tolist()
    )
    (tmp_path / "list.txt").write_text("a run\n")
    with pytest.raises(DataError, match="a number at the end of every line"):
        read_any_scores(tmp_path / "x.pkl", labels=tmp_path / "list.txt")


def test_a_square_of_counts_is_a_confusion_matrix(tmp_path):
    counts = np.array([[3.0, 1], [0, 2]])
    np.save(tmp_path / "x.npy", counts)
    found = read_any_scores(tmp_path / "x.npy")
    assert isinstance(found, Confusion)
    assert found.counts.tolist() == [[3, 1], [0, 2]]
    np.save(tmp_path / "y.npy", counts - 0.5)
    with pytest.raises(DataError, match="without labels"):
        read_any_scores(tmp_path / "y.npy")


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"scores": LOGITS, "labels": LABELS[:5]}, "6 rows of scores, but 5 labels"),
        ({"scores": LOGITS, "labels": LABELS, "names": NAMES[:2]}, "6 rows of scores, but 2 names"),
        ({"scores": LOGITS, "labels": LABELS + 1}, "labels run from 1 to 3, scores have 3 classes"),
        ({"scores": LOGITS, "labels": LABELS + 0.5}, "one whole number a row"),
        ({"scores": LOGITS[0], "labels": LABELS}, "N x classes"),
        ({"scores": LOGITS * np.nan, "labels": LABELS}, "score of row 0 is not a finite number"),
        ({"scores": np.array(["a"] * 6), "labels": LABELS}, "no table of numbers"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, arrays, word):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=word):
        read_any_scores(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("x.mat", b"", r"read from \.parquet"),
        ("x.npz", b"no zip", "no NumPy file|pickled"),
        ("x.npy", b"nothing", "no NumPy file|pickled"),
        ("x.parquet", b"nothing", "no Parquet file"),
        ("x.csv", b"name,label,a,b\nv,0,1,x\n", "column 'b' holds no numbers"),
        ("x.csv", b"name,label,a,b\nv,c,1,2\n", "label 'c' is none of the classes"),
        ("x.csv", b"", "no CSV table"),
        ("x.pkl", b"nothing", "no pickle of plain data"),
        ("x.pkl", b"", "no pickle of plain data"),
    ],
)
def test_broken_files(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=word) as caught:
        read_any_scores(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file or run"):
        read_any_scores(tmp_path / "x.npz")


# ------------------------------------------------------------------------------------------------ pickles


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(tmp_path, protocol):
    content = {
        "scores": [LOGITS, LOGITS.T[::-1], np.asfortranarray(LOGITS)],
        "numbers": [1, 2.5, np.float32(0.1), np.int64(7), True, None],
        "names": np.array(["a", "bc"]),
        "mixed": np.array([1, "x", None], dtype=object),
        "text": ("ä", b"bytes"),
        "empty": np.zeros((0, 3)),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    back = read_plain_pickle(tmp_path / "x.pkl")
    for ours, theirs in zip(back["scores"], content["scores"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert back["numbers"] == content["numbers"]
    assert back["names"].tolist() == ["a", "bc"]
    assert back["mixed"].tolist() == [1, "x", None]
    assert back["text"] == content["text"]
    assert back["empty"].shape == (0, 3)


class Harm:
    """Reading its pickle makes a folder."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_nothing_runs_that_a_file_brings_along(tmp_path):
    folder = str(tmp_path / "harm")
    for harm in (
        Harm(os.mkdir, folder),
        Harm(eval, f"__import__('os').mkdir({folder!r})"),
        Harm(os.system, "true"),
    ):
        for content in (harm, [LOGITS, harm], {"scores": harm}, np.array([harm], dtype=object)):
            (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
            with pytest.raises(DataError, match=r"asks for \w+\.\w+; only lists, dicts"):
                read_plain_pickle(tmp_path / "x.pkl")
    assert not (tmp_path / "harm").exists()
    np.save(tmp_path / "x.npy", np.array([Harm(os.mkdir, folder)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", scores=np.array([Harm(os.mkdir, folder)], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match="can run code"):
            read_any_scores(tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_array_type_cannot_be_called_by_a_file(tmp_path):
    """Called with a buffer of bytes and type object, it would make pointers of them."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Harm(np.ndarray, (1,), np.dtype("f8"), b"12345678")))
    with pytest.raises(DataError, match="no pickle of plain data"):
        read_plain_pickle(tmp_path / "x.pkl")


def test_tensors_are_refused_with_the_cure(tmp_path):
    (tmp_path / "x.pkl").write_bytes(
        pickle.dumps([{"pred_score": torch.rand(3), "gt_label": torch.tensor([1])}])
    )
    with pytest.raises(DataError, match=r"torch\._utils\._rebuild_tensor_v2.*save the scores as \.npz"):
        read_any_scores(tmp_path / "x.pkl")
