"""Recurrent cells: against torch's own, stepped by hand, and against the equations written out."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinemix.temporal.squeeze_recursion import Cell, RecurrentCells, SqueezeRecursion

STOCK: dict[Cell, tuple[Any, Any]] = {
    "rnn": (nn.RNN, nn.RNNCell),
    "gru": (nn.GRU, nn.GRUCell),
    "lstm": (nn.LSTM, nn.LSTMCell),
}


def make_cells(cell: Cell, channels: int = 4) -> RecurrentCells:
    torch.manual_seed(0)
    return RecurrentCells(channels, cell=cell, num_layers=2).double()


def step_by_hand(cells: RecurrentCells, cell: Cell, sequence: Tensor) -> Tensor:
    """Two layers of torch's single cells, from zeros, frame by frame."""
    layers = []
    for layer in range(2):
        single = STOCK[cell][1](4, 4).double()
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        single.load_state_dict({name: getattr(cells, f"{name}_l{layer}") for name in names})
        layers.append(single)
    states: list[Tensor | tuple[Tensor, Tensor] | None] = [None, None]
    outputs = []
    for frame in sequence.unbind(1):
        for layer, single in enumerate(layers):
            states[layer] = state = single(frame, states[layer])
            frame = state[0] if isinstance(state, tuple) else state
        outputs.append(frame)
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize("cell", STOCK)
def test_cells_are_torchs(cell: Cell) -> None:
    cells = make_cells(cell)
    stock = STOCK[cell][0](4, 4, 2, batch_first=True).double()
    stock.load_state_dict(cells.state_dict())
    sequence = torch.randn(3, 5, 4, dtype=torch.float64)
    ours, theirs, again = (sequence.clone().requires_grad_() for _ in range(3))
    out, expected = cells(ours), stock(theirs)[0]
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out, step_by_hand(cells, cell, sequence))
    torch.testing.assert_close(cells._run_fused(again), expected)  # what accelerators run
    for result in (out, expected):
        result.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for (name, one), other in zip(cells.named_parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def run_peephole_naively(cells: RecurrentCells, sequence: Tensor) -> Tensor:
    """Gers and Schmidhuber's equations, gate by gate, in torch's order of gates: input, forget, cell, output."""
    for layer in range(2):
        w, u, b, d, p = (
            getattr(cells, f"{name}_l{layer}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_peephole")
        )
        C = sequence.shape[2]
        gate = [slice(n * C, (n + 1) * C) for n in range(4)]
        outputs = []
        for sample in sequence:
            h = c = torch.zeros(C, dtype=sequence.dtype)
            hidden = []
            for x in sample:
                i, f, g, o = (w[s] @ x + b[s] + u[s] @ h + d[s] for s in gate)
                i = torch.sigmoid(i + p[gate[0]] * c)
                f = torch.sigmoid(f + p[gate[1]] * c)
                c = f * c + i * torch.tanh(g)
                h = torch.sigmoid(o + p[gate[2]] * c) * torch.tanh(c)
                hidden.append(h)
            outputs.append(torch.stack(hidden))
        sequence = torch.stack(outputs)
    return sequence


def test_peephole_lstm() -> None:
    cells = make_cells("peephole_lstm")
    ours, theirs = (torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1)).double() for _ in "ab")
    ours.requires_grad_(), theirs.requires_grad_()
    out, expected = cells(ours), run_peephole_naively(cells, theirs)
    torch.testing.assert_close(out, expected)
    gradients = torch.autograd.grad(out.square().sum(), [ours, *cells.parameters()])
    naive = torch.autograd.grad(expected.square().sum(), [theirs, *cells.parameters()])
    for one, other in zip(gradients, naive, strict=True):
        torch.testing.assert_close(one, other)


def test_peephole_lstm_that_sees_nothing_is_an_lstm() -> None:
    cells = make_cells("peephole_lstm")
    plain = make_cells("lstm")
    state = {name: value for name, value in cells.state_dict().items() if "peephole" not in name}
    plain.load_state_dict(state)
    sequence = torch.randn(2, 5, 4, dtype=torch.float64)
    assert not torch.allclose(cells(sequence), plain(sequence))
    for name, parameter in cells.named_parameters():
        if "peephole" in name:
            nn.init.zeros_(parameter)
    torch.testing.assert_close(cells(sequence), plain(sequence))


@pytest.mark.parametrize(
    ("cell", "gates", "peepholes"), [("rnn", 1, 0), ("gru", 3, 0), ("lstm", 4, 0), ("peephole_lstm", 4, 3)]
)
def test_parameters(cell: Cell, gates: int, peepholes: int) -> None:
    count = sum(p.numel() for p in RecurrentCells(8, cell=cell, num_layers=2).parameters())
    assert count == 2 * (gates * (8 * 8 + 8 * 8 + 8 + 8) + peepholes * 8)


@pytest.mark.parametrize("cell", [*STOCK, "peephole_lstm"])
def test_squeeze_and_recursion(cell: Cell) -> None:
    """Spatial mean, cells, product (fig. 2)."""
    module = SqueezeRecursion(4, cell=cell).double()
    volume = torch.randn(2, 4, 3, 2, 5, dtype=torch.float64)
    weights = module.cells(volume.mean((3, 4)).transpose(1, 2))
    expected = torch.empty_like(volume)
    for b, c, t in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(3)).tolist():
        expected[b, c, t] = volume[b, c, t] * weights[b, t, c]
    torch.testing.assert_close(module(volume), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cell", [*STOCK, "peephole_lstm"])
def test_half_precision(cell: Cell, dtype: torch.dtype) -> None:
    """Weights and maps are rounded, what happens between is not."""
    torch.manual_seed(0)
    low = SqueezeRecursion(4, cell=cell).to(dtype)
    exact = copy.deepcopy(low).double()
    volume = torch.randn(2, 4, 9, 3, 3).to(dtype).requires_grad_()
    out = low(volume)
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.double(), exact(volume.double()), rtol=3 * torch.finfo(dtype).eps, atol=1e-6
    )
    out.float().sum().backward()
    assert volume.grad is not None


# The contract suite exports the GRU.
@pytest.mark.parametrize("cell", [pytest.param("lstm", marks=pytest.mark.slow), "peephole_lstm"])
def test_exports_for_any_number_of_frames(cell: Cell) -> None:
    """Whatever was exported before: the compiler's cache of this process must not narrow a program."""
    cells = RecurrentCells(4, cell=cell, num_layers=2)
    torch.export.export(cells, (torch.randn(2, 4, 4),))  # four frames, and no other number
    dynamic = {0: torch.export.Dim("num_clips", max=64), 1: torch.export.Dim("num_frames", max=64)}
    program = torch.export.export(cells, (torch.randn(2, 3, 4),), dynamic_shapes=(dynamic,)).module()
    for num_frames in (1, 4, 7):
        sequence = torch.randn(3, num_frames, 4)
        torch.testing.assert_close(program(sequence), cells(sequence))
