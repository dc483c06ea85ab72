"""Saliency tubes and Grad-CAM equal their formulas, written as loops, whatever the network is made of."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kinemix
from kinemix.data.catalog.motion import draw_boxes, read_boxes
from kinemix.deploy.predict import Recogniser
from kinemix.explain import DoesNotApplyError, compute_saliency, find_last_map, measure_focus, read_view
from kinemix.explain.saliency import scale_to_clip
from kinemix.label_space import LabelSpace


class Linear(nn.Module):
    """Two convolutions and a linear head; rectified and averaged by functions, which no module's hook would see."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1)
        self.head = nn.Linear(5, 3)

    def forward(self, frames: Tensor) -> Tensor:
        frames = F.relu(self.second(F.relu(self.first(frames), inplace=True)), inplace=True)
        return self.head(F.adaptive_avg_pool2d(frames, 1).flatten(1))


class Deep(Linear):
    """The same with a hidden layer before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, frames: Tensor) -> Tensor:
        frames = self.second(self.first(frames).relu()).relu()
        return self.head(self.hidden(frames.mean(dim=(2, 3))).relu())


class Volumes(nn.Module):
    """3D convolutions that halve time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 5, 3, 2, 1), nn.Linear(5, 3)

    def forward(self, volume: Tensor) -> Tensor:
        return self.head(self.conv(volume).relu().mean(dim=(2, 3, 4)))


class Tokens(nn.Module):
    """Patches, then layers that see them as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 4, 4)
        self.layers = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.layers(self.patches(frames).flatten(2).transpose(1, 2)).mean(dim=1))


def make_model(network: type[nn.Module], size: int = 16) -> kinemix.VideoModel:
    torch.manual_seed(0)
    return kinemix.temporalize(network(), "tsn", num_frames=4, input_size=size).eval()


def scale_naively(raw: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Trilinear, pixels aligned at their edges, then 0..1 over all."""
    out = np.zeros(shape)
    for place in product(*map(range, shape)):
        value = 0.0
        sources = [
            min(max((p + 0.5) * raw.shape[d] / shape[d] - 0.5, 0), raw.shape[d] - 1)
            for d, p in enumerate(place)
        ]
        for corner in product((0, 1), repeat=3):
            weight, index = 1.0, []
            for d, (source, one) in enumerate(zip(sources, corner, strict=True)):
                low = int(source)
                weight *= source - low if one else 1 - (source - low)
                index.append(min(low + one, raw.shape[d] - 1))
            value += weight * raw[tuple(index)]
        out[place] = value
    return (out - out.min()) / (out.max() - out.min())


@pytest.mark.parametrize("network", [Linear, Volumes])
def test_tube_is_the_class_weighted_map_over_time_and_space(network: type[nn.Module]) -> None:
    model = make_model(network, 8)
    clip, labels = torch.randn(2, 4, 3, 8, 8), [2, 0]
    inside = model.layout.open(clip)
    with torch.no_grad():
        if network is Linear:
            maps = F.relu(model.backbone.second(F.relu(model.backbone.first(inside)))).unflatten(0, (2, 4))
        else:
            maps = model.backbone.conv(inside).relu().transpose(1, 2)
    weight = model.backbone.head.weight
    B, T, C, H, W = maps.shape
    expected = np.zeros((B, T, H, W))
    for b, t, y, x, c in product(range(B), range(T), range(H), range(W), range(C)):
        expected[b, t, y, x] += float(weight[labels[b], c] * maps[b, t, c, y, x])
    found = compute_saliency(model, clip, labels)
    assert found.way == "tube"
    np.testing.assert_allclose(found.raw.numpy(), expected, rtol=1e-4, atol=1e-6)
    for b in range(B):
        np.testing.assert_allclose(found.heat[b].numpy(), scale_naively(expected[b], (4, 8, 8)), atol=1e-5)
        logit = found.raw[b].mean() + model.backbone.head.bias[labels[b]]
        torch.testing.assert_close(logit, model(clip)[b, labels[b]])


def test_grad_cam_weighs_every_frame_by_its_mean_gradient() -> None:
    model = make_model(Deep, 8)
    clip, labels = torch.randn(2, 4, 3, 8, 8), [1, 2]
    network = model.backbone
    with torch.no_grad():
        maps = network.second(network.first(clip.flatten(0, 1)).relu()).relu()
        hidden = network.hidden(maps.mean(dim=(2, 3)))
    N, C, H, W = maps.shape
    expected = np.zeros((2, 4, H, W))
    for n, y, x in product(range(N), range(H), range(W)):
        b, t = divmod(n, 4)
        for c in range(C):
            # d logit / d A is the same at every pixel: the mean over T frames and H W pixels shares it out.
            alpha = sum(
                float(network.head.weight[labels[b], j] * (hidden[n, j] > 0) * network.hidden.weight[j, c])
                for j in range(6)
            ) / (4 * H * W)
            expected[b, t, y, x] += alpha * float(maps[n, c, y, x])
    found = compute_saliency(model, clip, labels)
    assert found.way == "grad_cam"
    assert "no linear function" in found.reason
    np.testing.assert_allclose(found.raw.numpy(), np.maximum(expected, 0), rtol=1e-3, atol=1e-7)
    with pytest.raises(DoesNotApplyError, match="Deep's classifier 'head'"):
        compute_saliency(model, clip, labels, way="tube")


def test_grad_cam_of_a_linear_head_is_the_positive_part_of_the_tube() -> None:
    model, clip = make_model(Linear), torch.randn(2, 4, 3, 16, 16)
    tube, cam = (compute_saliency(model, clip, [0, 1], way=way) for way in ("tube", "grad_cam"))  # type: ignore[arg-type]
    count = tube.raw[0].numel()
    torch.testing.assert_close(cam.raw, tube.raw.relu() / count, rtol=1e-4, atol=1e-7)


def test_a_network_on_tokens_has_no_places_to_point_at() -> None:
    with pytest.raises(DoesNotApplyError, match="Tokens ends without a map"):
        compute_saliency(make_model(Tokens), torch.randn(1, 4, 3, 16, 16), [0])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("gsm_resnet18", "tube"),
        ("tsm_torchvision.mobilenet_v2", "tube"),
        ("tsn_mobilenetv3_small_050", "grad_cam"),
        ("x3d_s", "grad_cam"),
    ],
)
def test_networks_of_the_shelf_get_the_way_that_their_head_allows(
    trained: Callable[..., object], name: str, way: str
) -> None:
    model = trained(name, input_size=64).model  # type: ignore[attr-defined]
    found = compute_saliency(model, torch.randn(1, 6, 3, 64, 64), [4])
    assert found.way == way
    assert found.heat.shape == (1, 6, 64, 64)
    assert float(found.heat.max()) <= 1
    assert float(found.heat.min()) >= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "frames", "way"),
    [
        ("gsm_bn_inception", 64, 6, "tube"),
        ("gsm_inception_v3", 96, 6, "tube"),
        ("mtnet_s", 64, 6, "grad_cam"),
        ("mtconv_resnet50", 64, 6, "tube"),
        ("r2plus1d_resnet50", 64, 6, "tube"),
        ("tsn_torchvision.densenet121", 64, 6, "tube"),
        ("tsn_torchvision.vgg11", 64, 6, "grad_cam"),
        ("tsm_convnext_atto", 64, 6, "grad_cam"),
        ("torchvision.swin3d_t", 64, 6, "tube"),
        # Its pooling, two frames long and moved by one, takes the map of 16 frames whole;
        # of 32 frames the middle counts twice.
        ("torchvision.s3d", 224, 16, "tube"),
        ("torchvision.s3d", 224, 32, "grad_cam"),
        ("tsn_vit_tiny_patch16_224", 224, 4, None),
        ("torchvision.mvit_v1_b", 224, 16, None),
    ],
)
def test_more_networks_of_the_shelf(
    trained: Callable[..., object], name: str, size: int, frames: int, way: str | None
) -> None:
    model = trained(name, num_frames=frames, input_size=size).model  # type: ignore[attr-defined]
    clip = torch.randn(1, frames, model.input_spec.channels, size, size)
    if way is None:
        with pytest.raises(DoesNotApplyError):
            compute_saliency(model, clip, [4])
    else:
        found = compute_saliency(model, clip, [4])
        assert (found.way, found.heat.shape) == (way, (1, frames, size, size))


def test_the_network_stays_as_it_was() -> None:
    model = make_model(Deep)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        found = compute_saliency(model, torch.randn(1, 4, 3, 16, 16), [0])
    assert not found.heat.requires_grad
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_the_same_everywhere_has_no_heat() -> None:
    assert not scale_to_clip(torch.full((1, 2, 2, 2), 3.0), (1, 2, 3, 4, 4)).any()


def test_focus_is_the_share_of_heat_inside() -> None:
    heat = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    inside = torch.tensor([[[False, True], [False, True]]])
    assert measure_focus(heat, inside) == pytest.approx(0.6)
    assert measure_focus(torch.zeros(1, 2, 2), inside) == pytest.approx(0.5)


class Coloured(nn.Module):
    """Sees how far a place is from grey: the objects of ``motion`` are coloured brighter than what they move over."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[2.0, -1, -1], [-2.0, 1, 1]])[..., None, None])
            self.conv.bias.zero_()
            self.head.weight.fill_(1.0)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.conv(frames).relu().mean(dim=(2, 3)))


def test_tube_boxes_and_frames_stand_in_the_same_place(motion: Path, trained: Callable[..., object]) -> None:
    """A network that sees colour alone points at the moving object, through sampling, resizing and cropping."""
    template = trained()
    model = kinemix.temporalize(Coloured(), "tsn", num_frames=6, input_size=32).eval()
    network = Recogniser(model, protocol=template.protocol, space=LabelSpace(class_names=("a", "b")))  # type: ignore[attr-defined]
    boxes = read_boxes(motion)
    shares, chances = [], []
    for path in sorted(boxes):
        if path.startswith("val/move"):
            view = read_view(network, motion / path)
            clip = view.normalize()
            clip = clip - clip.median(dim=1, keepdim=True).values  # what stays is not of interest
            inside = read_view(network, draw_boxes(boxes[path], 32)).frames[:, 0] > 127
            shares.append(measure_focus(compute_saliency(model, clip, [0]).heat[0], inside))
            chances.append(float(inside.float().mean()))
    assert np.mean(shares) > 3 * np.mean(chances)


def test_last_map_tells_its_logits(trained: Callable[..., object]) -> None:
    model, clip = trained().model, torch.randn(2, 6, 3, 32, 32)  # type: ignore[attr-defined]
    last = find_last_map(model, clip)
    torch.testing.assert_close(last.logits, model(clip))
    assert last.features.shape[:3] == (2, 6, 16)
