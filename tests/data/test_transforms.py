"""One draw a clip; crops against plain slices; normalisation against numpy."""

from itertools import product

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from kinemix.config import AugmentConfig, InputSpec, Protocol
from kinemix.data.transforms import (
    TrainTransform,
    center_crop,
    draw_multi_scale_box,
    draw_random_box,
    drift_exposure,
    normalize_clip,
    remove_clip_statistics,
    resize_to_cover,
)
from kinemix.label_space import LabelSpace

NAMES = ["turn left", "jump", "turn right"]
STILL = AugmentConfig(crop="center", flip="off")


def _protocol(size: tuple[int, int] = (24, 32), **options: object) -> Protocol:
    return Protocol(input=InputSpec(size=size), crop_fraction=1.0, **options)  # type: ignore[arg-type]


def _clip(num_frames: int = 4, height: int = 40, width: int = 56, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num_frames, 3, height, width), generator=generator, dtype=torch.uint8)


def _transform(
    augment: AugmentConfig, protocol: Protocol, frames: torch.Tensor, *, label: int = 1, seed: int = 0
) -> tuple[torch.Tensor, int]:
    transform = TrainTransform(protocol=protocol, augment=augment, space=LabelSpace(class_names=tuple(NAMES)))
    return transform(frames, label, torch.Generator().manual_seed(seed))


EVERYTHING = {
    "multi_scale": AugmentConfig(),
    "random_resized": AugmentConfig(crop="random_resized"),
    "random": AugmentConfig(crop="random", scales=(0.7, 0.875)),
    "center": STILL,
    "colour": AugmentConfig(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "erase": AugmentConfig(erase=1.0),
    "move": AugmentConfig(rotate=20, translate=0.2),
}


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_frame_gets_the_same_draw(name: str, color: str) -> None:
    channels = 1 if color == "gray" else 3
    spec = InputSpec(size=(24, 32), color=color, mean=(0.4,) * channels, std=(0.2,) * channels)  # type: ignore[arg-type]
    same = _clip(1).expand(5, -1, -1, -1)
    for seed in range(8):
        clip, _ = _transform(EVERYTHING[name], Protocol(input=spec), same, seed=seed)
        assert clip.shape == (5, channels, 24, 32)
        assert clip.dtype == torch.float32
        assert (clip == clip[:1]).all()


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_generator_decides_alone(name: str) -> None:
    frames = _clip()
    state = torch.get_rng_state()
    first, label = _transform(EVERYTHING[name], _protocol(), frames, label=0, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    again, label_again = _transform(EVERYTHING[name], _protocol(), frames, label=0, seed=3)
    assert torch.equal(first, again)
    assert label == label_again
    if name != "center":
        others = [
            _transform(EVERYTHING[name], _protocol(), frames, label=0, seed=seed)[0] for seed in range(4, 8)
        ]
        assert any(not torch.equal(first, other) for other in others)


def test_noise_differs_between_frames_and_is_seeded() -> None:
    frames = _clip(1).expand(4, -1, -1, -1)
    noisy = AugmentConfig(crop="center", flip="off", noise=0.1)
    clip, _ = _transform(noisy, _protocol(), frames)
    plain, _ = _transform(STILL, _protocol(), frames)
    assert not torch.equal(clip[0], clip[1])
    assert (clip - plain).std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(clip, _transform(noisy, _protocol(), frames)[0])


def _naive_boxes(H: int, W: int, h: int, w: int, scales: tuple[float, ...]) -> set[tuple[int, int, int, int]]:
    """TSN's crops, written out: 13 offsets for every allowed pair."""
    base_h, base_w = (H, H * w / h) if H * w / h <= W else (W * h / w, W)
    boxes = set()
    for (i, a), (j, b) in product(enumerate(scales), enumerate(scales)):
        if abs(i - j) > 1:
            continue
        ch, cw = int(base_h * a + 1e-6), int(base_w * b + 1e-6)
        sh, sw = (H - ch) // 4, (W - cw) // 4
        offsets = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]  # corners and centre: rows, columns in steps
        offsets += [(2, 0), (2, 4), (4, 2), (0, 2)]  # middles of the sides
        offsets += [(1, 1), (1, 3), (3, 1), (3, 3)]  # quarters
        boxes |= {(r * sh, c * sw, ch, cw) for r, c in offsets}
    return boxes


@pytest.mark.parametrize("frame", [(40, 56), (56, 40), (48, 48), (10, 90)])
@pytest.mark.parametrize("size", [(32, 32), (24, 32), (32, 20)])
def test_multi_scale_boxes_are_the_published_ones(frame: tuple[int, int], size: tuple[int, int]) -> None:
    scales = (1.0, 0.875, 0.75, 0.66)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = {draw_multi_scale_box(frame, size=size, scales=scales) for _ in range(4000)}
    assert drawn == _naive_boxes(*frame, *size, scales)


def test_random_crops_fill_their_range() -> None:
    """224 of a short side of 256 to 320, scaled to frames of 100 x 160: squares of 70 to 87, anywhere."""
    boxes = [draw_random_box((100, 160), size=(224, 224), scales=(0.7, 0.875)) for _ in range(2000)]
    heights = [height for _, _, height, _ in boxes]
    assert all(height == width for _, _, height, width in boxes)
    assert (min(heights), max(heights)) == (70, 87)
    assert sum(heights) / len(heights) == pytest.approx(78.3, abs=0.6)
    assert all(0 <= top <= 100 - h and 0 <= left <= 160 - w for top, left, h, w in boxes)
    places = [left / (160 - w) for _, left, _, w in boxes]
    assert (min(places), max(places)) == (0, 1)
    assert sum(places) / len(places) == pytest.approx(0.5, abs=0.03)
    wide = draw_random_box((100, 160), size=(32, 64), scales=(0.5,))
    assert wide[2:] == (40, 80)


def test_multi_scale_crop_is_a_slice_resized() -> None:
    frames, augment = _clip(3), AugmentConfig(flip="off", scales=(0.75,))
    boxes = _naive_boxes(40, 56, 24, 32, (0.75,))
    clip, _ = _transform(augment, _protocol(), frames, seed=5)
    candidates = []
    for top, left, height, width in boxes:
        part = frames[:, :, top : top + height, left : left + width].contiguous()
        part = F.resize(part, [24, 32], antialias=True)
        candidates.append(normalize_clip(part, protocol=Protocol(input=InputSpec(size=(24, 32)))))
    assert sum(torch.equal(clip, candidate) for candidate in candidates) == 1


def test_flip_mirrors_and_swaps_labels() -> None:
    frames, augment = _clip(), AugmentConfig(crop="center")
    plain, _ = _transform(STILL, _protocol(), frames)
    seen = set()
    for label, mirrored in ((0, 2), (1, 1), (2, 0)):
        for seed in range(20):
            clip, given = _transform(augment, _protocol(), frames, label=label, seed=seed)
            if torch.equal(clip, plain):
                assert given == label
                seen.add((label, "plain"))
            else:
                assert torch.equal(clip, plain.flip(-1))
                assert given == mirrored
                seen.add((label, "mirrored"))
    assert len(seen) == 6


def test_a_direction_without_partner_is_never_mirrored() -> None:
    transform = TrainTransform(
        protocol=_protocol(),
        augment=AugmentConfig(crop="center"),
        space=LabelSpace(class_names=("wave left", "jump")),
    )
    frames = _clip()
    plain, _ = _transform(STILL, _protocol(), frames)
    for seed in range(20):
        clip, label = transform(frames, 0, torch.Generator().manual_seed(seed))
        assert torch.equal(clip, plain)
        assert label == 0


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_normalisation_equals_numpy(color: str) -> None:
    mean, std = ((104.0, 117.0, 128.0), (1.0, 2.0, 3.0)) if color != "gray" else ((100.0,), (50.0,))
    spec = InputSpec(size=(6, 8), color=color, mean=mean, std=std, scale=255.0)  # type: ignore[arg-type]
    frames = _clip(3, 6, 8)
    pixels = frames.numpy().astype(np.float64)
    if color == "bgr":
        pixels = pixels[:, ::-1]
    if color == "gray":
        pixels = np.tensordot(pixels, [0.299, 0.587, 0.114], axes=(1, 0))[:, None]
    expected = (pixels - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    clip = normalize_clip(frames, protocol=Protocol(input=spec))
    np.testing.assert_allclose(clip.numpy(), expected, atol=1e-4)
    difference = normalize_clip(frames, protocol=Protocol(input=spec, difference="clip_mean"))
    np.testing.assert_allclose(difference.numpy(), expected - expected.mean(axis=0), atol=1e-4)


def test_difference_is_the_same_in_training_and_test() -> None:
    protocol, frames = _protocol(difference="clip_mean"), _clip()
    trained, _ = _transform(STILL, protocol, frames)
    cropped = center_crop(resize_to_cover(frames, (24, 32), 1.0), (24, 32))
    assert torch.equal(trained, normalize_clip(cropped, protocol=protocol))
    assert trained.mean(dim=0).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("frame", "size", "fraction", "expected"),
    [
        ((240, 320), (224, 224), 0.875, (256, 341)),
        ((320, 240), (224, 224), 0.875, (341, 256)),
        ((240, 320), (48, 64), 1.0, (48, 64)),
        ((100, 400), (48, 64), 1.0, (48, 192)),
        ((400, 100), (48, 64), 1.0, (256, 64)),
        ((7, 5), (112, 112), 0.875, (179, 128)),
    ],
)
def test_resize_covers_the_crop(
    frame: tuple[int, int], size: tuple[int, int], fraction: float, expected: tuple[int, int]
) -> None:
    resized = resize_to_cover(_clip(1, *frame), size, fraction)
    assert resized.shape[-2:] == expected
    assert resized.dtype == torch.uint8


def test_erased_pixels_are_the_mean_colour() -> None:
    clip, _ = _transform(AugmentConfig(crop="center", flip="off", erase=1.0), _protocol(), _clip())
    plain, _ = _transform(STILL, _protocol(), _clip())
    changed = clip != plain
    assert changed.any()
    assert (clip[changed] == 0).all()
    assert (changed.any(dim=1) == changed.any(dim=1)[:1]).all()


def test_clip_contrast_makes_strong_and_weak_light_alike() -> None:
    protocol = Protocol(input=InputSpec(size=(8, 8)), difference="clip_mean", contrast="clip")
    frames = torch.randint(0, 60, (6, 3, 8, 8), dtype=torch.uint8)
    dark, bright = normalize_clip(frames, protocol=protocol), normalize_clip(frames * 4, protocol=protocol)
    torch.testing.assert_close(dark, bright)
    # By hand: difference from the mean frame in network units, over its standard deviation.
    std = torch.tensor(protocol.input.std).view(3, 1, 1)
    expected = (frames.double() - frames.double().mean(0)) / 255 / std
    torch.testing.assert_close(dark, (expected / expected.std(correction=0)).float())
    two = normalize_clip(torch.stack([frames, frames * 2]), protocol=protocol)
    torch.testing.assert_close(two[1], dark)


def test_clip_contrast_of_a_still_is_zero_and_not_nan() -> None:
    protocol = Protocol(input=InputSpec(size=(8, 8)), difference="clip_mean", contrast="clip")
    still = torch.full((4, 3, 8, 8), 77, dtype=torch.uint8)
    assert normalize_clip(still, protocol=protocol).abs().max() < 1e-3


def test_zoom_is_one_draw_for_all_frames() -> None:
    frames = torch.randint(0, 256, (1, 3, 24, 24), dtype=torch.uint8).expand(5, -1, -1, -1)
    protocol = Protocol(input=InputSpec(size=(24, 24)), crop_fraction=1.0)
    augment = AugmentConfig(crop="center", flip="off", zoom=0.4)
    transform = TrainTransform(protocol=protocol, augment=augment, space=LabelSpace(class_names=("a",)))
    clips = [transform(frames, 0, torch.Generator().manual_seed(seed))[0] for seed in range(3)]
    for clip in clips:
        assert torch.equal(clip, clip[:1].expand_as(clip))
    assert not torch.equal(clips[0], clips[1])


def test_a_reversed_clip_takes_the_label_of_its_reversal() -> None:
    frames = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 8, 8) * 40
    protocol = Protocol(input=InputSpec(size=(8, 8)), crop_fraction=1.0)
    augment = AugmentConfig(crop="center", flip="off", reverse_labels={"open": "close"})
    transform = TrainTransform(
        protocol=protocol, augment=augment, space=LabelSpace(class_names=("open", "jump", "close"))
    )
    seen = set()
    for seed in range(20):
        for label in range(3):
            clip, answer = transform(frames, label, torch.Generator().manual_seed(seed))
            rising = bool(clip[0].mean() < clip[-1].mean())
            assert answer == (label if rising else 2 - label)
            seen.add((label, rising))
    # Both ways for the pair, one way for the class that is not named.
    assert seen == {(0, True), (0, False), (2, True), (2, False), (1, True)}


def test_median_difference_leaves_nothing_where_an_object_passed() -> None:
    protocol = Protocol(input=InputSpec(size=(8, 8)), difference="clip_median")
    background = torch.randint(0, 120, (1, 3, 8, 8), dtype=torch.uint8)
    frames = background.repeat(7, 1, 1, 1)
    for t in range(7):
        frames[t, :, :, t] = 250  # a bar that covers each column once
    clip = normalize_clip(frames, protocol=protocol)
    for t in range(7):
        assert clip[t, :, :, t].min() > 0
        assert clip[t, :, :, torch.arange(8) != t].abs().max() == 0
    torch.testing.assert_close(clip.flip(0), normalize_clip(frames.flip(0), protocol=protocol))


@pytest.mark.parametrize("num_frames", [1, 2, 5, 8])
def test_median_difference_equals_torch_s_median(num_frames: int) -> None:
    protocol = Protocol(input=InputSpec(size=(6, 5)), difference="clip_median")
    clip = torch.randn(2, num_frames, 3, 6, 5)
    ours = remove_clip_statistics(clip, protocol)
    assert torch.equal(ours, clip - clip.median(dim=1, keepdim=True).values)


def test_even_exposure_undoes_a_camera_that_adapts() -> None:
    """Frames that differ by gain and offset alone become one; what moves is left, and no order comes in."""
    protocol = Protocol(input=InputSpec(size=(8, 8)), exposure="frame", difference="clip_median")
    still = torch.rand(1, 3, 8, 8)
    gain, offset = torch.rand(2, 7, 3, 1, 1)
    exposed = still * (0.5 + gain) + offset
    torch.testing.assert_close(
        remove_clip_statistics(exposed, protocol), torch.zeros(7, 3, 8, 8), rtol=0, atol=1e-5
    )
    flat = remove_clip_statistics(torch.full((5, 3, 8, 8), 0.3), protocol)
    assert flat.abs().max() < 1e-5
    clip = torch.rand(6, 3, 8, 8)
    forwards, backwards = (remove_clip_statistics(c, protocol) for c in (clip, clip.flip(0)))
    torch.testing.assert_close(forwards.flip(0), backwards)


def test_drift_is_a_straight_line_of_stops() -> None:
    clip = torch.full((5, 1, 2, 2), 0.25)
    light = drift_exposure(clip, 2.0)[:, 0, 0, 0]
    torch.testing.assert_close(light, torch.tensor([0.125, 0.1767767, 0.25, 0.3535534, 0.5]))
    assert drift_exposure(torch.full((3, 1, 1, 1), 0.9), 1.0).max() == 1  # white is the brightest
    torch.testing.assert_close(drift_exposure(clip[:1], 3.0), clip[:1] * 2**-1.5)
