"""Parameters and multiply-adds against the published tables ("MixTConv", Tables 2 and 3)."""

import json

import pytest
import torch
from torch import nn

import kinemix
from kinemix.evaluate.complexity import measure_complexity, plan
from kinemix.models.video import VideoModel

CLASSES = 174  # Something-Something v1
# ResNet-50's published count with 1000 classes, minus its classifier, plus one of 174 classes.
R50 = 25_557_032 - 2049 * 1000 + 2049 * CLASSES
# Input channels of conv1 in the 16 bottlenecks, and the pixels of the maps there at 224 px.
WIDTHS = [64, 256, 256, 256, *[512] * 4, *[1024] * 6, 2048, 2048]
PIXELS = [56**2] * 4 + [28**2] * 4 + [14**2] * 6 + [7**2] * 2
INNER_WIDTHS = [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3
# The first convolution of a bottleneck keeps the size; the second one strides.
INNER_PIXELS = [56**2] * 4 + [28**2] * 4 + [14**2] * 6 + [7**2] * 2


def make(name: str, **options: object) -> VideoModel:
    with torch.device("meta"):
        return kinemix.create_model(f"{name}_resnet50", num_classes=CLASSES, **options)


def count_taps(channels: int, kernel_sizes: tuple[int, ...]) -> int:
    """Weights of contiguous channel groups, the last of which takes the remainder."""
    share = channels // len(kernel_sizes)
    rest = channels - share * (len(kernel_sizes) - 1)
    return sum(share * k for k in kernel_sizes[:-1]) + rest * kernel_sizes[-1]


def test_the_formula_for_resnet50_is_the_published_count() -> None:
    assert R50 == 23_864_558
    assert sum(WIDTHS) == 13_120


@pytest.mark.parametrize("name", ["tsn", "tsm"])
@pytest.mark.parametrize(("num_frames", "published"), [(8, 33e9), (16, 65e9)])
def test_tsn_and_tsm(name: str, num_frames: int, published: float) -> None:
    cost = measure_complexity(make(name), num_frames=num_frames)
    assert cost.parameters == R50
    assert cost.macs == pytest.approx(32.70e9 * num_frames / 8, rel=1e-3)
    assert cost.macs == pytest.approx(published, rel=0.01)
    assert cost.added_macs == cost.added_parameters == 0
    assert len(cost.sites) == (16 if name == "tsm" else 0)


# Kernel sizes, dilations, parameters in millions, and what Table 2 adds to 33 G.
ROWS = [
    ((3,), 1, 23.904, 0.13),
    ((5,), 1, 23.930, 0.22),
    ((7,), 1, 23.956, 0.31),
    ((1, 3), 1, 23.891, 0.09),
    ((1, 3, 5), 1, 23.904, 0.13),
    ((1, 3, 5, 7), 1, 23.917, 0.18),
    ((3, 3, 3), (1, 2, 3), 23.904, 0.13),
]


@pytest.mark.parametrize(("kernel_sizes", "dilations", "millions", "added"), ROWS)
def test_every_row_of_mixtconv(
    kernel_sizes: tuple[int, ...], dilations: object, millions: float, added: float
) -> None:
    cost = measure_complexity(make("mixtconv", kernel_sizes=kernel_sizes, dilations=dilations))
    taps = [count_taps(width, kernel_sizes) for width in WIDTHS]
    assert cost.parameters == R50 + sum(taps)
    assert round(cost.parameters / 1e6, 3) == millions
    assert cost.added_macs == 8 * sum(t * p for t, p in zip(taps, PIXELS, strict=True))
    assert cost.added_macs / 1e9 == pytest.approx(added, abs=0.01)
    assert cost.macs == pytest.approx((33 + added) * 1e9, rel=0.01)
    assert [c.site.channels for c in cost.sites] == WIDTHS


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_depthwise_rows(kernel_size: int) -> None:
    cost = measure_complexity(make("depthwise", kernel_size=kernel_size))
    assert cost.parameters == R50 + kernel_size * sum(WIDTHS)


def test_ordinary_temporal_convolution() -> None:
    """No reading gives the 43 G that Table 2 prints for this row: before conv1 it adds 3 C^2 a pixel."""
    cost = measure_complexity(make("conv1d"))
    assert cost.added_parameters == 3 * sum(w * w for w in WIDTHS)
    assert cost.added_macs == 8 * 3 * sum(w * w * p for w, p in zip(WIDTHS, PIXELS, strict=True))


def test_inner_placement() -> None:
    cost = measure_complexity(make("mixtconv", placement="inner"))
    taps = [count_taps(width, (1, 3, 5, 7)) for width in INNER_WIDTHS]
    assert cost.added_parameters == sum(taps)
    assert [c.site.channels for c in cost.sites] == INNER_WIDTHS


def test_mstnet_is_mixtconv_at_the_head() -> None:
    assert measure_complexity(make("mstnet")) == measure_complexity(
        make("mixtconv", kernel_sizes=(1, 3, 5, 7))
    )


def test_another_clip_than_the_one_it_was_built_for() -> None:
    model = make("mixtconv")
    cost = measure_complexity(model, num_frames=4, input_size=(448, 448))
    assert cost.sites[0].site.num_frames == 4
    assert (cost.sites[0].site.height, cost.sites[0].site.width) == (112, 112)
    # Convolutions are proportional to frames and pixels, the classifier to frames only.
    full, head = measure_complexity(model).macs, 2048 * CLASSES
    assert cost.macs - 4 * head == 2 * (full - 8 * head)


def test_a_plain_convolution_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    cost = measure_complexity(kinemix.temporalize(network, "tsn", num_frames=2, input_size=(8, 10)))
    assert cost.macs == 2 * (80 * 4 * 27 + 80 * 16 + 20)


def test_the_plan_is_plain_data() -> None:
    data = plan(make("mixtconv"))
    assert json.loads(json.dumps(data)) == json.loads(json.dumps(data))
    assert data["model"] == "mixtconv_resnet50"
    assert len(data["sites"]) == 16
    first = data["sites"][0]
    assert first["path"] == "layer1.0.conv1"
    assert (first["channels"], first["height"], first["width"], first["parameters"]) == (64, 56, 56, 256)
    assert data["added_macs"] == sum(site["macs"] for site in data["sites"])


def test_measuring_changes_nothing() -> None:
    model = kinemix.create_model("mixtconv_resnet18", num_classes=3).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    measure_complexity(model, num_frames=2, input_size=(32, 32))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
