"""UCF-101: 101 actions; 25 groups a class, of which each of three splits holds seven out.

The splits follow from the numbers of the groups (1-7, 8-14, 15-21), so the split files need not be there.
"""

import re
from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import PART_NAMES, read_text
from kinemix.data.catalog.official import Facts, OfficialDataset, Row
from kinemix.data.catalog.root_files import RootFiles, simplify_name
from kinemix.errors import DataError

_LAYOUT = """\
ROOT/
  ucfTrainTestlist/                        may be missing: the groups tell the splits
    classInd.txt                           1 ApplyEyeMakeup
    trainlist01.txt ... trainlist03.txt    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    testlist01.txt ... testlist03.txt      ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
  UCF-101/                                 or videos/, or frames/
    ApplyEyeMakeup/
      v_ApplyEyeMakeup_g01_c01.avi         or a folder of this name with img_00001.jpg ...
"""
_NAME = re.compile(r"v_([A-Za-z]+)_g(\d\d)_c\d\d")
_GROUPS_HELD_OUT = 7


class Ucf101(OfficialDataset):
    """13,320 clips from YouTube."""

    name = "ucf101"
    aliases = ("ucf-101", "ucf")
    suffix = ".avi"
    facts: ClassVar[Facts] = Facts(
        title="UCF-101",
        about="sports and daily actions from YouTube, 101 classes, 320 x 240",
        sizes={
            "1": {"train": 9537, "test": 3783},
            "2": {"train": 9586, "test": 3734},
            "3": {"train": 9624, "test": 3696},
        },
        metric="top-1, mean of 3 splits",
        frame_rate=25,
        sampling="dense",
        frame_stride=4,
        protocol="10 clips x 3 crops; 16 frames at stride 4, 256 (MTNet), or 8 of 64 frames, 224 (CTM)",
        licence="none stated",
        url="https://www.crcv.ucf.edu/data/UCF101.php",
        layout=_LAYOUT,
        paper_names=("UCF-101",),
    )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_dir():
            return False
        found = RootFiles(path).find(r"trainlist01\.txt")
        return found is not None and "_g08_c01" in read_text(found)

    @classmethod
    def read_rows(cls, root: RootFiles, *, split: str) -> list[Row]:
        rows = []
        for part in ("train", "test"):
            found = root.find(rf"{part}list0{split}\.txt")
            if found is None:
                return _read_groups(root, int(split), cls.class_names())
            for number, line in enumerate(read_text(found).splitlines(), start=1):
                if line.strip():
                    rows.append(_read_line(line, part, f"{found}, line {number}"))
        return rows


def _read_line(line: str, part: str, place: str) -> Row:
    """``Class/v_Class_g01_c01.avi``, with the class's number behind it in training lists."""
    name = re.sub(r"\.(avi|mp4)$", "", line.split()[0])
    label, slash, video = name.rpartition("/")
    found = _NAME.fullmatch(video)
    if not slash or found is None:
        raise DataError(f"{place}: {line[:80]!r} is not 'Class/v_Class_g01_c01.avi'")
    return Row(label=label, place=place, part=PART_NAMES[part], names=(name,), group=f"g{found[2]}")


def _read_groups(root: RootFiles, split: int, class_names: tuple[str, ...]) -> list[Row]:
    """The split without its files: groups 1-7 are held out by the first, 8-14 by the second, 15-21 by the third."""
    held = range(_GROUPS_HELD_OUT * (split - 1) + 1, _GROUPS_HELD_OUT * split + 1)
    known = {simplify_name(name): name for name in class_names}
    rows = []
    for video, paths in sorted(root.library.items()):
        found = _NAME.fullmatch(video)
        if found and (label := known.get(simplify_name(found[1]))):
            part = PART_NAMES["test" if int(found[2]) in held else "train"]
            rows.append(Row(label=label, place=paths[0], part=part, names=(video,), group=f"g{found[2]}"))
    return rows
