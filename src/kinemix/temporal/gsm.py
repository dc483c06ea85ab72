"""Gate-shift: a gate decides, pixel by pixel, how much of a feature moves to the neighbouring frame."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kinemix.errors import ConfigError, did_you_mean
from kinemix.temporal.base import Insertion, Site, TemporalModule, check_clip
from kinemix.types import Clip

Gate: TypeAlias = Literal["tanh", "sigmoid"]
Branch: TypeAlias = int | Literal["all"]


class GateShift(TemporalModule):
    """Route gated features to the next and the previous frame, and leave the rest where it is.

    Source: "Gate-Shift Networks for Video Action Recognition", equations 1 to 6. The channels form two halves.
    A convolution over space and time gives one gate for each half; what it lets through, ``Y = gate * X``,
    moves one frame (the first half comes from the next frame, the second from the previous one, zeros beyond
    the ends), and is added to the rest ``X - Y``.

    The authors' released code adds two things, both on by default: the gate sees the normalised and rectified
    map (``gate_norm``), and afterwards the channels of each half are dealt out like cards, so that output
    channel ``2 j + i`` is channel ``i C/4 + j`` (``interleave``). The gate starts at zero, so with ``tanh`` the
    module starts as the identity without the interleave, and as that permutation with it.

    Parameters: ``29 C + 2``, or ``27 C + 2`` without the norm. Of an odd number of channels the last one is
    neither gated nor moved (our choice).

    Args:
        site: where the module stands.
        gate: what turns the convolution's output into a gate: ``tanh``, between -1 and 1, or ``sigmoid``.
        gate_norm: let batch norm over the clip and ReLU come before the gate's convolution; the paper's text
            has neither.
        interleave: deal out the channels of each half, as released, which needs a multiple of four channels;
            by default wherever there is one (everywhere in Inception networks and ResNets).

    Raises:
        ConfigError: an option is out of range, or the channels cannot be interleaved.
    """

    name: ClassVar[str] = "gsm"
    placements: ClassVar[Mapping[str, Insertion]] = {"inner": Insertion(at="first_conv", place="after")}

    def __init__(
        self, site: Site, *, gate: Gate = "tanh", gate_norm: bool = True, interleave: bool | None = None
    ) -> None:
        super().__init__(site)
        if gate not in get_args(Gate):
            raise ConfigError(f"gate {gate!r} is unknown: {did_you_mean(str(gate), get_args(Gate))}")
        if site.channels < 2:
            raise ConfigError(f"gsm needs two channels or more, {site.path!r} has one: choose another place")
        if interleave and site.channels % 4:
            raise ConfigError(
                f"gsm cannot interleave the {site.channels} channels at {site.path!r}, which are no multiple of 4: "
                "use interleave=False"
            )
        self.gate = gate
        self.interleave = site.channels % 4 == 0 if interleave is None else interleave
        self.gated_channels = site.channels - site.channels % 2
        self.norm = nn.BatchNorm2d(self.gated_channels) if gate_norm else None
        self.gate_conv = nn.Conv3d(self.gated_channels, 2, 3, padding=1, groups=2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start again as plain 2D network: no feature passes a gate that is zero."""
        nn.init.zeros_(self.gate_conv.weight)
        nn.init.zeros_(self.gate_conv.bias)  # type: ignore[arg-type]
        if self.norm is not None:
            self.norm.reset_parameters()

    def forward(self, clip: Clip) -> Clip:
        check_clip(clip, self.site.channels)
        gated = clip[:, :, : self.gated_channels]
        gate = self.find_gate(clip).to(clip.dtype)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            out = _shift_gated_traced(gated, gate, self.interleave)
        else:
            out = _ShiftGated.apply(gated, gate, self.interleave)
        return out if self.gated_channels == self.site.channels else torch.cat([out, clip[:, :, -1:]], dim=2)

    def find_gate(self, clip: Clip) -> Tensor:
        """How much of every pixel moves: the gates of both halves, ``B T 2 H W``."""
        frames = clip[:, :, : self.gated_channels].flatten(0, 1)  # nothing is ever transposed
        if self.norm is not None:
            frames = F.relu(self.norm(frames), inplace=True)
        planes = _convolve_to_planes(frames, self.gate_conv.weight)
        before, now, after = planes.unflatten(0, clip.shape[:2]).unflatten(2, (2, 3)).unbind(3)
        before = F.pad(before, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
        after = F.pad(after, (0, 0, 0, 0, 0, 0, 0, 1))[:, 1:]
        total = before + now + after + self.gate_conv.bias[:, None, None]  # type: ignore[index]
        return total.tanh() if self.gate == "tanh" else total.sigmoid()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, gate={self.gate}, interleave={self.interleave}"

    @classmethod
    def choose_insertion(
        cls, backbone: str, *, branch: Branch | None = None, num_modules: int | None = None
    ) -> Insertion | None:
        """Between a convolution and its norm: in one branch of Inception blocks, else the first of each block.

        Table 1 numbers the branches of an Inception block from left to right. We read the figure in the order
        in which "Rethinking the Inception Architecture" draws such blocks:

        1. the branch with two 3 x 3 convolutions, or what takes its place: the longest one,
        2. the branch with one large convolution,
        3. pooling and a 1 x 1 convolution,
        4. a 1 x 1 convolution alone. Table 1 has its best row here (the text speaks of branch 3), and so has
           the released code its modules.

        Where a branch has several convolutions the module follows the first. Blocks that halve the map have
        no branch 4; there the released code takes the first convolution of branch 2, but of branch 1 in
        Inception V3's ``Mixed_6a``. Their branch 3 has no convolution and gets no module. The released
        code also leaves out the seventh of Inception V3's eleven blocks, ``Mixed_6d``.

        Args:
            backbone: ``bn_inception`` and ``inception_v3`` (timm's and torchvision's as well) are known by name.
            branch: 1 to 4, or ``"all"``; by default 4.
            num_modules: use the last so many of the ten blocks (Table 2: 1, 5, 10); by default all.

        Raises:
            ConfigError: an option is out of range, or given for a network that has no such branches.
        """
        blocks = _find_inception(backbone)
        if blocks is None:
            if branch is not None or num_modules is not None:
                raise ConfigError(
                    f"branch and num_modules are for {' and '.join(_INCEPTIONS)}, not {backbone!r}: "
                    "use placement and stages instead"
                )
            return super().choose_insertion(backbone)
        branch = 4 if branch is None else branch
        num_modules = len(blocks) if num_modules is None else num_modules
        if isinstance(branch, bool) or branch not in (1, 2, 3, 4, "all"):
            raise ConfigError(f"branch is {branch!r}: it must be 1, 2, 3, 4 or 'all'")
        if num_modules not in range(1, len(blocks) + 1):
            raise ConfigError(f"num_modules is {num_modules!r}: {backbone} has places for 1 to {len(blocks)}")
        paths: list[str] = []
        for block, branches in list(blocks.items())[-num_modules:]:
            layers = branches if branch == "all" else (branches[branch - 1],)
            paths += [f"{block}.{layer}.conv" for layer in dict.fromkeys(layers) if layer is not None]
        return Insertion(at=tuple(paths), place="after")


# ------------------------------------------------------------------------------------- places in Inception blocks

_Branches: TypeAlias = tuple[str | None, str | None, str | None, str | None]

_BN_BLOCK: _Branches = ("double_3x3_reduce", "conv_3x3_reduce", "pool_proj", "conv_1x1")
_BN_STRIDED: _Branches = ("double_3x3_reduce", "conv_3x3_reduce", None, "conv_3x3_reduce")
_V3_LARGE: _Branches = ("branch3x3dbl_1", "branch5x5_1", "branch_pool", "branch1x1")
_V3_MEDIUM: _Branches = ("branch7x7dbl_1", "branch7x7_1", "branch_pool", "branch1x1")
_V3_SMALL: _Branches = ("branch3x3dbl_1", "branch3x3_1", "branch_pool", "branch1x1")

_INCEPTIONS: Mapping[str, Mapping[str, _Branches]] = {
    "bn_inception": {
        f"inception_{block}": _BN_STRIDED if block in ("3c", "4e") else _BN_BLOCK
        for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    },
    "inception_v3": {
        **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _V3_LARGE),
        "Mixed_6a": ("branch3x3dbl_1", "branch3x3", None, "branch3x3dbl_1"),
        **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6e"), _V3_MEDIUM),
        "Mixed_7a": ("branch7x7x3_1", "branch3x3_1", None, "branch3x3_1"),
        **dict.fromkeys(("Mixed_7b", "Mixed_7c"), _V3_SMALL),
    },
}
"""The first convolution of branches 1 to 4 of each block that gets a module, in order."""


def _find_inception(backbone: str) -> Mapping[str, _Branches] | None:
    """The blocks of an Inception network; its name may be torchvision's, or carry a weight tag of timm's."""
    return _INCEPTIONS.get(backbone.removeprefix("torchvision.").partition(".")[0])


# ------------------------------------------------------------------------------------------------ gate and shift


def _convolve_to_planes(frames: Tensor, weight: Tensor) -> Tensor:
    """The frames' share of a 3 x 3 x 3 convolution with a plane for each half of the channels.

    A convolution to a single plane does too little arithmetic for the kernels that are made for large ones.
    Every pixel's products with all 27 taps are one matrix product instead, and what belongs to one pixel of
    the result is added up afterwards, on maps of 27 planes: twice as fast on processors. Half precision would
    round all the products before they are added, so there it is an ordinary convolution.

    Args:
        frames: ``N C H W``.
        weight: ``2 x C/2 x 3 x 3 x 3``.

    Returns:
        ``N x 6 x H x W``: for either half, what frame n adds to frame n + 1, n and n - 1.
    """
    if _computes_in_half(frames):
        return F.conv2d(frames, weight.transpose(1, 2).flatten(0, 1), padding=1, groups=2)
    # A product with the tap one pixel to the right belongs to the pixel on the left: hence the flip.
    taps = weight.flip(3, 4).permute(0, 2, 3, 4, 1).flatten(0, 3)[..., None, None]
    products = F.conv2d(frames, taps, groups=2)
    return F.fold(products.flatten(2), frames.shape[2:], 3, padding=1)


def _computes_in_half(frames: Tensor) -> bool:
    device = frames.device.type
    if frames.dtype in (torch.bfloat16, torch.float16):
        return True
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


class _ShiftGated(torch.autograd.Function):
    """Equations 1 to 6 with the interleave, in four passes over the map; only the map and its gate are kept.

    The interleave costs nothing: results are written to, and gradients read from, a permuted view.
    """

    @staticmethod
    def forward(clip: Tensor, gate: Tensor, interleave: bool) -> Tensor:
        clip_halves = _view_halves(clip, interleave)
        moved = clip_halves * gate[:, :, :, None, None]
        out = torch.empty_like(clip)
        out_halves = _view_dealt(out, interleave)
        torch.sub(clip_halves, moved, out=out_halves)
        _add_neighbours_(out_halves, moved, sign=1)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        clip, gate, ctx.interleave = inputs
        ctx.save_for_backward(clip, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        clip, gate = ctx.saved_tensors
        grad_out = _view_dealt(grad, ctx.interleave)
        grad_moved = -grad_out
        _add_neighbours_(grad_moved, grad_out, sign=-1)
        clip_halves = _view_halves(clip, ctx.interleave)
        grad_gate = (grad_moved * clip_halves).sum(dim=(3, 4))
        grad_clip = torch.empty_like(clip)
        torch.addcmul(
            grad_out, grad_moved, gate[:, :, :, None, None], out=_view_halves(grad_clip, ctx.interleave)
        )
        return grad_clip, grad_gate, None


def _view_halves(clip: Tensor, interleave: bool) -> Tensor:
    """``B T C H W`` as ``B T 2 i j H W``: the two halves, each of them as ``i`` piles of ``j`` channels."""
    piles = 2 if interleave else 1
    return clip.unflatten(2, (2, piles, clip.shape[2] // (2 * piles)))


def _view_dealt(clip: Tensor, interleave: bool) -> Tensor:
    """The same for a clip in which each half's piles have been dealt out in turn."""
    piles = 2 if interleave else 1
    return clip.unflatten(2, (2, clip.shape[2] // (2 * piles), piles)).transpose(3, 4)


def _add_neighbours_(out: Tensor, moved: Tensor, *, sign: int) -> None:
    """Add, in place, to the first half the next frame's, to the second the previous frame's; or the reverse."""
    first, second = (0, 1) if sign > 0 else (1, 0)
    out[:, :-1, first] += moved[:, 1:, first]
    out[:, 1:, second] += moved[:, :-1, second]


def _shift_gated_traced(clip: Tensor, gate: Tensor, interleave: bool) -> Tensor:
    """The same without in-place writes, for compilers and exporters, which fuse it."""
    halves = _view_halves(clip, interleave)
    moved = halves * gate[:, :, :, None, None]
    padded = F.pad(moved, (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1))
    shifted = torch.stack([padded[:, 2:, 0], padded[:, :-2, 1]], dim=2)
    dealt = (halves - moved + shifted).transpose(3, 4)
    return dealt.flatten(2, 4)
