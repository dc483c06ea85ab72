"""The papers' protocols by name: how each of them turns a video into the number in its tables.

A name stands for the views of a test (clips, crops, sampling, averaging) and for nothing else: what the network
wants to see, its size and normalisation, is the network's own, and so is the number of frames unless the paper
tests with another one than it trains with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kinemix.config import Protocol
from kinemix.errors import ConfigError, did_you_mean
from kinemix.evaluate.protocol import check_protocol


@dataclass(frozen=True, kw_only=True)
class NamedProtocol:
    """How a paper tests.

    Attributes:
        name: as in ``kinemix test RUN --protocol NAME``.
        paper: its title.
        where: the tables or the section that use it.
        about: what it does, in a line.
        views: fields of :class:`kinemix.config.Protocol` that it sets.
        size: side of the network's input in the paper, where it has one for all; the network's own is taken.
    """

    name: str
    paper: str
    where: str
    about: str
    views: Mapping[str, Any] = field(hash=False)
    size: int | None = None


_ONE_CLIP = {
    "sampling": "sparse",
    "num_clips": 1,
    "num_crops": 1,
    "crop_fraction": 0.875,
    "crop_size": "input",
    "average": "logits",
}
_DENSE_30 = {
    **_ONE_CLIP,
    "sampling": "dense",
    "frame_stride": None,
    "num_clips": 10,
    "num_crops": 3,
    "crop_fraction": 1.0,
}

_MIXTCONV = "MixTConv: Mixed Temporal Convolutional Kernels for Efficient Action Recognition"
_GSM = "Gate-Shift Networks for Video Action Recognition"
_MTNET = "Multi-Temporal Convolutions for Human Action Recognition in Videos"
_CTM = "CTM: Collaborative Temporal Modeling for Action Recognition"
_TSM = "TSM: Temporal Shift Module for Efficient Video Understanding"

_PROTOCOLS = (
    NamedProtocol(
        name="mixtconv-1x1",
        paper=_MIXTCONV,
        where="Tables 2 to 5",
        about="one clip, centre crop of 224 from a short side of 256",
        views=_ONE_CLIP,
        size=224,
    ),
    NamedProtocol(
        name="mixtconv-2clip",
        paper=_MIXTCONV,
        where="Table 1",
        about="two clips, the whole frame at a short side of 256",
        views={**_ONE_CLIP, "num_clips": 2, "crop_size": "frame"},
        size=224,
    ),
    NamedProtocol(
        name="gsm-1clip",
        paper=_GSM,
        where="Tables 1 to 3, first block of Table 4",
        about="one clip, centre crop",
        views=_ONE_CLIP,
    ),
    NamedProtocol(
        name="gsm-2clip",
        paper=_GSM,
        where="second block of Table 4, Tables 5 and 6",
        about="two clips, from the starts and the centres of the segments, centre crop",
        views={**_ONE_CLIP, "num_clips": 2},
    ),
    NamedProtocol(
        name="mtnet-10x3",
        paper=_MTNET,
        where="Tables I, IV and V",
        about="ten dense clips x three crops of 256; stride 5, the paper's for Kinetics (HACS 2, MiT 3, UCF 4)",
        views={**_DENSE_30, "frame_stride": 5},
        size=256,
    ),
    NamedProtocol(
        name="ctm-10x3",
        paper=_CTM,
        where="Tables 1 to 6",
        about="the non-local networks' views at the 224 px that the weights are bound to",
        views=_DENSE_30,
        size=224,
    ),
    NamedProtocol(
        name="nonlocal-10x3",
        paper="Non-local Neural Networks",
        where="inference, under implementation details",
        about="ten windows of 64 frames x three crops as large as the short side of 256",
        views={**_DENSE_30, "crop_fraction": 0.875, "crop_size": "short_side"},
        size=224,
    ),
    NamedProtocol(
        name="tsn-10crop",
        paper="Temporal Segment Networks: Towards Good Practices for Deep Action Recognition",
        where="section 3.3, testing",
        about="25 frames x ten crops: four corners, the centre, and their mirror images",
        views={**_ONE_CLIP, "num_frames": 25, "num_crops": 10},
        size=224,
    ),
    NamedProtocol(
        name="tsm-1clip",
        paper=_TSM,
        where="efficiency tables, Something-Something",
        about="one clip, centre crop of 224 from a short side of 256",
        views=_ONE_CLIP,
        size=224,
    ),
    NamedProtocol(
        name="tsm-2clip",
        paper=_TSM,
        where="accuracy tables, Something-Something; the released test script",
        about="two clips x three crops of 256, as large as the short side",
        views={**_ONE_CLIP, "num_clips": 2, "num_crops": 3, "crop_size": "short_side"},
        size=224,
    ),
    NamedProtocol(
        name="tsm-10x3",
        paper=_TSM,
        where="Kinetics; the released test script",
        about="ten windows of 64 frames x three crops of 256, mean of logits",
        views={**_DENSE_30, "crop_fraction": 0.875, "crop_size": "short_side"},
        size=224,
    ),
)


def list_protocols() -> tuple[NamedProtocol, ...]:
    """All named protocols, with the paper and the tables that each comes from."""
    return _PROTOCOLS


def find_protocol(name: str) -> NamedProtocol:
    """The protocol of that name.

    Raises:
        ConfigError: there is none.
    """
    for named in _PROTOCOLS:
        if named.name == name:
            return named
    raise ConfigError(f"no protocol {name!r}: {did_you_mean(name, [named.name for named in _PROTOCOLS])}")


def apply_protocol(protocol: Protocol, name: str) -> Protocol:
    """The named paper's views, for the network that ``protocol`` belongs to.

    Args:
        protocol: of a run; its input, exposure, frame differencing and contrast stay, because the network was trained
            with them.
        name: of a named protocol.

    Raises:
        ConfigError: an unknown name.
    """
    return check_protocol(replace(protocol, **find_protocol(name).views))
