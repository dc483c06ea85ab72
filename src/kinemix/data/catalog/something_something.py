"""Something-Something v1 and v2: 174 kinds of handling an object, told apart by their order in time.

v1 is JPEG folders and semicolon CSV, v2 WebM files and JSON. The classes are the same; published checkpoints
number them alphabetically.
"""

import json
import re
from pathlib import Path
from typing import Any, ClassVar

from kinemix.data.annotations import PART_NAMES, Part, read_text
from kinemix.data.catalog.official import Facts, OfficialDataset, Row, read_classes
from kinemix.data.catalog.root_files import RootFiles
from kinemix.errors import DataError

FLIP_PAIRS = (
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
)
"""Numbers 86 and 87, 93 and 94, 166 and 167, counted from 0."""

_LICENCE = "research, by registration"
_V1_LAYOUT = """\
ROOT/
  something-something-v1-labels.csv        one class a line
  something-something-v1-train.csv         id;class
  something-something-v1-validation.csv
  20bn-something-something-v1/             or frames/, rawframes/
    1/00001.jpg ...                        or img_00001.jpg
"""
_V2_LAYOUT = """\
ROOT/
  something-something-v2-labels.json       or labels/labels.json
  something-something-v2-train.json        or labels/train.json, or ...-train-processed.txt
  something-something-v2-validation.json   or labels/validation.json
  20bn-something-something-v2/             or videos/, or frames/1/000001.jpg
    1.webm
"""


class SomethingSomethingV1(OfficialDataset):
    """108,499 clips of about four seconds."""

    name = "something_something_v1"
    aliases = ("ssv1", "sthv1", "something-v1", "something-something-v1")
    suffix = ""
    facts: ClassVar[Facts] = Facts(
        title="Something-Something v1",
        about="hands that do something with something, 174 classes, about 50 frames a clip",
        sizes={"official": {"train": 86017, "val": 11522, "test": 10960}},
        metric="top-1, top-5 on val",
        frame_rate=12,
        sampling="sparse, 8 or 16 segments",
        protocol="1 clip, centre crop 224 (MixTConv, GSM); 2 clips at full resolution (MixTConv Table 1)",
        licence=_LICENCE,
        url="https://www.qualcomm.com/developer/software/something-something-v-1-dataset",
        layout=_V1_LAYOUT,
        flip_pairs=FLIP_PAIRS,
        paper_names=("Something-Something v1",),
    )

    @classmethod
    def class_names(cls, *, split: str | None = None, task: str | None = None) -> tuple[str, ...]:
        return read_classes("something_something")

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(*_list_v1_names("train")) is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        rows = []
        for part in ("train", "validation"):
            if found := root.find(*_list_v1_names(part)):
                rows += read_semicolons(found, PART_NAMES[part])
        return rows


class SomethingSomethingV2(OfficialDataset):
    """220,847 clips of about four seconds."""

    name = "something_something_v2"
    aliases = ("ssv2", "sthv2", "something-v2", "something-something-v2")
    suffix = ".webm"
    facts: ClassVar[Facts] = Facts(
        title="Something-Something v2",
        about="hands that do something with something, 174 classes, about 50 frames a clip",
        sizes={"official": {"train": 168913, "val": 24777, "test": 27157}},
        metric="top-1, top-5 on val",
        frame_rate=12,
        sampling="sparse, 8 or 16 segments",
        protocol="1 clip, centre crop 224; 2 clips at full resolution (MixTConv Table 1)",
        licence=_LICENCE,
        url="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        layout=_V2_LAYOUT,
        flip_pairs=FLIP_PAIRS,
        paper_names=("Something-Something v2",),
    )

    @classmethod
    def class_names(cls, *, split: str | None = None, task: str | None = None) -> tuple[str, ...]:
        return read_classes("something_something")

    @staticmethod
    def recognises(path: Path) -> bool:
        if not path.is_dir():
            return False
        root = RootFiles(path)
        found = root.find(r"something-something-v2-train.*\.(json|txt)", r"validation\.json")
        if found is None or found.name != "validation.json":
            return found is not None
        with found.open(encoding="utf-8", errors="replace") as file:  # a name that others use too
            return '"template"' in file.read(1000)

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        rows = []
        for part in ("train", "validation"):
            if found := root.find(rf"something-something-v2-{part}\.json", rf"{part}\.json"):
                rows += _read_json(found, PART_NAMES[part])
            elif found := root.find(rf"something-something-v2-{part}-processed\.txt"):
                rows += _read_processed(found, PART_NAMES[part])
        return rows


def read_semicolons(path: Path, part: Part) -> list[Row]:
    """``id;class`` lines, as the CSV files of v1 and of Jester are."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        video, semicolon, label = line.partition(";")
        if line.strip():
            if not semicolon:
                raise DataError(f"{path}, line {number}: {line[:80]!r} is not 'id;class'")
            rows.append(
                Row(label=label.strip(), place=f"{path}, line {number}", part=part, names=(video.strip(),))
            )
    return rows


def _list_v1_names(part: str) -> tuple[str, ...]:
    return (rf"something-something-v1-{part}\.csv", rf"sthv1[-_]{part}\.csv")


def _read_json(path: Path, part: Part) -> list[Row]:
    """A list of objects; the class is the template without the brackets around its objects."""
    try:
        samples: list[dict[str, Any]] = json.loads(read_text(path))
        return [
            Row(
                label=re.sub(r"[\[\]]", "", sample["template"]),
                place=f"{path}, sample {number}",
                part=part,
                names=(str(sample["id"]),),
            )
            for number, sample in enumerate(samples, start=1)
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no list of samples with 'id' and 'template' ({error}): get the file anew"
        ) from error


def _read_processed(path: Path, part: Part) -> list[Row]:
    """``id first_frame num_frames class`` lines, the class as its number from 0."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 4 or not all(field.isdecimal() for field in fields):
            raise DataError(f"{path}, line {number}: {line[:80]!r} is not 'id first_frame num_frames class'")
        place = f"{path}, line {number}"
        rows.append(
            Row(label=int(fields[3]), place=place, part=part, names=(fields[0],), num_frames=int(fields[2]))
        )
    return rows
