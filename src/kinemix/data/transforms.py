"""From decoded frames to network input: one draw of parameters a clip, so that every frame is treated alike.

All resizing, colour and geometry come from ``torchvision.transforms.v2``, which treats the leading T of
``T C H W`` as a batch and draws once for all of it. The order of the steps, in training::

    uint8 T 3 H W   crop and resize -> mirror -> play backwards
    float 0..1      grey if wanted -> rotate, translate, zoom -> colour jitter -> drifting exposure
    network units   channel order, scale, mean, std -> even exposure -> minus the clip's mean or median frame
                    -> over the clip's own standard deviation -> erase -> noise

and in a test the crops of :mod:`kinemix.data.views` followed by :func:`normalize_clip`. Training and test
share everything from the float conversion on.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kinemix.config import AugmentConfig, InputSpec, Protocol
from kinemix.data.annotations import Label
from kinemix.data.mirror import mirror_space, reverse_space
from kinemix.label_space import LabelSpace
from kinemix.types import Video

FloatVideo: TypeAlias = Float[Tensor, "T C H W"]

_GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in torchvision and Pillow


class TrainTransform:
    """What training does to one clip and its label.

    Args:
        protocol: size, colour, normalisation and frame differencing; the test reads the same object.
        augment: what is drawn at random.
        space: the classes, for the mirror's labels.

    Raises:
        ConfigError: ``augment.flip_labels`` or ``reverse_labels`` does not fit the class names.
    """

    def __init__(self, *, protocol: Protocol, augment: AugmentConfig, space: LabelSpace) -> None:
        self.protocol, self.augment = protocol, augment
        self.mirror = mirror_space(space, flip=augment.flip, flip_labels=augment.flip_labels)
        self.reverse = reverse_space(space, augment.reverse_labels)
        spec = protocol.input
        self._random_resized_crop = _build_random_crop(augment, spec)
        self._jitter = _build_jitter(augment)
        self._move = _build_move(augment, spec)
        # A value of 0 is the mean colour in network units, and "no change" for differences.
        self._erase = v2.RandomErasing(p=augment.erase, value=0.0) if augment.erase else None

    def __call__(self, frames: Video, label: Label, generator: torch.Generator) -> tuple[FloatVideo, Label]:
        """One augmented clip.

        Args:
            frames: T 3 H W, uint8, RGB.
            label: as :meth:`kinemix.data.annotations.Annotations.read_label` gives it.
            generator: the only source of randomness.

        Returns:
            T C h w in the network's units, and the label, swapped where the mirror swaps it.
        """
        # torchvision draws from torch's global generator: lend it a seed of ours and put everything back.
        seed = int(torch.randint(2**62, (1,), generator=generator))
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            return self._augment(frames, label)

    def _augment(self, frames: Video, label: Label) -> tuple[FloatVideo, Label]:
        spec = self.protocol.input
        frames = self._crop(frames)
        mirrored = self.mirror(label)
        if mirrored is not None and torch.rand(()) < 0.5:
            frames, label = F.horizontal_flip(frames), mirrored
        backwards = self.reverse(label)
        if backwards is not None and torch.rand(()) < 0.5:
            frames, label = frames.flip(0), backwards
        clip = to_unit_range(frames, gray=spec.color == "gray")
        if self._move is not None:
            clip = self._move(clip)
        if self._jitter is not None:
            clip = self._jitter(clip)
        if self.augment.drift:
            clip = drift_exposure(clip, self.augment.drift * (2 * float(torch.rand(())) - 1))
        clip = remove_clip_statistics(normalize_pixels(clip, spec), self.protocol)
        if self._erase is not None:
            clip = self._erase(clip)
        if self.augment.noise:
            clip = clip + self.augment.noise * torch.randn_like(clip)
        return clip.contiguous(), label

    def _crop(self, frames: Video) -> Video:
        size, augment = self.protocol.input.size, self.augment
        if augment.crop == "center":
            return center_crop(resize_to_cover(frames, size, self.protocol.crop_fraction), size)
        if augment.crop == "random_resized":
            return self._random_resized_crop(frames)
        draw = draw_random_box if augment.crop == "random" else draw_multi_scale_box
        box = draw(frames.shape[-2:], size=size, scales=augment.scales)
        return F.resized_crop(frames, *box, size=list(size), antialias=True)


def draw_multi_scale_box(
    frame_size: Sequence[int], *, size: tuple[int, int], scales: Sequence[float]
) -> tuple[int, int, int, int]:
    """TSN's crop: a height and a width from neighbouring scales, at one of 13 fixed places.

    The base is the largest rectangle of the network's aspect that fits the frame, for a square input the
    short side. The 13 places stand on a grid of quarters of the free space::

        x . x . x
        . x . x .
        x . x . x
        . x . x .
        x . x . x

    Args:
        frame_size: H, W of the frames.
        size: h, w of the network; only the aspect matters here.
        scales: of the base; height and width take scales that stand at most one place apart in this list.

    Returns:
        top, left, height, width in pixels.

    Source: Wang et al., "Temporal Segment Networks", section 3.2 (scale jittering, corner cropping).
    """
    H, W = frame_size
    ratio = min(H / size[0], W / size[1])
    pairs = [(i, j) for i in range(len(scales)) for j in range(len(scales)) if abs(i - j) <= 1]
    i, j = pairs[int(torch.randint(len(pairs), ()))]
    height = max(1, min(H, int(size[0] * ratio * scales[i] + 1e-6)))
    width = max(1, min(W, int(size[1] * ratio * scales[j] + 1e-6)))
    row, column = _PLACES[int(torch.randint(len(_PLACES), ()))]
    return row * ((H - height) // 4), column * ((W - width) // 4), height, width


def draw_random_box(
    frame_size: Sequence[int], *, size: tuple[int, int], scales: Sequence[float]
) -> tuple[int, int, int, int]:
    """A crop anywhere in the frame, such as 224 of a short side between 256 and 320: scales 0.7 to 0.875.

    Args:
        frame_size: H, W of the frames.
        size: h, w of the network; only the aspect matters here.
        scales: of the largest rectangle of that aspect; one between the smallest and the largest is drawn.

    Returns:
        top, left, height, width in pixels.
    """
    H, W = frame_size
    least, most = min(scales), max(scales)
    scale = least + (most - least) * float(torch.rand(()))
    ratio = min(H / size[0], W / size[1]) * scale
    height, width = (
        max(1, min(whole, int(side * ratio + 1e-6))) for whole, side in zip((H, W), size, strict=True)
    )
    top, left = (int(torch.randint(free + 1, ())) for free in (H - height, W - width))
    return top, left, height, width


_PLACES = [(row, column) for row in range(5) for column in range(5) if row % 2 == column % 2]


def resize_to_cover(frames: Video, size: tuple[int, int], crop_fraction: float) -> Video:
    """Resize so that a crop of ``size`` covers ``crop_fraction`` of the tight side, aspect kept.

    For a square input the short side becomes ``int(size / crop_fraction)``: 256 for 224 and 0.875.

    Args:
        frames: T C H W, uint8.
        size: h, w of the crop.
        crop_fraction: above 0, at most 1.
    """
    H, W = frames.shape[-2:]
    wanted = cover_size(size, crop_fraction)
    ratio = max(wanted[0] / H, wanted[1] / W)
    resized = [max(wanted[0], int(H * ratio + 1e-6)), max(wanted[1], int(W * ratio + 1e-6))]
    return F.resize(frames, resized, antialias=True)


def cover_size(size: tuple[int, int], crop_fraction: float) -> tuple[int, int]:
    """The largest crop of the network's aspect that every resized frame has: 256 x 256 for 224 and 0.875."""
    return int(size[0] / crop_fraction + 1e-6), int(size[1] / crop_fraction + 1e-6)


def center_crop(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle h x w of the frames."""
    return F.center_crop(frames, list(size))


def to_unit_range(frames: Video, *, gray: bool) -> FloatVideo:
    """uint8 RGB to float 0..1, with one grey channel if asked (before any normalisation)."""
    clip = frames.float().div_(255)
    if gray:
        red, green, blue = clip.unbind(-3)
        r, g, b = _GREY_WEIGHTS
        clip = (r * red).add_(green, alpha=g).add_(blue, alpha=b).unsqueeze(-3)
    return clip


def normalize_pixels(clip: FloatVideo, spec: InputSpec) -> FloatVideo:
    """Float 0..1 RGB (or grey) to the network's channel order, scale, mean and std."""
    if spec.color == "bgr":
        clip = clip.flip(-3)
    mean = torch.tensor(spec.mean, dtype=clip.dtype).view(-1, 1, 1)
    std = torch.tensor(spec.std, dtype=clip.dtype).view(-1, 1, 1)
    return clip.mul(spec.scale).sub_(mean).div_(std)


def drift_exposure(clip: FloatVideo, stops: float) -> FloatVideo:
    """Let the light change over the clip in a straight line of stops, around its middle.

    Args:
        clip: T C h w in 0..1.
        stops: from the first frame to the last; 1 doubles the light.

    Returns:
        Likewise, cut off at 1.
    """
    exposure = torch.linspace(-stops / 2, stops / 2, clip.shape[0]).exp2()
    return (clip * exposure.view(-1, 1, 1, 1)).clamp_(max=1)


def remove_clip_statistics(clip: FloatVideo, protocol: Protocol) -> FloatVideo:
    """What a clip tells about its place and light, but not about its order, taken away if the protocol asks.

    ``exposure="frame"`` gives every frame the clip's mean and standard deviation, channel by channel.
    ``difference`` subtracts the mean or the median frame: a still background becomes 0. ``contrast="clip"``
    divides by the standard deviation over all frames, channels and pixels. Nothing of this depends on the order
    of the frames.

    Args:
        clip: ... T C h w in the network's units.
        protocol: says which.
    """
    if protocol.exposure == "frame":
        clip = _even_exposure(clip)
    if protocol.difference == "clip_mean":
        clip = clip - clip.mean(dim=-4, keepdim=True)
    elif protocol.difference == "clip_median":
        clip = clip - _find_median_frame(clip)
    if protocol.contrast == "clip":
        spread = clip.std(dim=(-4, -3, -2, -1), correction=0, keepdim=True)
        clip = clip / spread.clamp_min(_LEAST_SPREAD)
    return clip


def _even_exposure(clip: FloatVideo) -> FloatVideo:
    """Every frame with the mean and the standard deviation that frames of the clip have on average."""
    mean = clip.mean(dim=(-2, -1), keepdim=True)
    spread = clip.std(dim=(-2, -1), correction=0, keepdim=True)
    gain = spread.mean(dim=-4, keepdim=True) / spread.clamp_min(_LEAST_SPREAD)
    return (clip - mean).mul_(gain).add_(mean.mean(dim=-4, keepdim=True))


def _find_median_frame(clip: FloatVideo) -> FloatVideo:
    """The lower median of each pixel over time, as ``Tensor.median`` has it, in a quarter of its time."""
    middle = (clip.shape[-4] - 1) // 2
    return torch.from_numpy(np.partition(clip.numpy(), middle, axis=-4)[..., middle : middle + 1, :, :, :])


_LEAST_SPREAD = 1e-3  # in units of std: far below the noise of any camera, so only stills are affected


def normalize_clip(frames: Video, *, protocol: Protocol) -> FloatVideo:
    """Cropped uint8 RGB frames to network input: what training ends with and a test consists of.

    Args:
        frames: ... T 3 h w.
        protocol: what the network wants to see, and what is taken away from a clip.

    Returns:
        ... T C h w, float32.
    """
    spec = protocol.input
    clip = normalize_pixels(to_unit_range(frames, gray=spec.color == "gray"), spec)
    return remove_clip_statistics(clip, protocol)


def _build_random_crop(augment: AugmentConfig, spec: InputSpec) -> v2.Transform:
    """The Inception crop: scales are shares of the frame's area, the aspect 3/4 to 4/3 of the network's."""
    aspect = spec.size[1] / spec.size[0]
    area = (min(augment.scales), max(augment.scales))
    return v2.RandomResizedCrop(spec.size, scale=area, ratio=(0.75 * aspect, aspect / 0.75), antialias=True)


def _build_jitter(augment: AugmentConfig) -> v2.Transform | None:
    amounts = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    return v2.ColorJitter(*amounts) if any(amounts) else None


def _build_move(augment: AugmentConfig, spec: InputSpec) -> v2.Transform | None:
    if not (augment.rotate or augment.translate or augment.zoom):
        return None
    mean = [value / spec.scale for value in (spec.mean[::-1] if spec.color == "bgr" else spec.mean)]
    translate = (augment.translate, augment.translate) if augment.translate else None
    scale = (1 - augment.zoom, 1 + augment.zoom) if augment.zoom else None
    return v2.RandomAffine(
        augment.rotate,
        translate=translate,
        scale=scale,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=mean,
    )
