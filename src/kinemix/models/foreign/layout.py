"""What the layout of a file proves about the network in it, in one record that every layout fills in."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kinemix.config import Protocol
from kinemix.temporal.base import Insertion

_STATISTICS = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a file says for certain, and what it leaves open.

    Attributes:
        project: whose layout it is, in words.
        state: the file's tensors under the names that the backbone's publisher gave them, the temporal
            modules' as ``<host>.temporal.<name>``. Tensors are renamed and reshaped, never copied.
        model: the network's name, if names and shapes leave no other.
        module: the temporal module that they prove, if any.
        candidates: names among which the user must choose where ``model`` is ``None``.
        open_question: why that is so.
        options: of :func:`kinemix.create_model`, as far as they are proved.
        classifier: path of the layer that gives the logits, in ``state``; ``None`` if it has the backbone's
            own name for it.
        protocol: how the project tests, but for the input and the number of frames.
        clips: by model, frames a clip and their distance, where the project publishes one network for each.
        assumptions: what no file of the layout says and the project always does.
    """

    project: str
    state: Mapping[str, Tensor]
    model: str | None = None
    module: str | None = None
    candidates: tuple[str, ...] = ()
    open_question: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    classifier: str | None = None
    protocol: Protocol = field(default_factory=Protocol)
    clips: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()


_DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
_FAMILIES = {
    (64, 64): "resnet{}",
    (128, 4): "resnext{}_32x4d",
    (256, 8): "resnext{}_32x8d",
    (128, 128): "wide_resnet{}_2",
}
"""By output and input channels of the first block's 3x3 kernel."""


def find_resnet(state: Mapping[str, Tensor]) -> str | None:
    """Name of the ResNet whose tensors these are, under torchvision's names; ``None`` if it is none of them."""
    if "conv1.weight" not in state or "layer1.0.conv2.weight" not in state:
        return None
    bottleneck = "layer1.0.conv3.weight" in state
    depth = _DEPTHS.get((bottleneck, _count_blocks(state)))
    kernel = state["layer1.0.conv2.weight"].shape
    family = _FAMILIES.get((kernel[0], kernel[1])) if len(kernel) == 4 else None
    return None if depth is None or family is None else family.format(depth)


def _count_blocks(state: Iterable[str]) -> tuple[int, ...]:
    blocks = {found.groups() for name in state if (found := re.match(r"layer(\d+)\.(\d+)\.", name))}
    sizes = Counter(stage for stage, _ in blocks)
    return tuple(sizes[stage] for stage in sorted(sizes))


def describe_shift(hosts: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The option ``placement`` for shifts that stand before these hosts; none where it is TSM's own rule."""
    found = sorted(set(hosts))
    blocks = {match[1] for name in state if (match := re.match(r"(layer\d+\.\d+)\.", name))}
    if found == sorted(blocks):
        return {"placement": "block"}
    step = 2 if len([block for block in blocks if block.startswith("layer3.")]) >= 23 else 1
    rule = [f"{block}.conv1" for block in blocks if int(block.rpartition(".")[2]) % step == 0]
    return {} if found == sorted(rule) else {"placement": Insertion(at=tuple(found), place="before")}


def counts_batches(name: str) -> bool:
    """Whether a tensor only counts training steps, which evaluation never reads."""
    return name.endswith(_STATISTICS)
