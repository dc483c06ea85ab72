"""What a network costs: parameters and multiply-adds, and what each temporal module adds to them.

MACs are multiply-adds of convolutions and matrix products for one clip, the unit that most papers call FLOPs
(TSM on ResNet-50 with 8 frames: 33 G). Torch's counter reports two operations for each, and none at all for
recurrent cells on some paths, so those are counted here, from their shapes. Nothing is computed: the network
runs on the meta device.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

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
        macs: multiply-adds of convolutions and matrix products, those of recurrent cells included.
        recurrent_macs: of them, in recurrent cells.
        num_frames, input_size: the clip that was measured.
        sites: what each temporal module adds; the totals include it.
    """

    parameters: int
    macs: int
    recurrent_macs: int
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
    num_frames, size = choose_clip(model, num_frames, input_size)
    tally = _Tally()
    meters = [_ModuleMeter(module, tally) for module in model.temporal_modules().values()]
    cells = [_CellMeter(m, tally) for m in model.modules() if isinstance(m, (nn.RNNBase, nn.RNNCellBase))]
    try:
        with tally.counter:
            run_on_meta(model, (1, num_frames, model.input_spec.channels, *size))
    finally:
        tally.remove_hooks()
    return Complexity(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=tally.total,
        recurrent_macs=sum(cell.macs for cell in cells),
        num_frames=num_frames,
        input_size=size,
        sites=tuple(meter.cost for meter in meters),
    )


def choose_clip(
    model: VideoModel, num_frames: int | None, input_size: tuple[int, int] | None
) -> tuple[int, tuple[int, int]]:
    """The clip to measure: what is asked for, or else what the network was built for.

    Raises:
        ConfigError: no frames or no pixels.
    """
    num_frames = model.num_frames if num_frames is None else num_frames
    size = model.input_spec.size if input_size is None else input_size
    if num_frames < 1 or min(size) < 1:
        raise ConfigError(
            f"a clip of {num_frames} frames of {size} pixels cannot be measured: all must be 1 or more"
        )
    return num_frames, size


def plan(
    model: VideoModel, *, num_frames: int | None = None, input_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The network's plan as plain data, JSON-able: every site with what it adds, and the totals.

    Keys: ``model``, ``input`` (the input spec), ``num_frames``, ``input_size``, ``num_classes``,
    ``parameters``, ``macs``, ``recurrent_macs``, ``added_parameters``, ``added_macs``, and ``sites``: a list
    with the fields of :class:`~kinemix.temporal.base.Site` and ``module``, ``parameters``, ``macs``.
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
        "recurrent_macs": cost.recurrent_macs,
        "added_parameters": cost.added_parameters,
        "added_macs": cost.added_macs,
        "sites": [
            {**asdict(c.site), "module": c.module, "parameters": c.parameters, "macs": c.macs}
            for c in cost.sites
        ],
    }


def count_recurrent_macs(layer: nn.RNNBase | nn.RNNCellBase, steps: int) -> int:
    """Multiply-adds of a recurrent layer: its matrices' entries, once a step.

    Every weight matrix of an RNN, LSTM or GRU (input to hidden, hidden to hidden, and an LSTM's projection)
    multiplies one vector a step; biases and gates cost no products of matrices.

    Args:
        steps: time steps, summed over the sequences of the batch.
    """
    return steps * sum(weight.numel() for weight in layer.parameters() if weight.ndim == 2)


_Hook: TypeAlias = Callable[..., Any]


class _Tally:
    """Multiply-adds so far: what torch's counter saw, and what it should have seen."""

    def __init__(self) -> None:
        self.counter = FlopCounterMode(display=False)
        self._correction = 0
        self._handles: list[RemovableHandle] = []

    @property
    def total(self) -> int:
        return self.counter.get_total_flops() // 2 + self._correction

    def settle(self, before: int, macs: int) -> None:
        """What was added since ``before`` is taken back, and ``macs`` stands instead."""
        self._correction += macs - (self.total - before)

    def hook(self, module: nn.Module, enter: _Hook, leave: _Hook) -> None:
        self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        self._handles.append(module.register_forward_hook(leave, with_kwargs=True))

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()


class _CellMeter:
    """Counts one recurrent layer from its shapes, whatever the counter sees of it.

    So one step of it is enough to run, and its output is repeated for the others: on the meta device there are
    only shapes, and hundreds of thousands of tiny operations take time even there.
    """

    def __init__(self, layer: nn.RNNBase | nn.RNNCellBase, tally: _Tally) -> None:
        self.layer, self.tally, self.macs = layer, tally, 0
        self.time = 1 if getattr(layer, "batch_first", False) else 0
        self._before = 0
        self._steps: int | None = None  # of a sequence that was cut
        self._vectors = 0
        tally.hook(layer, self._enter, self._leave)

    def _enter(self, _layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self._before, self._steps = self.tally.total, None
        given = args[0] if args else named["input"]
        values = given.data if isinstance(given, PackedSequence) else given
        self._vectors = values.numel() // values.shape[-1]
        if given is not values or values.ndim != 3:
            return None
        self._steps = values.shape[self.time]
        first = values.narrow(self.time, 0, 1)
        return ((first, *args[1:]), named) if args else (args, {**named, "input": first})

    def _leave(self, _layer: nn.Module, _args: Any, _named: Any, output: Any) -> Any:
        macs = count_recurrent_macs(self.layer, self._vectors)
        self.tally.settle(self._before, macs)
        self.macs += macs
        if self._steps is None:
            return None
        outputs, *state = output if isinstance(output, tuple) else (output,)
        if outputs.ndim == 3:
            outputs = outputs.repeat_interleave(self._steps, dim=self.time)
        return (outputs, *state) if isinstance(output, tuple) else outputs


class _ModuleMeter:
    """Notes the map that passes through one temporal module, and what was counted inside it."""

    def __init__(self, module: TemporalModule, tally: _Tally) -> None:
        self.module, self.tally, self.macs = module, tally, 0
        self.shape: tuple[int, ...] = ()
        self._before = 0
        tally.hook(module, self._enter, self._leave)

    def _enter(self, _module: nn.Module, args: tuple[Tensor, ...], _named: dict[str, Any]) -> None:
        self.shape = tuple(args[0].shape)
        self._before = self.tally.total

    def _leave(self, module: TemporalModule, _args: Any, _named: dict[str, Any], _output: Tensor) -> None:
        clips, num_frames, _, height, width = self.shape
        own = module.macs(num_frames, height, width)
        if own is not None:
            self.tally.settle(self._before, own * clips)
        self.macs += self.tally.total - self._before

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
