"""What every temporal module promises, and how it says where it belongs in a backbone.

A temporal module takes a clip ``B T C H W`` and gives a clip of the same shape. It knows the place it was
made for (:class:`Site`) and names the placements that its paper describes (:class:`Insertion`). How the
places are found in a backbone is the business of :mod:`kinemix.models.insertion`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from kinemix.errors import LayoutError
from kinemix.types import Clip, Frame

Place = Literal["before", "after", "instead"]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution of the backbone that a temporal module is to stand in for.

    Attributes:
        in_channels, out_channels, groups, bias: as in torch.
        kernel_size, stride, padding, dilation: along time, height and width; the convolution of an image
            network has 1, 1, 0 and 1 along time.
        is_last: whether it is the last one of its block's residual branch.
        is_flat: whether it sees frames one by one because its network does (an image network's ``nn.Conv2d``).
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int, int]
    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[int, int, int] = (0, 0, 0)
    dilation: tuple[int, int, int] = (1, 1, 1)
    groups: int = 1
    bias: bool = False
    is_last: bool = False
    is_flat: bool = False


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place in a backbone where a temporal module stands.

    Attributes:
        path: dotted path of the host, the backbone's module next to which the temporal one is put.
        place: ``"before"`` the host (it sees the host's input), ``"after"`` it (the host's output), or
            ``"instead"`` of it (it sees the host's input, and the host goes).
        channels, height, width: the feature map that passes there, for the backbone's input size.
        num_frames: frames a clip, as the network was built (a module with ``any_length`` takes others too).
        stage, block: where the host stands, stages counted from 1, blocks within a stage from 0.
        convolution: the host, where the place is ``"instead"``.
    """

    path: str
    place: Place = "before"
    channels: int
    height: int
    width: int
    num_frames: int
    stage: int = 1
    block: int = 0
    convolution: Convolution | None = None


@dataclass(frozen=True, kw_only=True)
class Insertion:
    """Where temporal modules go in a backbone, as data.

    Attributes:
        at: ``"block"`` (the whole block), ``"first_conv"`` (the first convolution of each block's residual
            branch), ``"convs"`` (all convolutions of it, one after the other), or a shell pattern over module
            paths in which ``{block}`` stands for a block's path (``"{block}.branch1x1.conv"``); or several
            patterns.
        place: ``"before"`` or ``"after"`` the host, or ``"instead"`` of it, where it is a convolution.
        every: use every n-th block of a stage, starting with the first. ``None``: every second block if some
            stage has 23 blocks or more (ResNet-101), else every block (TSM's rule).
        stages: stages to use, counted from 1; ``None`` means all.
        blocks: blocks to use within each stage, counted from 0, negative from the end; ``None`` means all.
        num_blocks: the fewest and the most blocks to use in each stage, evenly spaced among those that the
            other fields name, around their middle; ``None`` means all of them.
    """

    at: str | tuple[str, ...]
    place: Place = "before"
    every: int | None = 1
    stages: tuple[int, ...] | None = None
    blocks: tuple[int, ...] | None = None
    num_blocks: tuple[int, int] | None = None


class TemporalModule(nn.Module):
    """A module that looks along time: ``forward(clip B T C H W) -> clip`` of the same shape.

    Subclasses take ``__init__(self, site, *, option=...)``, set ``name``, and may narrow the contract with
    the declared limits below; nothing else narrows it. Clips never mix, evaluation is deterministic, and
    every parameter gets a gradient. The contract suite in ``tests/`` holds every module on the shelf to this.
    """

    name: ClassVar[str]
    """Name on the shelf and prefix of model names (``<name>_<backbone>``)."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other prefixes for the same module, with the paper's name for the network (``mstnet``)."""

    placements: ClassVar[Mapping[str, Insertion]] = {}
    """The placements that the paper names; the first one is the default."""

    sees_time: ClassVar[bool] = True
    """False only where the order of the frames cannot change the output."""

    any_length: ClassVar[bool] = True
    """Takes clips of any number of frames, not only ``site.num_frames``."""

    any_size: bool = True
    """Takes maps of any height and width, not only the site's."""

    any_size_option: ClassVar[str | None] = None
    """The option that makes it take any size, as it is written."""

    causal: bool = False
    """Frame t of the output depends on frames up to t only; then ``step`` works."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    @classmethod
    def choose_insertion(cls, backbone: str) -> Insertion | None:
        """Where this module goes in a backbone, unless the user says otherwise.

        Subclasses add the keyword options by which their paper varies the places (``stage``, ``num_blocks``);
        :func:`kinemix.create_model` takes them beside those of ``__init__``.

        Args:
            backbone: name of the image or clip network.

        Returns:
            The first of :attr:`placements`; ``None`` for a module that goes nowhere.
        """
        return next(iter(cls.placements.values()), None)

    def forward(self, clip: Clip) -> Clip:
        """Map a clip to a clip of the same shape (of the replaced convolution's, if there is one)."""
        raise NotImplementedError

    def take_over_(self, host: nn.Module) -> None:
        """Start from the weights of the convolution that this module replaces; by default afresh."""

    def step(self, frame: Frame, state: Any = None) -> tuple[Frame, Any]:
        """One frame of a stream, for causal modules: feeding frames one by one equals ``forward``.

        Args:
            frame: ``B C H W``, the next frame of every stream in the batch.
            state: what the previous call returned; ``None`` before the first frame.

        Returns:
            The output for this frame and the state for the next call.
        """
        raise NotImplementedError(f"{type(self).__name__} is not causal: it needs frames that come later")

    def macs(self, num_frames: int, height: int, width: int) -> int | None:
        """Multiply-adds for one clip, where counting convolutions and products would miss or miscount them.

        ``None`` leaves the counting to :mod:`kinemix.evaluate.complexity`.
        """
        return None

    def extra_repr(self) -> str:
        return f"channels={self.site.channels}"


def split_channels(channels: int, num_groups: int) -> list[int]:
    """Sizes of ``num_groups`` contiguous channel groups; the last takes the remainder (our choice)."""
    size = channels // num_groups
    return [size] * (num_groups - 1) + [channels - size * (num_groups - 1)]


def check_clip(clip: Tensor, channels: int) -> None:
    """Raise a :class:`~kinemix.errors.LayoutError` unless the clip is ``B T C H W`` with these channels."""
    if clip.ndim != 5 or clip.shape[2] != channels:
        raise LayoutError(
            f"a temporal module takes B T C H W with C = {channels}, got {tuple(clip.shape)}: "
            "unfold (B T) C H W to B T C H W, or transpose B C T H W, first"
        )
