"""Writes the benchmark to a folder: twins side by side, each file whole or absent, the index last.

A pair of twins is a pure function of (seed, grade, split, class, number), so it does not matter how many
workers there are, nor in which of several runs a clip was made. While a set is incomplete its records stand
in ``.motion/``; ``motion.json`` appears when all clips are there.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinemix.atomic import write_atomically
from kinemix.data.catalog.motion.encode import FRAMES_PER_SECOND, encode_clip
from kinemix.data.catalog.motion.paint import paint_scene
from kinemix.data.catalog.motion.scene import FORWARD_CLASSES, GRADES, draw_scene
from kinemix.errors import ConfigError, DataError, did_you_mean

BACKWARD_CLASSES = ("move_right", "move_down", "shrink", "part", "vanish", "rotate_counterclockwise")

PAIRS: dict[str, str] = dict(zip(FORWARD_CLASSES, BACKWARD_CLASSES, strict=True)) | dict(
    zip(BACKWARD_CLASSES, FORWARD_CLASSES, strict=True)
)
"""Each class to the class that its clips show when they are played backwards."""

CLASSES: tuple[str, ...] = tuple(sorted(PAIRS))
"""All classes, in alphabetical order: that of the labels."""

FLIPS: dict[str, str] = {
    "move_left": "move_right",
    "move_right": "move_left",
    "rotate_clockwise": "rotate_counterclockwise",
    "rotate_counterclockwise": "rotate_clockwise",
}
"""Classes that a horizontal mirror turns into another; the rest it leaves as they are."""

INDEX_NAME = "motion.json"
_FORMAT = 1  # of the generator: to be raised when the same settings give other clips
_SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """All that decides which clips a folder holds."""

    grade: str
    seed: int
    train_per_class: int
    val_per_class: int
    num_frames: int
    size: int
    format: int = _FORMAT


@dataclass(frozen=True)
class _Twins:
    """Clip ``number`` of a forward class and of its opposite."""

    split: str
    motion: str
    number: int

    @property
    def paths(self) -> tuple[str, str]:
        """Where the forward and the backward clip stand in the folder."""
        forward, backward = (f"{self.split}/{name}" for name in (self.motion, PAIRS[self.motion]))
        return f"{forward}/{self.number:05d}.mp4", f"{backward}/{self.number:05d}.mp4"

    @property
    def record(self) -> str:
        return f".motion/{self.split}-{self.motion}-{self.number:05d}.json"


def make_motion(
    folder: str | Path,
    *,
    grade: str = "easy",
    train_per_class: int = 40,
    val_per_class: int = 20,
    seed: int = 0,
    num_frames: int | None = None,
    size: int | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes the benchmark, or what is missing of it; made before, it is left alone.

    Writes ``folder/train/<class>/<id>.mp4``, ``folder/val/<class>/<id>.mp4`` and ``folder/motion.json``.
    Clips of one split and id in two opposite classes are twins: the same frames, one the other's reversal.

    Args:
        folder: new, empty, or holding an earlier (perhaps interrupted) run with the same arguments.
        grade: ``easy`` (a pair can be told from one frame, the class cannot), ``medium`` or ``hard`` (low
            contrast, moving camera and light, speeds over a wide range, rests before and after).
        train_per_class, val_per_class: clips of each of the twelve classes.
        seed: of everything drawn. A larger set with the same seed begins with the clips of a smaller one.
        num_frames: of a clip; by default the grade's. Where a test takes one frame from the middle of each of
            ``n`` segments, an odd multiple of ``n`` (24 or 40 for 8) shows it the same frames of both twins.
        size: side of the frames in pixels, even; by default the grade's.
        workers: threads (the time is spent in numpy and the encoder, which run side by side).
        progress: called with the number of clips made and of all clips, in the calling thread.

    Returns:
        ``folder``.

    Raises:
        ConfigError: an argument out of range.
        DataError: the folder holds something else, or cannot be written.
    """
    folder = Path(folder)
    settings = _resolve_settings(grade, seed, train_per_class, val_per_class, num_frames, size)
    if workers < 1:
        raise ConfigError(f"workers is {workers}: give 1 or more")
    try:
        complete = _claim_folder(folder, settings)
        waiting = [twins for twins in _list_twins(settings) if not _is_made(folder, twins, complete)]
        _make_all(folder, waiting, settings, workers, progress)
        if not complete:
            _write_index(folder, settings)
        if (folder / ".motion").exists():
            shutil.rmtree(folder / ".motion")
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}): "
            "free space, or choose another folder; the same call goes on where this one stopped"
        ) from error
    return folder


def _resolve_settings(
    grade: str, seed: int, train_per_class: int, val_per_class: int, num_frames: int | None, size: int | None
) -> _Settings:
    if grade not in GRADES:
        raise ConfigError(f"unknown grade {grade!r} of motion: {did_you_mean(grade, GRADES)}")
    num_frames = GRADES[grade].num_frames if num_frames is None else num_frames
    size = GRADES[grade].size if size is None else size
    limits = {"seed": (seed, 0), "train_per_class": (train_per_class, 1), "val_per_class": (val_per_class, 1)}
    for name, (value, least) in (limits | {"num_frames": (num_frames, 8), "size": (size, 32)}).items():
        if value < least:
            raise ConfigError(f"{name} of motion is {value}: give {least} or more")
    if size % 2:
        raise ConfigError(
            f"size of motion is {size}: give an even number, H.264 with 4:2:0 colours has no other"
        )
    return _Settings(
        grade=grade,
        seed=seed,
        train_per_class=train_per_class,
        val_per_class=val_per_class,
        num_frames=num_frames,
        size=size,
    )


def _claim_folder(folder: Path, settings: _Settings) -> bool:
    """Makes sure that the folder is ours to fill; true if it was once complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for claim, complete in ((folder / INDEX_NAME, True), (folder / ".motion" / "settings.json", False)):
        if claim.is_file():
            _compare_settings(claim, settings)
            return complete
    if any(found.name != ".motion" for found in folder.iterdir()):
        raise DataError(f"{folder}: is not empty and holds no motion benchmark; choose a new folder")
    (folder / ".motion").mkdir(exist_ok=True)
    _write(folder / ".motion" / "settings.json", json.dumps(asdict(settings)).encode())
    return False


def _compare_settings(claim: Path, settings: _Settings) -> None:
    try:
        found = json.loads(claim.read_text())
        found = {name: found[name] for name in asdict(settings)}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{claim}: is no index of a motion benchmark ({error}); choose a new folder"
        ) from error
    for name, wanted in asdict(settings).items():
        if found[name] != wanted:
            raise DataError(
                f"{claim.parent}: holds motion with {name} {found[name]!r}, not {wanted!r}; "
                "choose a new folder, or remove this one"
            )


def _list_twins(settings: _Settings) -> Iterator[_Twins]:
    for split, count in zip(_SPLITS, (settings.train_per_class, settings.val_per_class), strict=True):
        for number in range(count):
            for motion in FORWARD_CLASSES:
                yield _Twins(split, motion, number)


def _is_made(folder: Path, twins: _Twins, complete: bool) -> bool:
    return all((folder / path).is_file() for path in twins.paths) and (
        complete or (folder / twins.record).is_file()
    )


def _make_all(
    folder: Path,
    waiting: list[_Twins],
    settings: _Settings,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Makes the waiting twins; after an error or Ctrl-C no new ones are begun."""
    total = len(CLASSES) * (settings.train_per_class + settings.val_per_class)
    for place in {Path(name).parent for twins in waiting for name in (*twins.paths, twins.record)}:
        (folder / place).mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="motion")
    try:
        tasks = [pool.submit(_make_twins, folder, twins, settings) for twins in waiting]
        for count, task in enumerate(as_completed(tasks), start=1):
            task.result()
            if progress is not None:
                progress(total - 2 * (len(waiting) - count), total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _make_twins(folder: Path, twins: _Twins, settings: _Settings) -> None:
    """Writes a clip, its reversal, and then the record that both are there."""
    place = _SPLITS.index(twins.split), FORWARD_CLASSES.index(twins.motion), twins.number
    random = np.random.default_rng([settings.seed, list(GRADES).index(settings.grade), *place])
    scene = draw_scene(random, twins.motion, GRADES[settings.grade], settings.num_frames)
    frames, boxes = paint_scene(scene, settings.size)
    forward, backward = twins.paths
    _write(folder / forward, encode_clip(frames))
    _write(folder / backward, encode_clip(frames[::-1]))
    records = [
        _describe(forward, backward, scene.facts, boxes, reversed_=False),
        _describe(backward, forward, scene.facts, boxes[::-1], reversed_=True),
    ]
    _write(folder / twins.record, json.dumps(records).encode())


def _describe(
    path: str, twin: str, facts: dict[str, Any], boxes: list[Any], *, reversed_: bool
) -> dict[str, Any]:
    split, name, _ = path.split("/")
    about = {"path": path, "split": split, "class": name, "twin": twin, "reversed": reversed_}
    return about | {"motion": facts, "boxes": boxes}


def _write_index(folder: Path, settings: _Settings) -> None:
    clips = [
        clip for twins in _list_twins(settings) for clip in json.loads((folder / twins.record).read_text())
    ]
    about = {"classes": CLASSES, "pairs": PAIRS, "flips": FLIPS, "frames_per_second": FRAMES_PER_SECOND}
    index = asdict(settings) | about | {"clips": sorted(clips, key=lambda clip: clip["path"])}
    _write(folder / INDEX_NAME, json.dumps(index).encode())


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda partial: partial.write_bytes(content), durable=False)
