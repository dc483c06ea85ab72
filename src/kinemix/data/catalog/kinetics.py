"""Kinetics-400, -600, -700 and Mini-Kinetics-200: ten seconds of YouTube videos.

Everybody has them under other names: ``ID.mp4`` or ``ID_000010_000020.mp4``, flat, by class (with blanks or
underscores) or by part. And nobody has all of them: videos vanish, which is counted and not an error.
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import PART_NAMES, Part, read_text
from kinemix.data.catalog.official import Facts, OfficialDataset, Row
from kinemix.data.catalog.root_files import RootFiles
from kinemix.errors import DataError

_LICENCE = "lists CC BY 4.0; videos are YouTube's"
_URL = "https://github.com/cvdfoundation/kinetics-dataset"


def _draw_layout(years: str) -> str:
    return f"""\
ROOT/
  kinetics-{years}_train.csv                  label,youtube_id,time_start,time_end,split
  kinetics-{years}_val.csv                    or train.csv, val.csv, test.csv, or annotations/...
  train/                                   or any other folders, or none
    air_drumming/                          or 'air drumming', or no class folders
      -1IlTIWPNs4_000044_000054.mp4        or -1IlTIWPNs4.mp4
without CSV files the class folders and the names of the folders above them tell class and part
"""


class _Kinetics(OfficialDataset):
    """What the three have in common: their files."""

    number: ClassVar[str]

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(_list_names(cls.number, "train")[0]) is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        return [row for part in ("train", "val", "test") for row in read_annotations(root, cls.number, part)]


class Kinetics400(_Kinetics):
    """400 classes; at least 400 clips each."""

    name = "kinetics400"
    number = "400"
    aliases = ("k400", "kinetics")
    facts: ClassVar[Facts] = Facts(
        title="Kinetics-400",
        about="human actions on YouTube, 400 classes, 10 s a clip",
        sizes={"official": {"train": 246534, "val": 19906}},
        metric="top-1, top-5 on val",
        frame_rate=None,
        sampling="dense",
        frame_stride=5,
        protocol="10 clips x 3 crops of 256, 16 frames at stride 5 (MTNet)",
        licence=_LICENCE,
        url=_URL,
        layout=_draw_layout("400"),
        paper_names=("Kinetics-400",),
    )


class Kinetics600(_Kinetics):
    """600 classes; at least 600 clips each."""

    name = "kinetics600"
    number = "600"
    aliases = ("k600",)
    facts: ClassVar[Facts] = Facts(
        title="Kinetics-600",
        about="human actions on YouTube, 600 classes, 10 s a clip",
        sizes={"official": {"train": 392622, "val": 30000}},
        metric="top-1, top-5 on val",
        frame_rate=None,
        sampling="dense",
        frame_stride=8,
        protocol="10 clips x 3 crops of 224, 8 of 64 consecutive frames (CTM)",
        licence=_LICENCE,
        url=_URL,
        layout=_draw_layout("600"),
        paper_names=("Kinetics-600",),
    )


class Kinetics700(_Kinetics):
    """700 classes; the release of 2019."""

    name = "kinetics700"
    number = "700"
    aliases = ("k700",)
    facts: ClassVar[Facts] = Facts(
        title="Kinetics-700",
        about="human actions on YouTube, 700 classes, 10 s a clip",
        sizes={"official": {"train": 545317, "val": 35000}},
        metric="top-1, top-5 on val",
        frame_rate=None,
        sampling="dense",
        frame_stride=5,
        protocol="10 clips x 3 crops of 256, 16 frames at stride 5 (MTNet)",
        licence=_LICENCE,
        url=_URL,
        layout=_draw_layout("700"),
        paper_names=("Kinetics-700",),
    )


class MiniKinetics200(OfficialDataset):
    """400 training and 25 validation clips of each of 200 classes of Kinetics-400."""

    name = "mini_kinetics200"
    aliases = ("mini-kinetics", "mini-kinetics-200", "k200", "minik200")
    facts: ClassVar[Facts] = Facts(
        title="Mini-Kinetics-200",
        about="a part of Kinetics-400 that trains faster: 200 classes, 10 s a clip",
        sizes={"official": {"train": 80000, "val": 5000}},
        metric="top-1 on val",
        frame_rate=None,
        sampling="dense",
        frame_stride=8,
        protocol="10 clips x 3 crops of 224, 8 of 64 consecutive frames (CTM)",
        licence=_LICENCE,
        url="https://github.com/s9xie/Mini-Kinetics-200, with the videos of Kinetics-400",
        layout="""\
ROOT/
  train_ytid_list.txt, val_ytid_list.txt   one YouTube id a line
  kinetics-400_train.csv, kinetics-400_val.csv, unless the videos stand in class folders
  ...                                      the videos of Kinetics-400, in any of its layouts
""",
        paper_names=("Mini-Kinetics-200",),
    )

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(r"train_ytid_list\.txt") is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        annotated = {
            row.names[-1]: row for part in ("train", "val") for row in read_annotations(root, "400", part)
        }
        rows = []
        for part in ("train", "val"):
            found = root.find(rf"{part}_ytid_list\.txt")
            for place, video in _list_ids(found) if found else ():
                if video in annotated:
                    row = annotated[video]
                    rows.append(Row(label=row.label, place=place, part=PART_NAMES[part], names=row.names))
                elif (row_found := _find_by_id(root, video)) is not None:
                    name, label = row_found
                    rows.append(Row(label=label, place=place, part=PART_NAMES[part], names=(name,)))
        if not rows and (listed := cls._count_ids(root)):
            raise DataError(
                f"{root.path}: the lists name {listed:,} videos by their ids alone: put kinetics-400_train.csv and "
                "kinetics-400_val.csv beside them, which tell their classes, or the videos into class folders"
            )
        return rows

    @classmethod
    def explain_rows(cls, root: RootFiles, rows: Sequence[Row]) -> tuple[str, ...]:
        unknown = cls._count_ids(root) - len(rows)
        if unknown <= 0:
            return ()
        cure = "put kinetics-400_train.csv and kinetics-400_val.csv beside the lists"
        return (
            f"{root.path}: of {unknown:,} listed videos nothing tells the class, so they are left out, and not "
            f"counted as missing: {cure}",
        )

    @staticmethod
    def _count_ids(root: RootFiles) -> int:
        found = [root.find(rf"{part}_ytid_list\.txt") for part in ("train", "val")]
        return sum(sum(1 for _ in _list_ids(path)) for path in found if path)


def read_annotations(root: RootFiles, number: str, part: str) -> list[Row]:
    """The rows of one part from CSV or JSON; none where there is no such file."""
    found = root.find(*_list_names(number, part))
    if found is None:
        return []
    if found.suffix == ".json":
        return _read_json(found, PART_NAMES[part])
    with found.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = {"youtube_id", "label"}
        if not columns <= set(reader.fieldnames or ()):
            return []  # another file of that name, such as a list of paths and numbers
        return [
            Row(
                label=row["label"].strip('"'),
                place=f"{found}, line {reader.line_num}",
                part=PART_NAMES[part],
                names=_name_clip(row["youtube_id"], row.get("time_start", ""), row.get("time_end", "")),
            )
            for row in reader
            if row["label"]
        ]


def _list_names(number: str, part: str) -> tuple[str, ...]:
    """Patterns of file names, those that name the dataset first."""
    parts = {"val": "val|validate|validation"}.get(part, part)
    return (
        rf"kinetics[-_]?{number}[-_]({parts})\.(csv|json)",
        rf"k{number}[-_]({parts})\.(csv|json)",
        rf"(kinetics_)?({parts})\.(csv|json)",
    )


def _name_clip(video: str, start: str, stop: str) -> tuple[str, ...]:
    """What people call a clip; the bare id is the last."""
    try:
        times = (int(float(start)), int(float(stop)))
    except ValueError:
        return (video,)
    return (f"{video}_{times[0]:06d}_{times[1]:06d}", f"{video}_{times[0]}_{times[1]}", video)


def _read_json(path: Path, part: Part) -> list[Row]:
    """The official JSON: an object by YouTube id."""
    try:
        return [
            Row(
                label=facts["annotations"]["label"],
                place=f"{path}, {video}",
                part=part,
                names=_name_clip(video, *map(str, facts["annotations"]["segment"])),
            )
            for video, facts in json.loads(read_text(path)).items()
            if facts["annotations"].get("label")
        ]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no object of videos with 'annotations' ({error}): get the file anew"
        ) from error


def _list_ids(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield f"{path}, line {number}", re.split(r"[\s,]", line.strip())[0]


def _find_by_id(root: RootFiles, video: str) -> tuple[str, str] | None:
    """Name and class of a video that stands in a class folder."""
    for path in root.by_youtube_id.get(video, ()):
        if (folder := root.find_class(path)) is not None:
            return Path(path).stem, folder
    return None
