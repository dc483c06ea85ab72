"""X3D of PyTorchVideo and of SlowFast; the names themselves are the network's business (``networks/x3d``)."""

import re

from kinemix.config import Protocol
from kinemix.models.foreign.files import ForeignFile
from kinemix.models.foreign.layout import Finding

_STEMS = {"PyTorchVideo": "blocks.0.conv.conv_t.weight", "SlowFast": "s1.pathway0_stem.conv_xy.weight"}
_FIRST_STAGE = re.compile(r"(?:blocks\.1\.res_blocks\.|s2\.pathway0_res)(\d+)\..+")
_CLIPS = {"x3d_s": (13, 6), "x3d_m": (16, 5), "x3d_l": (16, 5)}
"""Frames and their distance, as published."""


def examine(file: ForeignFile) -> Finding | None:
    """What a file of this layout proves; ``None`` for another layout."""
    project = next((name for name, stem in _STEMS.items() if stem in file.state), None)
    if project is None:
        return None
    blocks = {found[1] for name in file.state if (found := _FIRST_STAGE.fullmatch(name))}
    large = len(blocks) > 3
    return Finding(
        project=project,
        state=dict(file.state),
        model="x3d_l" if large else None,
        candidates=("x3d_s", "x3d_m"),
        open_question="X3D-S and X3D-M have the same tensors and differ in the clips they were trained on",
        protocol=Protocol(sampling="dense", num_clips=10, num_crops=3, crop_fraction=0.875),
        clips=_CLIPS,
    )
