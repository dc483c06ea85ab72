"""Moments in Time: three seconds of anything that moves; 339 classes in its first version, 305 in its second."""

import csv
from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import PART_NAMES, read_text
from kinemix.data.catalog.official import Facts, OfficialDataset, Row, read_classes
from kinemix.data.catalog.root_files import RootFiles
from kinemix.errors import DataError

_LAYOUT = """\
ROOT/
  moments_categories.txt                   clapping,0
  trainingSet.csv, validationSet.csv       clapping/yt-0.mp4,clapping,3,1
  training/                                or Moments_in_Time_Raw/training/, or frames
    clapping/yt-0.mp4
  validation/
    clapping/...
"""
_FILES = {"train": r"training_?set\.csv", "val": r"validation_?set\.csv"}


class Moments(OfficialDataset):
    """About a million clips of people, animals and things."""

    name = "moments"
    aliases = ("moments-in-time", "mit")
    facts: ClassVar[Facts] = Facts(
        title="Moments in Time",
        about="events of people, animals and things; 339 classes (v1) or 305 (v2), 3 s a clip",
        sizes={"v1": {"train": 802264, "val": 33900}, "v2": {"train": 727305, "val": 30500}},
        metric="top-1, top-5 on val",
        frame_rate=None,
        sampling="dense",
        frame_stride=3,
        protocol="10 clips x 3 crops of 256, 16 frames at stride 3 (MTNet)",
        licence="research, by registration",
        url="http://moments.csail.mit.edu/",
        layout=_LAYOUT,
        paper_names=("Moments in Time",),
    )

    @classmethod
    def class_names(cls, *, split: str | None = None, task: str | None = None) -> tuple[str, ...]:
        return read_classes(f"moments_{split or 'v1'}")

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(r"moments_categories\.txt") is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        """See :meth:`OfficialDataset.read_rows`. The number of categories tells which version the files are."""
        categories = root.find(r"moments_categories\.txt", r"category_moments.*\.txt")
        if categories is not None:
            count = sum(bool(line.strip()) for line in read_text(categories).splitlines())
            if count in (339, 305) and split != ("v1" if count == 339 else "v2"):
                return []
        return [
            row
            for part, pattern in _FILES.items()
            if (found := root.find(pattern))
            for row in _read_file(found, part)
        ]


def _read_file(path: Path, part: str) -> list[Row]:
    """``class/name.mp4,class,...`` lines without header; votes follow."""
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for fields in reader:
            place = f"{path}, line {reader.line_num}"
            if not fields:
                continue
            if len(fields) < 2:
                raise DataError(f"{place}: {fields[0][:80]!r} is not 'class/name.mp4,class'")
            name = fields[0].removesuffix(".mp4")
            rows.append(Row(label=fields[1], place=place, part=PART_NAMES[part], names=(name,)))
    return rows
