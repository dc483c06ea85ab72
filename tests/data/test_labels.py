"""Samples with several labels, and samples that are asked several questions: from the list to a batch."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinemix.config import AugmentConfig, DataConfig, InputSpec, Protocol
from kinemix.data.annotations import Annotations, Sample
from kinemix.data.catalog.epic_kitchens import EpicKitchens55
from kinemix.data.catalog.root_files import RootFiles
from kinemix.data.census import take_census
from kinemix.data.loader import build_test_loader, build_train_loader
from kinemix.data.miniature import BUILDERS, Studio
from kinemix.data.mirror import mirror_space, reverse_space
from kinemix.data.prepare.run import prepare_dataset
from kinemix.data.sources import Splits, open_annotations, open_splits
from kinemix.errors import ConfigError, DataError
from kinemix.label_space import UNLABELLED, LabelSpace

SEVERAL = ["cut|wash", "wash", "", "cut", "peel|cut|wash", "peel", "wash|peel", "cut"]
TASKS = [("cut", "egg"), ("wash", "pan"), ("cut", "pan"), ("wash", "egg"), ("peel", "egg"), ("cut", "cup")]
EPIC_TASKS = ("verb", "noun", "action")


def _write_list(path: Path, rows: Iterable[Iterable[str]], header: Iterable[str]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(header), *([f"{n}.mp4", *row] for n, row in enumerate(rows))])
    for number, _ in enumerate(path.read_text().splitlines()[1:]):
        (path.parent / f"{number}.mp4").touch()
    return str(path)


@pytest.fixture
def several(tmp_path: Path) -> str:
    return _write_list(tmp_path / "several.csv", [[labels] for labels in SEVERAL], ("video", "label"))


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    return _write_list(tmp_path / "tasks.csv", TASKS, ("video", "verb", "noun"))


def _list_samples(splits: Splits) -> list[Sample]:
    return sorted([*splits.train.samples, *splits.val.samples], key=lambda sample: sample.path)


# --------------------------------------------------------------------------------------------- several labels


@pytest.mark.parametrize("separator", ["|", ";", ", "])
def test_a_field_holds_any_number_of_labels(tmp_path: Path, separator: str) -> None:
    rows = [[labels.replace("|", separator)] for labels in SEVERAL]
    source = _write_list(tmp_path / "list.csv", rows, ("video", "label"))
    splits = open_splits(DataConfig(source=source, label_separator=separator.strip()))
    assert splits.class_names == ("cut", "peel", "wash")
    assert splits.space == LabelSpace(class_names=("cut", "peel", "wash"), multilabel=True)
    found = [{splits.class_names[k] for k in sample.label_set} for sample in _list_samples(splits)]
    assert found == [set(filter(None, labels.split("|"))) for labels in SEVERAL]
    assert [s.label for s in _list_samples(splits)] == [s.label_set[0] if s.label_set else UNLABELLED
                                                       for s in _list_samples(splits)]  # fmt: skip


def test_plain_lines(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 0,2\nb.mp4 1\nmy clip.mp4 2,0\nd.mp4 0\ne.mp4 1,2\nf.mp4 2\n")
    for name in ("a", "b", "my clip", "d", "e", "f"):
        (tmp_path / f"{name}.mp4").touch()
    classes = tmp_path / "classes.txt"
    classes.write_text("cut\npeel\nwash\n")
    source = str(tmp_path / "list.txt")
    splits = open_splits(DataConfig(source=source, label_separator=",", class_file=str(classes)))
    assert splits.class_names == ("cut", "peel", "wash")
    assert {Path(s.path).stem: s.label_set for s in _list_samples(splits)}["my clip"] == (2, 0)
    numbered = open_splits(DataConfig(source=source, label_separator=","))
    assert numbered.class_names == ("0", "1", "2")


def test_without_a_separator_a_field_is_one_class(several: str) -> None:
    with pytest.raises(DataError, match="no label in column 'label'"):
        open_splits(DataConfig(source=several))


def test_rare_classes_are_dealt_to_both_sides(tmp_path: Path) -> None:
    rows = [["common"]] * 12 + [["common|rare"]] * 4 + [["common|other"]] * 4
    source = _write_list(tmp_path / "list.csv", rows, ("video", "label"))
    for seed in range(5):
        splits = open_splits(DataConfig(source=source, label_separator="|", val_share=0.25, split_seed=seed))
        for side in (splits.train, splits.val):
            assert all(side.count_classes())
        assert splits.val.count_classes() == [5, 1, 1]
        assert splits.notices == ()


def test_excluded_labels_leave_the_others(several: str) -> None:
    splits = open_splits(DataConfig(source=several, label_separator="|", exclude_labels=("wash",)))
    assert splits.class_names == ("cut", "peel")
    found = {Path(s.path).stem: {splits.class_names[k] for k in s.label_set} for s in _list_samples(splits)}
    assert found == {"0": {"cut"}, "2": set(), "3": {"cut"}, "4": {"cut", "peel"}, "5": {"peel"}, "6": {"peel"},
                     "7": {"cut"}}  # fmt: skip


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("cut|cut", {"label_separator": "|"}, r"line 3: 'cut\|cut' names one class twice"),
        ("cut||wash", {"label_separator": "|"}, "names an empty class"),
        ("cut", {"label_separator": " "}, "blanks stand in names too"),
        ("cut", {"label_separator": "|", "task": "label"}, "several tasks or several labels, not both"),
    ],
)
def test_what_several_labels_cannot_be(
    tmp_path: Path, label: str, options: dict[str, str], message: str
) -> None:
    source = _write_list(tmp_path / "list.csv", [["wash"], [label]], ("video", "label"))
    with pytest.raises((DataError, ConfigError), match=message):
        open_splits(DataConfig(source=source, **options))


def test_folders_have_one_label(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"label_separator=\|: .* is read as 'folder', which has none"):
        open_splits(DataConfig(source=str(tmp_path), label_separator="|"))


def test_a_batch_of_several_labels(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    samples = tuple(
        Sample(str(write_video(tmp_path / f"{n}.mkv", num_frames=4)), labels[0] if labels else UNLABELLED,
               label_set=labels)
        for n, labels in enumerate([(0, 2), (), (1,)])
    )  # fmt: skip
    annotations = Annotations(samples, ("a", "b", "c"), multilabel=True)
    protocol = Protocol(input=InputSpec(size=(8, 8)), num_frames=2)
    for workers in (0, 1):
        (batch,) = build_test_loader(annotations, protocol=protocol, batch_size=3, workers=workers)
        assert batch.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
        assert batch.labels.dtype == torch.int64


# ---------------------------------------------------------------------------------------------- several tasks


def test_columns_are_tasks(tasks: str) -> None:
    splits = open_splits(DataConfig(source=tasks, task="noun,verb"))
    assert splits.space == LabelSpace.of_tasks(
        {"noun": ("cup", "egg", "pan"), "verb": ("cut", "peel", "wash")}
    )
    samples = _list_samples(splits)
    annotations = replace(splits.train, samples=tuple(samples))
    verbs, nouns = ("cut", "peel", "wash"), ("cup", "egg", "pan")
    wanted = [(nouns.index(noun), verbs.index(verb)) for verb, noun in TASKS]
    assert [annotations.read_label(n) for n in range(len(samples))] == wanted
    assert [sample.label for sample in samples] == [verb for _, verb in wanted]
    assert annotations.count_classes() == [1, 3, 2, 3, 1, 2]
    alone = open_splits(DataConfig(source=tasks, task="noun"))
    assert alone.space == LabelSpace(class_names=nouns)


def test_numbers_are_names_of_tasks(tmp_path: Path) -> None:
    source = _write_list(tmp_path / "l.csv", [("3", "10"), ("3", "9"), ("5", "10")], ("video", "a", "b"))
    splits = open_splits(DataConfig(source=source, task="a,b", val_share=0.5))
    assert splits.space == LabelSpace.of_tasks({"a": ("3", "5"), "b": ("9", "10")})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "verbs"}, ConfigError, "has no task 'verbs': did you mean 'verb'"),
        ({"task": "verb,verb"}, ConfigError, "names 'verb' twice"),
        ({"task": "all"}, ConfigError, "name the columns of .* that are tasks"),
        ({"task": "verb,noun", "class_file": "x"}, ConfigError, "class_file: names the classes of one task"),
        ({"task": "verb,kind"}, DataError, "task 'verb' has one class alone"),
    ],
)
def test_what_tasks_cannot_be(
    tmp_path: Path, options: dict[str, str], error: type[Exception], message: str
) -> None:
    rows = [("cut", "egg", "x"), ("cut", "pan", "y"), ("cut", "egg", "y")]
    if "kind" not in options["task"]:
        rows[0] = ("wash", "egg", "x")
    source = _write_list(tmp_path / "list.csv", rows, ("video", "verb", "noun", "kind"))
    if "class_file" in options:
        (tmp_path / "x").write_text("cut\nwash\n")
        options = {**options, "class_file": str(tmp_path / "x")}
    with pytest.raises(error, match=message):
        open_splits(DataConfig(source=source, **options))


def test_plain_lines_have_no_columns(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    with pytest.raises(ConfigError, match=r"is a column, and .* has none"):
        open_splits(DataConfig(source=str(tmp_path / "list.txt"), task="verb"))


def test_epic_asks_all_at_once(tmp_path: Path, studio: Studio) -> None:
    BUILDERS["epic_kitchens55"](tmp_path, studio)
    splits = open_splits(DataConfig(source=f"epic:{tmp_path}", task="all"))
    assert dict(splits.space.tasks) == {"verb": 125, "noun": 352, "action": 2513}
    assert [sum(k < 125 for k in splits.space.many_shot), len(splits.space.many_shot)] == [26, 26 + 71 + 819]
    names = splits.space.class_names
    found = {
        s.id: [names[k] for k in splits.train.list_classes(n)] for n, s in enumerate(splits.train.samples)
    }
    assert found == {
        "0": ["open", "cupboard", "open cupboard"],
        "1": ["turn-on", "light", "turn-on light"],
    }
    protocol = Protocol(input=InputSpec(size=(8, 8)), num_frames=2)
    loader = build_train_loader(
        splits.train, protocol=protocol, augment=AugmentConfig(), batch_size=2, workers=0
    )
    (batch,) = loader.epoch(0)
    for index, label in zip(batch.indices.tolist(), batch.labels.tolist(), strict=True):
        assert tuple(label) == splits.train.read_label(index)
    assert open_splits(DataConfig(source=f"epic:{tmp_path}", task="noun, verb")).space.leading == "verb"


def test_what_a_server_alone_can_score(tmp_path: Path, studio: Studio) -> None:
    BUILDERS["epic_kitchens55"](tmp_path, studio)
    space = open_splits(DataConfig(source=f"epic:{tmp_path}", task="all")).space
    test, _ = open_annotations(
        f"epic:{tmp_path}", class_names=space.pick("action").class_names, split="s1", task="all"
    )
    assert test.space == space
    assert [test.read_label(n) for n in range(len(test))] == [(UNLABELLED,) * 3]
    assert [sample.id for sample in test.samples] == ["1924"]
    census = take_census(EpicKitchens55, tmp_path, split="s1")
    assert (census.published, census.found, census.empty_classes) == ({"test": 8047}, {"test": 1}, ())
    with pytest.raises(DataError, match=r"no label: nothing can be learnt from data.split=s1"):
        open_splits(DataConfig(source=f"epic:{tmp_path}", split="s1"))
    with pytest.raises(ConfigError, match="no such split: known: participants, s1, s2"):
        open_splits(DataConfig(source=f"epic:{tmp_path}", split="s3"))


def test_many_shot_classes_are_those_of_the_official_lists(official: Path) -> None:
    """The lists name the classes with more than 100 training samples; 819 actions consist of two such."""
    folder = official / "epic-55"
    rows = EpicKitchens55.read_rows(RootFiles(folder), split="participants")
    for task in ("verb", "noun"):
        with (folder / f"EPIC_many_shot_{task}s.csv").open(newline="") as file:
            listed = {line[task] for line in csv.DictReader(file)}
        counts = Counter(row.labels[task] for row in rows)
        often = {name for name, count in counts.items() if count > 100}
        assert set(EpicKitchens55.many_shot_names(task)) == listed == often
    assert len(EpicKitchens55.many_shot_names("action")) == 819


def test_a_prepared_dataset_keeps_its_questions(tmp_path: Path, studio: Studio) -> None:
    (tmp_path / "epic").mkdir()
    BUILDERS["epic_kitchens55"](tmp_path / "epic", studio)
    out = tmp_path / "out"
    prepare_dataset(f"epic:{tmp_path / 'epic'}", out, time_clips=0, workers=1)
    before = open_splits(DataConfig(source=f"epic:{tmp_path / 'epic'}", task="all"))
    after = open_splits(DataConfig(source=str(out), task="all"))
    assert after.space == before.space
    labels = [[side.read_label(n) for n in range(len(side))] for side in (before.train, after.train)]
    assert labels[0] == labels[1]
    assert open_splits(DataConfig(source=str(out), task="verb")).class_names[0] == "take"
    assert len(open_splits(DataConfig(source=str(out))).class_names) == 2513


def test_a_prepared_list_keeps_several_labels(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    for number in range(4):
        write_video(tmp_path / f"{number}.mkv", num_frames=4)
    (tmp_path / "list.csv").write_text("video,label\n0.mkv,a|b\n1.mkv,b\n2.mkv,\n3.mkv,a\n")
    prepare_dataset(
        str(tmp_path / "list.csv"), tmp_path / "out", label_separator="|", time_clips=0, workers=1
    )
    splits = open_splits(DataConfig(source=str(tmp_path / "out")))
    assert splits.space == LabelSpace(class_names=("a", "b"), multilabel=True)
    assert sorted(s.label_set for s in _list_samples(splits)) == [(), (0,), (0, 1), (1,)]


# -------------------------------------------------------------------------------------------------- mirrors


def test_a_mirror_swaps_every_label() -> None:
    tasks = LabelSpace.of_tasks(
        {
            "verb": ("turn left", "turn right", "cut"),
            "noun": ("left cup", "pan", "right cup"),
            "side": ("0", "1"),
        }
    )
    named = replace(tasks, class_names=(*tasks.class_names[:-2], "up", "down"))
    swap = mirror_space(named)
    assert swap((0, 0, 1)) == (1, 2, 1)
    assert swap((2, 1, 0)) == (2, 1, 0)
    assert swap.row == [1, 0, 2, 5, 4, 3, 6, 7]
    assert mirror_space(tasks)((0, 0, 1)) is None, "numbers say nothing of a mirror"
    by_hand = mirror_space(named, flip_labels={"up": "down"})
    assert by_hand((0, 1, 0)) == (1, 1, 1)
    with pytest.raises(ConfigError, match="flip_labels: no class 'upp': did you mean 'up'"):
        mirror_space(named, flip_labels={"upp": "down"})


def test_a_mirror_of_several_labels() -> None:
    swap = mirror_space(LabelSpace(class_names=("wave left", "jump", "wave right"), multilabel=True))
    assert swap((0, 1)) == (2, 1)
    assert swap(()) == ()
    off = mirror_space(LabelSpace(class_names=("a", "b"), multilabel=True), flip="off")
    assert off(()) is None
    # Who waves to the right has no label here; in the mirror, he would need one.
    alone = mirror_space(LabelSpace(class_names=("wave left", "jump"), multilabel=True))
    assert alone((1,)) is None
    assert mirror_space(LabelSpace(class_names=("wave left", "jump")))(1) == 1


def test_playing_backwards_needs_every_task() -> None:
    space = LabelSpace.of_tasks({"verb": ("open", "close", "cut"), "noun": ("box", "egg")})
    assert reverse_space(space, {"open": "close"})((0, 0)) is None
    swap = reverse_space(space, {"open": "close", "box": "box"})
    assert swap((0, 0)) == (1, 0)
    assert swap((0, 1)) is None
    assert swap((2, 0)) is None
