"""The benchmark as files: what is there, that it moves as its class says, that no folder is half-made."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from kinemix.data.catalog.motion import CLASSES, FLIPS, PAIRS, make, make_motion
from kinemix.errors import ConfigError, DataError


def read_frames(path: Path) -> NDArray[np.uint8]:
    """Independent sequential decode: ``T H W 3``."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def hash_files(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_small(folder: Path, **options: Any) -> Path:
    settings = {"train_per_class": 2, "val_per_class": 1, "workers": 1, "num_frames": 8, "size": 32} | options
    return make_motion(folder, **settings)


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_motion(tmp_path_factory.mktemp("easy"), train_per_class=2, val_per_class=6, seed=5)


def test_classes_come_in_reversed_pairs() -> None:
    assert len(CLASSES) == 12
    assert list(CLASSES) == sorted(CLASSES)
    assert set(PAIRS) == set(CLASSES)
    for name, opposite in PAIRS.items():
        assert opposite != name
        assert PAIRS[opposite] == name
    assert all(FLIPS[FLIPS[name]] == name for name in FLIPS)


@pytest.mark.parametrize(
    ("grade", "num_frames", "size"), [("easy", 24, 64), ("medium", 24, 80), ("hard", 40, 112)]
)
def test_every_clip_is_there_and_whole(tmp_path: Path, grade: str, num_frames: int, size: int) -> None:
    reports: list[tuple[int, int]] = []
    folder = make_motion(
        tmp_path, grade=grade, train_per_class=2, val_per_class=1, progress=lambda *now: reports.append(now)
    )
    index = json.loads((folder / "motion.json").read_text())
    assert reports == [(done, 36) for done in range(2, 37, 2)]
    assert sorted(path.name for path in folder.iterdir()) == ["motion.json", "train", "val"]
    assert sorted(clip["path"] for clip in index["clips"]) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*.mp4")
    )
    for split, count in (("train", 2), ("val", 1)):
        for name in CLASSES:
            assert len(list((folder / split / name).iterdir())) == count
    for clip in index["clips"]:
        assert read_frames(folder / clip["path"]).shape == (num_frames, size, size, 3)
        assert len(clip["boxes"]) == num_frames
        for box in (box for frame in clip["boxes"] for box in frame):
            assert 0 <= box[0] < box[2] <= size
            assert 0 <= box[1] < box[3] <= size


def test_the_object_is_in_its_box(easy: Path) -> None:
    """The easy grade's objects are vivid and its grounds are gray: colour must be in the box, not outside."""
    index = json.loads((easy / "motion.json").read_text())
    inside, outside = [], []
    for clip in index["clips"]:
        frames = read_frames(easy / clip["path"]).astype(np.float32)
        vivid = frames.max(axis=-1) - frames.min(axis=-1)
        mask = np.zeros(vivid.shape, bool)
        for shown, boxes in zip(mask, clip["boxes"], strict=True):
            for left, upper, right, lower in boxes:
                shown[upper:lower, left:right] = True
        inside.append(vivid[mask].mean())
        outside.append(vivid[~mask].mean())
    assert np.mean(inside) > 4 * np.mean(outside)
    assert np.mean(np.array(inside) > 1.5 * np.array(outside)) > 0.97


def _measure_steps(clip: dict[str, Any], measure: Callable[[Any], float], boxes: int) -> float:
    """Median change from frame to frame of a quantity, where the frames show that many boxes."""
    values = [measure(np.array(frame, float)) if len(frame) == boxes else np.nan for frame in clip["boxes"]]
    steps = np.diff(values)
    return float(np.median(steps[~np.isnan(steps)]))


def test_clips_move_as_their_class_says(easy: Path) -> None:
    index = json.loads((easy / "motion.json").read_text())
    measures: dict[str, tuple[Callable[[Any], float], int]] = {
        "move_right": (lambda box: box[0, 0] + box[0, 2], 1),
        "move_down": (lambda box: box[0, 1] + box[0, 3], 1),
        "grow": (lambda box: box[0, 2] - box[0, 0] + box[0, 3] - box[0, 1], 1),
        "part": (lambda box: np.abs(box[0] - box[1]).sum(), 2),
    }
    for name, (measure, boxes) in measures.items():
        for clip in index["clips"]:
            if clip["class"] == name:
                assert _measure_steps(clip, measure, boxes) > 0, clip["path"]
            elif clip["class"] == PAIRS[name]:
                assert _measure_steps(clip, measure, boxes) < 0, clip["path"]


def test_rotation_turns_the_way_its_name_says(easy: Path) -> None:
    """The object's mass lies off the middle of its turning; its angle about the mean place must increase."""
    index = json.loads((easy / "motion.json").read_text())
    for clip in index["clips"]:
        if not clip["class"].startswith("rotate"):
            continue
        frames = read_frames(easy / clip["path"]).astype(np.float32)
        weight = np.maximum(frames.max(axis=-1) - frames.min(axis=-1) - 60, 0)
        y, x = np.mgrid[: weight.shape[1], : weight.shape[2]]
        mass = weight.sum(axis=(1, 2))
        center = np.stack([(weight * x).sum(axis=(1, 2)) / mass, (weight * y).sum(axis=(1, 2)) / mass])
        around = center - (center.max(axis=1) + center.min(axis=1))[:, None] / 2
        # y runs down, so that an increasing angle is clockwise on the screen
        turned = np.median(np.diff(np.unwrap(np.arctan2(around[1], around[0]))))
        assert (turned > 0) == (clip["class"] == "rotate_clockwise"), clip["path"]


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    one = hash_files(make_small(tmp_path / "one", workers=1))
    assert hash_files(make_small(tmp_path / "three", workers=3)) == one
    other = hash_files(make_small(tmp_path / "other", seed=1))
    assert not set(other.values()) & set(one.values())
    larger = hash_files(make_small(tmp_path / "larger", train_per_class=3))
    assert all(larger[name] == digest for name, digest in one.items() if name.endswith(".mp4"))


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    whole = hash_files(make_small(tmp_path / "whole"))

    def interrupt(done: int, total: int) -> None:
        if done >= total // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_small(tmp_path / "part", progress=interrupt)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "part").rglob("*.mp4")}
    assert 0 < len(kept) < len(whole) - 1
    assert not list((tmp_path / "part").rglob("*.partial"))
    assert not (tmp_path / "part" / "motion.json").exists()
    make_small(tmp_path / "part")
    assert hash_files(tmp_path / "part") == whole
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_a_second_call_makes_nothing_but_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hash_files(make_small(tmp_path))
    (tmp_path / "val/grow/00000.mp4").unlink()
    make_small(tmp_path)
    assert hash_files(tmp_path) == whole
    monkeypatch.setattr(make, "encode_clip", lambda frames: pytest.fail("encoded again"))
    make_small(tmp_path)


def test_a_full_disk_leaves_no_half_written_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def write_on_full_disk(self: Path, content: bytes) -> int:
        if self.name.startswith(".00001.mp4."):
            write(self, content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_on_full_disk)
        with pytest.raises(DataError, match=r"No space left on device.*free space"):
            make_small(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("00001.mp4"))
    make_small(tmp_path)
    assert (tmp_path / "motion.json").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    make_small(tmp_path / "made")
    for options, message in (
        ({"grade": "hard"}, "grade 'easy', not 'hard'"),
        ({"seed": 3}, "seed 0, not 3"),
        ({"train_per_class": 4}, "train_per_class 2, not 4"),
        ({"size": 48}, "size 32, not 48"),
    ):
        with pytest.raises(DataError, match=message):
            make_small(tmp_path / "made", **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(DataError, match="not empty"):
        make_small(tmp_path / "mine")
    (tmp_path / "mine" / "motion.json").write_text("{")
    with pytest.raises(DataError, match="no index of a motion benchmark"):
        make_small(tmp_path / "mine")
    with pytest.raises(DataError, match=r"thesis\.txt"):
        make_small(tmp_path / "mine" / "thesis.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grade": "esay"}, "did you mean 'easy'"),
        ({"size": 63}, "even"),
        ({"size": 16}, "32 or more"),
        ({"num_frames": 4}, "8 or more"),
        ({"train_per_class": 0}, "1 or more"),
        ({"seed": -1}, "0 or more"),
        ({"workers": 0}, "1 or more"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_small(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
