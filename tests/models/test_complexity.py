"""Parameters and multiply-adds against the published tables ("MixTConv", Tables 2 and 3), memory and time."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

import kinemix
from kinemix.cli import main
from kinemix.errors import ConfigError
from kinemix.evaluate.complexity import measure_complexity, plan
from kinemix.evaluate.latency import find_device, measure_latency
from kinemix.evaluate.memory import measure_memory
from kinemix.evaluate.support import (
    CLIP_NETWORKS,
    WAYS,
    check_networks,
    check_support,
    explain_bfloat16,
    list_networks,
    write_support,
)
from kinemix.models.video import VideoModel
from kinemix.temporal import Site, TemporalModule, shelf

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


class Recurrent(TemporalModule):
    """Recurrent cells over the spatial mean; what torch's counter sees of them depends on the path taken."""

    name = "recurrent"

    def __init__(self, site: Site, *, kind: str = "gru", own_macs: int | None = None) -> None:
        super().__init__(site)
        self.own_macs = own_macs
        layers = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
        self.cells = layers[kind](site.channels, site.channels, num_layers=2, batch_first=True)

    def forward(self, clip: Tensor) -> Tensor:
        return clip * self.cells(input=clip.mean(dim=(3, 4)))[0][..., None, None]

    def macs(self, num_frames: int, height: int, width: int) -> int | None:
        return self.own_macs


def make_recurrent(**options: object) -> VideoModel:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    return kinemix.temporalize(
        network, Recurrent, num_frames=6, input_size=8, placement={"at": "0", "place": "after"}, **options
    )


PLAIN = 6 * (64 * 4 * 27 + 4 * 5)


@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_recurrent_cells_are_counted(kind: str, gates: int) -> None:
    """Each of two layers multiplies 4 + 4 values by ``gates x 4`` rows, in each of 6 frames."""
    cost = measure_complexity(make_recurrent(kind=kind))
    assert cost.recurrent_macs == 6 * 2 * gates * 4 * (4 + 4)
    assert cost.macs == PLAIN + cost.recurrent_macs
    assert cost.added_macs == cost.recurrent_macs


def test_what_a_module_counts_itself_is_not_counted_twice() -> None:
    cost = measure_complexity(make_recurrent(own_macs=1000))
    assert (cost.macs, cost.added_macs) == (PLAIN + 1000, 1000)


def make_chain() -> VideoModel:
    """Maps of 2, then 8 channels, then one vector a frame."""
    network = nn.Sequential(
        nn.Conv2d(3, 2, 3, padding=1),
        nn.Conv2d(2, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 16 * 16, 5),
    )
    return kinemix.temporalize(network, "tsn", num_frames=2, input_size=16)


def test_peak_memory_by_hand() -> None:
    """In evaluation both maps live. Training keeps them; the worst moment is the backward pass of the classifier.

    Then the gradient of its weights is made, and the gradient of the map.
    """
    channel = 4 * 2 * 16 * 16  # bytes of one channel of both frames
    memory = measure_memory(make_chain())
    assert memory.inference == (2 + 8) * channel
    weights, logits = 4 * 5 * 8 * 16 * 16, 4 * 2 * 5
    worst = (2 + 8) * channel + 8 * channel + weights
    assert worst <= memory.training <= worst + 4 * logits
    assert measure_memory(make_chain(), batch_size=3).inference == 3 * memory.inference


def test_peak_memory_of_resnet50() -> None:
    """All its convolutions together give 11.1 million values at 224 px (a published count).

    In training they and their normalised copies are kept. In evaluation the worst moment holds a few of the
    widest maps, of 256 channels of 56 x 56 pixels.
    """
    memory = measure_memory(make("tsn"), num_frames=1)
    kept = 4 * 2 * 11.1e6
    assert kept <= memory.training <= 1.1 * kept
    widest = 4 * 56 * 56 * 256
    assert 2 * widest <= memory.inference <= 4 * widest


def test_measuring_memory_changes_nothing() -> None:
    model = make_chain()
    model.backbone[1].eval()
    measure_memory(model)
    assert model.training
    assert not model.backbone[1].training
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())


def test_latency() -> None:
    model = kinemix.temporalize(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5)),
        "tsn",
        num_frames=2,
        input_size=8,
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    threads, told = torch.get_num_threads(), []
    latency = measure_latency(model, runs=3, threads=1, progress=lambda *state: told.append(state))
    assert (latency.runs, latency.training_runs) == (3, 3)
    assert all(
        math.isfinite(s) and s > 0 for s in (latency.forward, latency.training_forward, latency.backward)
    )
    assert latency.spread >= 1
    assert latency.device.endswith("1 thread")
    assert told == [(mode, i, 4) for mode in ("inference", "training") for i in (1, 2, 3, 4)]
    assert torch.get_num_threads() == threads
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert measure_latency(model, runs=50, seconds=0).runs == 1


def test_a_batch_too_small_for_batch_norm() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5)
    )
    model = kinemix.temporalize(network, "tsn", num_frames=1, input_size=8)
    for measure in (measure_memory, measure_latency):
        with pytest.raises(ConfigError, match=r"batch_size is 1: .* measure 2 clips or more"):
            measure(model)
    assert measure_memory(model, batch_size=2).training > 0


def test_unknown_device() -> None:
    with pytest.raises(ConfigError, match="device 'gpu' cannot be used"):
        find_device("gpu")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["complexity", "tsm_resnet18", "--frames", "2", "--size", "64", "--num_classes", "5"]
    assert main([*words, "--no-latency", "--format", "json"]) == 0
    [cost] = json.loads(capsys.readouterr().out)
    with torch.device("meta"):
        model = kinemix.create_model("tsm_resnet18", num_classes=5, num_frames=2, input_size=64)
    assert (cost["macs"], cost["latency"]) == (measure_complexity(model).macs, None)
    assert cost["peak_activation_bytes"]["training"] == measure_memory(model).training
    assert main([*words, "--runs", "1"]) == 0
    assert "median of 1 forward runs" in capsys.readouterr().out
    # Too short a clip for one of the two.
    assert main([*words[:2], "torchvision.s3d", *words[2:], "--no_latency"]) == 2
    told = capsys.readouterr()
    assert "tsm_resnet18" in told.out
    assert "S3D cannot take a clip of 3 x 2 x 64 x 64" in told.err
    assert told.err.rstrip().endswith("try more frames or another size")
    assert main(["complexity"]) == 2
    assert "name one model or more" in capsys.readouterr().err


def test_support_says_why_not() -> None:
    class Shy(nn.Module):
        """Its output depends on a value, which no exporter can follow; half precision overflows."""

        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                return x * float("inf")
            return x if x.sum().item() > 0 else x + 1

    network = nn.Sequential(nn.Conv2d(3, 4, 3), Shy(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    model = make_chain()
    answers = check_support(model, backend="eager")
    assert [(a.way, str(a)) for a in answers] == [(way, "yes") for way in WAYS]
    model.backbone = network
    answers = {a.way: a for a in check_support(model, backend="eager")}
    assert answers["float32"].works
    assert not answers["bfloat16"].works
    assert "NaN" in answers["bfloat16"].detail
    assert answers["torch.compile"].detail.startswith("in pieces")
    assert not answers["torch.export, any batch"].works
    assert "| tiny | yes |" in write_support({"tiny": list(answers.values())})


def test_the_matrix_has_every_module() -> None:
    assert all(any(network.startswith(name + "_") for network in list_networks()) for name in shelf.names())


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("r3d_resnet50", "backbone.stem.0 (3 x 7 x 7)"),
        ("mtconv_x3d_s", "backbone.stem.spatial (1 x 3 x 3)"),
        ("gsm_resnet18", None),  # its 3 x 3 x 3 convolution has two groups
        ("mtconv_resnet18", "backbone.layer1.0.conv1.temporal.local.conv (3 x 3 x 3)"),
        ("ctm_resnet18", None),
    ],
)
def test_training_in_bfloat16_is_not_tried_where_it_corrupts_memory(name: str, culprit: str | None) -> None:
    with torch.device("meta"):
        model = kinemix.create_model(name, num_classes=5, num_frames=4, input_size=64)
    fault = explain_bfloat16(model)
    assert (fault is not None and culprit in fault) if culprit else fault is None, fault
    assert explain_bfloat16(model.requires_grad_(False)) is None  # what does not learn is never asked


def test_support_names_the_convolution_that_bfloat16_cannot_train() -> None:
    model = make_chain()
    model.backbone = nn.Sequential(
        nn.Unflatten(1, (3, 1)), nn.Conv3d(3, 5, (1, 3, 3)), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    )
    answers = {a.way: a for a in check_support(model, backend="eager")}
    assert [way for way, answer in answers.items() if not answer.works] == ["bfloat16"]
    detail = answers["bfloat16"].detail
    assert "forward only" in detail
    assert "backbone.1 (1 x 3 x 3)" in detail


@pytest.mark.slow
def test_a_model_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "tsn_resnet18", "--support", "--num_frames", "2", "--size", "32"]
    assert main([*words, "--format", "json"]) == 0
    answers = json.loads(capsys.readouterr().out)["support"]
    assert [(a["way"], a["works"]) for a in answers] == [(way, True) for way in WAYS]


@pytest.mark.slow
@pytest.mark.parametrize("name", list_networks())
def test_support_of_the_shelf(name: str) -> None:
    """Every module can do everything; a clip network's own layers may not, and then it says which."""
    answers = check_networks([name])[name]
    refused = [a.way for a in answers if not a.works]
    assert refused in ([], ["bfloat16"]), answers
    if refused:
        assert "forward only" in answers[1].detail, answers
        assert name in (*CLIP_NETWORKS, "mtconv_x3d_s")
