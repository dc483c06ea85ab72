"""State dictionaries of plain networks: torchvision's video networks, and image networks of any library.

A video network is found by comparing names and shapes. An image network says nothing of time: what it shall
become is the user's choice.
"""

import torch

from kinemix.config import Protocol
from kinemix.models.backbones import create_backbone, is_clip_network, list_backbones
from kinemix.models.foreign.files import ForeignFile
from kinemix.models.foreign.layout import Finding, counts_batches, find_resnet
from kinemix.temporal import shelf

_VIDEO = Protocol(sampling="dense", frame_stride=2, num_clips=5, num_crops=1, crop_fraction=0.875)
"""torchvision's test: clips at 15 frames a second, which is every second frame of most videos."""


def examine(file: ForeignFile) -> Finding:
    """What a state dictionary proves that has no other layout."""
    if any(tensor.ndim == 5 for tensor in file.state.values()):
        matches = _find_clip_networks(file)
        return Finding(
            project="torchvision" if matches else "unknown project",
            state=dict(file.state),
            model=matches[0] if len(matches) == 1 else None,
            candidates=matches,
            open_question="several video networks have these tensors"
            if matches
            else "its names and shapes are no video network's that kinemix can tell",
            protocol=_VIDEO,
            assumptions=("frame_stride is 2: torchvision shows 15 frames a second",),
        )
    resnet = find_resnet(file.state)
    return Finding(
        project="torchvision or timm" if resnet else "unknown project",
        state=dict(file.state),
        candidates=tuple(f"{name}_{resnet}" for name in shelf.names()) if resnet else (),
        open_question=f"the file is an image network{f' ({resnet})' if resnet else ''}, which says nothing of time",
        protocol=Protocol(sampling="sparse", num_clips=1, num_crops=1, crop_fraction=0.875),
    )


def _find_clip_networks(file: ForeignFile) -> tuple[str, ...]:
    """torchvision's video networks with the file's names, and its shapes in all but one layer's tensors."""
    names = {name for name in file.state if not counts_batches(name)}
    found: list[str] = []
    for candidate in filter(is_clip_network, list_backbones("torchvision.*")):
        with torch.device("meta"):
            network = create_backbone(candidate, num_classes=1).network
        wanted = {name: t.shape for name, t in network.state_dict().items() if not counts_batches(name)}
        if wanted.keys() == names:
            other = {name.rpartition(".")[0] for name in names if file.state[name].shape != wanted[name]}
            found += [candidate] if len(other) <= 1 else []
    return tuple(found)
