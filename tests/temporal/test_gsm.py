"""Gate-shift against its equations written out, its published counts, and what it promises as it starts."""

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kinemix
from kinemix.errors import ConfigError
from kinemix.evaluate.complexity import measure_complexity
from kinemix.models.backbones import create_backbone
from kinemix.models.insertion import find_sites_in_trace
from kinemix.models.trace import Trace, trace_network
from kinemix.models.video import VideoModel
from kinemix.temporal.base import Site
from kinemix.temporal.gsm import GateShift

CLASSES = 174  # Something-Something v1


def make_module(channels: int = 8, *, random: bool = True, **options: object) -> GateShift:
    site = Site(path="block.conv", channels=channels, height=5, width=4, num_frames=6)
    module = GateShift(site, **options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    if random:
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return module


def make_clip(channels: int = 8, *, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(2, 6, channels, 5, 4)


def permute_channels(clip: Tensor) -> Tensor:
    """Output channel 2 j + i of each half is its channel i C/4 + j."""
    half, quarter = clip.shape[2] // 2, clip.shape[2] // 4
    order = [h * half + i * quarter + j for h in (0, 1) for j in range(quarter) for i in (0, 1)]
    return clip[:, :, order]


def compute_naively(module: GateShift, clip: Tensor) -> Tensor:
    """Equations 1 to 6, frame by frame, with torch's 3D convolution and 3D norm."""
    x = clip.transpose(1, 2)
    seen = x
    if module.norm is not None:
        seen = F.batch_norm(
            x,
            None if module.training else module.norm.running_mean,
            None if module.training else module.norm.running_var,
            module.norm.weight,
            module.norm.bias,
            training=module.training,
        ).relu()
    raw = F.conv3d(seen, module.gate_conv.weight, module.gate_conv.bias, padding=1, groups=2)
    gate = raw.tanh() if module.gate == "tanh" else raw.sigmoid()
    num_frames, half = clip.shape[1], clip.shape[2] // 2
    halves = []
    for number, part in enumerate((x[:, :half], x[:, half:])):
        y = gate[:, number : number + 1] * part
        r = part - y
        nothing = torch.zeros_like(y[:, :, 0])
        z = []
        for t in range(num_frames):
            neighbour = t + 1 if number == 0 else t - 1
            z.append((y[:, :, neighbour] if 0 <= neighbour < num_frames else nothing) + r[:, :, t])
        halves.append(torch.stack(z, dim=2))
    out = torch.cat(halves, dim=1).transpose(1, 2)
    return permute_channels(out) if module.interleave else out


@pytest.mark.parametrize("gate", ["tanh", "sigmoid"])
@pytest.mark.parametrize("gate_norm", [True, False])
@pytest.mark.parametrize("interleave", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_equations_and_their_gradients(
    gate: str, gate_norm: bool, interleave: bool, training: bool
) -> None:
    module = make_module(gate=gate, gate_norm=gate_norm, interleave=interleave).double().train(training)
    if module.norm is not None:
        module.norm.running_mean.normal_()
        module.norm.running_var.uniform_(0.5, 2)
    clip = make_clip().double().requires_grad_()
    weights = torch.randn_like(clip)
    variables = [clip, *module.parameters()]
    expected = compute_naively(module, clip)
    torch.testing.assert_close(module(clip), expected)
    ours = torch.autograd.grad((module(clip) * weights).sum(), variables)
    theirs = torch.autograd.grad((expected * weights).sum(), variables)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_gradcheck() -> None:
    module = make_module(4).double().eval()
    clip = make_clip(4)[:1, :3, :, :2, :2].double().requires_grad_()
    assert torch.autograd.gradcheck(module, (clip,))


def test_running_statistics_are_those_of_a_norm_over_the_clip() -> None:
    module, clip = make_module(), make_clip()
    norm = nn.BatchNorm3d(8)
    norm(clip.transpose(1, 2))
    module(clip)
    assert module.norm is not None
    torch.testing.assert_close(module.norm.running_mean, norm.running_mean)
    torch.testing.assert_close(module.norm.running_var, norm.running_var)


def test_half_precision_takes_another_way_to_the_same_gate() -> None:
    module, clip = make_module(), make_clip()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = module(clip)
    torch.testing.assert_close(low, compute_naively(module, clip), atol=0.05, rtol=0.05)
    torch.testing.assert_close(
        copy.deepcopy(module).bfloat16()(clip.bfloat16()).float(), low, atol=0.1, rtol=0.05
    )


def test_it_starts_as_the_identity_and_with_interleave_as_a_permutation() -> None:
    clip = make_clip()
    assert torch.equal(make_module(random=False, interleave=False)(clip), clip)
    assert torch.equal(make_module(random=False)(clip), permute_channels(clip))
    assert not make_module(6).interleave


def test_reversed_in_time_the_halves_change_places() -> None:
    """Swap the halves of clip and weights, turn the kernels round in time: the output is swapped, reversed."""
    module = make_module(gate_norm=False, interleave=False)
    mirrored = copy.deepcopy(module)
    with torch.no_grad():
        mirrored.gate_conv.weight.copy_(module.gate_conv.weight.flip(0, 2))
        mirrored.gate_conv.bias.copy_(module.gate_conv.bias.flip(0))  # type: ignore[union-attr]
    clip = make_clip()

    def mirror(x: Tensor) -> Tensor:
        return x.unflatten(2, (2, 4)).flip(1, 2).flatten(2, 3)

    torch.testing.assert_close(mirrored(mirror(clip)), mirror(module(clip)))


def test_an_open_gate_shifts_each_half_its_own_way() -> None:
    module = make_module(random=False, interleave=False)
    nn.init.constant_(module.gate_conv.bias, 20.0)  # type: ignore[arg-type]  # tanh(20) is 1
    clip = make_clip()
    out = module(clip)
    torch.testing.assert_close(out[:, :-1, :4], clip[:, 1:, :4])
    torch.testing.assert_close(out[:, 1:, 4:], clip[:, :-1, 4:])
    assert out[:, -1, :4].abs().max() == out[:, 0, 4:].abs().max() == 0


def test_the_last_of_an_odd_number_of_channels_stays() -> None:
    odd, even = make_module(7, interleave=False).eval(), make_module(6, interleave=False).eval()
    clip = make_clip(7)
    torch.testing.assert_close(odd(clip), torch.cat([even(clip[:, :, :6]), clip[:, :, 6:]], dim=2))


@pytest.mark.parametrize(("gate_norm", "expected"), [(True, 29 * 64 + 2), (False, 27 * 64 + 2)])
def test_parameters(gate_norm: bool, expected: int) -> None:
    assert sum(p.numel() for p in make_module(64, gate_norm=gate_norm).parameters()) == expected


def test_options_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"6 channels at 'block.conv'.*interleave=False"):
        make_module(6, interleave=True)
    with pytest.raises(ConfigError, match="did you mean 'sigmoid'"):
        make_module(gate="sigmoyd")
    with pytest.raises(ConfigError, match="two channels"):
        make_module(1, interleave=False)


# ---------------------------------------------------------------------------------------------- in whole networks


@cache
def make_model(name: str, **options: object) -> VideoModel:
    with torch.device("meta"):
        return kinemix.create_model(name, num_classes=CLASSES, **options)


# Modules, parameters, multiply-adds in G (8 frames), and what Table 2 says of both.
TABLE_2 = [
    (None, 10_448_590, 16.254, 10.45, 16.37),
    (1, 10_458_800, 16.258, 10.46, 16.37),
    (5, 10_480_152, 16.278, 10.48, 16.39),
    (10, 10_499_650, 16.339, 10.5, 16.46),
]


@pytest.mark.parametrize("row", TABLE_2, ids=lambda row: f"{row[0] or 0}-modules")
def test_bn_inception_as_in_table_2(row: tuple[int | None, int, float, float, float]) -> None:
    num_modules, parameters, macs, published_parameters, published_macs = row
    model = (
        make_model("gsm_bn_inception", num_modules=num_modules)
        if num_modules
        else make_model("tsn_bn_inception")
    )
    cost = measure_complexity(model)
    assert cost.parameters == parameters
    assert cost.parameters == pytest.approx(published_parameters * 1e6, abs=0.006e6)
    assert cost.macs == pytest.approx(macs * 1e9, rel=1e-4)
    assert cost.macs == pytest.approx(published_macs * 1e9, rel=0.01)
    assert len(model.sites) == (num_modules or 0)
    assert cost.added_parameters == sum(29 * site.channels + 2 for site in model.sites)
    assert cost.added_macs == sum(27 * 8 * s.channels * s.height * s.width for s in model.sites)


def test_bn_inception_places() -> None:
    sites = make_model("gsm_bn_inception").sites
    assert [site.channels for site in sites] == [64, 64, 128, 224, 192, 160, 96, 128, 352, 352]
    assert [site.path.split(".")[1] for site in sites if site.path[10:12] in ("3c", "4e")] == [
        "conv_3x3_reduce"
    ] * 2
    assert sum(site.path.endswith("conv_1x1.conv") and site.place == "after" for site in sites) == 8


def test_bn_inception_with_16_frames() -> None:
    cost = measure_complexity(make_model("gsm_bn_inception"), num_frames=16)
    assert cost.macs == pytest.approx(32.68e9, rel=1e-3)
    assert cost.macs == pytest.approx(32.92e9, rel=0.01)


# Frames, multiply-adds in G, and the published ones (Table 4).
@pytest.mark.parametrize(
    ("num_frames", "macs", "published"),
    [(8, 26.69, 26.85), (12, 40.04, 40.26), (16, 53.38, 53.7), (24, 80.08, 80.55)],
)
def test_inception_v3(num_frames: int, macs: float, published: float) -> None:
    model = make_model("gsm_inception_v3")
    cost = measure_complexity(model, num_frames=num_frames)
    assert cost.parameters == 22_207_586
    assert cost.parameters == pytest.approx(22.21e6, abs=0.005e6)
    assert cost.macs == pytest.approx(macs * 1e9, rel=1e-3)
    assert cost.macs == pytest.approx(published * 1e9, rel=0.01)


def test_inception_v3_places_and_the_map_sizes_of_table_8() -> None:
    sites = make_model("gsm_inception_v3").sites
    assert [site.channels for site in sites] == [64, 64, 64, 64, 192, 192, 192, 192, 320, 320]
    assert [site.height for site in sites] == [27, 27, 27, 27, 13, 13, 13, 13, 6, 6]
    assert not any("Mixed_6d" in site.path for site in sites)


@cache
def trace_backbone(name: str) -> tuple[nn.Module, Trace]:
    with torch.device("meta"):
        backbone = create_backbone(name, num_classes=2)
    return backbone.network, trace_network(backbone.network, channels=3, input_size=backbone.input_spec.size)


def find_paths(backbone: str, **options: object) -> list[str]:
    insertion = GateShift.choose_insertion(backbone, **options)  # type: ignore[arg-type]
    assert insertion is not None
    return [site.path for site in find_sites_in_trace(*trace_backbone(backbone), insertion, num_frames=8)]


@pytest.mark.parametrize("backbone", ["bn_inception", "inception_v3"])
@pytest.mark.parametrize(("branch", "expected"), [(1, 10), (2, 10), (3, 8), (4, 10), ("all", 36)])
def test_branches_of_table_1(backbone: str, branch: int | str, expected: int) -> None:
    paths = find_paths(backbone, branch=branch)
    assert len(paths) == len(set(paths)) == expected
    assert (paths == find_paths(backbone)) == (branch == 4)
    assert all(path.endswith(".conv") for path in paths)


@pytest.mark.parametrize("backbone", ["inception_v3.tv_in1k", "torchvision.inception_v3"])
def test_other_inceptions_have_the_same_places(backbone: str) -> None:
    assert find_paths(backbone) == find_paths("inception_v3")


def test_all_options_reach_the_modules_and_the_description() -> None:
    options = {"branch": "all", "num_modules": 1, "gate": "sigmoid", "gate_norm": False, "interleave": False}
    model = make_model("gsm_bn_inception", **options)
    modules = list(model.temporal_modules().values())
    assert len(modules) == 4
    for module in modules:
        assert isinstance(module, GateShift)
        assert (module.gate, module.norm, module.interleave) == ("sigmoid", None, False)
    assert options.items() <= model.description.items()


def test_places_out_of_range() -> None:
    with pytest.raises(ConfigError, match="branch is 5: it must be 1, 2, 3, 4 or 'all'"):
        make_model("gsm_bn_inception", branch=5)
    with pytest.raises(ConfigError, match="num_modules is 11: bn_inception has places for 1 to 10"):
        make_model("gsm_bn_inception", num_modules=11)
    with pytest.raises(ConfigError, match="bn_inception and inception_v3, not 'resnet18'"):
        make_model("gsm_resnet18", branch=1)


@pytest.mark.parametrize("backbone", ["bn_inception", "inception_v3"])
def test_without_interleave_the_logits_start_as_the_plain_networks(backbone: str) -> None:
    options = {"num_classes": 3, "num_frames": 2, "input_size": 96}
    torch.manual_seed(0)
    plain = kinemix.create_model(f"tsn_{backbone}", **options).eval()
    model = kinemix.create_model(f"gsm_{backbone}", interleave=False, **options).eval()
    state = plain.state_dict()
    hosts = {site.path for site in model.sites}
    for key in [key for key in state if key.rpartition(".")[0].removeprefix("backbone.") in hosts]:
        path, _, tensor = key.rpartition(".")
        state[f"{path}.host.{tensor}"] = state.pop(key)
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(".temporal." in key for key in left.missing_keys)
    clip = torch.randn(2, 2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(model(clip), plain(clip))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3_small_100", "densenet121", "vgg11"])
def test_any_network_of_timm(backbone: str) -> None:
    model = kinemix.create_model(f"gsm_{backbone}", num_classes=3, num_frames=2, input_size=32).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 2, 3, 32, 32)).shape == (1, 3)


def test_a_whole_network_exports_with_any_batch() -> None:
    model = kinemix.create_model("gsm_resnet10t", num_classes=3, num_frames=2, input_size=64).eval()
    for module in model.temporal_modules().values():
        nn.init.normal_(module.gate_conv.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    dynamic = ({0: torch.export.Dim("num_clips", max=64)},)
    program = torch.export.export(model, (torch.randn(2, 2, 3, 64, 64),), dynamic_shapes=dynamic)
    clip = torch.randn(3, 2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(clip), model(clip))


@pytest.mark.slow
def test_the_module_compiles_to_machine_code() -> None:
    module, clip = make_module().eval(), make_clip()
    compiled = torch.compile(module, fullgraph=True)
    torch.testing.assert_close(compiled(clip), module(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["bn_inception", "inception_v3"])
def test_whole_networks_compile_and_run_in_bfloat16(backbone: str) -> None:
    torch.manual_seed(0)
    model = kinemix.create_model(f"gsm_{backbone}", num_classes=3, num_frames=2, input_size=96).eval()
    clip = torch.randn(1, 2, 3, 96, 96)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(clip), model(clip), rtol=1e-3, atol=1e-4)
        assert copy.deepcopy(model).bfloat16()(clip.bfloat16()).isfinite().all()
