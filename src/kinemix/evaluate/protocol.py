"""The protocol: how a video becomes a number, built once and then carried by the checkpoint.

Training, test, prediction and export read the same :class:`kinemix.config.Protocol`, and every figure is
printed beside :func:`describe_protocol`, so that no two numbers are compared that were measured differently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from kinemix.config import InputSpec, Protocol, from_dict, to_dict
from kinemix.data.sampling import DENSE_WINDOW
from kinemix.data.transforms import cover_size
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
        value = getattr(protocol, name)
        if value is not None and value < 1:
            raise ConfigError(f"protocol.{name} is {value}: it must be 1 or more")
    if protocol.num_crops not in (1, 3, 10):
        raise ConfigError(f"protocol.num_crops is {protocol.num_crops}: it must be 1, 3 or 10")
    if not 0 < protocol.crop_fraction <= 1:
        raise ConfigError(f"protocol.crop_fraction is {protocol.crop_fraction}: it must be in (0, 1]")
    if protocol.crop_size not in _CROP_SIZES:
        raise ConfigError(
            f"protocol.crop_size is {protocol.crop_size!r}: it must be one of {', '.join(_CROP_SIZES)}"
        )
    if protocol.crop_size == "frame" and protocol.num_crops != 1:
        raise ConfigError(
            f"protocol.num_crops is {protocol.num_crops}, but crop_size=frame shows the whole frame: there is one"
        )
    return protocol


def check_mirrors(
    protocol: Protocol, mirrored_labels: Sequence[int | None] | None, class_names: Sequence[str]
) -> None:
    """Raise unless every class has a mirror image, where the protocol mirrors the video: ten crops do.

    The logits of a mirrored view belong to the mirrored classes: of a swipe to the left, the mirror image is a
    swipe to the right. Where a name has a direction and no class has the other one, no logit is right.

    Args:
        protocol: of the test.
        mirrored_labels: for each class that of its mirror image, ``None`` where it has none
            (:func:`kinemix.data.mirror.mirror_labels`).
        class_names: K names.

    Raises:
        ConfigError: the first class without mirror image.
    """
    if protocol.num_crops != 10:
        return
    if mirrored_labels is None:
        raise ConfigError("10 crops mirror the video: give mirrored_labels, what the classes turn into")
    if None in mirrored_labels:
        name = class_names[list(mirrored_labels).index(None)]
        raise ConfigError(
            f"10 crops mirror the video, and nothing tells what class {name!r} looks like in a mirror: name the "
            "pairs with augment.flip_labels, set augment.flip=on if no class tells left from right, or take 3 crops"
        )


_CROP_SIZES = get_args(get_type_hints(Protocol)["crop_size"])


def describe_protocol(protocol: Protocol, *, order: str = "forward") -> str:
    """One line to stand beside every figure.

    >>> describe_protocol(Protocol())
    '8 frames x 1 clip x 1 crop, 224 px, sparse'
    """
    views = [(protocol.num_frames, "frame"), (protocol.num_clips, "clip")]
    if protocol.crop_size != "frame":
        views.append((protocol.num_crops, "crop"))
    parts = [
        " x ".join(count_things(number, thing) for number, thing in views),
        _describe_size(protocol),
        _describe_sampling(protocol),
    ]
    if protocol.input.color == "gray":
        parts.append("grey")
    if protocol.exposure == "frame":
        parts.append("even exposure")
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


def _describe_size(protocol: Protocol) -> str:
    """Pixels of the crops, and what is unusual about them; 224 of 256, or 7 of 8, is the usual crop."""
    network, tight = protocol.input.size, cover_size(protocol.input.size, protocol.crop_fraction)
    if protocol.crop_size == "frame":
        square = tight[0] == tight[1]
        return (
            f"whole frames, short side {_pixels(tight)}" if square else f"whole frames over {_pixels(tight)}"
        )
    if protocol.crop_size == "short_side":
        return _pixels(tight) if tight == network else f"{_pixels(tight)} for a network of {_pixels(network)}"
    if protocol.crop_fraction == Protocol.crop_fraction:
        return _pixels(network)
    return f"{_pixels(network)} of {_pixels(tight)}"


def _pixels(size: tuple[int, int]) -> str:
    height, width = size
    return f"{height} px" if height == width else f"{height}x{width} px"


def _describe_sampling(protocol: Protocol) -> str:
    if protocol.sampling == "sparse":
        return "sparse"
    if protocol.frame_stride is None:
        return f"dense, window of {DENSE_WINDOW}"
    return f"dense, stride {protocol.frame_stride}"


def count_things(number: int, thing: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{number} {thing}" + ("" if number == 1 else "s")
