"""EPIC-Kitchens-55: what hands do in kitchens, seen from the head; segments of hours of video.

A sample is a segment with a verb, a noun, and their pair, the action. Labels exist for training alone; the
two test lists, S1 (kitchens seen in training) and S2 (others), are scored by a server. There is no official
validation: participants 26 to 31 are held out, as most published work does, so that their kitchens are new.
"""

import csv
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar

from kinemix.data.catalog.official import Facts, OfficialDataset, Row, read_classes
from kinemix.data.catalog.root_files import RootFiles
from kinemix.errors import DataError

_LAYOUT = """\
ROOT/
  annotations/                             or the root itself
    EPIC_train_action_labels.csv           uid, participant, video, timestamps, frames, verb, noun
    EPIC_test_s1_timestamps.csv            S1: seen kitchens, without labels
    EPIC_test_s2_timestamps.csv            S2: unseen kitchens
  videos/train/P01/P01_01.MP4              or any other folders; videos, or frames at 60 a second:
  frames_rgb_flow/rgb/train/P01/P01_01/frame_0000000001.jpg ...
"""
_HELD_OUT = frozenset(f"P{number}" for number in range(26, 32))
_COLUMNS = (
    "uid",
    "participant_id",
    "video_id",
    "start_timestamp",
    "stop_timestamp",
    "start_frame",
    "stop_frame",
)


class EpicKitchens55(OfficialDataset):
    """28,472 labelled segments of 272 videos."""

    name = "epic_kitchens55"
    aliases = ("epic-55", "epic55", "epic-kitchens", "epic")
    suffix = ".MP4"
    facts: ClassVar[Facts] = Facts(
        title="EPIC-Kitchens-55",
        about="actions of hands in kitchens, seen from the head; 125 verbs, 352 nouns, segments of long videos",
        # Published are 28,472 labelled segments; how they divide among participants follows.
        sizes={"participants": {"train": 23191, "val": 5281}},
        metric="top-1, top-5 of verb, noun, action (test server)",
        frame_rate=60,
        sampling="sparse, 16 segments",
        protocol="2 clips of 16 frames (GSM)",
        licence="CC BY-NC 4.0",
        url="https://epic-kitchens.github.io/2018",
        layout=_LAYOUT,
        tasks={"verb": 125, "noun": 352, "action": 2513},
        test_lists={"s1": 8047, "s2": 2929},
        paper_names=("EPIC-Kitchens", "EPIC-Kitchens-55"),
    )

    @classmethod
    def class_names(cls, *, split: str | None = None, task: str | None = None) -> tuple[str, ...]:
        """Verbs and nouns by their numbers; actions are the pairs that training has, by verb and then noun."""
        if task in ("verb", "noun"):
            return read_classes(f"epic_kitchens_{task}s")
        return tuple(f"{_verbs()[verb]} {_nouns()[noun]}" for verb, noun in list_actions())

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(r"epic_train_action_labels\.csv") is not None

    @classmethod
    def many_shot_names(cls, task: str) -> tuple[str, ...]:
        """Verbs and nouns with more than 100 training samples, and the actions that consist of two such."""
        if task != "action":
            return read_classes(f"epic_kitchens_many_shot_{task}s")
        verbs, nouns = (set(cls.many_shot_names(part)) for part in ("verb", "noun"))
        pairs = ((_verbs()[verb], _nouns()[noun]) for verb, noun in list_actions())
        return tuple(f"{verb} {noun}" for verb, noun in pairs if verb in verbs and noun in nouns)

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        """See :meth:`OfficialDataset.read_rows`. Segments of a test list have no labels, but their uid."""
        if split in cls.facts.test_lists:
            found = root.find(rf"epic_test_{split}_timestamps\.csv")
            lines = [] if found is None else _read_lines(found, _COLUMNS)
            unknown = dict.fromkeys(cls.facts.tasks, "")
            return [replace(_make_row(line, place, unknown), part="test") for place, line in lines]
        found = root.find(r"epic_train_action_labels\.csv")
        if found is None:
            return []
        rows = []
        for place, line in _read_lines(found, (*_COLUMNS, "verb_class", "noun_class")):
            try:
                verb, noun = _verbs()[int(line["verb_class"])], _nouns()[int(line["noun_class"])]
            except (ValueError, IndexError) as error:
                raise DataError(
                    f"{place}: no such verb_class or noun_class ({error}): correct the line"
                ) from error
            labels = {"verb": verb, "noun": noun, "action": f"{verb} {noun}"}
            rows.append(_make_row(line, place, labels))
        return rows


@cache
def list_actions() -> tuple[tuple[int, int], ...]:
    """Verb and noun of every action: the pairs that occur in training, in order."""
    return tuple(
        (int(verb), int(noun)) for verb, noun in map(str.split, read_classes("epic_kitchens_actions"))
    )


def _make_row(line: dict[str, str], place: str, labels: dict[str, str]) -> Row:
    """A segment. Frames are numbered from 1 in files; ``stop_frame`` is the first that is not part of it."""
    participant, video = line["participant_id"], line["video_id"]
    try:
        seconds = (_read_time(line["start_timestamp"]), _read_time(line["stop_timestamp"]))
        frames = (int(line["start_frame"]) - 1, int(line["stop_frame"]) - 1)
    except ValueError as error:
        raise DataError(f"{place}: no time or frame ({error}): correct the line") from error
    return Row(
        label=labels["action"],
        place=place,
        part="val" if participant in _HELD_OUT else "train",
        sources=(f"{participant}/{video}",),
        seconds=seconds,
        frames=(max(0, frames[0]), max(1, frames[1])),
        group=participant,
        id=line["uid"],
        labels=labels,
    )


def _read_lines(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := set(columns).difference(reader.fieldnames or ()):
            raise DataError(f"{path}: no column {min(missing)!r}: get the file anew")
        for line in reader:
            yield f"{path}, line {reader.line_num}", line


def _read_time(written: str) -> float:
    """Seconds of ``hours:minutes:seconds``."""
    hours, minutes, seconds = written.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


@cache
def _verbs() -> tuple[str, ...]:
    return read_classes("epic_kitchens_verbs")


@cache
def _nouns() -> tuple[str, ...]:
    return read_classes("epic_kitchens_nouns")
