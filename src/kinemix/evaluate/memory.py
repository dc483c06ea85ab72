"""How much memory a network's activations take at the worst moment, without having that memory.

The network runs on the meta device, where tensors have sizes but no contents, and every storage that an
operation makes is followed from its birth to its death. The peak is what was alive at one time.

Counted: every tensor that the network makes, with what autograd keeps for the backward pass. Not counted: the
weights and buffers, the clip itself, gradients of weights (but for the moment when one is made), and what is not
a tensor of the network: scratch space inside a kernel, and what an allocator rounds up or keeps. Views and
in-place operations cost nothing, as in truth.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kinemix.errors import ConfigError
from kinemix.evaluate.complexity import choose_clip
from kinemix.models.trace import evaluating
from kinemix.models.video import VideoModel


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Bytes of activations alive at the worst moment.

    Attributes:
        inference: evaluation mode, no gradients.
        training: training mode, forward and backward.
        batch_size, num_frames, input_size: the clips that were measured.
    """

    inference: int
    training: int
    batch_size: int
    num_frames: int
    input_size: tuple[int, int]


def measure_memory(
    model: VideoModel,
    *,
    batch_size: int = 1,
    num_frames: int | None = None,
    input_size: tuple[int, int] | None = None,
) -> PeakMemory:
    """Find the peak of a network's activations, in the network's own dtype; nothing is computed.

    Args:
        model: in any mode, on any device; it is not changed.
        batch_size: clips at a time.
        num_frames, input_size: of the clips; by default those the network was built for.

    Raises:
        ConfigError: no clips, frames or pixels; or the network cannot be trained on so small a batch.
    """
    num_frames, size = choose_clip(model, num_frames, input_size)
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be 1 or more")
    shape = (batch_size, num_frames, model.input_spec.channels, *size)
    with evaluating(model), torch.no_grad():
        inference = _run(model, shape, backward=False)
    with training(model, batch_size):
        trained = _run(model, shape, backward=True)
    return PeakMemory(
        inference=inference,
        training=trained,
        batch_size=batch_size,
        num_frames=num_frames,
        input_size=size,
    )


@contextmanager
def training(model: nn.Module, batch_size: int) -> Iterator[None]:
    """Training mode with gradients for a while; afterwards every module has its own mode back.

    Raises:
        ConfigError: a batch norm inside has one value a channel, which cannot be normalised.
    """
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        with torch.enable_grad():
            yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"batch_size is {batch_size}: a batch norm of this network gets one value a channel in training, "
            "which cannot be normalised: measure 2 clips or more at a time"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def _run(model: nn.Module, shape: tuple[int, ...], *, backward: bool) -> int:
    """Peak of one pass over a clip of this shape."""
    state: dict[str, Tensor] = {}
    dtype = torch.float32
    for name, parameter in model.named_parameters():
        copy = torch.empty_like(parameter, device="meta")
        state[name] = nn.Parameter(copy, requires_grad=backward and parameter.requires_grad)
        dtype = parameter.dtype
    state |= {name: torch.empty_like(buffer, device="meta") for name, buffer in model.named_buffers()}
    ledger = _Ledger()
    handles = [
        p.register_post_accumulate_grad_hook(ledger.forget_gradient)
        for p in state.values()
        if p.requires_grad
    ]
    clip = torch.empty(shape, dtype=dtype, device="meta")
    with torch.device("meta"), ledger:
        logits = torch.func.functional_call(model, state, (clip,))
        if backward and logits.requires_grad:  # not where every weight is frozen
            logits.sum().backward()
    for handle in handles:
        handle.remove()
    return ledger.peak


class _Ledger(TorchDispatchMode):
    """Books every new storage when an operation makes it, and strikes it out when it is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sizes: dict[int, int] = {}  # by the storage's address, which is unique while it lives
        self._alive = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_address(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _address(tensor) not in given:
                self._book(tensor)
        return result

    def forget_gradient(self, parameter: Tensor) -> None:
        """The gradient of this weight is finished: it is no activation."""
        if parameter.grad is not None:
            self._strike(_address(parameter.grad))

    def _book(self, tensor: Tensor) -> None:
        storage, address = tensor.untyped_storage(), _address(tensor)
        if address not in self._sizes:
            self._sizes[address] = storage.nbytes()
            self._alive += storage.nbytes()
            self.peak = max(self.peak, self._alive)
            weakref.finalize(storage, self._strike, address)

    def _strike(self, address: int) -> None:
        self._alive -= self._sizes.pop(address, 0)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
