"""What a network costs: parameters and multiply-adds, and what each temporal module adds to them.

MACs are multiply-adds of convolutions and linear layers for one clip, the unit that the papers call FLOPs
(TSM on ResNet-50 with 8 frames: 33 G). Torch's counter reports two operations for each. Nothing is computed:
the network runs on the meta device.
"""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kinemix.errors import ConfigError
from kinemix.models.trace import run_on_meta
from kinemix.models.video import VideoModel
from kinemix.temporal.base import Site, TemporalModule


@dataclass(frozen=True, kw_only=True)
class SiteCost:
    """What one temporal module adds.

    Attributes:
        site: where it stands, with the map that passes there at the size measured.
        module: name of its class.
        parameters: of the module.
        macs: for one clip.
    """

    site: Site
    module: str
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """What a network costs for one clip.

    Attributes:
        parameters: all of them, each counted once.
        macs: multiply-adds of convolutions and linear layers.
        num_frames, input_size: the clip that was measured.
        sites: what each temporal module adds; the totals include it.
    """

    parameters: int
    macs: int
    num_frames: int
    input_size: tuple[int, int]
    sites: tuple[SiteCost, ...]

    @property
    def added_parameters(self) -> int:
        return sum(site.parameters for site in self.sites)

    @property
    def added_macs(self) -> int:
        return sum(site.macs for site in self.sites)


def measure_complexity(
    model: VideoModel, *, num_frames: int | None = None, input_size: tuple[int, int] | None = None
) -> Complexity:
    """Count parameters and multiply-adds of a network for one clip.

    Args:
        model: in any mode, on any device; it is not changed.
        num_frames, input_size: of the clip; by default those the network was built for.

    Raises:
        LayoutError: one of its temporal modules is bound to another number of frames or size.
    """
    num_frames = model.num_frames if num_frames is None else num_frames
    size = model.input_spec.size if input_size is None else input_size
    if num_frames < 1 or min(size) < 1:
        raise ConfigError(
            f"a clip of {num_frames} frames of {size} pixels cannot be measured: all must be 1 or more"
        )
    counter = FlopCounterMode(display=False)
    meters = [_Meter(module, counter) for module in model.temporal_modules().values()]
    try:
        with counter:
            run_on_meta(model, (1, num_frames, model.input_spec.channels, *size))
    finally:
        for meter in meters:
            meter.remove()
    macs = counter.get_total_flops() // 2 + sum(meter.correction for meter in meters)
    return Complexity(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=macs,
        num_frames=num_frames,
        input_size=size,
        sites=tuple(meter.cost for meter in meters),
    )


def plan(
    model: VideoModel, *, num_frames: int | None = None, input_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The network's plan as plain data, JSON-able: every site with what it adds, and the totals.

    Keys: ``model``, ``input`` (the input spec), ``num_frames``, ``input_size``, ``num_classes``,
    ``parameters``, ``macs``, ``added_parameters``, ``added_macs``, and ``sites``: a list with the fields of
    :class:`~kinemix.temporal.base.Site` and ``module``, ``parameters``, ``macs``.
    """
    cost = measure_complexity(model, num_frames=num_frames, input_size=input_size)
    return {
        "model": model.description.get("name", model.description.get("backbone")),
        "input": asdict(model.input_spec),
        "num_frames": cost.num_frames,
        "input_size": list(cost.input_size),
        "num_classes": model.num_classes,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "added_parameters": cost.added_parameters,
        "added_macs": cost.added_macs,
        "sites": [
            {**asdict(c.site), "module": c.module, "parameters": c.parameters, "macs": c.macs}
            for c in cost.sites
        ],
    }


class _Meter:
    """Notes the map that passes through one temporal module, and what the counter saw inside it."""

    def __init__(self, module: TemporalModule, counter: FlopCounterMode) -> None:
        self.module, self.counter = module, counter
        self.counted, self.macs = 0, 0
        self.shape: tuple[int, ...] = ()
        self._before = 0
        self._handles = [
            module.register_forward_pre_hook(self._enter),
            module.register_forward_hook(self._leave),
        ]

    def _enter(self, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.shape = tuple(args[0].shape)
        self._before = self.counter.get_total_flops()

    def _leave(self, module: TemporalModule, _args: tuple[Tensor, ...], _output: Tensor) -> None:
        counted = (self.counter.get_total_flops() - self._before) // 2
        clips, num_frames, _, height, width = self.shape
        own = module.macs(num_frames, height, width)
        self.counted += counted
        self.macs += counted if own is None else own * clips

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def correction(self) -> int:
        """What to add to the counter's total, for modules that know their own multiply-adds."""
        return self.macs - self.counted

    @property
    def cost(self) -> SiteCost:
        site = self.module.site
        _, num_frames, channels, height, width = self.shape
        return SiteCost(
            site=Site(
                path=site.path,
                place=site.place,
                channels=channels,
                height=height,
                width=width,
                num_frames=num_frames,
                stage=site.stage,
                block=site.block,
            ),
            module=type(self.module).__name__,
            parameters=sum(p.numel() for p in self.module.parameters()),
            macs=self.macs,
        )
