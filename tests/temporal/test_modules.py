"""Each module against the thing it claims to be: nn.Conv1d, a shift, the rows of the paper's tables."""

import pytest
import torch
from torch import Tensor, nn

from kinemix.errors import ConfigError, LayoutError
from kinemix.temporal import (
    DepthwiseTemporalConv,
    MixedTemporalConv,
    NoTemporal,
    Site,
    TemporalConv1d,
    TemporalModule,
    TemporalShift,
    shelf,
)


def make_site(channels: int = 16) -> Site:
    return Site(path="layer1.0.conv1", channels=channels, height=3, width=2, num_frames=5)


def make_clip(channels: int = 16, *, channels_last: bool = False, num_frames: int = 5) -> Tensor:
    frames = torch.randn(2 * num_frames, channels, 3, 2, dtype=torch.float64)
    if channels_last:
        frames = frames.contiguous(memory_format=torch.channels_last)
    return frames.unflatten(0, (2, num_frames))


def permute_to_pixels(clip: Tensor) -> Tensor:
    """``B T C H W`` to ``(B H W) C T``, as in the text of "MixTConv"."""
    return clip.permute(0, 3, 4, 2, 1).flatten(0, 2)


def test_shelf() -> None:
    assert {"conv1d", "depthwise", "mixtconv", "tsm", "tsn"} <= set(shelf.names())
    assert "mstnet" in MixedTemporalConv.aliases


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (5, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_conv1d_is_conv1d_on_the_permuted_clip(
    kernel_size: int, dilation: int, bias: bool, channels_last: bool
) -> None:
    module = TemporalConv1d(
        make_site(), kernel_size=kernel_size, dilation=dilation, bias=bias, init="kaiming"
    ).double()
    conv = nn.Conv1d(
        16, 16, kernel_size, padding=(kernel_size - 1) // 2 * dilation, dilation=dilation, bias=bias
    ).double()
    if module.bias is not None:
        nn.init.normal_(module.bias)
    conv.load_state_dict(module.state_dict())
    clip = make_clip(channels_last=channels_last)
    torch.testing.assert_close(permute_to_pixels(module(clip)), conv(permute_to_pixels(clip)))


@pytest.mark.parametrize("channels_last", [False, True])
def test_mixtconv_is_depthwise_conv1d_of_each_channel_group(channels_last: bool) -> None:
    kernel_sizes, dilations = (1, 3, 5, 7), (1, 1, 2, 3)
    module = MixedTemporalConv(make_site(18), kernel_sizes=kernel_sizes, dilations=dilations).double()
    sizes = [4, 4, 4, 6]  # the last takes the remainder
    assert module.group_sizes == sizes
    clip = make_clip(18, channels_last=channels_last, num_frames=6)
    parts = []
    for pixels, weight, size, k, d in zip(
        permute_to_pixels(clip).split(sizes, dim=1),
        module.weights,
        sizes,
        kernel_sizes,
        dilations,
        strict=True,
    ):
        nn.init.normal_(weight)
        conv = nn.Conv1d(
            size, size, k, padding=(k - 1) // 2 * d, dilation=d, groups=size, bias=False
        ).double()
        conv.load_state_dict({"weight": weight.detach().unsqueeze(1)})
        parts.append(conv(pixels))
    torch.testing.assert_close(permute_to_pixels(module(clip)), torch.cat(parts, dim=1))


def test_tsm_takes_the_next_frame_first() -> None:
    clip = make_clip()
    out = TemporalShift(make_site(), fold=8)(clip)
    expected = clip.clone()
    expected[:, :-1, :2], expected[:, -1, :2] = clip[:, 1:, :2], 0
    expected[:, 1:, 2:4], expected[:, 0, 2:4] = clip[:, :-1, 2:4], 0
    assert torch.equal(out, expected)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_tsm_is_mixtconv_with_fixed_kernels(causal: bool, channels_last: bool, num_frames: int) -> None:
    """Kernel index 0 multiplies the frame before: the next frame is [0, 0, 1], the previous [1, 0, 0]."""
    shift = TemporalShift(make_site(), fold=8, causal=causal)
    conv = MixedTemporalConv(make_site(), kernel_sizes=(3,), init="delta").double()
    before, after = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    with torch.no_grad():
        conv.weights[0][:2] = before if causal else after
        if not causal:
            conv.weights[0][2:4] = before
    clip = make_clip(channels_last=channels_last, num_frames=num_frames).requires_grad_()
    assert torch.equal(shift(clip), conv(clip))
    assert shift(clip).stride() == clip.stride()
    grad = torch.randn_like(clip)
    assert torch.equal(
        torch.autograd.grad(shift(clip), clip, grad)[0], torch.autograd.grad(conv(clip), clip, grad)[0]
    )
    assert torch.autograd.gradcheck(shift, clip)


def test_tsm_gradient_of_an_expanded_gradient() -> None:
    clip = make_clip(channels_last=True).requires_grad_()
    TemporalShift(make_site())(clip).sum().backward()
    assert clip.grad is not None
    assert clip.grad.stride() == clip.stride()
    assert clip.grad[:, 0, :2].eq(0).all()  # nobody takes the first frame's next-frame channels


def test_shift_init_is_the_released_one() -> None:
    """Quarters of each group in a mixture, eighths where there is one group; index 0 is the frame before."""
    mixed = MixedTemporalConv(make_site(64), kernel_sizes=(1, 3, 5, 7), init="shift")
    rows = {
        1: ([1.0], [1.0], [1.0]),
        3: ([1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]),
        5: ([1.0, 1, 0, 0, 0], [0, 0, 0, 1.0, 1], [0, 0, 1.0, 0, 0]),
        7: ([1.0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1.0, 1, 1], [0, 0, 0, 1.0, 0, 0, 0]),
    }
    for weight, kernel_size in zip(mixed.weights, (1, 3, 5, 7), strict=True):
        before, after, now = map(torch.tensor, rows[kernel_size])
        assert torch.equal(weight.detach(), torch.stack([before] * 4 + [after] * 4 + [now] * 8))
    single = DepthwiseTemporalConv(make_site(64), kernel_size=3).weight.detach()
    before, after, now = map(torch.tensor, rows[3])
    assert torch.equal(single, torch.stack([before] * 8 + [after] * 8 + [now] * 48))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "kind", [TemporalConv1d, DepthwiseTemporalConv, MixedTemporalConv, NoTemporal], ids=lambda kind: kind.name
)
def test_delta_init_is_the_identity_bit_for_bit(
    kind: type[TemporalModule], causal: bool, channels_last: bool
) -> None:
    options = {} if kind is NoTemporal else {"init": "delta", "causal": causal}
    clip = make_clip(channels_last=channels_last).float()
    assert torch.equal(kind(make_site(), **options)(clip), clip)


TABLE_2 = {
    "TSN(baseline)": ("tsn", {}, 0),
    "TSN+Ordinary 1D": ("conv1d", {"kernel_size": 3}, 64 * 64 * 3),
    "TSM": ("tsm", {}, 0),
    "TSN+ks3": ("depthwise", {"kernel_size": 3}, 64 * 3),
    "TSN+ks5": ("depthwise", {"kernel_size": 5}, 64 * 5),
    "TSN+ks7": ("depthwise", {"kernel_size": 7}, 64 * 7),
    "TSN+ks13": ("mixtconv", {"kernel_sizes": (1, 3)}, 32 * (1 + 3)),
    "TSN+ks135": ("mixtconv", {"kernel_sizes": (1, 3, 5)}, 21 * (1 + 3) + 22 * 5),
    "TSN+ks1357": ("mixtconv", {"kernel_sizes": (1, 3, 5, 7)}, 16 * (1 + 3 + 5 + 7)),
    "TSN+ks357": ("mixtconv", {"kernel_sizes": (3, 3, 3), "dilations": (1, 2, 3)}, 64 * 3),
}


@pytest.mark.parametrize("row", TABLE_2)
def test_rows_of_table_2_with_their_parameters_and_macs(row: str) -> None:
    name, options, weights = TABLE_2[row]
    module = shelf.get(name)(make_site(64), **options)
    assert sum(p.numel() for p in module.parameters()) == weights
    assert module.macs(8, 56, 56) == weights * 8 * 56 * 56


def test_macs_of_mstnet_add_up_to_the_papers_difference() -> None:
    """0.18 G over the 16 block inputs of ResNet-50 with 8 frames of 224 pixels (section 3.2)."""
    blocks = [(64, 56, 1), (256, 56, 3), (512, 28, 4), (1024, 14, 6), (2048, 7, 2)]
    macs = sum(count * MixedTemporalConv(make_site(c)).macs(8, size, size) for c, size, count in blocks)
    assert macs / 1e9 == pytest.approx(0.180, abs=5e-4)


@pytest.mark.parametrize("name", ["mixtconv", "conv1d", "depthwise"])
def test_both_rows_of_table_3(name: str) -> None:
    placements = shelf.get(name).placements
    assert list(placements) == ["head", "inner"]
    assert [placements[p].place for p in placements] == ["before", "after"]
    assert {placements[p].at for p in placements} == {"first_conv"}


def test_placements_of_tsm() -> None:
    residual, block = TemporalShift.placements.values()
    assert (residual.at, residual.place, residual.every) == ("first_conv", "before", None)
    assert (block.at, block.place, block.every) == ("block", "before", 1)
    assert not NoTemporal.placements


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("conv1d", {"kernel_size": 4}, r"kernel_size 4 is even .* give 3 or 5"),
        ("depthwise", {"kernel_size": 0}, r"kernel_size 0 is no positive whole number"),
        ("depthwise", {"kernel_size": "3"}, r"kernel_size '3' is no positive whole number"),
        ("mixtconv", {"kernel_sizes": (1, 2)}, r"kernel_size 2 is even"),
        ("mixtconv", {"kernel_sizes": ()}, r"kernel_sizes is empty"),
        (
            "mixtconv",
            {"kernel_sizes": "135"},
            r"kernel_sizes '135' is neither a number nor a list of numbers: give",
        ),
        ("mixtconv", {"kernel_sizes": 3.0}, r"kernel_sizes 3.0 is neither .* give"),
        ("mixtconv", {"kernel_sizes": (3,) * 17}, r"17 channel groups of only 16 channels: give at most 16"),
        ("mixtconv", {"dilations": (1, 2)}, r"dilations \(1, 2\) has 2 values for 4 kernel sizes: give one"),
        ("mixtconv", {"dilations": 0}, r"dilation 0 is no positive whole number"),
        ("mixtconv", {"dilations": 1.5}, r"dilations 1.5 .* give"),
        ("mixtconv", {"init": "detla"}, r"unknown init 'detla': did you mean 'delta'\?"),
        ("conv1d", {"init": "shift"}, r"unknown init 'shift'"),
        ("tsm", {"fold": 1}, r"fold 1 does not leave .* from 2 up"),
        ("tsm", {"fold": 0, "causal": True}, r"fold 0 does not leave .* from 1 up"),
    ],
)
def test_bad_options_name_the_value_and_the_cure(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        shelf.get(name)(make_site(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["conv1d", "depthwise", "mixtconv", "tsm", "tsn"])
@pytest.mark.parametrize("shape", [(10, 16, 3, 2), (2, 16, 5, 3, 2)])
def test_another_layout_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match=r"B T C H W with C = 16, got .*: unfold"):
        shelf.get(name)(make_site())(torch.zeros(shape))


def test_lists_from_yaml_are_as_good_as_tuples() -> None:
    assert MixedTemporalConv(make_site(), kernel_sizes=[3, 5], dilations=[1, 2]).kernel_sizes == (3, 5)


def test_step_of_a_module_that_needs_later_frames() -> None:
    with pytest.raises(NotImplementedError, match="MixedTemporalConv is not causal"):
        MixedTemporalConv(make_site()).step(torch.zeros(1, 16, 3, 2))
