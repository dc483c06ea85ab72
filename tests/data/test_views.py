"""The views of a video: how many, in which order, and that they are what they say."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from kinemix.config import InputSpec, Protocol
from kinemix.data.sampling import dense_test, sparse_test
from kinemix.data.transforms import center_crop, normalize_clip, resize_to_cover
from kinemix.data.views import read_views

MakeReader: TypeAlias = Callable[[torch.Tensor], Any]
SPEC = InputSpec(size=(16, 16))


def _frames(num_frames: int = 30, height: int = 20, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_frames, 3, height, width), generator=generator, dtype=torch.uint8)


def _naive_view(frames: torch.Tensor, indices: list[int], protocol: Protocol) -> torch.Tensor:
    size = protocol.input.size
    resized = resize_to_cover(frames[indices], size, protocol.crop_fraction)
    return normalize_clip(center_crop(resized, size), protocol=protocol)


@pytest.mark.parametrize("difference", ["none", "clip_mean"])
@pytest.mark.parametrize("sampling", ["sparse", "dense"])
@pytest.mark.parametrize("num_clips", [1, 2, 3])
def test_clips_are_those_of_the_sampler(
    memory_reader: MakeReader, num_clips: int, sampling: Any, difference: Any
) -> None:
    protocol = Protocol(
        input=SPEC,
        num_frames=4,
        num_clips=num_clips,
        sampling=sampling,
        frame_stride=2,
        difference=difference,
    )
    frames = _frames()
    reader = memory_reader(frames)
    views = read_views(reader, protocol)
    assert views.shape == (num_clips, 4, 3, 16, 16)
    for clip in range(num_clips):
        counts = {"num_video_frames": 30, "num_frames": 4, "clip": clip, "num_clips": num_clips}
        indices = sparse_test(**counts) if sampling == "sparse" else dense_test(**counts, frame_stride=2)
        torch.testing.assert_close(views[clip], _naive_view(frames, indices, protocol))
    assert len(reader.asked) == 1
    assert reader.asked[0] == sorted(set(reader.asked[0]))


def test_two_clips_come_start_first(memory_reader: MakeReader) -> None:
    frames = torch.arange(12, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).contiguous()
    spec = InputSpec(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1), scale=255)
    views = read_views(
        memory_reader(frames), Protocol(input=spec, num_frames=4, num_clips=2, crop_fraction=1)
    )
    assert views[:, :, 0, 0, 0].round().tolist() == [[0, 3, 6, 9], [1, 4, 7, 10]]


@pytest.mark.parametrize("tall", [False, True])
def test_three_crops_walk_along_the_long_side(memory_reader: MakeReader, tall: bool) -> None:
    frames = _frames(8, 16, 40)
    if tall:
        frames = frames.transpose(-1, -2).contiguous()
    protocol = Protocol(input=SPEC, num_frames=8, num_crops=3, crop_fraction=1)
    views = read_views(memory_reader(frames), protocol)
    assert views.shape == (3, 8, 3, 16, 16)
    for view, place in zip(views, (0, 12, 24), strict=True):
        crop = frames[:, :, place : place + 16] if tall else frames[:, :, :, place : place + 16]
        torch.testing.assert_close(view, normalize_clip(crop, protocol=Protocol(input=SPEC)))


def test_three_crops_of_a_larger_frame_are_centred_across(memory_reader: MakeReader) -> None:
    frames = _frames(8, 20, 40)
    protocol = Protocol(input=SPEC, num_frames=8, num_crops=3, crop_fraction=0.8)
    views = read_views(memory_reader(frames), protocol)
    for view, left in zip(views, (0, 12, 24), strict=True):
        torch.testing.assert_close(
            view, normalize_clip(frames[:, :, 2:18, left : left + 16], protocol=Protocol(input=SPEC))
        )


def test_ten_crops_are_five_and_their_mirrors(memory_reader: MakeReader) -> None:
    frames = _frames(8, 20, 20)
    protocol = Protocol(input=SPEC, num_frames=8, num_clips=1, num_crops=10, crop_fraction=0.8)
    views = read_views(memory_reader(frames), protocol)
    assert views.shape == (10, 8, 3, 16, 16)
    for number, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]):
        crop = normalize_clip(frames[:, :, top : top + 16, left : left + 16], protocol=Protocol(input=SPEC))
        torch.testing.assert_close(views[number], crop)
    mirrored = {tuple(view.flatten()[:50].tolist()) for view in views[5:]}
    assert mirrored == {tuple(F.horizontal_flip(view).flatten()[:50].tolist()) for view in views[:5]}


def test_crops_of_a_clip_stand_together(memory_reader: MakeReader) -> None:
    frames = _frames(8, 16, 40)
    many = Protocol(input=SPEC, num_frames=4, num_clips=2, num_crops=3, crop_fraction=1)
    views = read_views(memory_reader(frames), many)
    single = Protocol(input=SPEC, num_frames=4, num_clips=2, num_crops=1, crop_fraction=1)
    torch.testing.assert_close(views[[1, 4]], read_views(memory_reader(frames), single))


def test_order_acts_on_the_sampled_frames(memory_reader: MakeReader) -> None:
    protocol = Protocol(input=SPEC, num_frames=8, num_clips=2)
    frames = _frames()
    forward = read_views(memory_reader(frames), protocol)
    backward = read_views(memory_reader(frames), protocol, order="reverse")
    assert torch.equal(backward, forward.flip(1))
    shuffled = read_views(memory_reader(frames), protocol, order="shuffle", seed=1)
    assert not torch.equal(shuffled, forward)
    assert torch.equal(shuffled, read_views(memory_reader(frames), protocol, order="shuffle", seed=1))
    assert not torch.equal(shuffled, read_views(memory_reader(frames), protocol, order="shuffle", seed=2))
    middle = read_views(memory_reader(frames), protocol, order="single")
    assert torch.equal(middle, forward[:, [protocol.num_frames // 2] * protocol.num_frames])
    for clip in range(2):
        sums = sorted(frame.double().sum().item() for frame in shuffled[clip])
        assert sums == sorted(frame.double().sum().item() for frame in forward[clip])


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_short_videos_are_spread(memory_reader: MakeReader, num_frames: int) -> None:
    protocol = Protocol(input=SPEC, num_frames=8, num_clips=2, num_crops=3)
    assert read_views(memory_reader(_frames(num_frames)), protocol).shape == (6, 8, 3, 16, 16)


def test_frames_smaller_than_the_crop_are_enlarged(memory_reader: MakeReader) -> None:
    protocol = Protocol(input=InputSpec(size=(48, 64)), num_frames=4)
    assert read_views(memory_reader(_frames(6, 5, 3)), protocol).shape == (1, 4, 3, 48, 64)
