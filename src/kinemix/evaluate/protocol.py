"""The protocol: how a video becomes a number, built once and then carried by the checkpoint.

Training, test, prediction and export read the same :class:`kinemix.config.Protocol`, and every figure is
printed beside :func:`describe_protocol`, so that no two numbers are compared that were measured differently.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kinemix.config import InputSpec, Protocol, from_dict, to_dict
from kinemix.errors import ConfigError


def build_protocol(options: Protocol, *, input_spec: InputSpec) -> Protocol:
    """The protocol of a model: the options given by the user, and the input that the network wants.

    Args:
        options: everything but ``input``.
        input_spec: size, colour and normalisation, from the model.

    Raises:
        ConfigError: a value out of range.
    """
    return check_protocol(replace(options, input=input_spec))


def override_views(
    protocol: Protocol, *, num_clips: int | None = None, num_crops: int | None = None
) -> Protocol:
    """The same protocol with another number of views a video; ``None`` leaves a number as it is.

    Raises:
        ConfigError: fewer than one clip, or crops other than 1, 3 or 10.
    """
    changes: dict[str, Any] = {}
    if num_clips is not None:
        changes["num_clips"] = num_clips
    if num_crops is not None:
        changes["num_crops"] = num_crops
    return check_protocol(replace(protocol, **changes))


def check_protocol(protocol: Protocol) -> Protocol:
    """Return the protocol, or raise a :class:`ConfigError` that names the first value out of range."""
    for name in ("num_frames", "frame_stride", "num_clips"):
        if getattr(protocol, name) < 1:
            raise ConfigError(f"protocol.{name} is {getattr(protocol, name)}: it must be 1 or more")
    if protocol.num_crops not in (1, 3, 10):
        raise ConfigError(f"protocol.num_crops is {protocol.num_crops}: it must be 1, 3 or 10")
    if not 0 < protocol.crop_fraction <= 1:
        raise ConfigError(f"protocol.crop_fraction is {protocol.crop_fraction}: it must be in (0, 1]")
    return protocol


def describe_protocol(protocol: Protocol, *, order: str = "forward") -> str:
    """One line to stand beside every figure.

    >>> describe_protocol(Protocol())
    '8 frames x 1 clip x 1 crop, 224 px, sparse'
    """
    height, width = protocol.input.size
    parts = [
        " x ".join(
            _count(number, thing)
            for number, thing in (
                (protocol.num_frames, "frame"),
                (protocol.num_clips, "clip"),
                (protocol.num_crops, "crop"),
            )
        ),
        f"{height} px" if height == width else f"{height}x{width} px",
        "sparse" if protocol.sampling == "sparse" else f"dense, stride {protocol.frame_stride}",
    ]
    if protocol.input.color == "gray":
        parts.append("grey")
    if protocol.difference != "none":
        parts.append(f"minus the clip's {protocol.difference.removeprefix('clip_')}")
    if protocol.contrast == "clip":
        parts.append("clip contrast")
    if protocol.average == "probabilities":
        parts.append("mean of probabilities")
    if order != "forward":
        parts.append({"reverse": "frames reversed", "shuffle": "frames shuffled"}.get(order, order))
    return ", ".join(parts)


def protocol_to_dict(protocol: Protocol) -> dict[str, Any]:
    """What goes into the checkpoint's JSON."""
    return to_dict(protocol)


def protocol_from_dict(values: Mapping[str, Any]) -> Protocol:
    """What comes out of it.

    Raises:
        ConfigError: an unknown field, or a value out of range.
    """
    return check_protocol(from_dict(Protocol, values, where="protocol."))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
