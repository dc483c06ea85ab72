"""CTM against its equation written out, position by position, in double precision."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kinemix.errors import ConfigError, LayoutError
from kinemix.temporal import Insertion, Site
from kinemix.temporal.ctm import CollaborativeTemporal, TemporalChannelConv, resize_kernels

FRAMES, CHANNELS, HEIGHT, WIDTH = 4, 8, 3, 2


def make_block(**options: object) -> CollaborativeTemporal:
    torch.manual_seed(0)
    site = Site(path="layer3.0", channels=CHANNELS, height=HEIGHT, width=WIDTH, num_frames=FRAMES)
    block = CollaborativeTemporal(site, **options)  # type: ignore[arg-type]
    for tensor in block.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.2, 1.2)
    return block.double().eval()


def make_clip(num_clips: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(num_clips, FRAMES, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64)


def convolve_naively(kernels: Tensor, clip: Tensor) -> Tensor:
    """Equation 1: O[t, c] at (h, w) is the sum over i, j of K[i, j] at (h, w) times F[t + i, c + j]."""
    clips, frames, channels, height, width = clip.shape
    out = {}
    for b in range(clips):
        for t in range(frames):
            for c in range(channels):
                for h in range(height):
                    for w in range(width):
                        terms = [
                            kernels[h, w, i + 1, j + 1] * clip[b, t + i, c + j, h, w]
                            for i in (-1, 0, 1)
                            for j in (-1, 0, 1)
                            if 0 <= t + i < frames and 0 <= c + j < channels
                        ]
                        out[b, t, c, h, w] = torch.stack(terms).sum()
    return torch.stack(list(out.values())).reshape(clip.shape)


def normalize_naively(state: dict[str, Tensor], name: str, clip: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (clip - mean) / (var + 1e-5).sqrt() * weight + bias


def run_path_naively(state: dict[str, Tensor], path: str, clip: Tensor) -> Tensor:
    def mix(name: str, x: Tensor) -> Tensor:
        return torch.einsum("oc,btchw->btohw", state[f"paths.{path}.{name}.weight"][:, :, 0, 0], x)

    x = normalize_naively(state, f"paths.{path}.reduce_norm", mix("reduce", clip)).clamp(min=0)
    if path == "tccm":
        x = convolve_naively(state["paths.tccm.look.kernels"], x)
    else:
        weight = state["paths.temporal.look.weight"]
        padded = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
        x = sum(torch.einsum("oc,btchw->btohw", weight[:, :, k], padded[:, k : k + FRAMES]) for k in range(3))
    x = normalize_naively(state, f"paths.{path}.look_norm", x).clamp(min=0)
    return normalize_naively(state, f"paths.{path}.restore_norm", mix("restore", x))


@pytest.mark.parametrize("channels_last", [False, True])
def test_equation_1_and_its_gradients(channels_last: bool) -> None:
    torch.manual_seed(0)
    conv = TemporalChannelConv(HEIGHT, WIDTH).double()
    clip = make_clip()
    if channels_last:
        clip = clip.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, clip.shape[:2])
    clip.requires_grad_()
    seed = torch.randn_like(clip)
    ours = conv(clip)
    naive = convolve_naively(conv.kernels, clip)
    torch.testing.assert_close(ours, naive)
    theirs = torch.autograd.grad((naive * seed).sum(), [clip, conv.kernels])
    for mine, reference in zip(
        torch.autograd.grad((ours * seed).sum(), [clip, conv.kernels]), theirs, strict=True
    ):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("paths", [("tccm", "temporal"), ("tccm",), ("temporal",)])
def test_whole_block_and_its_gradients(paths: tuple[str, ...]) -> None:
    block, clip = make_block(paths=paths), make_clip().requires_grad_()
    state = dict(block.named_parameters()) | dict(block.named_buffers())
    naive = clip
    for path in paths:
        naive = naive + run_path_naively(state, path, clip)
    seed = torch.randn_like(clip)
    ours = block(clip)
    torch.testing.assert_close(ours, naive)
    sources = [clip, *block.parameters()]
    theirs = torch.autograd.grad((naive * seed).sum(), sources)
    for mine, reference in zip(torch.autograd.grad((ours * seed).sum(), sources), theirs, strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("paths", ["tccm", "temporal", ("temporal", "tccm")])
def test_starts_as_the_identity_bit_for_bit(paths: str | tuple[str, ...], training: bool) -> None:
    site = Site(path="x", channels=CHANNELS, height=HEIGHT, width=WIDTH, num_frames=FRAMES)
    block, clip = CollaborativeTemporal(site, paths=paths).train(training), make_clip().float()
    assert torch.equal(block(clip), clip)


def test_learns_from_the_start() -> None:
    """The zeros must not stop the gradient: the last norms' scales move first."""
    site = Site(path="x", channels=CHANNELS, height=HEIGHT, width=WIDTH, num_frames=FRAMES)
    block = CollaborativeTemporal(site).train()
    block(make_clip().float()).square().sum().backward()
    for path in block.paths.values():
        assert path.restore_norm.weight.grad.abs().min() > 0


def test_parameters_are_the_papers() -> None:
    """Res4 of ResNet-50 at 224 pixels: two 1x1 convolutions a path, 196 kernels of 3x3, one of 3 over 256."""
    site = Site(path="x", channels=1024, height=14, width=14, num_frames=8)
    norms = 2 * 2 * (256 + 256 + 1024)
    expected = 2 * 2 * 1024 * 256 + 196 * 9 + 3 * 256**2 + norms
    assert sum(p.numel() for p in CollaborativeTemporal(site).parameters()) == expected == 1_253_092


def test_each_position_has_its_own_kernel() -> None:
    conv = TemporalChannelConv(HEIGHT, WIDTH).double()
    torch.nn.init.zeros_(conv.kernels)
    with torch.no_grad():
        conv.kernels[1, 0, 2, 1] = 1  # the next frame's value, at one position only
    clip = make_clip()
    out = conv(clip)
    assert torch.equal(out[:, :-1, :, 1, 0], clip[:, 1:, :, 1, 0])
    out[:, :, :, 1, 0] = 0
    assert not out.any()


# ------------------------------------------------------------------------------------------------ another size


def test_another_size_names_the_one_it_was_built_for() -> None:
    block = make_block()
    assert not block.any_size
    with pytest.raises(LayoutError, match=r"built for maps of 3x2 pixels, got 2x3.*interpolate=True"):
        block(make_clip().transpose(3, 4))


def test_the_temporal_path_alone_takes_any_size() -> None:
    block = make_block(paths="temporal")
    assert block.any_size
    assert block(make_clip().transpose(3, 4)).shape == (2, FRAMES, CHANNELS, WIDTH, HEIGHT)


def test_interpolated_kernels() -> None:
    kernels = torch.randn(HEIGHT, WIDTH, 3, 3)
    assert resize_kernels(kernels, HEIGHT, WIDTH) is kernels
    wide = resize_kernels(kernels, HEIGHT, 2 * WIDTH)
    # Twice as many columns, their centres a quarter of an old column beside the old ones.
    torch.testing.assert_close(wide[:, 1], 0.75 * kernels[:, 0] + 0.25 * kernels[:, 1])
    torch.testing.assert_close(wide[:, 2], 0.25 * kernels[:, 0] + 0.75 * kernels[:, 1])
    torch.testing.assert_close(wide[:, 0], kernels[:, 0])
    same = torch.randn(3, 3).expand(HEIGHT, WIDTH, 3, 3)
    torch.testing.assert_close(resize_kernels(same, 7, 5), same[:1, :1].expand(7, 5, 3, 3))


def test_interpolate_takes_other_maps_and_other_weights() -> None:
    block = make_block(interpolate=True)
    assert block.any_size
    clip = torch.randn(1, FRAMES, CHANNELS, 6, 4, dtype=torch.float64)
    out = block(clip)
    site = Site(path="x", channels=CHANNELS, height=6, width=4, num_frames=FRAMES)
    other = CollaborativeTemporal(site, interpolate=True).double().eval()
    other.load_state_dict(block.state_dict())
    torch.testing.assert_close(other(clip), out)
    strict = CollaborativeTemporal(site).double()
    with pytest.raises(RuntimeError, match="size mismatch"):
        strict.load_state_dict(block.state_dict())


# ----------------------------------------------------------------------------------------- options and places


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paths": "tcm"}, "no path 'tcm': did you mean 'tccm'"),
        ({"paths": ()}, "each once"),
        ({"paths": ("tccm", "tccm")}, "each once"),
        ({"reduction": 0}, "reduction is 0"),
        ({"reduction": 9}, "only 8 channels"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_block(**options)


def test_choice_of_places() -> None:
    choose = CollaborativeTemporal.choose_insertion
    assert choose("resnet50") == CollaborativeTemporal.placements["res4"]
    assert choose("resnet50", stage=2, num_blocks=1) == Insertion(
        at="block", place="before", stages=(1,), blocks=(-1,)
    )
    assert choose("resnet50", num_blocks=6).num_blocks == (6, 6)
    for wrong in ({"stage": 1}, {"stage": 6}, {"num_blocks": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            choose("resnet50", **wrong)


def test_scale_of_the_start() -> None:
    """Kernels start so that what passes keeps its scale, like the other convolutions."""
    torch.manual_seed(0)
    conv = TemporalChannelConv(14, 14)
    clip = torch.randn(2, 8, 64, 14, 14)
    assert math.isclose(conv(clip)[:, 1:-1, 1:-1].var().item(), 2.0, rel_tol=0.2)
