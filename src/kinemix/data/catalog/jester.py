"""Jester: 27 hand gestures in front of a webcam, as JPEG folders.

Published checkpoints of the papers built here number the classes alphabetically; the label file that comes
with the data begins with ``Swiping Left`` instead, and so do MMAction's checkpoints (give
``data.class_file`` for those).
"""

import re
from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import PART_NAMES, read_class_file, read_text
from kinemix.data.catalog.official import Facts, OfficialDataset, Row
from kinemix.data.catalog.root_files import RootFiles, simplify_name
from kinemix.data.catalog.something_something import read_semicolons
from kinemix.errors import DataError

_LAYOUT = """\
ROOT/
  jester-v1-labels.csv                     one class a line
  jester-v1-train.csv                      id;class
  jester-v1-validation.csv
  20bn-jester-v1/                          or frames/, rawframes/, videos/
    1/00001.jpg ...
or, instead of the CSV files,
  classInd.txt                             1 Doing_other_things
  trainlist01.txt, vallist01.txt           34870 2
"""


class Jester(OfficialDataset):
    """148,092 clips of three seconds."""

    name = "jester"
    aliases = ("jester-v1", "20bn-jester")
    suffix = ""
    facts: ClassVar[Facts] = Facts(
        title="Jester",
        about="hand gestures in front of a webcam, 27 classes, about 36 frames a clip",
        sizes={"official": {"train": 118562, "val": 14787, "test": 14743}},
        metric="top-1, top-5 on val",
        frame_rate=12,
        sampling="sparse, 8 or 16 segments",
        protocol="1 clip, centre crop 224; 2 clips at full resolution (MixTConv Table 1)",
        licence="research, by registration",
        url="https://www.qualcomm.com/developer/software/jester-dataset",
        layout=_LAYOUT,
        flip_pairs=(
            ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
            ("Swiping Left", "Swiping Right"),
            ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
        ),
        paper_names=("Jester",),
    )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_dir():
            return False
        root = RootFiles(path)
        return root.find(r"jester-v1-train\.csv") is not None or _find_class_file(root) is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        rows = []
        class_file = _find_class_file(root)
        for part in ("train", "validation"):
            if found := root.find(rf"jester(-v1)?-{part}\.csv"):
                rows += read_semicolons(found, PART_NAMES[part])
            elif class_file and (found := root.find(rf"{part[:5] if part == 'train' else 'val'}list01\.txt")):
                names = [simplify_name(name) for name in read_class_file(str(class_file))]
                rows += _read_numbers(found, part, names)
        return rows


def _find_class_file(root: RootFiles) -> Path | None:
    """``classInd.txt`` is UCF-101's name for its class file too, so it must hold a gesture."""
    found = root.find(r"classind\.txt")
    return found if found and re.search(r"Drumming.Fingers", read_text(found)) else None


def _read_numbers(path: Path, part: str, names: list[str]) -> list[Row]:
    """``id number`` lines, numbers from 1."""
    rows = []
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        video, _, number = line.strip().partition(" ")
        place = f"{path}, line {line_number}"
        if not number.isdecimal() or not 1 <= int(number) <= len(names):
            raise DataError(f"{place}: {line[:80]!r} is not 'id class', the class from 1 to {len(names)}")
        rows.append(Row(label=names[int(number) - 1], place=place, part=PART_NAMES[part], names=(video,)))
    return rows
