"""The one way from a video to network input at test time.

Tests, validations and predictions all read a video through :func:`read_views`, with the protocol that travels in the
checkpoint, so that they cannot disagree.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args
from typing import Protocol as Interface

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from kinemix.config import Protocol
from kinemix.data.sampling import dense_test, sparse_test
from kinemix.data.transforms import center_crop, cover_size, normalize_clip, resize_to_cover
from kinemix.errors import ConfigError
from kinemix.types import Video

Order: TypeAlias = Literal["forward", "reverse", "shuffle", "single"]
Views: TypeAlias = Float[Tensor, "V T C H W"]
Crops: TypeAlias = UInt8[Tensor, "V T 3 H W"]


class FrameReader(Interface):
    """An open video: what :func:`kinemix.data.reader.open_video` and the frame cache give."""

    @property
    def num_frames(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Video:
        """Frames at ``indices``, in that order; repeats are allowed."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Any: ...

    def __exit__(self, *exception: Any) -> Any: ...


def read_views(reader: FrameReader, protocol: Protocol, *, order: Order = "forward", seed: int = 0) -> Views:
    """All views of one video, ready for the network: every crop of every clip.

    Args:
        reader: an open video.
        protocol: frames, clips, crops, size and normalisation.
        order: what happens to the frames of each clip once they are sampled: ``reverse`` plays them
            backwards, ``shuffle`` permutes them (the same way every time, given the seed and the number of
            the clip), ``single`` shows the middle one as often as the clip has frames.
        seed: of the shuffle.

    Returns:
        V T C h w, float32, V = num_clips x num_crops; the crops of clip 0 come first. Of 3 crops the order is
        left, centre, right (top, centre, bottom of a tall frame); of 10, the four corners and the centre,
        then their mirror images. h, w are the network's input, unless ``protocol.crop_size`` says otherwise;
        with ``frame`` they are the video's own.

    Raises:
        UnreadableVideoError: the video gives no frames.

    Note:
        10 crops mirror the video. Where classes tell left from right, the logits of the mirrored views belong
        to the mirrored classes (:func:`kinemix.data.mirror.mirror_labels`).
    """
    return normalize_clip(read_crops(reader, protocol, order=order, seed=seed), protocol=protocol)


def read_crops(reader: FrameReader, protocol: Protocol, *, order: Order = "forward", seed: int = 0) -> Crops:
    """The same views as people see them: :func:`read_views` before it normalises.

    Returns:
        V T 3 h w, uint8, RGB.
    """
    clips = [
        _order_frames(sample_clip(reader.num_frames, protocol, clip=clip), order=order, seed=seed, clip=clip)
        for clip in range(protocol.num_clips)
    ]
    # Clips share frames: each is decoded and resized once.
    wanted = sorted({index for clip in clips for index in clip})
    place = {index: position for position, index in enumerate(wanted)}
    frames = resize_to_cover(reader.read(wanted), protocol.input.size, protocol.crop_fraction)
    crops = torch.stack(crop_views(frames, protocol))
    views = torch.stack([crops[:, [place[index] for index in clip]] for clip in clips])
    return views.flatten(0, 1)


def sample_clip(num_video_frames: int, protocol: Protocol, *, clip: int) -> list[int]:
    """The sorted frame indices of one test clip."""
    counts = {"num_video_frames": num_video_frames, "num_frames": protocol.num_frames}
    if protocol.sampling == "dense":
        return dense_test(
            **counts, clip=clip, num_clips=protocol.num_clips, frame_stride=protocol.frame_stride
        )
    return sparse_test(**counts, clip=clip, num_clips=protocol.num_clips)


def crop_views(frames: Video, protocol: Protocol) -> list[Video]:
    """The protocol's crops of resized frames, each T C h w."""
    if protocol.crop_size == "frame":
        return [frames]
    size = protocol.input.size
    if protocol.crop_size == "short_side":
        size = cover_size(size, protocol.crop_fraction)
    if protocol.num_crops == 1:
        return [center_crop(frames, size)]
    if protocol.num_crops == 3:
        return _three_crops(frames, size)
    return list(F.ten_crop(frames, list(size)))


def _three_crops(frames: Video, size: tuple[int, int]) -> list[Video]:
    """Start, middle and end along the side with more room; centred along the other."""
    spare_rows, spare_columns = frames.shape[-2] - size[0], frames.shape[-1] - size[1]
    if spare_columns >= spare_rows:
        places = [(spare_rows // 2, left) for left in (0, spare_columns // 2, spare_columns)]
    else:
        places = [(top, spare_columns // 2) for top in (0, spare_rows // 2, spare_rows)]
    return [frames[..., top : top + size[0], left : left + size[1]] for top, left in places]


def _order_frames(indices: list[int], *, order: Order, seed: int, clip: int) -> list[int]:
    if order not in get_args(Order):
        raise ConfigError(f"order is {order!r}: it must be one of {', '.join(get_args(Order))}")
    if order == "reverse":
        return indices[::-1]
    if order == "shuffle":
        generator = torch.Generator().manual_seed(seed + 1_000_003 * clip)
        return [indices[place] for place in torch.randperm(len(indices), generator=generator).tolist()]
    if order == "single":
        return [indices[len(indices) // 2]] * len(indices)
    return indices
