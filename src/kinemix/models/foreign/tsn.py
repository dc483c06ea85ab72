"""The TSN family: the repositories of TSM and MixTConv, which share one code base and one layout.

Names start with ``base_model.``; the classifier is ``new_fc``, or the backbone's own where the network was
trained without dropout. A temporal module wraps a layer, whose tensors move to ``<layer>.net``.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from kinemix.config import Protocol
from kinemix.errors import CheckpointError
from kinemix.models.foreign.files import ForeignFile
from kinemix.models.foreign.layout import Finding, describe_shift, find_resnet
from kinemix.temporal.base import Insertion

PREFIX = "base_model."
PROTOCOL = Protocol(sampling="sparse", num_clips=1, num_crops=1, crop_fraction=0.875)
"""One frame of each segment, the centre 224 of 256 pixels."""

BN_INCEPTION = "conv1_7x7_s2.weight"
_MIXED = re.compile(r"(.+)\.conv1(\d+)d\.weight")
_SHIFTED = re.compile(r"(layer\d+\.\d+(?:\.conv1)?|features\.\d+\.conv\.0)\.net\.(.+)")
_SHIFT_ASSUMED = ("fold is 8, TSM's own: the file does not tell how many channels were shifted",)


def examine(file: ForeignFile) -> Finding | None:
    """What a file of this layout proves; ``None`` for another layout.

    Raises:
        CheckpointError: the network sees something else than colour frames, or is none that kinemix knows.
    """
    if not any(name.startswith(PREFIX) for name in file.state):
        return None
    state, classifier = unwrap(file)
    if BN_INCEPTION in state:
        return Finding(
            project="TSN repository",
            state=state,
            candidates=("tsn_bn_inception",),
            open_question="BN-Inception with shifted channels has the same tensors as without, and its shifts "
            "stand elsewhere than kinemix's",
            options={"color": "bgr"},
            classifier=classifier,
            protocol=PROTOCOL,
        )
    if any(_MIXED.fullmatch(name) for name in state):
        return _examine_mixed(file, state, classifier)
    return _examine_shifted(file, state, classifier)


def unwrap(file: ForeignFile) -> tuple[dict[str, Tensor], str]:
    """The backbone's tensors under its own names, and the path of the classifier among them."""
    state = {name.removeprefix(PREFIX): tensor for name, tensor in file.state.items()}
    classifier = next(
        (p for p in ("new_fc", "fc", "classifier", "top_cls_fc") if f"{p}.weight" in state), None
    )
    if classifier is None:
        raise CheckpointError(
            f"{file.path}: holds no classifier new_fc.weight: take the file of a whole network"
        )
    channels = next(tensor.shape[1] for tensor in state.values() if tensor.ndim == 4)
    if channels != 3:
        raise CheckpointError(
            f"{file.path}: its first convolution takes {channels} channels (optical flow, or stacked frames), and "
            "kinemix shows a network colour frames: take the RGB checkpoint"
        )
    return state, classifier


def _examine_mixed(file: ForeignFile, state: Mapping[str, Tensor], classifier: str) -> Finding:
    sizes = sorted({int(found[2]) for name in state if (found := _MIXED.fullmatch(name))})
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if found := _MIXED.fullmatch(name):
            # C 1 k 1 1, the kernel of a depthwise 3D convolution; ours are C k.
            plain[f"{found[1]}.temporal.weights.{sizes.index(int(found[2]))}"] = tensor.flatten(1)
        else:
            plain[_unshift(name)] = tensor
    backbone = _name_resnet(file, plain)
    return Finding(
        project="MixTConv repository",
        state=plain,
        model=f"mixtconv_{backbone}",
        module="mixtconv",
        options={"kernel_sizes": sizes},
        classifier=classifier,
        protocol=PROTOCOL,
    )


def _examine_shifted(file: ForeignFile, state: Mapping[str, Tensor], classifier: str) -> Finding:
    mobile = "features.1.conv.0.weight" in state
    shifted = [found[1] for name in state if (found := _SHIFTED.fullmatch(name))]
    hosts = [_rename_mobilenet(f"{host}.").rstrip(".") for host in shifted]
    plain = {_rename_mobilenet(_unshift(name)): tensor for name, tensor in state.items()}
    backbone = "torchvision.mobilenet_v2" if mobile else _name_resnet(file, plain)
    if not hosts:
        return Finding(
            project="TSN repository",
            state=plain,
            model=f"tsn_{backbone}",
            classifier=classifier,
            protocol=PROTOCOL,
        )
    return Finding(
        project="TSM repository",
        state=plain,
        model=f"tsm_{backbone}",
        module="tsm",
        options={"placement": Insertion(at=tuple(hosts))} if mobile else describe_shift(hosts, plain),
        classifier=classifier,
        protocol=PROTOCOL,
        assumptions=_SHIFT_ASSUMED,
    )


def _unshift(name: str) -> str:
    found = _SHIFTED.fullmatch(name)
    return f"{found[1]}.{found[2]}" if found else name


_EXPANDED = {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}
_UNEXPANDED = {0: "0.0", 1: "0.1", 3: "1", 4: "2"}


def _rename_mobilenet(name: str) -> str:
    """torchvision's name of a tensor of TSM's MobileNetV2, whose blocks are one flat sequence; others stay."""
    found = re.fullmatch(r"features\.(\d+)\.conv\.(\d+)\.(.*)", name)
    if found is None:
        return name
    places = _UNEXPANDED if found[1] == "1" else _EXPANDED
    return f"features.{found[1]}.conv.{places.get(int(found[2]), found[2])}.{found[3]}"


def _name_resnet(file: ForeignFile, state: Mapping[str, Tensor]) -> str:
    backbone = find_resnet(state)
    if backbone is None:
        raise CheckpointError(
            f"{file.path}: has the layout of the TSN repository, but its backbone is no ResNet, BN-Inception or "
            f"MobileNetV2 that kinemix knows (non-local blocks and temporal pooling are not read either): "
            f"its first tensor is {next(iter(state))!r}"
        )
    return backbone
