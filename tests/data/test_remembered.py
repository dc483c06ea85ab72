"""Frames that are remembered give the views of the video that they are of."""

import pytest
import torch

from kinemix.config import InputSpec, Protocol
from kinemix.data.remembered import remember_frames
from kinemix.data.views import read_views
from kinemix.errors import DataError


class Noise:
    """A video of noise that counts how many frames are asked for at a time."""

    def __init__(self, num_frames: int, height: int = 50, width: int = 70) -> None:
        generator = torch.Generator().manual_seed(1)
        self.frames = torch.randint(
            0, 256, (num_frames, 3, height, width), dtype=torch.uint8, generator=generator
        )
        self.num_frames, self.most = num_frames, 0

    def read(self, indices):
        self.most = max(self.most, len(indices))
        return self.frames[list(indices)]


SQUARE = InputSpec(size=(32, 32))
PROTOCOLS = {
    "sparse": Protocol(num_frames=8, input=SQUARE),
    "views": Protocol(num_frames=5, num_clips=3, num_crops=3, input=SQUARE),
    "ten": Protocol(num_frames=4, num_crops=10, crop_fraction=0.8, input=SQUARE),
    "dense": Protocol(num_frames=6, sampling="dense", frame_stride=3, num_clips=4, input=SQUARE),
    "frame": Protocol(num_frames=4, crop_size="frame", input=SQUARE),
    "larger": Protocol(num_frames=4, crop_fraction=1.0, input=InputSpec(size=(96, 64))),
    "difference": Protocol(num_frames=4, difference="clip_mean", input=InputSpec(size=(37, 53))),
}


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffle", "single"])
@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("num_frames", [3, 41])
def test_views_are_those_of_the_video(name, order, num_frames):
    protocol, video = PROTOCOLS[name], Noise(num_frames)
    wanted = read_views(video, protocol, order=order)
    remembered = remember_frames(video, protocol)
    torch.testing.assert_close(read_views(remembered, protocol, order=order), wanted, rtol=0, atol=0)


def test_few_frames_are_in_memory_at_their_full_size():
    video = Noise(200)
    remembered = remember_frames(video, Protocol(num_frames=16, num_clips=10, input=SQUARE))
    assert len(remembered.indices) > 100
    assert video.most <= 8
    assert remembered.frames.shape[1:] == (3, 36, 50)
    assert remembered.num_frames == 200


def test_a_frame_that_was_not_remembered():
    remembered = remember_frames(Noise(40), Protocol(num_frames=2, input=SQUARE))
    first, last = remembered.indices
    assert remembered.read([last, first, last]).shape[0] == 3
    with pytest.raises(DataError, match=f"frame {last + 1} was not remembered"):
        remembered.read([first, last + 1])
