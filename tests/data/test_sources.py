"""Every way in, and every message on the way."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from kinemix.config import DataConfig
from kinemix.data.annotations import read_class_file
from kinemix.data.sources import DATASETS, Splits, open_annotations, open_splits
from kinemix.errors import ConfigError, DataError

SAMPLES = [
    (f"{label}/{label}_{number}.mp4", label) for label in ("down", "jump up", "up") for number in range(10)
]


def _touch(*paths: Path) -> None:
    """Sources look at names only."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _make_files(root: Path) -> None:
    _touch(*(root / path for path, _ in SAMPLES))


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def _labels(splits: Splits) -> dict[str, str]:
    """File name to class name, over both sides."""
    samples = [*splits.train.samples, *splits.val.samples]
    return {Path(sample.path).name: splits.class_names[sample.label] for sample in samples}


EXPECTED = {Path(path).name: label for path, label in SAMPLES}


# Folders


def test_the_shelf_has_the_general_datasets() -> None:
    assert {"folder", "list"} <= set(DATASETS.names())


def test_class_folders(tmp_path: Path) -> None:
    _make_files(tmp_path)
    splits = open_splits(DataConfig(source=str(tmp_path), val_share=0.2))
    assert splits.class_names == ("down", "jump up", "up")
    assert _labels(splits) == EXPECTED
    assert Counter(sample.label for sample in splits.val.samples) == {0: 2, 1: 2, 2: 2}
    assert splits.notices == ()
    again = open_splits(DataConfig(source=f"folder:{tmp_path}", val_share=0.2))
    assert again == splits


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("Training", "validation"), ("train", "test")])
def test_split_folders(tmp_path: Path, train: str, val: str) -> None:
    for part, count in ((train, 3), (val, 2)):
        _touch(*(tmp_path / part / label / f"{part}{n}.avi" for label in "ab" for n in range(count)))
    splits = open_splits(DataConfig(source=str(tmp_path)))
    assert (len(splits.train), len(splits.val)) == (6, 4)
    assert all(f"/{train}/" in sample.path for sample in splits.train.samples)
    assert all(f"/{val}/" in sample.path for sample in splits.val.samples)
    assert any("test part is validated on" in notice for notice in splits.notices) == (val == "test")


def test_train_val_test_leaves_the_test_alone(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        _touch(*(tmp_path / part / label / f"{part}.mp4" for label in "ab"))
    splits = open_splits(DataConfig(source=str(tmp_path)))
    assert not any(
        "test" in Path(sample.path).name for sample in [*splits.train.samples, *splits.val.samples]
    )
    for part, name in (("auto", "test"), ("val", "val"), ("train", "train")):
        annotations, _ = open_annotations(str(tmp_path), class_names=("a", "b"), part=part)  # type: ignore[arg-type]
        assert [Path(sample.path).stem for sample in annotations.samples] == [name, name]
    assert len(open_annotations(str(tmp_path), class_names=("a", "b"), part="all")[0]) == 6


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    _touch(*(tmp_path / label / f"{n}.mp4" for label in ("train", "bus") for n in range(5)))
    assert open_splits(DataConfig(source=str(tmp_path))).class_names == ("bus", "train")


def test_folds_pool_the_parts(tmp_path: Path) -> None:
    for part in ("train", "val"):
        _touch(*(tmp_path / part / label / f"{part}{n}.mp4" for label in "ab" for n in range(4)))
    splits = open_splits(DataConfig(source=str(tmp_path), folds=4))
    assert (len(splits.train), len(splits.val)) == (12, 4)
    assert any("pooled" in notice for notice in splits.notices)


def test_a_dataset_without_its_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match="ssv2: is a dataset's name: say where it lies, something_something_v2:ROOT"
    ):
        open_splits(DataConfig(source=str(tmp_path / "ssv2")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 4, "val_source": "elsewhere"}, r"data\.folds .* data\.val_source .*: give one of them"),
        ({"fold": 2}, r"data\.fold is 2: of how many\? Give data\.folds"),
    ],
)
def test_options_that_would_do_nothing(tmp_path: Path, options: dict, message: str) -> None:
    _make_files(tmp_path)
    if "val_source" in options:
        _make_files(tmp_path / options["val_source"])
        options = {**options, "val_source": str(tmp_path / "elsewhere")}
    with pytest.raises(ConfigError, match=message):
        open_splits(DataConfig(source=str(tmp_path), **options))


def test_nested_folders_frames_and_junk(tmp_path: Path) -> None:
    _touch(tmp_path / "a" / "monday" / "1.MP4", tmp_path / "a" / "2.webm", tmp_path / "a" / "3.gif")
    _touch(*(tmp_path / "a" / "frames of 4" / f"{n:05d}.jpg" for n in range(3)))
    _touch(tmp_path / "b" / "5" / "1.PNG", tmp_path / "b" / "6.mkv")
    _touch(tmp_path / "a" / "notes.txt", tmp_path / "a" / ".DS_Store", tmp_path / "b" / "thumb.jpg")
    _touch(tmp_path / "readme.md", tmp_path / "stray.mp4", tmp_path / ".git" / "c.mp4")
    splits = open_splits(DataConfig(source=str(tmp_path), val_share=0.3))
    assert _labels(splits) == {
        "1.MP4": "a", "2.webm": "a", "3.gif": "a", "frames of 4": "a", "5": "b", "6.mkv": "b",
    }  # fmt: skip
    (notice,) = splits.notices
    for count in ("1 x .txt file", "1 x .jpg file", "1 x .md file", "1 x video outside any class folder"):
        assert count in notice
    assert ".git" not in notice


def test_a_link_back_up_does_not_hang(tmp_path: Path) -> None:
    _make_files(tmp_path)
    (tmp_path / "up" / "loop").symlink_to(tmp_path / "up", target_is_directory=True)
    assert _labels(open_splits(DataConfig(source=str(tmp_path)))) == EXPECTED


def test_excluded_labels(tmp_path: Path) -> None:
    _make_files(tmp_path)
    splits = open_splits(DataConfig(source=str(tmp_path), exclude_labels=("jump up",)))
    assert splits.class_names == ("down", "up")
    assert len(splits.train) + len(splits.val) == 20


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ([], {}, "no class folders in it: put the videos of each class"),
        (["x.mp4"], {}, "no class folders in it; ignored 1 x video outside any class folder"),
        (["a/x.txt", "b/x.txt"], {}, "no videos in its 2 class folders; ignored 2 x .txt file"),
        (["a/x.mp4", "b/x.txt"], {}, r"class 'b' has no sample: add some, or leave it out with .*=\[b\]"),
        (["a/x.mp4"], {}, r"1 class \(a\): a recogniser needs at least two"),
        (["a/1.jpg", "a/2.jpg", "b/x.mp4"], {}, "2 images lie directly in this class folder"),
        (["a/x.mp4", "b/x.mp4"], {"exclude_labels": ("c",)}, "no class 'c'"),
        (["a/x.mp4", "b/x.mp4"], {"group_by": "session"}, "'session' is a column, and a folder has none"),
        (["a/x.mp4", "b/x.mp4"], {"group_by": "name"}, "carries no group such as g03"),
    ],
)
def test_folder_errors(tmp_path: Path, files: list[str], options: dict, message: str) -> None:
    _touch(*(tmp_path / file for file in files))
    with pytest.raises(DataError, match=message) as error:
        open_splits(DataConfig(source=str(tmp_path), **options))
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder: check DATA \(data\.source\)"):
        open_splits(DataConfig(source=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match=r"data.source: nothing given"):
        open_splits(DataConfig())


def test_a_class_without_training_samples_is_noticed(tmp_path: Path) -> None:
    _touch(tmp_path / "train" / "a" / "1.mp4", tmp_path / "train" / "b" / "2.mp4")
    _touch(tmp_path / "val" / "a" / "3.mp4", tmp_path / "val" / "c" / "4.mp4")
    notices = open_splits(DataConfig(source=str(tmp_path))).notices
    assert notices[0].startswith("no training samples of c")
    assert notices[1].startswith("no validation samples of b")


# Lists


def _as_csv(rows: list[tuple[str, str]], delimiter: str, header: tuple[str, str]) -> str:
    return "\n".join(delimiter.join(row) for row in [header, *rows]) + "\n"


LISTS: dict[str, Callable[[], str]] = {
    "list.txt": lambda: "\n".join(f"{path} {label}" for path, label in SAMPLES),
    "tabs.txt": lambda: "\n".join(f"{path}\t{label}" for path, label in SAMPLES),
    "commas.txt": lambda: "# made by hand\n\n" + "\n".join(f"{path}, {label}" for path, label in SAMPLES),
    "list.csv": lambda: _as_csv(SAMPLES, ",", ("path", "label")),
    "usual.csv": lambda: _as_csv(SAMPLES, ";", ("Video Path", "Class")),
    "bom.csv": lambda: "\ufeff" + _as_csv(SAMPLES, ",", ("file", "category")),
    "list.tsv": lambda: _as_csv(SAMPLES, "\t", ("filename", "action")),
    "table.txt": lambda: _as_csv(SAMPLES, ",", ("video", "label")),
    "ids.csv": lambda: _as_csv(
        [(path.removesuffix(".mp4"), label) for path, label in SAMPLES], ",", ("id", "label")
    ),
    "index.csv": lambda: "\n".join([",path,label", *(f"{n},{p},{c}" for n, (p, c) in enumerate(SAMPLES))]),
    "headless.csv": lambda: "\n".join(f"{path},{label}" for path, label in SAMPLES),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_with_names(tmp_path: Path, name: str) -> None:
    _make_files(tmp_path)
    splits = open_splits(DataConfig(source=_write(tmp_path / name, LISTS[name]())))
    assert splits.class_names == ("down", "jump up", "up")
    assert _labels(splits) == EXPECTED


@pytest.mark.parametrize("numbers", [False, True])
def test_parquet(tmp_path: Path, numbers: bool) -> None:
    _make_files(tmp_path)
    names = ["down", "jump up", "up"]
    labels = [names.index(label) if numbers else label for _, label in SAMPLES]
    table = pyarrow.table({"path": [path for path, _ in SAMPLES], "label": labels})
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet")
    splits = open_splits(DataConfig(source=str(tmp_path / "list.parquet")))
    expected = {key: str(names.index(label)) for key, label in EXPECTED.items()} if numbers else EXPECTED
    assert _labels(splits) == expected


def test_spaces_in_paths(tmp_path: Path) -> None:
    _touch(tmp_path / "my videos" / "first try 2.mp4", tmp_path / "my videos" / "b.mp4")
    text = "my videos/first try 2.mp4 0\nmy videos/b.mp4 1\n"
    annotations, _ = open_annotations(_write(tmp_path / "l.txt", text), class_names=("a", "b"))
    assert [Path(sample.path).name for sample in annotations.samples] == ["first try 2.mp4", "b.mp4"]


def test_frame_folders_with_counts(tmp_path: Path) -> None:
    for number in range(4):
        _touch(tmp_path / "frames" / f"v {number}" / "img_00001.jpg")
    text = "".join(f"frames/v {number} {30 + number} {number % 2}\n" for number in range(4))
    annotations, notices = open_annotations(_write(tmp_path / "l.txt", text), class_names=("a", "b"))
    assert [sample.num_frames for sample in annotations.samples] == [30, 31, 32, 33]
    assert [sample.label for sample in annotations.samples] == [0, 1, 0, 1]
    assert notices == ()


def test_a_folder_that_ends_in_a_number_is_no_count(tmp_path: Path) -> None:
    for number in range(2):
        _touch(tmp_path / f"clip {number}" / "1.jpg")
    text = "clip 0 0\nclip 1 1\n"
    annotations, _ = open_annotations(_write(tmp_path / "l.txt", text), class_names=("a", "b"))
    assert [sample.num_frames for sample in annotations.samples] == [None, None]
    assert [Path(sample.path).name for sample in annotations.samples] == ["clip 0", "clip 1"]


def test_counts_with_video_suffix(tmp_path: Path) -> None:
    _touch(tmp_path / "a b.mp4", tmp_path / "c.mp4")
    annotations, _ = open_annotations(
        _write(tmp_path / "l.txt", "a b.mp4 120 0\nc.mp4 99 1"), class_names=("a", "b")
    )
    assert [(sample.num_frames, sample.label) for sample in annotations.samples] == [(120, 0), (99, 1)]


def test_split_and_group_columns(tmp_path: Path) -> None:
    _make_files(tmp_path)
    rows = [
        f"{path},{label},{'validation' if '_9' in path else 'train'},s{path[-5]}" for path, label in SAMPLES
    ]
    source = _write(tmp_path / "l.csv", "\n".join(["path,label,split,session", *rows]))
    splits = open_splits(DataConfig(source=source))
    assert {Path(sample.path).name for sample in splits.val.samples} == {
        "down_9.mp4",
        "jump up_9.mp4",
        "up_9.mp4",
    }
    assert splits.train.samples[0].group == "s0"


def test_val_source_and_root(tmp_path: Path) -> None:
    _make_files(tmp_path / "videos")
    (tmp_path / "lists").mkdir()
    train = _write(
        tmp_path / "lists" / "train.txt", "\n".join(f"{p} {c}" for p, c in SAMPLES if "_9" not in p)
    )
    val = _write(tmp_path / "lists" / "val.txt", "\n".join(f"{p} {c}" for p, c in SAMPLES if "_9" in p))
    splits = open_splits(DataConfig(source=train, val_source=val, root=str(tmp_path / "videos")))
    assert (len(splits.train), len(splits.val)) == (27, 3)
    assert _labels(splits) == EXPECTED
    with pytest.raises(DataError, match=r"none of the 30 videos exists, e.g. .*: set data.root"):
        open_splits(DataConfig(source=train, val_source=val))
    with pytest.raises(DataError, match="no such folder: give the folder"):
        open_splits(DataConfig(source=train, root=str(tmp_path / "elsewhere")))


def test_missing_files_are_counted_and_listed(tmp_path: Path) -> None:
    _make_files(tmp_path)
    (tmp_path / "up" / "up_3.mp4").unlink()
    source = _write(tmp_path / "l.csv", _as_csv(SAMPLES, ",", ("path", "label")))
    splits = open_splits(DataConfig(source=source))
    (notice,) = splits.notices
    assert notice.startswith("1 of 30 videos are missing and left out: ")
    assert "up_3.mp4" in notice
    assert "line 25" in notice
    assert len(splits.train) + len(splits.val) == 29
    assert splits.missing == (str(tmp_path / "up" / "up_3.mp4"),)
    with pytest.raises(DataError, match=r"1 of 30 videos are missing.* data.max_missing \(now 0.01\)"):
        open_splits(DataConfig(source=source, max_missing=0.01))


# Numbers


def _numbered(tmp_path: Path, labels: list[int], name: str = "l.txt") -> str:
    lines = [f"{name}-{number}.mp4 {label}" for number, label in enumerate(labels)]
    _touch(*(tmp_path / line.split(" ")[0] for line in lines))
    return _write(tmp_path / name, "\n".join(lines))


def test_numbers_from_zero(tmp_path: Path) -> None:
    splits = open_splits(DataConfig(source=_numbered(tmp_path, [*range(11)] * 2), val_share=0.5))
    assert splits.class_names == tuple(str(number) for number in range(11))


def test_numbers_from_one_are_explained_and_never_guessed(tmp_path: Path) -> None:
    source = _numbered(tmp_path, [1, 2, 3, 1, 2, 3])
    with pytest.raises(DataError, match=r"labels run from 1 to 3 and none is 0: set data.labels_start_at=1"):
        open_splits(DataConfig(source=source))
    splits = open_splits(DataConfig(source=source, labels_start_at=1, val_share=0.5))
    assert splits.class_names == ("1", "2", "3")
    assert {sample.label for sample in splits.train.samples} == {0, 1, 2}
    with pytest.raises(DataError, match=r"class '0' has no sample: .*exclude_labels=\[0\]"):
        open_splits(DataConfig(source=source, labels_start_at=0))
    excluded = open_splits(DataConfig(source=source, labels_start_at=0, exclude_labels=("0",), val_share=0.5))
    assert excluded.class_names == ("1", "2", "3")


def test_options_for_lists_are_told_where_they_mean_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    _touch(*(folder / label / f"{number}.mp4" for label in "ab" for number in range(4)))
    splits = open_splits(DataConfig(source=str(folder), root=str(tmp_path), labels_start_at=1))
    assert [notice for notice in splits.notices if "no meaning" in notice] == [
        f"data.root has no meaning for {folder}, whose videos are found in it",
        f"data.labels_start_at has no meaning for {folder}, whose labels are names",
    ]
    splits = open_splits(
        DataConfig(source=_numbered(tmp_path, [0, 1] * 4), root=str(tmp_path), labels_start_at=0)
    )
    assert not [notice for notice in splits.notices if "no meaning" in notice]


def test_numbers_are_judged_over_both_lists(tmp_path: Path) -> None:
    train, val = _numbered(tmp_path, [0, 1, 2]), _numbered(tmp_path, [1, 2], "v.txt")
    splits = open_splits(DataConfig(source=train, val_source=val))
    assert [sample.label for sample in splits.val.samples] == [1, 2]


@pytest.mark.parametrize(
    "text", ["walk\nrun\nair guitar\n", "0 walk\n1 run\n2 air guitar", "1 walk\n2 run\n3 air guitar"]
)
def test_class_file_names_the_numbers(tmp_path: Path, text: str) -> None:
    classes = _write(tmp_path / "classes.txt", text)
    source = _numbered(tmp_path, [0, 1, 2, 0, 1, 2])
    splits = open_splits(DataConfig(source=source, class_file=classes, val_share=0.5))
    assert splits.class_names == ("walk", "run", "air guitar")
    assert sorted(sample.label for sample in splits.train.samples) == [0, 1, 2]


def test_class_file_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: class 'a' is named twice"):
        read_class_file(_write(tmp_path / "c.txt", "a\nb\na\n"))
    with pytest.raises(DataError, match="line 2: '3 b': numbers must count up"):
        read_class_file(_write(tmp_path / "c.txt", "1 a\n3 b\n"))
    with pytest.raises(DataError, match="no class names in it"):
        read_class_file(_write(tmp_path / "c.txt", "\n"))
    with pytest.raises(DataError, match="cannot be read"):
        read_class_file(str(tmp_path / "none.txt"))


def test_number_out_of_range(tmp_path: Path) -> None:
    classes, source = _write(tmp_path / "classes.txt", "a\nb\n"), _numbered(tmp_path, [0, 1, 2])
    with pytest.raises(
        DataError, match=r"l.txt, line 3: label 2 is out of range: .* has 2 classes, .* from 0 to 1"
    ):
        open_splits(DataConfig(source=source, class_file=classes))
    with pytest.raises(DataError, match="line 2: label -1 is below the first class, 0"):
        open_splits(DataConfig(source=_numbered(tmp_path, [0, -1])))
    with pytest.raises(DataError, match="line 1: label 0 is below the first class, 1"):
        open_splits(DataConfig(source=_numbered(tmp_path, [0, 1]), labels_start_at=1))


# Broken lists


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "", "lists no videos"),
        ("l.txt", "a.mp4 0\nb.mp4\n", "line 2: 'b.mp4' has no label"),
        ("l.txt", "a.mp4 0\nfolder\n", "line 2: 'folder' has no label"),
        (
            "l.txt",
            "a.mp4 x\nb.mp4 y\na.mp4 x",
            r"line 3: .*a.mp4 is listed twice \(first at .*line 1\): remove one",
        ),
        ("l.txt", "a.mp4 x\nb.mp4 y\na.mp4 y", r"listed twice as 'x' and as 'y' \(first at .*line 1\)"),
        ("l.csv", "name,kind\na.mp4,x", "line 1: 'name,kind' is no header that names a path and a label"),
        (
            "l.csv",
            "path,kind\na.mp4,x",
            r"no column for the label among path, kind: name it 'label' \(or class",
        ),
        ("l.csv", "title,label\na.mp4,x", "no column for the path among title, label"),
        ("l.csv", "path,label\na.mp4,x\nb.mp4,", "line 3: no label in column 'label'"),
        ("l.csv", "path,label\n,x\nb.mp4,y", "line 2: no path in column 'path'"),
        ("l.csv", "path,label\na.mp4,x,z", "line 2: more values than the header has columns"),
        ("l.csv", "path,label,split\na.mp4,x,train\nb.mp4,y,hold", "line 3: unknown split 'hold'"),
        ("l.csv", "path,label,split\na.mp4,x,val\nb.mp4,y,val", "has no part train; its parts are: val"),
        ("l.csv", "path,label\n", "lists no videos"),
    ],
)
def test_list_errors(tmp_path: Path, name: str, text: str, message: str) -> None:
    _touch(tmp_path / "a.mp4", tmp_path / "b.mp4")
    with pytest.raises(DataError, match=message) as error:
        open_splits(DataConfig(source=_write(tmp_path / name, text)))
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_unreadable_lists(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("path,label\ncafé.mp4,x\n".encode("latin-1"))
    with pytest.raises(DataError, match="byte 14 is not UTF-8"):
        open_splits(DataConfig(source=str(tmp_path / "latin.csv")))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="is no Parquet file") as error:
        open_splits(DataConfig(source=str(tmp_path / "broken.parquet")))
    assert "\n" not in str(error.value)


def test_group_by_names_a_column(tmp_path: Path) -> None:
    _make_files(tmp_path)
    rows = [f"{path},{label},{path[-5]}" for path, label in SAMPLES]
    source = _write(tmp_path / "l.csv", "\n".join(["path,label,camera", *rows]))
    splits = open_splits(DataConfig(source=source, group_by="camera", val_share=0.3))
    groups = [{sample.group for sample in side.samples} for side in (splits.train, splits.val)]
    assert not groups[0] & groups[1]
    assert any("10 groups found in their column" in notice for notice in splits.notices)
    with pytest.raises(DataError, match="no column 'cameras': did you mean 'camera'"):
        open_splits(DataConfig(source=source, group_by="cameras"))


# Testing a run on other data


def test_labels_become_the_runs_indices(tmp_path: Path) -> None:
    _make_files(tmp_path)
    annotations, _ = open_annotations(str(tmp_path), class_names=("up", "left", "jump up", "down"))
    assert Counter(sample.label for sample in annotations.samples) == {0: 10, 2: 10, 3: 10}
    with pytest.raises(DataError, match=r"unknown class 'jump up': .*exclude_labels"):
        open_annotations(str(tmp_path), class_names=("up", "down"))
    fewer, _ = open_annotations(str(tmp_path), class_names=("up", "down"), exclude_labels=("jump up",))
    assert len(fewer) == 20
    with pytest.raises(DataError, match="no part 'val'; its parts are: none"):
        open_annotations(str(tmp_path), class_names=("up", "jump up", "down"), part="val")


def test_numbers_count_off_the_runs_classes(tmp_path: Path) -> None:
    source = _numbered(tmp_path, [0, 2, 1])
    named, _ = open_annotations(source, class_names=("c", "b", "a"))
    assert [sample.label for sample in named.samples] == [0, 2, 1]
    numbered, _ = open_annotations(source, class_names=("2", "1", "0"))
    assert [sample.label for sample in numbered.samples] == [2, 0, 1]
    with pytest.raises(DataError, match="label 2 is out of range: the model has 2 classes"):
        open_annotations(source, class_names=("a", "b"))


@pytest.mark.skipif("KINEMIX_VIDEOS" not in os.environ, reason="KINEMIX_VIDEOS is not set")
def test_real_gestures_by_session() -> None:
    source = Path(os.environ["KINEMIX_VIDEOS"]) / "gestures" / "labels.csv"
    held: list[str] = []
    for fold in range(4):
        splits = open_splits(
            DataConfig(source=str(source), folds=4, fold=fold, exclude_labels=("unclassified",))
        )
        assert len(splits.class_names) == 10
        assert not {s.group for s in splits.train.samples} & {s.group for s in splits.val.samples}
        assert {sample.label for sample in splits.train.samples} == set(range(10))
        held += [sample.path for sample in splits.val.samples]
    assert len(held) == len(set(held)) == 177
