"""MMAction2's TSN and TSM: a ResNet whose convolutions and norms stand in pairs (``conv1.conv``, ``conv1.bn``)."""

import re

from kinemix.config import Protocol
from kinemix.errors import CheckpointError
from kinemix.models.foreign.files import ForeignFile
from kinemix.models.foreign.layout import Finding, describe_shift, find_resnet

_RENAMED = (
    (re.compile(r"\bconv(\d)\.conv\.(?:net\.)?"), r"conv\1."),
    (re.compile(r"\bconv(\d)\.bn\."), r"bn\1."),
    (re.compile(r"\bdownsample\.conv\."), "downsample.0."),
    (re.compile(r"\bdownsample\.bn\."), "downsample.1."),
    (re.compile(r"^(layer\d+\.\d+)\.net\."), r"\1."),
)
_SHIFTED = re.compile(r"backbone\.(layer\d+\.\d+(?:\.conv1)?)(?:\.conv)?\.net\..+")


def examine(file: ForeignFile) -> Finding | None:
    """What a file of this layout proves; ``None`` for another layout.

    Raises:
        CheckpointError: one of MMAction2's other networks.
    """
    if "cls_head.fc_cls.weight" not in file.state or "backbone.conv1.conv.weight" not in file.state:
        return None
    state = {_rename(name.removeprefix("backbone.")): tensor for name, tensor in file.state.items()}
    backbone = find_resnet(state)
    if backbone is None or state["conv1.weight"].ndim != 4 or state["conv1.weight"].shape[1] != 3:
        raise CheckpointError(
            f"{file.path}: is a network of MMAction2, but neither TSN nor TSM on a ResNet that sees colour frames: "
            "kinemix reads these two"
        )
    hosts = [found[1] for name in file.state if (found := _SHIFTED.fullmatch(name))]
    return Finding(
        project="MMAction2",
        state=state,
        model=f"{'tsm' if hosts else 'tsn'}_{backbone}",
        module="tsm" if hosts else None,
        options=describe_shift(hosts, state) if hosts else {},
        classifier="cls_head.fc_cls",
        protocol=Protocol(
            sampling="sparse", num_clips=1, num_crops=1, crop_fraction=0.875, average="probabilities"
        ),
        assumptions=("fold is 8, MMAction2's own: the file does not tell how many channels were shifted",)
        if hosts
        else (),
    )


def _rename(name: str) -> str:
    for pattern, ours in _RENAMED:
        name = pattern.sub(ours, name)
    return name
