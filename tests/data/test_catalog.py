"""The shelf of published datasets: every one is read from a miniature root, and counted in its official files."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from kinemix.cli import main
from kinemix.config import AugmentConfig, DataConfig, InputSpec, Protocol
from kinemix.data.annotations import Annotations, Sample
from kinemix.data.catalog.epic_kitchens import list_actions
from kinemix.data.catalog.official import OfficialDataset, read_classes
from kinemix.data.catalog.root_files import RootFiles, find_part, simplify_name
from kinemix.data.census import take_census
from kinemix.data.loader import build_test_loader, build_train_loader
from kinemix.data.miniature import BUILDERS, Studio, write
from kinemix.data.mirror import mirror_labels
from kinemix.data.sources import DATASETS, Splits, find_dataset, open_annotations, open_splits
from kinemix.errors import ConfigError, DataError
from kinemix.label_space import UNLABELLED

SHELF: dict[str, type[OfficialDataset]] = {
    name: kind for name in DATASETS.names() if issubclass(kind := DATASETS.get(name), OfficialDataset)
}
PROTOCOL = Protocol(input=InputSpec(size=(24, 32)), num_frames=4)


def _list_samples(splits: Splits) -> list[Sample]:
    return [*splits.train.samples, *splits.val.samples]


def _decode(annotations: Annotations) -> int:
    """Read everything as a test and as an epoch of training do; how many samples came."""
    test = build_test_loader(annotations, protocol=PROTOCOL, batch_size=2, workers=0)
    batches = list(test)
    assert [video for batch in batches for video in batch.unreadable] == []
    train = build_train_loader(
        annotations, protocol=PROTOCOL, augment=AugmentConfig(crop="center"), batch_size=1, workers=0
    )
    for batch in train.epoch(0):
        assert torch.isfinite(batch.clips).all()
        assert batch.clips.shape == (1, 4, 3, 24, 32)
    return sum(len(batch) for batch in batches)


# The contract: a new dataset on the shelf is tested by being there.


def test_the_thirteen_are_there() -> None:
    assert len(SHELF) >= 13
    assert set(SHELF) == set(BUILDERS), (
        "a dataset on the shelf needs a miniature root in kinemix.data.miniature"
    )


@pytest.mark.parametrize("name", SHELF)
def test_facts_are_whole(name: str) -> None:
    kind, facts = SHELF[name], SHELF[name].facts
    for split in facts.splits:
        for task in facts.tasks or (None,):
            names = kind.class_names(split=split, task=task)
            assert len({simplify_name(name) for name in names}) == len(names)
            assert all(name == name.strip() and name for name in names)
            assert task is None or len(names) == facts.tasks[task]
    for alias in (name, *kind.aliases, kind.aliases[0].upper()):
        assert find_dataset(alias) is kind
    assert "ROOT/" in facts.layout
    assert all((facts.title, facts.about, facts.metric, facts.protocol, facts.licence, facts.url))
    assert facts.frame_stride is None or facts.sampling == "dense"
    assert all(count > 0 for sizes in facts.sizes.values() for count in sizes.values())


@pytest.mark.parametrize("name", SHELF)
def test_a_mirror_swaps_the_pairs_and_nothing_else(name: str) -> None:
    kind = SHELF[name]
    for task in kind.facts.tasks or (None,):
        names = kind.class_names(task=task)
        swapped = {a: b for pair in kind.facts.flip_pairs for a, b in (pair, pair[::-1])}
        expected = tuple(names.index(swapped.get(name, name)) for name in names)
        assert mirror_labels(names) == expected


@pytest.mark.parametrize("name", SHELF)
def test_a_miniature_root_is_read(name: str, tmp_path: Path, studio: Studio) -> None:
    kind = SHELF[name]
    expected = BUILDERS[name](tmp_path, studio)
    splits = open_splits(DataConfig(source=f"{kind.aliases[0]}:{tmp_path}"))
    assert splits.class_names == kind.class_names()
    found = {}
    for part, annotations in (("train", splits.train), ("held out", splits.val)):
        for sample in annotations.samples:
            (end,) = [end for end in expected if sample.name.endswith(end)]
            found[end] = (splits.class_names[sample.label], part)
    held_out = {"train": "train", "val": "held out", "test": "held out"}
    assert found == {end: (label, held_out[part]) for end, (label, part) in expected.items()}
    assert splits.missing == ()
    assert _decode(splits.train) + _decode(splits.val) == len(expected)


@pytest.mark.parametrize("name", SHELF)
def test_an_official_root_is_recognised(name: str, tmp_path: Path, studio: Studio) -> None:
    BUILDERS[name](tmp_path, studio)
    splits = open_splits(DataConfig(source=str(tmp_path)))
    assert splits.class_names == SHELF[name].class_names()
    assert any(f"read as {SHELF[name].facts.title}" in notice for notice in splits.notices)
    assert [other for other in SHELF if other != name and SHELF[other].recognises(tmp_path)] == []


@pytest.mark.parametrize("name", [name for name in SHELF if not SHELF[name].facts.tasks])
def test_class_folders_keep_the_official_order(name: str, tmp_path: Path, studio: Studio) -> None:
    kind = SHELF[name]
    names = kind.class_names()
    chosen = (names[-1], names[0])
    for part in ("train", "val"):
        for number, label in enumerate(chosen):
            folder = label.replace(" ", "_")
            studio.put_clip(tmp_path / part / folder / f"v_{label[:3]}_g0{number + 1}_{part}.mp4")
    splits = open_splits(DataConfig(source=f"{name}:{tmp_path}"))
    assert splits.class_names == names
    assert Counter(s.label for s in splits.train.samples) == {0: 1, len(names) - 1: 1}
    assert Counter(s.label for s in splits.val.samples) == {0: 1, len(names) - 1: 1}


@pytest.mark.parametrize("name", SHELF)
def test_nothing_there_names_the_cure(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"kinemix data show {name}"):
        open_splits(DataConfig(source=f"{name}:{tmp_path}"))
    with pytest.raises(ConfigError, match=r"data\.split=nope"):
        open_splits(DataConfig(source=f"{name}:{tmp_path}", split="nope"))
    with pytest.raises(ConfigError, match=r"data\.task=nope"):
        open_splits(DataConfig(source=f"{name}:{tmp_path}", task="nope"))


@pytest.mark.parametrize("name", SHELF)
def test_list_show_and_check(
    name: str, tmp_path: Path, studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = BUILDERS[name](tmp_path, studio)
    assert main(["data", "show", name]) == 0
    shown = capsys.readouterr().out
    assert SHELF[name].facts.title in shown
    assert "ROOT/" in shown
    assert main(["data", "check", name, str(tmp_path), "--format", "json"]) == (0 if name == "hacs" else 1)
    census = json.loads(capsys.readouterr().out)
    assert sum(census["found"].values()) == len(expected) == sum(census["listed"].values())
    assert len(census["empty_classes"]) == len(SHELF[name].class_names()) - len(
        {c for c, _ in expected.values()}
    )


# The official files


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("something_something_v2", "ssv2"),
        ("jester", "jester"),
        ("ucf101", "ucf101"),
        ("hmdb51", "hmdb51"),
        ("epic_kitchens55", "epic-55"),
    ],
)
def test_published_sizes_are_those_of_the_official_files(name: str, folder: str, official: Path) -> None:
    kind = SHELF[name]
    assert kind.recognises(official / folder)
    # Labels of a test part beside a validation part are secret.
    labelled = {"train", "val"} if "val" in kind.facts.sizes[kind.facts.splits[0]] else {"train", "test"}
    for split, sizes in kind.facts.sizes.items():
        rows = kind.read_rows(RootFiles(official / folder), split=split)
        assert Counter(row.part for row in rows) == {p: n for p, n in sizes.items() if p in labelled}
        known = {simplify_name(name) for name in kind.class_names()}
        labels = {simplify_name(row.label) if isinstance(row.label, str) else row.label for row in rows}
        assert labels <= known | set(range(len(known)))
        if not kind.facts.tasks:
            assert len(labels) == len(known)


@pytest.mark.parametrize("number", ["400", "600"])
def test_kinetics_validation(number: str, official: Path) -> None:
    kind = SHELF[f"kinetics{number}"]
    rows = kind.read_rows(RootFiles(official / "kinetics"), split="official")
    assert Counter(row.part for row in rows) == {"val": kind.facts.sizes["official"]["val"]}
    assert {row.label for row in rows} == set(kind.class_names())


def test_mini_kinetics(official: Path, tmp_path: Path) -> None:
    for name in ("train_ytid_list.txt", "val_ytid_list.txt"):
        shutil.copy(official / "mini-kinetics-200" / name, tmp_path)
    shutil.copy(official / "kinetics" / "kinetics-400_val.csv", tmp_path)
    kind = SHELF["mini_kinetics200"]
    rows = kind.read_rows(RootFiles(tmp_path), split="official")
    # The training videos are those of Kinetics-400's training CSV, which is not among the files.
    assert Counter(row.part for row in rows) == {"val": 5000}
    assert Counter(Counter(row.label for row in rows).values()) == {25: 200}
    assert {row.label for row in rows} == set(kind.class_names()) < set(SHELF["kinetics400"].class_names())
    (notice,) = kind.explain_rows(RootFiles(tmp_path), rows)
    assert "of 80,000 listed videos nothing tells the class" in notice
    (tmp_path / "kinetics-400_val.csv").unlink()
    with pytest.raises(DataError, match=r"85,000 videos by their ids alone: put kinetics-400_train\.csv"):
        kind.read_rows(RootFiles(tmp_path), split="official")
    ids = (official / "mini-kinetics-200" / "train_ytid_list.txt").read_text().split()
    assert len(set(ids)) == kind.facts.sizes["official"]["train"] == 80000


@pytest.mark.parametrize(
    ("shipped", "label_map"),
    [
        ("something_something", "sthv2"),
        ("kinetics400", "label_map_k400"),
        ("kinetics600", "label_map_k600"),
        ("kinetics700", "label_map_k700"),
        ("ucf101", "ucf101"),
        ("hmdb51", "hmdb51"),
        ("moments_v1", "mit"),
        ("diving48", "diving48"),
    ],
)
def test_class_order_is_that_of_published_checkpoints(shipped: str, label_map: str, official: Path) -> None:
    text = (official / "label_maps" / f"{label_map}.txt").read_text(encoding="utf-8")
    assert read_classes(shipped) == tuple(text.splitlines())


def test_something_v1_and_jester_are_alphabetical(official: Path) -> None:
    for name, label_map in (("something_something_v1", "sthv1"), ("jester", "jester")):
        written = (official / "label_maps" / f"{label_map}.txt").read_text(encoding="utf-8").splitlines()
        assert SHELF[name].class_names() == tuple(sorted(written))


def test_ucf101_groups_are_its_splits(official: Path, tmp_path: Path) -> None:
    """The rule by which a copy without split files is split gives the official lists."""
    for number in "123":
        rows = SHELF["ucf101"].read_rows(RootFiles(official / "ucf101"), split=number)
        videos = {row.names[0]: row.part for row in rows}
        root = RootFiles(tmp_path / number, class_names=SHELF["ucf101"].class_names())
        root.__dict__["library"] = {name.partition("/")[2]: [f"/UCF-101/{name}.avi"] for name in videos}
        guessed = SHELF["ucf101"].read_rows(root, split=number)
        parts = {name.partition("/")[2]: part for name, part in videos.items()}
        assert {row.names[0]: row.part for row in guessed} == parts
        classes = {name.partition("/")[2]: name.partition("/")[0] for name in videos}
        assert {row.names[0]: row.label for row in guessed} == classes


def test_epic_labels(official: Path) -> None:
    folder = official / "epic-55"
    kind = SHELF["epic_kitchens55"]
    rows = kind.read_rows(RootFiles(folder), split="participants")
    assert len(rows) == 28472
    with (folder / "EPIC_train_action_labels.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list_actions() == tuple(sorted({(int(r["verb_class"]), int(r["noun_class"])) for r in lines}))
    verbs, nouns = kind.class_names(task="verb"), kind.class_names(task="noun")
    assert (len(verbs), len(nouns)) == (125, 352)
    for row, line in zip(rows, lines, strict=True):
        assert row.labels["verb"] == verbs[int(line["verb_class"])]
        assert row.labels["noun"] == nouns[int(line["noun_class"])]
        assert row.frames == (int(line["start_frame"]) - 1, int(line["stop_frame"]) - 1)
    held_out = {row.group for row in rows if row.part == "val"}
    assert held_out.isdisjoint(row.group for row in rows if row.part == "train")


def test_epic_test_lists(official: Path, tmp_path: Path, studio: Studio) -> None:
    studio.put_long(tmp_path / "P01" / "P01_11.MP4")
    kind = SHELF["epic_kitchens55"]
    for split, size in kind.facts.test_lists.items():
        rows = kind.read_rows(RootFiles(official / "epic-55"), split=split)
        assert (len(rows), {row.part for row in rows}, {row.label for row in rows}) == (size, {"test"}, {""})
    source, names = f"epic:{official / 'epic-55'}", kind.class_names()
    seen, _ = open_annotations(source, class_names=names, split="s1", root=str(tmp_path), max_missing=1.0)
    assert len(seen) == sum(
        row.sources == ("P01/P01_11",) for row in kind.read_rows(RootFiles(official / "epic-55"), split="s1")
    )
    assert {sample.label for sample in seen.samples} == {UNLABELLED}
    assert seen.samples[0].id == "1924"
    assert seen.samples[0].name.endswith("P01_11.MP4#0.00-1.89s")


# What people's copies are like


def test_missing_videos_are_counted_and_left_out(tmp_path: Path, studio: Studio) -> None:
    names = SHELF["kinetics400"].class_names()[:2]
    header = "label,youtube_id,time_start,time_end,split\n"
    for part, count in (("train", 30), ("val", 10)):
        ids = [f"{part:_<6}-{number:04d}" for number in range(count)]
        lines = [f"{names[number % 2]},{video},0,10,{part}\n" for number, video in enumerate(ids)]
        write(tmp_path / f"kinetics-400_{part}.csv", header + "".join(lines))
        for number, video in enumerate(ids):
            if number:
                studio.put_clip(tmp_path / part / names[number % 2] / f"{video}.mp4")
    splits = open_splits(DataConfig(source=f"k400:{tmp_path}"))
    assert (len(splits.train), len(splits.val), len(splits.missing)) == (29, 9, 2)
    assert any(notice.startswith("2 of 40 videos are missing and left out") for notice in splits.notices)
    with pytest.raises(DataError, match=r"2 of 40 videos are missing.*data.max_missing \(now 0.01\)"):
        open_splits(DataConfig(source=f"k400:{tmp_path}", max_missing=0.01))
    missing = tmp_path / "missing.txt"
    assert main(["data", "check", "k400", str(tmp_path), "--missing", str(missing)]) == 1
    assert missing.read_text().splitlines() == list(splits.missing)


def test_a_complete_copy_passes_the_check(
    tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    BUILDERS["jester"](tmp_path, studio)
    kind = SHELF["jester"]
    small = replace(kind.facts, sizes={"official": {"train": 2, "val": 1, "test": 5}})
    monkeypatch.setattr(kind, "facts", small)
    assert take_census(kind, tmp_path).complete
    assert main(["data", "check", "jester", str(tmp_path)]) == 0
    (tmp_path / "20bn-jester-v1" / "9223").rename(tmp_path / "gone")
    assert not take_census(kind, tmp_path).complete


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("{part}_videofolder.txt", "{video} 6 {number}"),
        ("sthv2_{part}_list_rawframes.txt", "{video} 6 {number}"),
        ("sthv2_{part}_list_videos.txt", "{video}.webm {number}"),
        ("{part}.csv", "some/other/machine/{video}.webm {number}"),
        ("{part}.csv", "{video}.webm,{number}"),
        ("something-something-v2-{part}-processed.txt", "{video} 0 6 {number}"),
    ],
)
def test_lists_of_other_projects(name: str, lines: str, tmp_path: Path, studio: Studio) -> None:
    frames = ".webm" not in lines
    for part, videos in (("train", {"11": 86, "12": 173}), ("val", {"13": 0})):
        spelt = "validation" if "processed" in name and part == "val" else part
        text = [lines.format(video=video, number=number) for video, number in videos.items()]
        write(tmp_path / name.format(part=spelt), "\n".join(text) + "\n")
        for video in videos:
            if frames:
                studio.put_frames(tmp_path / "frames" / video, template="img_{:05d}.jpg")
                studio.put_frames(tmp_path / "frames" / video, template="flow_x_{:05d}.jpg")
            else:
                studio.put_clip(tmp_path / "videos" / f"{video}.webm")
    splits = open_splits(DataConfig(source=f"ssv2:{tmp_path}"))
    assert [sample.label for sample in splits.train.samples] == [86, 173]
    assert [sample.label for sample in splits.val.samples] == [0]
    assert _decode(splits.train) == 2
    one = open_splits(
        DataConfig(
            source=f"ssv2:{tmp_path / name.format(part='train')}",
            val_source=f"ssv2:{tmp_path / name.format(part='val')}",
            root=str(tmp_path),
        )
    ) if "processed" not in name else splits  # fmt: skip
    assert one.train.samples[0].label == 86


def test_other_spellings_of_kinetics(tmp_path: Path, studio: Studio) -> None:
    content = {
        "-1IlTIWPNs4": {
            "annotations": {"label": "air drumming", "segment": [44.0, 54.0]},
            "subset": "training",
        },
        "abcdefghijk": {"annotations": {"label": "archery", "segment": [3.0, 13.0]}, "subset": "training"},
    }
    content["bcdefghijkl"] = content["abcdefghijk"]
    write(tmp_path / "annotations" / "kinetics_train.json", json.dumps(content))
    studio.put_clip(tmp_path / "flat" / "bcdefghijkl.webm")
    studio.put_frames(tmp_path / "rawframes_train" / "air_drumming" / "-1IlTIWPNs4_000044_000054")
    studio.put_clip(tmp_path / "flat" / "abcdefghijk_3_13.mkv")
    splits = open_splits(DataConfig(source=f"kinetics-400:{tmp_path}", val_share=0.5))
    assert len(_list_samples(splits)) == 3


def test_ucf101_without_split_files(tmp_path: Path, studio: Studio) -> None:
    for group in (1, 8, 15, 22):
        studio.put_clip(tmp_path / "HandstandPushups" / f"v_HandStandPushups_g{group:02d}_c01.avi")
    for split, held in (("1", "g01"), ("2", "g08"), ("3", "g15")):
        splits = open_splits(DataConfig(source=f"ucf101:{tmp_path}", split=split))
        assert [sample.group for sample in splits.val.samples] == [held]
        assert len(splits.train) == 3
        assert any(f"split {split} of 1, 2, 3" in notice for notice in splits.notices)


def test_diving48_has_two_versions(tmp_path: Path, studio: Studio) -> None:
    for version, label in (("", 5), ("V2_", 7)):
        for part in ("train", "test"):
            sample = {"vid_name": f"abc_0000{len(part)}", "label": label, "start_frame": 0, "end_frame": 9}
            write(tmp_path / f"Diving48_{version}{part}.json", json.dumps([sample]))
    for part in ("train", "test"):
        studio.put_clip(tmp_path / "rgb" / f"abc_0000{len(part)}.mp4")
    labels = {
        split: open_splits(DataConfig(source=f"diving48:{tmp_path}", split=split)).train.samples[0].label
        for split in (None, "v1", "v2")
    }
    assert labels == {None: 7, "v1": 5, "v2": 7}


def test_epic_asks_three_questions(tmp_path: Path, studio: Studio) -> None:
    BUILDERS["epic_kitchens55"](tmp_path, studio)
    kind = SHELF["epic_kitchens55"]
    for task in ("verb", "noun", "action"):
        splits = open_splits(DataConfig(source=f"epic:{tmp_path}", task=task))
        assert splits.class_names == kind.class_names(task=task)
        sample = splits.train.samples[0]
        assert sample.label == sample.labels[task]
        names = {name: splits.train.task_names[name][label] for name, label in sample.labels.items()}
        assert names == {"verb": "open", "noun": "cupboard", "action": "open cupboard"}
        assert (sample.group, sample.id) == ("P01", "0")
    annotations, _ = open_annotations(f"epic:{tmp_path}", class_names=kind.class_names(), part="val")
    assert [s.segment and s.segment.unit for s in annotations.samples] == ["frames"]
    test, _ = open_annotations(f"epic:{tmp_path}", class_names=kind.class_names(), split="s1")
    assert [sample.name for sample in test.samples] == [f"{tmp_path}/videos/test/P01/P01_11.MP4#0.00-1.89s"]


def test_a_class_of_another_dataset_is_refused(tmp_path: Path, studio: Studio) -> None:
    write(tmp_path / "jester-v1-train.csv", "1;Swiping Sideways\n")
    studio.put_frames(tmp_path / "1")
    with pytest.raises(
        DataError, match=r"jester-v1-train.csv, line 1: unknown class 'Swiping Sideways': did you"
    ):
        open_splits(DataConfig(source=f"jester:{tmp_path}"))


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("kinetics400/val_256/archery", "val"),
        ("Training/left", "train"),
        ("lists/ucf101_train_split_1_rawframes.txt", "train"),
        ("training_data/test/x", "test"),
        ("trainer/valley", None),
    ],
)
def test_parts_in_paths(path: str, part: str | None) -> None:
    assert find_part(path) == part


def test_unknown_names_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "kinetic"]) == 2
    assert "did you mean 'kinetics'" in capsys.readouterr().err
    assert main(["data", "list", "--format", "json"]) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} == set(SHELF)
    assert main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SHELF)
