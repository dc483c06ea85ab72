"""3D networks: X3D and the 3D ResNets against independent ones, torchvision's under our layout, all in use."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import kinemix
from kinemix.cli import main
from kinemix.data.catalog.motion import make_motion
from kinemix.errors import ConfigError, KinemixError, LayoutError
from kinemix.evaluate.complexity import measure_complexity
from kinemix.models.backbones import create_backbone
from kinemix.models.checkpoint import load_checkpoint, save_checkpoint
from kinemix.models.networks import find_networks
from kinemix.models.networks.x3d import translate
from kinemix.models.video import Inserted, VideoModel, Volume

VIDEO = "torchvision."

# The networks with more parameters take seconds to make.
LARGE = pytest.param("r3d_resnet18", marks=pytest.mark.slow)
SMALL = ["x3d_s", "torchvision.mc3_18", LARGE, pytest.param("r2plus1d_resnet50", marks=pytest.mark.slow)]
KINETICS = (0.43216, 0.394666, 0.37645)


def make(name: str, **options: object) -> VideoModel:
    """A small network with random weights everywhere: no branch starts at zero."""
    torch.manual_seed(0)
    settings = {"num_classes": 5, "num_frames": 4, "input_size": 32} | options
    model = kinemix.create_model(name, **settings).eval()
    randomise_(model)
    return model


def randomise_(network: nn.Module) -> None:
    """Weights that let a signal through, and norms that do something in evaluation."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)


# --------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("name", "num_frames", "size", "parameters", "gmacs"),
    [
        # X3D as its author's code prints it; 48 parameters fewer in PyTorchVideo, without one norm.
        ("x3d_s", 13, 160, 3_794_322, 1.963),
        ("x3d_m", 16, 224, 3_794_322, 4.733),
        ("x3d_l", 16, 312, 6_153_432, 18.368),
        # MTNet, Table II: 36.7 M and 53.2 G = 2 x 26.6; Table V: 69.0 M and 78.0 G = 2 x 39.0.
        ("r3d_resnet50", 16, 224, 36_724_688, 26.47),
        ("r3d_resnet101", 16, 224, 69_060_048, 39.13),
        # Table II has 38.8 M and 56.0 G here, which no known rule gives.
        ("r2plus1d_resnet50", 16, 224, 36_728_801, 25.69),
        # torchvision's documentation of r3d_18, mc3_18, r2plus1d_18 and s3d
        ("r3d_resnet18", 16, 112, 33_371_472, 40.697),
        ("r2plus1d_resnet18", 16, 112, 31_505_325, 40.519),
        ("torchvision.r3d_18", 16, 112, 33_371_472, 40.697),
        ("torchvision.mc3_18", 16, 112, 11_695_440, 43.343),
        ("torchvision.r2plus1d_18", 16, 112, 31_505_325, 40.519),
        ("torchvision.s3d", 128, 224, 8_320_048, 143.832),
    ],
)
def test_counts(name: str, num_frames: int, size: int, parameters: int, gmacs: float) -> None:
    with torch.device("meta"):
        model = kinemix.create_model(name, num_classes=400, num_frames=num_frames, input_size=size)
    cost = measure_complexity(model)
    assert cost.parameters == parameters
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=6e-4 if "x3d" in name else 6e-3)


def test_the_published_tables_within_a_percent() -> None:
    for name, parameters, gflops in [("r3d_resnet50", 36.7e6, 53.2), ("r3d_resnet101", 69.0e6, 78.0)]:
        with torch.device("meta"):
            cost = measure_complexity(kinemix.create_model(name, num_classes=400, num_frames=16))
        assert cost.parameters == pytest.approx(parameters, rel=0.01)
        assert 2 * cost.macs / 1e9 == pytest.approx(gflops, rel=0.01)


# ------------------------------------------------------------------------------------- X3D, transcribed again

# The structure as the paper's Table 1 has it for S: stage, blocks, channels within and out.
X3D_S = [(3, 54, 24), (5, 108, 48), (11, 216, 96), (7, 432, 192)]


class Published:
    """A random state dictionary under the names of one code base, and the network that it means, written out.

    The state is of single precision, as in published files; the network computes in double, so that what is left
    of a comparison is no rounding.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self.state: dict[str, Tensor] = {}
        self.random = torch.Generator().manual_seed(3)

    def name(self, pytorchvideo: str, slowfast: str) -> str:
        return pytorchvideo if self.code == "pytorchvideo" else slowfast

    def tensor(self, key: str, *shape: int, positive: bool = False) -> Tensor:
        if key not in self.state:
            fan_in = max(1, torch.Size(shape[1:]).numel())
            value = torch.randn(shape, generator=self.random) * (2 / fan_in) ** 0.5
            self.state[key] = torch.rand(shape, generator=self.random) + 0.5 if positive else value
        return self.state[key].double()

    def small(self, key: str, width: int) -> Tensor:
        self.state[key] = (self.tensor(key, width) * 0.1).float()
        return self.state[key].double()

    def norm(self, x: Tensor, path: str) -> Tensor:
        width = x.shape[1]
        weight = self.tensor(f"{path}.weight", width, positive=True)
        bias, mean = (self.small(f"{path}.{name}", width) for name in ("bias", "running_mean"))
        var = self.tensor(f"{path}.running_var", width, positive=True)
        self.state[f"{path}.num_batches_tracked"] = torch.tensor(7)
        shape = (1, width, 1, 1, 1)
        x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
        return x * weight.view(shape) + bias.view(shape)

    def pointwise(self, x: Tensor, path: str, width: int, *, bias: bool = False) -> Tensor:
        weight = self.tensor(f"{path}.weight", width, x.shape[1], 1, 1, 1)
        out = torch.einsum("oc,ncthw->nothw", weight[:, :, 0, 0, 0], x)
        return out + self.tensor(f"{path}.bias", width).view(1, -1, 1, 1, 1) if bias else out

    def block(self, x: Tensor, stage: int, index: int, inner: int, out: int) -> Tensor:
        theirs = f"blocks.{stage + 1}.res_blocks.{index}.", f"s{stage + 2}.pathway0_res{index}."
        stride = 2 if index == 0 else 1

        def named(pytorchvideo: str, slowfast: str) -> str:
            return self.name(theirs[0] + pytorchvideo, theirs[1] + slowfast)

        branch = self.pointwise(x, named("branch2.conv_a", "branch2.a"), inner)
        branch = self.norm(branch, named("branch2.norm_a", "branch2.a_bn")).clamp(min=0)
        kernel = self.tensor(named("branch2.conv_b", "branch2.b") + ".weight", inner, 1, 3, 3, 3)
        branch = F.conv3d(branch, kernel, stride=(1, stride, stride), padding=1, groups=inner)
        branch = self.norm(branch, named("branch2.norm_b.0", "branch2.b_bn"))
        if index in range(0, 100, 2):
            width = {54: 8, 108: 8, 216: 16, 432: 32}[inner]  # inner / 16, to a multiple of eight
            gate = branch.mean(dim=(2, 3, 4), keepdim=True)
            gate = self.pointwise(gate, named("branch2.norm_b.1.block.0", "branch2.se.fc1"), width, bias=True)
            gate = self.pointwise(
                gate.clamp(min=0), named("branch2.norm_b.1.block.2", "branch2.se.fc2"), inner, bias=True
            )
            branch = branch / (1 + (-gate).exp())
        branch = branch / (1 + (-branch).exp())
        branch = self.pointwise(branch, named("branch2.conv_c", "branch2.c"), out)
        branch = self.norm(branch, named("branch2.norm_c", "branch2.c_bn"))
        if index == 0:
            x = self.pointwise(x[..., ::2, ::2], named("branch1_conv", "branch1"), out)
            if self.code == "slowfast" or stage > 0:
                x = self.norm(x, named("branch1_norm", "branch1_bn"))
        return (x + branch).clamp(min=0)

    def __call__(self, clip: Tensor) -> Tensor:
        spatial = self.tensor(
            self.name("blocks.0.conv.conv_t", "s1.pathway0_stem.conv_xy") + ".weight", 24, 3, 1, 3, 3
        )
        temporal = self.tensor(
            self.name("blocks.0.conv.conv_xy", "s1.pathway0_stem.conv") + ".weight", 24, 1, 5, 1, 1
        )
        x = F.conv3d(clip.double(), spatial, stride=(1, 2, 2), padding=(0, 1, 1))
        x = F.conv3d(x, temporal, padding=(2, 0, 0), groups=24)
        x = self.norm(x, self.name("blocks.0.norm", "s1.pathway0_stem.bn")).clamp(min=0)
        for stage, (depth, inner, out) in enumerate(X3D_S):
            for index in range(depth):
                x = self.block(x, stage, index, inner, out)
        x = self.pointwise(x, self.name("blocks.5.pool.pre_conv", "head.conv_5"), 432)
        x = self.norm(x, self.name("blocks.5.pool.pre_norm", "head.conv_5_bn")).clamp(min=0)
        x = x.mean(dim=(2, 3, 4), keepdim=True)
        x = self.pointwise(x, self.name("blocks.5.pool.post_conv", "head.lin_5"), 2048).clamp(min=0)
        path = self.name("blocks.5.proj", "head.projection")
        x = x[..., 0, 0, 0] @ self.tensor(f"{path}.weight", 400, 2048).T
        return x + self.tensor(f"{path}.bias", 400)


@pytest.mark.parametrize(
    ("code", "wrapped"), [("pytorchvideo", True), ("slowfast", True), ("slowfast", False)]
)
def test_x3d_with_published_weights(code: str, wrapped: bool, tmp_path: Path) -> None:
    published = Published(code)
    clip = torch.randn(2, 3, 3, 48, 32)
    with torch.no_grad():
        expected = published(clip.transpose(1, 2))
    file = tmp_path / "x3d_s.pyth"
    torch.save({"model_state": published.state, "epoch": 300} if wrapped else published.state, file)
    model = kinemix.create_model(
        "x3d_s", num_classes=400, pretrained=True, backbone_options={"weights": str(file)}
    ).eval()
    with torch.no_grad():
        error = (copy.deepcopy(model).double()(clip.double()) - expected).abs().max()
    # The norm that stands in for PyTorchVideo's missing one is 1 up to single precision; the others are exact.
    assert error < 5e-6 * expected.std()
    other = kinemix.create_model(
        "x3d_s", num_classes=5, pretrained=True, backbone_options={"weights": str(file)}, color="gray"
    )
    assert torch.equal(other.backbone.head.hidden.weight, model.backbone.head.hidden.weight)
    summed = model.backbone.stem.spatial.weight.sum(1, keepdim=True)
    assert torch.equal(other.backbone.stem.spatial.weight, summed)
    assert other.backbone.head.classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)


def test_pytorchvideos_network_in_training_too() -> None:
    """Without the first shortcut's norm, as the option says, no running average or parameter stands in."""
    published = Published("pytorchvideo")
    published(torch.zeros(1, 3, 1, 32, 32))
    network = find_networks()["x3d_s"].make(num_classes=400, first_shortcut_norm=False)
    missing, unexpected = network.load_state_dict(translate(published.state), strict=False)
    assert missing == []
    assert {key.rpartition(".")[0] for key in unexpected} == {"stages.0.0.shortcut_norm"}
    assert sum(p.numel() for p in network.parameters()) == 3_794_274
    assert sum(value.numel() for key, value in published.state.items() if "running" not in key) == (
        3_794_274 + sum("num_batches" in key for key in published.state)
    )


@pytest.mark.parametrize("zero", [True, False])
def test_x3ds_blocks_start_as_shortcuts_unless_told_otherwise(zero: bool) -> None:
    """A depthwise kernel learns at the first step only where the norm behind it lets it be heard."""
    torch.manual_seed(0)
    options = {"depths": (1, 1, 1, 1), "width": 0.25, "zero_init_last": zero}
    model = kinemix.create_model(
        "x3d_s", num_classes=3, num_frames=4, input_size=32, backbone_options=options
    )
    F.cross_entropy(model(torch.randn(4, 4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    kernels = [stage[0].depthwise.weight.grad for stage in model.backbone.stages]
    assert [bool(gradient.any()) for gradient in kernels] == [not zero] * 4
    assert model.backbone.stem.temporal.weight.grad.any()


def test_what_is_no_part_of_x3d_keeps_its_name() -> None:
    left = translate(
        {"blocks.9.odd.weight": torch.zeros(1), "blocks.1.res_blocks.0.new.bias": torch.zeros(1)}
    )
    assert set(left) == {"blocks.9.odd.weight", "stages.0.0.new.bias"}
    own = find_networks()["x3d_s"].make(num_classes=2).state_dict()
    assert all(torch.equal(value, own[key]) for key, value in translate(own).items())


def test_the_published_weights_are_a_file(tmp_path: Path) -> None:
    with pytest.raises(KinemixError, match=r"'x3d_s' cannot be fetched: .*\{'weights': PATH\}"):
        kinemix.create_model("x3d_s", num_classes=2, pretrained=True)
    torch.save({"model_state": {}, "code": Published("slowfast")}, tmp_path / "code.pyth")
    for name in ("code.pyth", "none.pyth"):
        with pytest.raises(KinemixError, match="cannot be had"):
            create_backbone(
                "x3d_m", num_classes=2, pretrained=True, backbone_options={"weights": str(tmp_path / name)}
            )


# ------------------------------------------------------------------------ torchvision's networks as they are


def create_torchvision(name: str, **options: object) -> nn.Module:
    torch.manual_seed(1)
    network = torchvision.models.get_model(name, weights=None, **options)
    randomise_(network)
    return network.eval()


@pytest.mark.parametrize(
    ("ours", "theirs"), [("r3d_resnet18", "r3d_18"), ("r2plus1d_resnet18", "r2plus1d_18")]
)
def test_our_3d_resnets_are_torchvisions(ours: str, theirs: str) -> None:
    """Both write their layers in the order in which they run, so the weights match one by one."""
    model, network = make(ours), create_torchvision(theirs, num_classes=5)
    values = network.state_dict().values()
    model.backbone.load_state_dict(dict(zip(model.backbone.state_dict(), values, strict=True)))
    clip = torch.randn(2, 5, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), network(clip.transpose(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["mc3_18", *(pytest.param(name, marks=pytest.mark.slow) for name in ("r3d_18", "r2plus1d_18"))]
)
def test_torchvisions_network_takes_our_clips(name: str, tmp_path: Path) -> None:
    network = create_torchvision(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    options = {"weights": str(tmp_path / "weights.pth")}
    clip = torch.randn(2, 4, 3, 32, 32)
    model = kinemix.create_model(
        VIDEO + name, num_classes=400, pretrained=True, backbone_options=options
    ).eval()
    assert isinstance(model.layout, Volume)
    with torch.no_grad():
        assert torch.equal(model(clip), network(clip.transpose(1, 2)))
        features = model.forward_features(clip)
        assert features.shape == (2, 1, 512)
        torch.testing.assert_close(network.fc(features[:, 0]), model(clip))
    fresh = create_backbone(
        VIDEO + name, num_classes=3, pretrained=True, color="gray", dropout=0.5, backbone_options=options
    )
    kept = fresh.network.layer2.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in network.layer2.state_dict().items())
    stem = next(m for m in fresh.network.modules() if isinstance(m, nn.Conv3d))
    assert torch.equal(stem.weight, network.stem[0].weight.sum(1, keepdim=True))
    assert fresh.network.fc[0].p == 0.5
    assert fresh.network.fc[1].weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not fresh.network.fc[1].bias.any()


@pytest.mark.parametrize(
    ("name", "size", "mean", "dropout_before"),
    [
        ("r3d_18", 112, KINETICS, "fc"),
        ("s3d", 224, KINETICS, "classifier"),
        ("mvit_v1_b", 224, (0.45,) * 3, "head"),
        ("mvit_v2_s", 224, (0.45,) * 3, "head"),
        ("swin3d_t", 224, (0.485, 0.456, 0.406), "head"),
        ("swin3d_b", 224, (0.485, 0.456, 0.406), "head"),
    ],
)
def test_torchvisions_presets(name: str, size: int, mean: tuple[float, ...], dropout_before: str) -> None:
    """The statistics of the weights' own transforms: ImageNet's for Swin, Kinetics' for the ResNets."""
    with torch.device("meta"):
        made = create_backbone(VIDEO + name, num_classes=3, dropout=0.3)
        gray = create_backbone(VIDEO + name, num_classes=3, color="gray")
    assert made.takes_clips
    assert (made.input_spec.size, made.input_spec.mean) == ((size, size), mean)
    drop, layer = made.network.get_submodule(dropout_before)
    assert (drop.p, layer.weight.shape[0]) == (0.3, 3)
    assert gray.input_spec.mean == pytest.approx((sum(mean) / 3,))
    stem = next(m for m in gray.network.modules() if isinstance(m, nn.Conv3d))
    assert stem.weight.shape[1] == stem.in_channels == 1
    others = [m.p for m in made.network.modules() if isinstance(m, nn.Dropout) and m is not drop]
    assert not any(others), "the attention's dropout is another option"


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_mvit_is_bound_to_its_clip(name: str) -> None:
    wanted = (
        r"takes clips of 16 frames of \(224, 224\) pixels only, not {}: use num_frames=16 and input_size="
    )
    with pytest.raises(ConfigError, match=wanted.format(r"8 of \(224, 224\)")):
        kinemix.create_model(VIDEO + name, num_classes=3)
    with pytest.raises(ConfigError, match=wanted.format(r"16 of \(64, 64\)")):
        kinemix.create_model(VIDEO + name, num_classes=3, num_frames=16, input_size=64)
    with torch.device("meta"):
        model = kinemix.create_model(VIDEO + name, num_classes=3, num_frames=16).eval()
        assert model(torch.zeros(1, 16, 3, 224, 224)).shape == (1, 3)
        with pytest.raises(LayoutError, match="MViT was built for 16 frames a clip, got 8 "):
            model(torch.zeros(1, 8, 3, 224, 224))
        with pytest.raises(
            LayoutError, match=r"MViT was built for frames of \(224, 224\) pixels, got \(256, 2"
        ):
            model(torch.zeros(1, 16, 3, 256, 256))


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s", "swin3d_t"])
def test_transformers_have_no_blocks(name: str) -> None:
    with (
        torch.device("meta"),
        pytest.raises(ConfigError, match=r"it has no block .* such modules go into CNNs"),
    ):
        kinemix.create_model(f"tsm_{VIDEO}{name}", num_classes=3, num_frames=16)


def test_clips_that_are_too_small() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="S3D cannot take a clip of 3 x 8 x 64 x 64"):
        kinemix.create_model("torchvision.s3d", num_classes=3, num_frames=8, input_size=64)


# ------------------------------------------------------------------------------- temporal modules inside them


def test_names() -> None:
    names = kinemix.list_models("*x3d_s")
    assert {"x3d_s", "tsm_x3d_s", "mixtconv_x3d_s"} <= set(names)
    assert kinemix.list_models("torchvision.*")[0].startswith("torchvision.")
    assert {"r3d_resnet50", "r2plus1d_resnet50"} <= set(kinemix.list_models("r*_resnet50"))


@pytest.mark.parametrize(
    ("name", "sites", "first"),
    [
        ("tsm_x3d_s", 26, "stages.0.0.expand"),
        ("mixtconv_r3d_resnet50", 16, "stages.0.0.conv1"),
        ("tsm_r2plus1d_resnet18", 8, "stages.0.0.conv1.0"),
        ("conv1d_torchvision.s3d", 9, "features.5"),
        ("tsm_torchvision.r3d_18", 8, "layer1.0.conv1.0"),
    ],
)
def test_sites(name: str, sites: int, first: str) -> None:
    with torch.device("meta"):
        model = kinemix.create_model(name, num_classes=3, num_frames=16)
    assert len(model.sites) == sites
    assert model.sites[0].path == first
    last = model.sites[-1]
    assert last.stage == (3 if "s3d" in name else 4)
    assert model.sites[0].num_frames == (8 if "s3d" in name or "resnet50" in name else 16)
    assert last.num_frames == (16 if "x3d" in name else 1 if "resnet50" in name else 2)
    assert last.height == last.width > 1


class Small(nn.Module):
    """A user's own 3D network: a stem and one residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 16, 3, stride=(1, 2, 2), padding=1)
        self.block = SmallBlock()
        self.fc = nn.Linear(16, 3)

    def forward(self, clip: Tensor) -> Tensor:
        return self.fc(self.block(self.stem(clip)).mean(dim=(2, 3, 4)))


class SmallBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(16, 16, 3, padding=1)
        self.conv2 = nn.Conv3d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())


def test_a_users_3d_network_with_a_shift() -> None:
    torch.manual_seed(0)
    network = Small().eval()
    model = kinemix.temporalize(network, "tsm", num_frames=4, input_size=16).eval()
    assert [(site.path, site.channels, site.num_frames) for site in model.sites] == [("block.conv1", 16, 4)]
    clip = torch.randn(2, 4, 3, 16, 16)
    with torch.no_grad():
        x = network.stem(clip.transpose(1, 2))
        shifted = x.clone()
        shifted[:, :4] = 0
        shifted[:, :2, :-1] = x[:, :2, 1:]  # the next frame's
        shifted[:, 2:4, 1:] = x[:, 2:4, :-1]  # the previous one's
        x = x + network.block.conv2(network.block.conv1(shifted).relu())
        torch.testing.assert_close(model(clip), network.fc(x.mean(dim=(2, 3, 4))))


@pytest.mark.parametrize("backbone", SMALL)
def test_as_the_identity_nothing_changes(backbone: str) -> None:
    model = make(f"mixtconv_{backbone}", init="delta")
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        logits = model(clip)
        for temporal in model.temporal_modules().values():
            for parameter in temporal.parameters():
                parameter.add_(torch.randn_like(parameter))
        assert not torch.equal(model(clip), logits)
        plain = copy.deepcopy(model)
        for parent in list(plain.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Inserted):
                    setattr(parent, name, child.host)
        assert torch.equal(plain(clip), logits)


@pytest.mark.parametrize("name", [*SMALL, "tsm_x3d_s"])
def test_clips_do_not_mix_and_order_counts(name: str) -> None:
    model = make(name)
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        logits = model(clip)
        torch.testing.assert_close(model(clip[:1]), logits[:1], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(model(clip.flip(1)), logits, rtol=1e-3)
        assert model(torch.randn(1, 7, 3, 48, 32)).shape == (1, 5)
        with pytest.raises(LayoutError, match="looks like B C T H W"):
            model(clip.transpose(1, 2))


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = make(name).train()
    F.cross_entropy(model(torch.randn(2, 4, 3, 32, 32)), torch.tensor([0, 1])).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


# ------------------------------------------------------------------------------------------------- in use


@pytest.mark.parametrize("name", ["mixtconv_x3d_s", "torchvision.mc3_18"])
def test_features_and_checkpoint(name: str, tmp_path: Path) -> None:
    model = make(name)
    clip = torch.randn(2, 4, 3, 32, 32)
    save_checkpoint(tmp_path, model=model, metadata={})
    loaded, _ = load_checkpoint(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(clip), model(clip))
        features = model.forward_features(clip)
        assert features.shape[:2] == (2, 1)
        layer = model.backbone.get_submodule(model.classifier)
        torch.testing.assert_close(layer(features[:, 0]), model(clip))


@pytest.mark.parametrize("name", ["x3d_s", LARGE])
def test_half_precision(name: str) -> None:
    model = make(name)
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        exact, rough = model(clip), copy.deepcopy(model).bfloat16()(clip.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("name", ["tsm_x3d_s", LARGE])
def test_channels_last(name: str) -> None:
    model = make(name)
    clip = torch.randn(2, 4, 3, 32, 32)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        torch.testing.assert_close(other(clip), model(clip), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["shallow", *(pytest.param(n, marks=pytest.mark.slow) for n in ("x3d_s", "r3d_resnet18"))]
)
def test_export_with_a_dynamic_batch(name: str) -> None:
    if name == "shallow":  # exporting takes a while for each block
        network = find_networks()["x3d_s"].make(num_classes=5, depths=(2, 1, 1, 1))
        model = kinemix.temporalize(network, "tsm", num_frames=4, input_size=32).eval()
        randomise_(model)
    else:
        model = make(name)
    program = torch.export.export(
        model, (torch.randn(2, 4, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    for num_clips in (1, 3):  # not the batch that it was exported with
        clip = torch.randn(num_clips, 4, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(clip), model(clip), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tsm_x3d_s", "r3d_resnet18"])
def test_compile(name: str) -> None:
    model = make(name)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for num_frames in (4, 6):
            clip = torch.randn(2, num_frames, 3, 32, 32)
            torch.testing.assert_close(compiled(clip), model(clip), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s3d", "mvit_v2_s", "swin3d_t"])
def test_the_larger_networks_of_torchvision(name: str) -> None:
    network = create_torchvision(name)
    clip = torch.randn(1, 16, 3, 224, 224)
    model = kinemix.create_model(VIDEO + name, num_classes=400, num_frames=16).eval()
    model.backbone.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(model(clip), network(clip.transpose(1, 2)))
        assert model.forward_features(clip).shape[:2] == (1, 1)


def run_cli(*words: object) -> int:
    return main([str(word) for word in words])


def test_train_test_predict(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    motion = make_motion(
        tmp_path / "motion", train_per_class=1, val_per_class=1, num_frames=8, size=32, workers=1
    )
    run = tmp_path / "run"
    words = ["train", motion, "--model", "x3d_s", "--size", 32, "--protocol.num_frames", 4, "--out", run]
    words += ["--augment.flip", "off", "--optim.epochs", 2, "--optim.batch_size", 4, "--data.workers", 0]
    words += ["--machine.accelerator", "cpu", "--machine.threads", 1, "--machine.channels_last", "true"]
    assert run_cli(*words) == 0
    assert run_cli("test", run, motion, "--reverse", "--crops", 3, "--workers", 0) == 0
    assert "4 frames x 1 clip x 3 crops, 32 px" in capfd.readouterr().out
    (video, *_) = sorted((motion / "val").rglob("*.mp4"))
    assert run_cli("predict", run, video, "--top", 2, "--format", "json") == 0
    (answer,) = json.loads(capfd.readouterr().out)
    assert len(answer["predictions"]) == 2


def test_inspect(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cli("inspect", "x3d_s", "--format", "json") == 0
    facts = json.loads(capfd.readouterr().out)
    assert facts["sites"] == []
    assert run_cli("inspect", "tsm_x3d_s", "--num_frames", 13) == 0
    assert "26 sites" in capfd.readouterr().out
