"""Batch normalisation over two processes against the plain layer with both batches.

The other process is played by a sum that counts everything twice: it has the same batch. Real processes are in
``tests/engine/test_processes.py``.
"""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from kinemix.engine.freeze import freeze_
from kinemix.errors import ConfigError
from kinemix.models import sync_norm
from kinemix.models.factory import create_model
from kinemix.models.sync_norm import synchronise_norms_


@pytest.fixture
def twin(monkeypatch):
    """A second process with the same batch."""
    monkeypatch.setattr(sync_norm, "_count_processes", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))


class Holder(nn.Module):
    """What the conversion asks of a network."""

    description = {"name": "a network"}

    def __init__(self, norm):
        super().__init__()
        self.norm = norm


KINDS = {
    "1d": (lambda: nn.BatchNorm1d(4), (6, 4)),
    "1d over time": (lambda: nn.BatchNorm1d(4), (3, 4, 5)),
    "2d": (lambda: nn.BatchNorm2d(4), (3, 4, 5, 6)),
    "3d": (lambda: nn.BatchNorm3d(4, momentum=0.3), (2, 4, 3, 2, 2)),
    "with an activation": (lambda: BatchNormAct2d(4, act_layer=nn.GELU), (3, 4, 5, 6)),
    "cumulative": (lambda: nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 6)),
    "without scale": (lambda: nn.BatchNorm2d(4, affine=False), (3, 4, 5, 6)),
    "without statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (3, 4, 5, 6)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_plain_layer_with_both_batches(twin, kind):
    make, shape = KINDS[kind]
    torch.manual_seed(1)
    plain = make().double()
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    ours = Holder(copy.deepcopy(plain))
    synchronise_norms_(ours)
    for step in range(2):
        batch = torch.randn(shape, dtype=torch.float64) + step
        mine, both = batch.clone().requires_grad_(), torch.cat([batch, batch]).requires_grad_()
        got, wanted = ours.norm(mine), plain(both)
        torch.testing.assert_close(got, wanted[: len(batch)])
        weights = torch.randn(shape, dtype=torch.float64)
        ours.zero_grad()
        plain.zero_grad()
        (got * weights).sum().backward()
        (wanted * torch.cat([weights, weights])).sum().backward()
        torch.testing.assert_close(mine.grad, both.grad[: len(batch)])
        for one, other in zip(ours.norm.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(2 * one.grad, other.grad)  # the other process has the other half
    assert ours.norm.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.norm.state_dict()[name], value)
    torch.testing.assert_close(ours.eval().norm(batch), plain.eval()(batch))


def test_half_precision_keeps_its_kind(twin):
    ours = Holder(nn.BatchNorm2d(3))
    synchronise_norms_(ours)
    assert ours.norm(torch.randn(2, 3, 4, 4).bfloat16()).dtype == torch.bfloat16


def test_alone_it_is_the_plain_layer():
    torch.manual_seed(0)
    plain = create_model("tsm_test_resnet.r160_in1k", num_classes=3, num_frames=2, input_size=32).train()
    ours = copy.deepcopy(plain)
    synchronise_norms_(ours)
    clip = torch.randn(2, 2, 3, 32, 32)
    torch.manual_seed(1)
    got = ours(clip)
    torch.manual_seed(1)
    assert torch.equal(got, plain(clip))
    for name, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


@pytest.mark.parametrize("batch_norm", ["partial", "first", "fixed"])
def test_partial_normalisation_works_on_converted_layers(twin, batch_norm):
    model = create_model("gsm_test_resnet.r160_in1k", num_classes=3, num_frames=4, input_size=32)
    synchronise_norms_(model)
    norms = {path: module for path, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) > 2
    assert all(type(norm).__name__.startswith("Synchronised") for norm in norms.values())
    resting = freeze_(model, batch_norm=batch_norm)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    for module in resting:
        module.eval()
    model(torch.randn(2, 4, 3, 32, 32)).sum().backward()
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    learning = set() if batch_norm == "fixed" else {next(iter(norms))}
    assert moved == {
        f"{n}.{s}" for n in learning for s in ("running_mean", "running_var", "num_batches_tracked")
    }
    has_gradient = {path for path in norms if norms[path].weight.grad is not None}
    assert has_gradient == (set(norms) if batch_norm == "partial" else learning)


def test_what_cannot_be_synchronised_is_refused():
    network = create_model("tsm_convnext_atto", num_classes=3, num_frames=2, input_size=32)
    with pytest.raises(ConfigError, match="tsm_convnext_atto has no batch normalisation"):
        synchronise_norms_(network)

    class Whitened(nn.BatchNorm2d):
        pass

    with pytest.raises(ConfigError, match="layers of its own, Whitened"):
        synchronise_norms_(Holder(Whitened(3)))
