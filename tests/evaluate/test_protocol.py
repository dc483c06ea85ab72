"""The protocol's line, its way to JSON, and its limits."""

import json

import pytest

from kinemix.config import InputSpec, Protocol
from kinemix.errors import ConfigError
from kinemix.evaluate.protocol import (
    build_protocol,
    describe_protocol,
    override_views,
    protocol_from_dict,
    protocol_to_dict,
)


def test_lines():
    assert describe_protocol(Protocol()) == "8 frames x 1 clip x 1 crop, 224 px, sparse"
    other = Protocol(
        input=InputSpec(size=(96, 128), color="gray"),
        num_frames=16,
        sampling="dense",
        frame_stride=4,
        num_clips=10,
        num_crops=3,
        difference="clip_mean",
        contrast="clip",
        average="probabilities",
    )
    assert describe_protocol(other, order="reverse") == (
        "16 frames x 10 clips x 3 crops, 96x128 px, dense, stride 4, grey, minus the clip's mean, "
        "clip contrast, mean of probabilities, frames reversed"
    )


def test_input_comes_from_the_model():
    spec = InputSpec(size=(64, 64), color="bgr", mean=(104, 117, 128), std=(1, 1, 1), scale=255)
    protocol = build_protocol(Protocol(num_frames=4), input_spec=spec)
    assert protocol.input == spec
    assert protocol_from_dict(json.loads(json.dumps(protocol_to_dict(protocol)))) == protocol


def test_views_can_be_changed_for_a_test():
    protocol = override_views(Protocol(num_clips=2), num_crops=3)
    assert (protocol.num_clips, protocol.num_crops) == (2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0"),
        ({"num_clips": -1}, "num_clips is -1"),
        ({"num_crops": 5}, "1, 3 or 10"),
        ({"crop_fraction": 1.2}, "crop_fraction is 1.2"),
        ({"frame_stride": 0}, "frame_stride is 0"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        build_protocol(Protocol(**change), input_spec=InputSpec())
