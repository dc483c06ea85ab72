"""HMDB51: 51 actions from films and YouTube, three splits of 70 training and 30 test clips a class."""

import re
from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import Part, read_text
from kinemix.data.catalog.official import Facts, OfficialDataset, Row
from kinemix.data.catalog.root_files import RootFiles
from kinemix.errors import DataError

_LAYOUT = """\
ROOT/
  testTrainMulti_7030_splits/              or splits/, or annotations/
    brush_hair_test_split1.txt ...         April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1
  videos/                                  or hmdb51_org/, or frames/
    brush_hair/
      April_09_brush_hair_u_nm_np1_ba_goo_0.avi
"""
_PARTS: dict[str, Part] = {"1": "train", "2": "test"}
"""0 is in neither."""


class Hmdb51(OfficialDataset):
    """6,766 clips."""

    name = "hmdb51"
    aliases = ("hmdb-51", "hmdb")
    suffix = ".avi"
    facts: ClassVar[Facts] = Facts(
        title="HMDB51",
        about="human motions from films and YouTube, 51 classes, height 240",
        sizes={split: {"train": 3570, "test": 1530} for split in ("1", "2", "3")},
        metric="top-1, mean of 3 splits",
        frame_rate=30,
        sampling="dense",
        frame_stride=8,
        protocol="10 clips x 3 crops of 224, 8 of 64 consecutive frames (CTM)",
        licence="CC BY 4.0",
        url="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
        layout=_LAYOUT,
        paper_names=("HMDB51",),
    )

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(r"brush_hair_test_split1\.txt") is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        return [
            row
            for path in root.find_all(rf".+_test_split{split}\.txt")
            for row in _read_file(path, path.name.rpartition("_test_split")[0])
        ]


def _read_file(path: Path, label: str) -> list[Row]:
    """``name.avi 1`` lines of one class; the label is the file's name."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(r"(.+)\.avi\s+([012])", line.strip())
        if found is None:
            raise DataError(f"{path}, line {number}: {line[:80]!r} is not 'name.avi 0', 1 or 2")
        if part := _PARTS.get(found[2]):
            names = (f"{label}/{found[1]}",)
            rows.append(Row(label=label, place=f"{path}, line {number}", part=part, names=names))
    return rows
