"""A dry run that writes down how data flows through a network, without weights and without arithmetic.

The network runs on the meta device, so nothing is computed, copied or changed, whatever its size. What is
written down (which module ran when, which operation read which value) is all that
:mod:`kinemix.models.insertion` needs to find blocks by structure instead of by name.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kinemix.errors import ConfigError

Shape = tuple[int, ...]


@dataclass
class Operation:
    """One tensor operation.

    Attributes:
        name: torch's, without namespace and in-place underscore (``convolution``, ``add``, ``cat``).
        call: number of the innermost module call that was running.
        inputs, outputs: numbers of the values read and made. A value is what a tensor holds until it is
            written to again, so an in-place operation makes a new one.
        input_shapes: shapes of the tensors read, in order.
        output_shape: shape of the first tensor made.
    """

    name: str
    call: int
    inputs: list[int]
    outputs: list[int]
    input_shapes: list[Shape]
    output_shape: Shape

    @property
    def convolves(self) -> bool:
        return self.name == "convolution"

    @property
    def kernel_area(self) -> int:
        """Taps of a convolution's kernel."""
        return math.prod(self.input_shapes[1][2:])


@dataclass
class Call:
    """One run of a module's ``forward``.

    Attributes:
        number: its place in the order of calls.
        path: dotted path of the module.
        kind: its class.
        parent: number of the call that made this one; ``None`` for the network itself.
        first, last: its operations are ``operations[first:last]``; what its children did is included.
        input_shape: shape of the map it takes, ``None`` unless its first argument is one map.
        output_shape: shape of the map it gives, ``None`` unless it returns one map.
    """

    number: int
    path: str
    kind: type[nn.Module]
    parent: int | None
    first: int
    last: int = -1
    input_shape: Shape | None = None
    output_shape: Shape | None = None


@dataclass
class Trace:
    """What happened in a dry run: module calls and tensor operations, each in order of their start.

    Attributes:
        input_size: height and width of the frames.
        rank: dimensions of a map: 4 in an image network (``N C H W``), 5 in a clip network (``N C T H W``).
        convolutions: for every value, the operations among its ancestors that convolve (a bit mask over
            ``operations``).
        output_shapes: shapes of the tensors that the network returned.
    """

    input_size: tuple[int, int]
    rank: int = 4
    calls: list[Call] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    convolutions: list[int] = field(default_factory=list)
    output_shapes: list[Shape] = field(default_factory=list)

    @cached_property
    def all_convolutions(self) -> int:
        """The mask of all operations that convolve."""
        return sum(1 << i for i, op in enumerate(self.operations) if op.convolves)

    def is_map(self, shape: Shape) -> bool:
        """Whether a tensor of this shape is a map ``N C [T] H W``: its sides have the frame's proportions.

        Each side may have been rounded by a pixel. A map ``N H W C`` fails, which no site may have.
        """
        if len(shape) != self.rank:
            return False
        height, width = self.input_size
        return abs(shape[-2] * width - shape[-1] * height) <= height + width

    def lineage(self, call: int) -> Iterator[Call]:
        """The call of this number and those around it, from the inside out."""
        number: int | None = call
        while number is not None:
            yield self.calls[number]
            number = self.calls[number].parent


class _Recorder(TorchDispatchMode):
    """Numbers the values that operations read and make."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.stack: list[int] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id() is unique only as long as its object lives

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        inputs = [self._number(t) for t in read]
        shapes = [tuple(t.shape) for t in read]
        result = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if not self.stack or not made:
            return result
        name = func._schema.name.partition("::")[2].rstrip("_")
        mask = 0
        for number in inputs:
            mask |= self.trace.convolutions[number]
        if name == "convolution":
            mask |= 1 << len(self.trace.operations)
        outputs = [self._renew(t, mask) for t in made]
        self.trace.operations.append(
            Operation(name, self.stack[-1], inputs, outputs, shapes, tuple(made[0].shape))
        )
        return result

    def _number(self, tensor: Tensor) -> int:
        known = self._numbers.get(id(tensor))
        return self._renew(tensor, 0) if known is None else known

    def _renew(self, tensor: Tensor, convolutions: int) -> int:
        number = len(self.trace.convolutions)
        self.trace.convolutions.append(convolutions)
        self._numbers[id(tensor)] = number
        self._alive.append(tensor)
        return number

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        parent = self.stack[-1] if self.stack else None
        number = len(self.trace.calls)
        call = Call(number, path, type(module), parent, first=len(self.trace.operations))
        call.input_shape = self._map_shape(args[0]) if args else None
        self.stack.append(number)
        self.trace.calls.append(call)

    def leave(self, result: Any) -> None:
        call = self.trace.calls[self.stack.pop()]
        call.last = len(self.trace.operations)
        call.output_shape = self._map_shape(result)

    def _map_shape(self, value: Any) -> Shape | None:
        is_map = isinstance(value, Tensor) and self.trace.is_map(tuple(value.shape))
        return tuple(value.shape) if is_map else None


def trace_network(
    network: nn.Module, *, channels: int, input_size: tuple[int, int], num_frames: int | None = None
) -> Trace:
    """Send one frame or clip through a network that does not exist, and write down what it does.

    Args:
        network: takes ``1 x channels x H x W``, or clips ``1 x channels x T x H x W``; it is neither copied
            nor changed.
        channels, input_size: of the frames.
        num_frames: of the clip; ``None`` for an image network.

    Raises:
        ConfigError: the network cannot take such a frame or clip.
    """
    length = () if num_frames is None else (num_frames,)
    recorder = _Recorder(Trace(input_size, rank=4 + len(length)))
    handles = []
    for path, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(_entering(recorder, path)))
        handles.append(module.register_forward_hook(_leaving(recorder)))
    try:
        with recorder:
            result = run_on_meta(network, (1, channels, *length, *input_size))
    except Exception as error:  # whatever a user's network may raise
        raise ConfigError(
            f"{type(network).__name__} cannot take {'a frame' if num_frames is None else 'a clip'} of "
            f"{' x '.join(map(str, (channels, *length, *input_size)))} in a dry run: {_one_line(error)}; try "
            f"{'frames of another size' if num_frames is None else 'more frames or another size'}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    recorder.trace.output_shapes = [tuple(t.shape) for t in tree_leaves(result) if isinstance(t, Tensor)]
    return recorder.trace


def _entering(recorder: _Recorder, path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    return lambda module, args: recorder.enter(path, module, args)


def _leaving(recorder: _Recorder) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    return lambda _module, _args, result: recorder.leave(result)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


def run_on_meta(network: nn.Module, input_shape: Shape) -> Any:
    """Run a network in evaluation mode on the meta device, with its own parameters left where they are."""
    state: dict[str, Tensor] = {n: torch.empty_like(b, device="meta") for n, b in network.named_buffers()}
    for name, parameter in network.named_parameters():  # still parameters: modules may ask for them as such
        state[name] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    with evaluating(network), torch.no_grad(), torch.device("meta"):
        return torch.func.functional_call(network, state, (torch.empty(input_shape),))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module gets its own mode back (parts may be frozen)."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
