"""Diving48: 48 competitive dives that differ in takeoff, somersaults, twists and position, not in scene.

The second version corrects the labels of the first and drops clips that were badly cut; its videos are among the
first one's.
"""

import json
from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import PART_NAMES, Part, read_text
from kinemix.data.catalog.official import Facts, OfficialDataset, Row
from kinemix.data.catalog.root_files import RootFiles
from kinemix.errors import DataError

_LAYOUT = """\
ROOT/
  Diving48_V2_train.json                   [{"vid_name": "...", "label": 0, "start_frame": 0, ...}]
  Diving48_V2_test.json                    and, for the first version, Diving48_train.json, ..._test.json
  Diving48_vocab.json                      may be missing
  rgb/                                     or videos/, or frames/
    zBvi-jTs6Tg_00001.mp4                  or a folder of this name with 00001.jpg ...
"""
_FILES = {"v2": r"diving48_v2_{part}\.json", "v1": r"diving48_{part}\.json"}


class Diving48(OfficialDataset):
    """18,404 dives, of which the second version keeps 16,997."""

    name = "diving48"
    aliases = ("diving-48",)
    facts: ClassVar[Facts] = Facts(
        title="Diving48",
        about="competitive dives, 48 classes that the scene does not tell apart, about 5 s a clip",
        sizes={"v2": {"train": 15027, "test": 1970}, "v1": {"train": 16067, "test": 2337}},
        metric="top-1, mean class",
        frame_rate=None,
        sampling="sparse, 16 segments",
        protocol="2 clips of 16 frames, first version of the labels (GSM)",
        licence="none stated",
        url="http://www.svcl.ucsd.edu/projects/resound/dataset.html",
        layout=_LAYOUT,
        paper_names=("Diving48",),
    )

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir() and RootFiles(path).find(r"diving48_(v2_)?train\.json") is not None

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        return [
            row
            for part in ("train", "test")
            if (found := root.find(_FILES[split].format(part=part)))
            for row in _read_file(found, PART_NAMES[part])
        ]


def _read_file(path: Path, part: Part) -> list[Row]:
    try:
        return [
            Row(
                label=int(sample["label"]),
                place=f"{path}, sample {number}",
                part=part,
                names=(sample["vid_name"],),
                # Frames of one competition are alike: the name before the number is the recording.
                group=sample["vid_name"].rpartition("_")[0],
            )
            for number, sample in enumerate(json.loads(read_text(path)), start=1)
        ]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: no list of samples with 'vid_name' and 'label' ({error}): get the file anew"
        ) from error
