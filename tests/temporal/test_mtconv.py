"""MTConv against its equations, written out for one clip after the other with torch's plain operations."""

import math
from typing import Any

import pytest
import torch
from test_frame_selection import search
from test_pooling import NAIVE, pool_naively
from torch import Tensor, nn
from torch.nn import functional as F

from kinemix.errors import ConfigError, LayoutError
from kinemix.temporal.base import Convolution, Place, Site
from kinemix.temporal.interpolation import interpolate_volume
from kinemix.temporal.mtconv import Branch, MultiTemporalConv


def make_site(convolution: Convolution | None = None, *, channels: int = 8) -> Site:
    channels = channels if convolution is None else convolution.in_channels
    place: Place = "before" if convolution is None else "instead"
    return Site(
        path="conv", place=place, channels=channels, height=6, width=5, num_frames=6, convolution=convolution
    )


def make_module(convolution: Convolution | None = None, **options: Any) -> MultiTemporalConv:
    """In double precision, with batch norms that have learnt something."""
    torch.manual_seed(0)
    module = MultiTemporalConv(make_site(convolution), **options).double()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm3d)):
        for value, low in (
            (norm.weight, 0.5),
            (norm.bias, -1),
            (norm.running_mean, -1),
            (norm.running_var, 0.5),
        ):
            assert value is not None
            nn.init.uniform_(value, low, 1.5)
    return module


def make_clip(channels: int = 8, *, frames: int = 6, height: int = 6, width: int = 5) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, frames, channels, height, width, dtype=torch.float64)


def branch(volume: Tensor, part: Branch | None, *, stride: Any = 1, padding: Any = 1, **where: Any) -> Tensor:
    """g(BN(w * a)), with the running statistics, as in equations 3 and 4."""
    assert part is not None
    conv, norm = part.conv, part.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    z = F.conv3d(volume, conv.weight, conv.bias, stride, padding, **where)
    z = (z - norm.running_mean[:, None, None, None]) / (
        norm.running_var[:, None, None, None] + norm.eps
    ).sqrt()
    return (z * norm.weight[:, None, None, None] + norm.bias[:, None, None, None]).clamp(min=0)


def reduce(volume: Tensor) -> Tensor:
    """T(a-bar): eq. 5 by torch's softmax over unfolded windows, eq. 6 and 7 by brute force."""
    windows = volume.unfold(3, 2, 2).unfold(4, 2, 2).flatten(-2)
    pooled = (windows.softmax(-1) * windows).sum(-1)
    return torch.stack([clip[:, search(clip.detach())] for clip in pooled])


def by_equations(module: MultiTemporalConv, clip: Tensor, *, stride: Any = 1, padding: Any = 1) -> Tensor:
    """Equations 2 to 11 for a convolution whose prolonged maps have one size."""
    a = clip.transpose(1, 2)
    local = branch(a, module.local, stride=stride, padding=padding)
    prolonged = branch(reduce(local), module.local_to_prolonged, padding=padding)
    prolonged = prolonged + branch(reduce(a), module.prolonged, stride=stride, padding=padding)
    size = tuple(local.shape[2:])
    prolonged = F.interpolate(prolonged, size=size, mode="trilinear", align_corners=False)
    out = torch.cat([local, prolonged], dim=1)
    if module.recursion is not None:
        gru = nn.GRU(out.shape[1], out.shape[1], 2, batch_first=True).double()
        weights: dict[str, Tensor] = dict(module.recursion.cells.named_parameters())
        hidden, _ = torch.func.functional_call(gru, weights, (out.mean((3, 4)).transpose(1, 2),))
        out = out * hidden.transpose(1, 2)[..., None, None]
    return out.transpose(1, 2)


CONVOLUTIONS = {
    "plug-in": (None, {}),
    "last": (
        Convolution(in_channels=6, out_channels=9, kernel_size=(1, 1, 1), is_last=True),
        {"padding": 0},
    ),
    "stride": (
        Convolution(
            in_channels=4, out_channels=8, kernel_size=(3, 3, 3), stride=(1, 2, 2), padding=(1, 1, 1)
        ),
        {"stride": (1, 2, 2)},
    ),
    "bias": (
        Convolution(in_channels=4, out_channels=8, kernel_size=(1, 3, 5), padding=(0, 1, 2), bias=True),
        {"padding": (0, 1, 2)},
    ),
}


@pytest.mark.parametrize("delta", [0.875, 0.5])
@pytest.mark.parametrize(("convolution", "arguments"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_equals_the_equations(
    convolution: Convolution | None, arguments: dict[str, Any], delta: float
) -> None:
    module = make_module(convolution, delta=delta).eval()
    ours, theirs = (make_clip(module.site.channels, height=8, width=8).requires_grad_() for _ in "ab")
    out, expected = module(ours), by_equations(module, theirs, **arguments)
    torch.testing.assert_close(out, expected)
    mine = torch.autograd.grad(out.square().sum(), [ours, *module.parameters()])
    naive = torch.autograd.grad(expected.square().sum(), [theirs, *module.parameters()])
    for one, other in zip(mine, naive, strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_check() -> None:
    module = make_module(cell="rnn").eval()
    clip = make_clip(frames=4, height=4, width=4)[:1].requires_grad_()
    assert torch.autograd.gradcheck(module, clip, fast_mode=True)


@pytest.mark.parametrize("delta", [7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8, 1 / 4, 1.0])
def test_channels_are_shared_out_as_in_equation_1(delta: float) -> None:
    for channels in (7, 24, 54):
        conv = Convolution(in_channels=5, out_channels=channels, kernel_size=(3, 3, 3), padding=(1, 1, 1))
        module = MultiTemporalConv(make_site(conv), delta=delta)
        local, prolonged = math.floor(delta * channels), math.ceil((1 - delta) * channels)
        assert (module.channels.local, module.channels.prolonged) == (local, prolonged)
        # Both branches have 27 taps: L on C_in channels, P on C_L + C_in, each with its norms.
        expected = 27 * (5 * local + (local + 5) * prolonged) + 2 * local + 4 * prolonged
        assert sum(p.numel() for p in module.parameters()) == expected


def test_delta_1_is_the_local_branch_alone() -> None:
    module = make_module(delta=1, cell=None).eval()
    clip = make_clip()
    assert torch.equal(module(clip), module.local(clip.transpose(1, 2)).transpose(1, 2))
    assert module.prolonged is None
    assert module.local_to_prolonged is None
    full, half = make_module(delta=1).eval(), make_module(delta=0.5).eval()
    assert full.recursion is not None
    assert sum(p.numel() for p in full.local.parameters()) == 8 * 8 * 27 + 16
    half.local.conv.weight.data = full.local.conv.weight.data[:4]
    full.recursion = half.recursion = None
    full.local.norm, half.local.norm = nn.BatchNorm3d(8).double().eval(), nn.BatchNorm3d(4).double().eval()
    assert torch.allclose(full(clip)[:, :, :4], half(clip)[:, :, :4])


@pytest.mark.parametrize("size", [(9, 7, 5), (4, 8, 6), (3, 3, 2), (1, 5, 1)])
def test_interpolation_is_torchs(size: tuple[int, int, int]) -> None:
    volume = torch.randn(2, 3, 4, 3, 2, dtype=torch.float64)
    ours, theirs = volume.clone().requires_grad_(), volume.clone().requires_grad_()
    expected = F.interpolate(theirs, size=size, mode="trilinear", align_corners=False)
    out = interpolate_volume(ours, size)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)  # the positions are single precision
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------ any convolution of any network


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7), (10, 9)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 1, 1)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_gives_the_shape_of_the_convolution(
    kernel: int, stride: tuple[int, int, int], size: tuple[int, int], frames: int
) -> None:
    conv = nn.Conv3d(4, 6, kernel, stride, kernel // 2)
    described = Convolution(
        in_channels=4,
        out_channels=6,
        kernel_size=(kernel,) * 3,
        stride=stride,
        padding=(kernel // 2,) * 3,
        is_last=True,
    )
    clip = torch.randn(2, frames, 4, *size)
    module = MultiTemporalConv(make_site(described), delta=0.5).eval()
    assert module(clip).shape == conv(clip.transpose(1, 2)).transpose(1, 2).shape
    assert module(clip).isfinite().all()


@pytest.mark.parametrize(
    "convolution",
    [
        Convolution(in_channels=4, out_channels=6, kernel_size=(1, 3, 3)),  # no padding: the map shrinks
        Convolution(
            in_channels=4, out_channels=6, kernel_size=(3, 3, 3), padding=(2, 2, 2), dilation=(2, 2, 2)
        ),
        Convolution(in_channels=4, out_channels=6, kernel_size=(1, 1, 7), padding=(0, 0, 3), bias=True),
        Convolution(in_channels=1, out_channels=1, kernel_size=(3, 3, 3), padding=(1, 1, 1)),
    ],
    ids=["valid", "dilated", "flat", "one channel"],
)
def test_odd_convolutions(convolution: Convolution) -> None:
    c = convolution
    host = nn.Conv3d(
        c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding, c.dilation, c.groups, c.bias
    )
    module = MultiTemporalConv(make_site(c))
    module.take_over_(host)
    clip = torch.randn(2, 5, c.in_channels, 7, 6)
    out = module(clip)
    expected = host(clip.transpose(1, 2))
    assert out.transpose(1, 2).shape == expected.shape
    assert torch.equal(module.local.conv(clip.transpose(1, 2)), expected[:, : module.channels.local])
    out.square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "groups", "local", "local_groups", "other_groups"),
    [
        (54, 54, 54, 47, 47, (1, 1)),  # depthwise: 47 = floor(.875 x 54); 7 shares no divisor with 54 or 47
        (432, 432, 432, 378, 378, (54, 54)),
        (8, 16, 8, 14, 7, (2, 2)),  # depthwise with two filters a channel
        (64, 32, 32, 28, 28, (4, 4)),  # ResNeXt
        (6, 6, 2, 3, 1, (1, 1)),
    ],
)
def test_groups(
    in_channels: int,
    out_channels: int,
    groups: int,
    local: int,
    local_groups: int,
    other_groups: tuple[int, int],
) -> None:
    conv = Convolution(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=(3, 3, 3),
        padding=(1, 1, 1),
        groups=groups,
    )
    module = MultiTemporalConv(make_site(conv)).eval()
    host = nn.Conv3d(in_channels, out_channels, 3, padding=1, groups=groups, bias=False)
    module.take_over_(host)
    assert (module.channels.local, module.local.conv.groups) == (local, local_groups)
    assert module.prolonged is not None
    assert module.local_to_prolonged is not None
    assert (module.local_to_prolonged.conv.groups, module.prolonged.conv.groups) == other_groups
    assert module.prolonged.conv.in_channels == in_channels
    volume = torch.randn(1, in_channels, 2, 2, 2)
    found = module.local.conv(volume[:, : module.channels.local_in])
    torch.testing.assert_close(found, host(volume)[:, :local])
    assert module(volume.transpose(1, 2)).shape == (1, 2, out_channels, 2, 2)


def test_takes_over_an_image_networks_filters() -> None:
    host = nn.Conv2d(4, 8, 3, stride=2, padding=1)
    conv = Convolution(
        in_channels=4,
        out_channels=8,
        kernel_size=(1, 3, 3),
        stride=(1, 2, 2),
        padding=(0, 1, 1),
        bias=True,
        is_flat=True,
    )
    module = MultiTemporalConv(make_site(conv))
    module.take_over_(host)
    assert module.local.conv.weight.shape == (7, 4, 3, 3, 3)
    clip = torch.randn(2, 5, 4, 6, 6)
    expected = host(clip.flatten(0, 1)).unflatten(0, (2, 5))[:, :, :7]
    torch.testing.assert_close(module.local.conv(clip.transpose(1, 2)).transpose(1, 2), expected)
    point = MultiTemporalConv(
        make_site(Convolution(in_channels=4, out_channels=8, kernel_size=(1, 1, 1), is_flat=True))
    )
    assert point.local.conv.kernel_size == (1, 1, 1)


def test_memory_formats_of_both_kinds_of_network() -> None:
    module = make_module().eval()
    clip = make_clip()
    volume = clip.transpose(1, 2).contiguous()  # a clip network's
    out = module(volume.transpose(1, 2))
    assert out.transpose(1, 2).is_contiguous()
    assert torch.equal(out, module(clip))
    last = volume.contiguous(memory_format=torch.channels_last_3d)
    assert module(last.transpose(1, 2)).transpose(1, 2).is_contiguous(memory_format=torch.channels_last_3d)


# --------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("pooling", ["soft", "average", "max", "stochastic"])
@pytest.mark.parametrize("frame_selection", [False, True])
def test_pooling_ablation(pooling: Any, frame_selection: bool) -> None:
    module = make_module(pooling=pooling, frame_selection=frame_selection).eval()
    volume = make_clip().transpose(1, 2)
    pooled = pool_naively(volume, NAIVE[pooling], over_time=not frame_selection)
    if frame_selection:
        pooled = torch.stack([clip[:, search(clip)] for clip in pooled])
    torch.testing.assert_close(module.halve(volume), pooled)
    module.train()(make_clip()).sum().backward()
    if pooling == "stochastic":
        assert not torch.equal(module.halve(volume), module.halve(volume))


@pytest.mark.parametrize("cell", [None, "rnn", "gru", "lstm", "peephole_lstm"])
def test_recurrent_cell_ablation(cell: Any) -> None:
    module = make_module(cell=cell)
    assert module(make_clip()).shape == make_clip().shape
    without = sum(p.numel() for p in make_module(cell=None).parameters())
    added = {None: 0, "rnn": 1, "gru": 3, "lstm": 4, "peephole_lstm": 4}[cell] * 2 * (2 * 64 + 2 * 8)
    added += 2 * 3 * 8 if cell == "peephole_lstm" else 0
    assert sum(p.numel() for p in module.parameters()) == without + added


def test_split_input() -> None:
    """Each branch has its own share of the input, and keeps the frames that are most alike."""
    module = make_module(split_input=True, pooling="average", cell=None).eval()
    assert module.prolonged is not None
    assert (module.local.conv.in_channels, module.prolonged.conv.in_channels) == (7, 1)
    a = make_clip().transpose(1, 2)
    local = branch(a[:, :7], module.local)

    def reduce_alike(volume: Tensor) -> Tensor:
        pooled = F.avg_pool3d(volume, (1, 2, 2))
        return torch.stack([clip[:, search(clip, most_alike=True)] for clip in pooled])

    prolonged = branch(reduce_alike(local), module.local_to_prolonged)
    prolonged = prolonged + branch(reduce_alike(a[:, 7:]), module.prolonged)
    prolonged = F.interpolate(prolonged, size=a.shape[2:], mode="trilinear", align_corners=False)
    expected = torch.cat([local, prolonged], dim=1).transpose(1, 2)
    torch.testing.assert_close(module(make_clip()), expected)
    host = nn.Conv3d(8, 8, 3, padding=1, bias=False)
    module.take_over_(host)
    assert torch.equal(module.local.conv.weight, host.weight[:7, :7].double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0}, "delta is 0: the prolonged branch reads the local one's output"),
        ({"delta": 1.5}, "delta is 1.5"),
        ({"cell": "gur"}, "did you mean 'gru'"),
        ({"pooling": "softmax"}, "unknown pooling 'softmax'"),
        ({"num_layers": 0}, "num_layers is 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        MultiTemporalConv(make_site(), **options)
    assert "\n" not in str(error.value)


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="split_input cannot share out the 1 input channel of 'conv'"):
        MultiTemporalConv(
            make_site(Convolution(in_channels=1, out_channels=4, kernel_size=(1, 1, 1))), split_input=True
        )
    with pytest.raises(LayoutError, match="B T C H W with C = 8"):
        MultiTemporalConv(make_site())(torch.randn(2, 8, 6, 6, 5))
