"""The protocol's line, its way to JSON, and its limits."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from kinemix.config import InputSpec, Protocol
from kinemix.data.mirror import mirror_labels
from kinemix.data.views import read_views, sample_clip
from kinemix.errors import ConfigError
from kinemix.evaluate.named_protocols import apply_protocol, list_protocols
from kinemix.evaluate.protocol import (
    build_protocol,
    check_mirrors,
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop_fraction": 1.0}, "224 px of 224 px"),
        ({"crop_size": "short_side", "num_crops": 3}, "1 clip x 3 crops, 256 px for a network of 224 px"),
        ({"crop_size": "short_side", "crop_fraction": 1.0}, "1 crop, 224 px, sparse"),
        (
            {"crop_size": "frame", "num_clips": 2},
            "8 frames x 2 clips, whole frames, short side 256 px, sparse",
        ),
        ({"sampling": "dense", "frame_stride": None}, "dense, window of 64"),
    ],
)
def test_lines_tell_apart_what_is_measured_differently(changes, words):
    assert words in describe_protocol(Protocol(**changes))


def test_every_view_field_changes_the_line():
    """Two protocols with one line would be two figures that look comparable and are not."""
    others = [
        {"num_frames": 9},
        {"sampling": "dense"},
        {"sampling": "dense", "frame_stride": 7},
        {"sampling": "dense", "frame_stride": None},
        {"num_clips": 2},
        {"num_crops": 3},
        {"num_crops": 10},
        {"crop_fraction": 0.9},
        {"crop_size": "short_side"},
        {"crop_size": "frame"},
        {"exposure": "frame"},
        {"difference": "clip_mean"},
        {"difference": "clip_median"},
        {"contrast": "clip"},
        {"average": "probabilities"},
    ]
    assert {name for change in others for name in change} == set(Protocol.__dataclass_fields__) - {"input"}
    lines = {describe_protocol(Protocol(**change)) for change in [{}, *others]}
    assert len(lines) == len(others) + 1


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
        ({"crop_size": "half"}, "crop_size is 'half'"),
        ({"crop_size": "frame", "num_crops": 3}, "num_crops is 3.*whole frame"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        build_protocol(Protocol(**change), input_spec=InputSpec())


def test_ten_crops_need_a_mirror_image_of_every_class():
    names = ["turn left", "turn right", "wave left"]
    check_mirrors(Protocol(num_crops=10), (1, 0, 2), names)
    check_mirrors(Protocol(num_crops=3), None, names)
    with pytest.raises(ConfigError, match=r"'wave left'.*augment\.flip_labels"):
        check_mirrors(Protocol(num_crops=10), mirror_labels(names), names)
    with pytest.raises(ConfigError, match="give mirrored_labels"):
        check_mirrors(Protocol(num_crops=10), None, names)


# ------------------------------------------------------------------------------------------ the papers' protocols


def test_names_are_unique_and_each_has_its_source():
    named = list_protocols()
    assert len({one.name for one in named}) == len(named)
    for one in named:
        assert one.paper
        assert one.where
        assert set(one.views) <= set(Protocol.__dataclass_fields__) - {"input", "difference", "contrast"}
        # Every field that shapes the views is set, so that nothing of the run's own protocol shows through.
        assert {"sampling", "num_clips", "num_crops", "crop_fraction", "crop_size", "average"} <= set(
            one.views
        )


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("mixtconv-1x1", (1, 1, (224, 224))),
        ("mixtconv-2clip", (2, 1, (256, 341))),
        ("gsm-1clip", (1, 1, (224, 224))),
        ("gsm-2clip", (2, 1, (224, 224))),
        ("mtnet-10x3", (10, 3, (224, 224))),
        ("ctm-10x3", (10, 3, (224, 224))),
        ("nonlocal-10x3", (10, 3, (256, 256))),
        ("tsn-10crop", (1, 10, (224, 224))),
        ("tsm-1clip", (1, 1, (224, 224))),
        ("tsm-2clip", (2, 3, (256, 256))),
        ("tsm-10x3", (10, 3, (256, 256))),
    ],
)
def test_views_are_the_papers(name, views):
    clips, crops, size = views
    protocol = apply_protocol(Protocol(num_frames=4), name)
    frames = torch.zeros(30, 3, 24, 32, dtype=torch.uint8)
    made = read_views(_Frames(frames), protocol)
    num_frames = 25 if name.startswith("tsn") else 4
    assert made.shape == (clips * crops, num_frames, 3, *size)


def test_input_statistics_and_differences_stay_the_networks():
    spec = InputSpec(size=(96, 96), color="bgr", mean=(104, 117, 128), std=(1, 1, 1), scale=255)
    protocol = apply_protocol(Protocol(input=spec, num_frames=16, difference="clip_mean"), "gsm-2clip")
    assert (protocol.input, protocol.num_frames, protocol.difference) == (spec, 16, "clip_mean")
    assert protocol_from_dict(json.loads(json.dumps(protocol_to_dict(protocol)))) == protocol


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'gsm-2clip'"):
        apply_protocol(Protocol(), "gsm-2clips")
    with pytest.raises(ConfigError, match=r"known: ctm-10x3, .*tsn-10crop"):
        apply_protocol(Protocol(), "?")


class _Frames:
    def __init__(self, frames):
        self.frames, self.num_frames = frames, len(frames)

    def read(self, indices):
        return self.frames[list(indices)]


def _published_frames(name, n, T):
    """What the papers' code takes of n frames (``t``: the length of a segment; ``s``: where the window starts)."""
    t = n / T
    if name in ("mixtconv-1x1", "gsm-1clip", "tsm-1clip", "tsn-10crop"):
        return [[int(t / 2.0 + t * i) for i in range(T)]]
    if name in ("mixtconv-2clip", "gsm-2clip", "tsm-2clip"):
        return [[int(t * i) for i in range(T)], [int(t / 2.0 + t * i) for i in range(T)]]
    stride = 5 if name == "mtnet-10x3" else 64 // T
    span = T * 5 if name == "mtnet-10x3" else 64
    starts = np.linspace(0, max(1, 1 + n - span) - 1, num=10, dtype=int).tolist()
    return [sorted((s + stride * i) % n for i in range(T)) for s in starts]


@pytest.mark.parametrize("name", [one.name for one in list_protocols()])
def test_sampler_table(name):
    for T in (1, 4, 8, 12, 16, 24, 25, 32):
        for n in (1, 2, 3, 7, 8, 15, 16, 17, 31, 48, 63, 64, 65, 100, 250, 301):
            protocol = apply_protocol(Protocol(), name)
            protocol = dataclasses.replace(protocol, num_frames=T)
            clips = [sample_clip(n, protocol, clip=clip) for clip in range(protocol.num_clips)]
            assert clips == _published_frames(name, n, T), (n, T)
