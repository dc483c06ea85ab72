"""Squeeze-and-Recursion: recurrent cells read a clip frame by frame and say how much each channel counts.

The map is averaged over its pixels, two layers of cells look at these vectors in temporal order, and what they
give multiplies the map. On accelerators torch's own RNN, LSTM and GRU do the arithmetic in one call. Elsewhere, and
for a compiler, which cannot look into those, the same cells go step by step; an exporter gets them as one scan, so
that its program takes clips of any length.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan_op
from torch.nn import functional as F

Cell: TypeAlias = Literal["rnn", "lstm", "peephole_lstm", "gru"]
State: TypeAlias = tuple[Tensor, ...]
"""What a layer remembers, ``B C`` each: the output; an LSTM's memory cell as well."""

Step: TypeAlias = Callable[..., State]
"""From the projected input, the state and the layer's recurrent weights to the next state."""

_MODES: Mapping[str, str] = MappingProxyType(
    {"rnn": "RNN_TANH", "lstm": "LSTM", "peephole_lstm": "LSTM", "gru": "GRU"}
)
CELLS: tuple[str, ...] = tuple(_MODES)


class SqueezeRecursion(nn.Module):
    """Multiply a map by what recurrent cells make of its spatial mean ("MTConv", eq. 8-11 and fig. 2).

    There is no sigmoid after the cells, so a channel may change its sign.

    Args:
        channels: of the map.
        cell: kind of cell; see :class:`RecurrentCells`.
        num_layers: layers of cells.
    """

    def __init__(self, channels: int, *, cell: Cell = "gru", num_layers: int = 2) -> None:
        super().__init__()
        self.cells = RecurrentCells(channels, cell=cell, num_layers=num_layers)

    def forward(self, volume: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        squeezed = volume.mean(dim=(3, 4), dtype=torch.promote_types(volume.dtype, torch.float32))
        importance = self.cells(squeezed.transpose(1, 2)).transpose(1, 2)
        return volume * importance[..., None, None].to(volume.dtype)


class RecurrentCells(nn.RNNBase):
    """Layers of recurrent cells with as many outputs as inputs, from a zero state.

    The parameters have the names, shapes and start of ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``, and mean the same.
    Thus the GRU's reset gate is applied after the recurrent product and not before it as in eq. 10, and there
    are two bias vectors. The peephole LSTM (Gers and Schmidhuber) lets its gates see the memory cell: the input
    and forget gate the one before, the output gate the new one, each through one weight a channel
    (``weight_peephole_l*``: input, forget, output).

    Args:
        channels: of the input, of every state, and of the output.
        cell: ``"gru"``, ``"lstm"``, ``"peephole_lstm"``, or ``"rnn"`` with tanh.
        num_layers: the second layer reads what the first one gives, and so on.
    """

    def __init__(self, channels: int, *, cell: Cell, num_layers: int) -> None:
        super().__init__(_MODES[cell], channels, channels, num_layers, batch_first=True)
        self.cell = cell
        if cell == "peephole_lstm":
            for layer in range(num_layers):
                self.register_parameter(f"weight_peephole_l{layer}", nn.Parameter(torch.empty(3 * channels)))
            self.reset_parameters()

    def forward(self, sequence: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """The last layer's output at every step, in single precision at least: rounding errors add up over time."""
        exact = self._exact_weight("weight_ih_l0")
        sequence = sequence.to(exact.dtype)
        if sequence.is_cuda and self._has_kernel(exact) and not torch.compiler.is_compiling():
            return self._run_fused(sequence)
        sequence = sequence.transpose(0, 1)
        for layer in range(self.num_layers):
            sequence = self._run_layer(sequence, layer)
        return sequence.transpose(0, 1)

    def _has_kernel(self, exact: Tensor) -> bool:
        """Whether torch's own implementation takes these cells, with their weights as they lie in memory."""
        return self.cell != "peephole_lstm" and exact is self.weight_ih_l0

    def _exact_weight(self, name: str) -> Tensor:
        weight = self.get_parameter(name)
        return weight.to(torch.promote_types(weight.dtype, torch.float32))

    def _run_fused(self, sequence: Tensor) -> Tensor:
        """All layers in one call of torch's own implementation (cuDNN's on its devices)."""
        zeros = sequence.new_zeros(self.num_layers, sequence.shape[0], self.hidden_size)
        weights: list[Tensor] = [weight for layer in self.all_weights for weight in layer]
        # Gradients are wanted in evaluation too, and there is no dropout that training would switch on.
        options = (True, self.num_layers, 0.0, torch.is_grad_enabled(), False, True)
        if self.cell == "lstm":
            return torch.lstm(sequence, (zeros, zeros), weights, *options)[0]
        run = torch.gru if self.cell == "gru" else torch.rnn_tanh
        return run(sequence, zeros, weights, *options)[0]

    def _run_layer(self, sequence: Float[Tensor, "T B C"], layer: int) -> Float[Tensor, "T B C"]:
        """One layer, step by step."""
        weight, bias = self._exact_weight(f"weight_ih_l{layer}"), self._exact_weight(f"bias_ih_l{layer}")
        projected = F.linear(sequence, weight, bias)
        step, weights = _STEPS[self.cell], self._find_recurrent_weights(layer)
        zeros = torch.zeros_like(sequence[0])
        state: State = (zeros, zeros.clone()) if self.mode == "LSTM" else (zeros,)
        if torch.compiler.is_exporting():
            return _scan(step, state, projected, weights)
        outputs = []
        for frame in projected.unbind():
            state = step(frame, state, *weights)
            outputs.append(state[0])
        return torch.stack(outputs)

    def _find_recurrent_weights(self, layer: int) -> tuple[Tensor, ...]:
        """What a step of a layer needs besides its input and state."""
        names = ["weight_hh", "bias_hh"] + ["weight_peephole"] * (self.cell == "peephole_lstm")
        return tuple(self._exact_weight(f"{name}_l{layer}") for name in names)

    def extra_repr(self) -> str:
        return f"channels={self.hidden_size}, cell={self.cell}, num_layers={self.num_layers}"


def _step_rnn(projected: Tensor, state: State, weight: Tensor, bias: Tensor) -> State:
    return (torch.tanh(projected + F.linear(state[0], weight, bias)),)


def _step_gru(projected: Tensor, state: State, weight: Tensor, bias: Tensor) -> State:
    from_input = projected.chunk(3, dim=1)
    from_state = F.linear(state[0], weight, bias).chunk(3, dim=1)
    reset = torch.sigmoid(from_input[0] + from_state[0])
    update = torch.sigmoid(from_input[1] + from_state[1])
    candidate = torch.tanh(from_input[2] + reset * from_state[2])
    return ((state[0] - candidate) * update + candidate,)


def _step_lstm(
    projected: Tensor, state: State, weight: Tensor, bias: Tensor, peepholes: Tensor | None = None
) -> State:
    gates = projected + F.linear(state[0], weight, bias)
    put, forget, candidate, output = gates.chunk(4, dim=1)
    memory = state[1]
    if peepholes is not None:
        see_put, see_forget, see_output = peepholes.chunk(3)
        put, forget = put + see_put * memory, forget + see_forget * memory
    memory = torch.sigmoid(forget) * memory + torch.sigmoid(put) * torch.tanh(candidate)
    if peepholes is not None:
        output = output + see_output * memory
    return torch.sigmoid(output) * torch.tanh(memory), memory


_STEPS: Mapping[str, Step] = MappingProxyType(
    {"rnn": _step_rnn, "lstm": _step_lstm, "peephole_lstm": _step_lstm, "gru": _step_gru}
)


def _scan(step: Step, state: State, sequence: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """A layer's outputs as one operation of an exported program, whatever the number of steps.

    The operation itself is called. Torch's ``scan`` around it compiles it first, with the compiler's cache of this
    process, and what an earlier export left there (other numbers of frames) ends up as a guard of this one.
    """

    def combine(*values: Tensor) -> tuple[Tensor, ...]:
        frame = values[len(state)]
        following = step(frame, values[: len(state)], *values[len(state) + 1 :])
        return *following, following[0].clone()  # a scan's state and output may not share memory

    outputs: Tensor = scan_op(combine, list(state), [sequence], weights)[-1]
    return outputs
