"""HACS Clips: two seconds out of YouTube videos, each looked at by people; 200 classes, those of ActivityNet.

A line of the annotations says that a class is seen in a clip, or that it is not: recognition learns from the
former. The videos are kept whole, and a clip is a segment of one; clips that were cut out are found too.
"""

import csv
from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import PART_NAMES
from kinemix.data.catalog.official import Facts, OfficialDataset, Row
from kinemix.data.catalog.root_files import RootFiles
from kinemix.errors import DataError

_LAYOUT = """\
ROOT/
  HACS_v1.1/HACS_clips_v1.1.csv            classname,youtube_id,subset,start,end,label   (or v1.1.1)
  training/                                or any other folders, or none
    Archery/
      v_a2X2hz1G6i8.mp4                    or a2X2hz1G6i8.mp4; whole videos, or cut clips:
      a2X2hz1G6i8_15.5_17.5.mp4            or v_..., or with times as 000015_000017
"""
_COLUMNS = ("classname", "youtube_id", "subset", "start", "end", "label")

_SPELLINGS = {
    "mopping floor": "Mooping floor",
    "platform diving": "Plataform diving",
    "polishing furniture": "Polishing forniture",
}
"""ActivityNet's misspellings are its class names; some copies of the annotations mend them."""


class Hacs(OfficialDataset):
    """1,550,042 annotated clips of two seconds, from 504,723 videos."""

    name = "hacs"
    aliases = ("hacs-clips",)
    facts: ClassVar[Facts] = Facts(
        title="HACS Clips",
        about="human actions on YouTube, 200 classes, 2 s a clip",
        # Published are 1,509,497 training, 20,249 validation and 20,296 test clips, together with those that
        # do not show their action; how many do is not.
        sizes={"official": {}},
        metric="top-1, top-5 on val",
        frame_rate=None,
        sampling="dense",
        frame_stride=2,
        protocol="10 clips x 3 crops of 256, 16 frames at stride 2 (MTNet)",
        licence="lists for research; videos are YouTube's",
        url="http://hacs.csail.mit.edu/ and https://github.com/hangzhaomit/HACS-dataset",
        layout=_LAYOUT,
        paper_names=("HACS",),
    )

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(r"hacs_clips_v1\.1.*\.csv") is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        found = root.find(r"hacs_clips_v1\.1.*\.csv", r"hacs_clips.*\.csv")
        return _read_clips(found) if found else []


def _read_clips(path: Path) -> list[Row]:
    """The positive clips; those of the test subset have no labels and are left out."""
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := set(_COLUMNS).difference(reader.fieldnames or ()):
            raise DataError(f"{path}: no column {min(missing)!r}: the columns are {', '.join(_COLUMNS)}")
        for line in reader:
            place = f"{path}, line {reader.line_num}"
            if line["label"] != "1" or not line["classname"]:
                continue
            if line["subset"].lower() not in PART_NAMES:
                raise DataError(f"{place}: unknown subset {line['subset']!r}: it is training or validation")
            try:
                seconds = (float(line["start"]), float(line["end"]))
            except ValueError as error:
                raise DataError(
                    f"{place}: start and end are no seconds ({error}): correct the line"
                ) from error
            rows.append(_make_row(line, seconds, place))
    return rows


def _make_row(line: dict[str, str], seconds: tuple[float, float], place: str) -> Row:
    video = line["youtube_id"]
    start, stop = seconds
    times = (f"{start:g}_{stop:g}", f"{start:.1f}_{stop:.1f}", f"{int(start):06d}_{int(stop):06d}")
    label = line["classname"]
    return Row(
        label=_SPELLINGS.get(label.lower(), label),
        place=place,
        part=PART_NAMES[line["subset"].lower()],
        names=tuple(f"{prefix}{video}_{time}" for time in dict.fromkeys(times) for prefix in ("", "v_")),
        sources=(f"v_{video}", video),
        seconds=seconds,
    )
