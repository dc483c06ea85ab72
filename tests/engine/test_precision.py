"""Half precision: clipping, accumulated micro-batches and overflowing steps against a loop by hand."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision import MixedPrecision
from torch import nn
from torch.nn import functional as F

from kinemix.config import OptimConfig
from kinemix.data.annotations import Annotations
from kinemix.data.dataset import Batch
from kinemix.engine import step_guard
from kinemix.engine.logbook import read_log
from kinemix.engine.objective import Objective
from kinemix.engine.train import train, train_epoch
from kinemix.engine.training_state import Position
from kinemix.engine.unreadable import UnreadableList
from kinemix.errors import ConfigError, KinemixError
from kinemix.label_space import LabelSpace


class Overflowing(nn.Module):
    """A linear network, whose gradient is infinite in the micro-batches that say so."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, clip):
        logits = self.linear(clip.flatten(1))
        if (clip > 100).any():
            logits.register_hook(lambda gradient: gradient * torch.inf)
        return logits


def make_batches():
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(4, 1, 6, 1, 1, generator=generator) for _ in range(9)]
    clips[4][0] = 1000.0
    labels = [torch.randint(3, (4,), generator=generator) for _ in range(9)]
    return [Batch(c, y, torch.arange(4)) for c, y in zip(clips, labels, strict=True)]


def make_scaler():
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_scaled_steps_equal_those_by_hand(clip):
    """Nine micro-batches by twos; the fifth overflows, so the third step is left out and the scale halved."""
    torch.manual_seed(0)
    network = Overflowing()
    twin = Overflowing()
    twin.load_state_dict(network.state_dict())
    batches = make_batches()

    scaler = make_scaler()
    fabric = Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])
    model, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=1, momentum=0.9))
    reports = list(
        train_epoch(
            fabric,
            model,
            optimizer,
            iter(batches),
            objective=Objective(space=LabelSpace(class_names=("a", "b", "c"))),
            num_batches=9,
            position=Position(),
            rate=lambda iteration: 0.5,
            accumulate=2,
            clip_grad_norm=clip,
        )
    )

    theirs = make_scaler()
    by_hand = torch.optim.SGD(twin.parameters(), lr=0.5, momentum=0.9)
    norms = []
    for first in range(0, 9, 2):
        group = batches[first : first + 2]
        for batch in group:
            with torch.autocast("cpu", torch.float16):
                logits = twin(batch.clips).float()
            theirs.scale(F.cross_entropy(logits, batch.labels) / len(group)).backward()
        theirs.unscale_(by_hand)
        norm = nn.utils.clip_grad_norm_(twin.parameters(), clip or 1e9)
        norms.append(float(norm) if norm.isfinite() else None)
        theirs.step(by_hand)
        theirs.update()
        by_hand.zero_grad()

    assert norms[2] is None
    assert [report.gradient_norm for report in reports] == pytest.approx(norms)
    assert all(math.isfinite(report.losses["loss"]) for report in reports)
    for name, value in twin.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert scaler.get_scale() == theirs.get_scale()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_micro_batch_of_which_nothing_could_be_read_does_not_make_the_step_smaller(lost):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(1), nn.Linear(6, 3))
    twin = copy.deepcopy(network)
    batches = make_batches()[:3]
    empty = Batch(batches[0].clips[:0], batches[0].labels[:0], batches[0].indices[:0])
    fabric = Fabric(accelerator="cpu")
    model, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=1))
    steps = train_epoch(
        fabric,
        model,
        optimizer,
        iter([*batches[:lost], empty, *batches[lost + 1 :]]),
        objective=Objective(space=LabelSpace(class_names=("a", "b", "c"))),
        num_batches=3,
        position=Position(),
        rate=lambda iteration: 0.5,
        accumulate=3,
    )
    (step,) = steps
    assert step.clips == 8
    kept = [*batches[:lost], *batches[lost + 1 :]]
    sum(F.cross_entropy(twin(batch.clips), batch.labels) / 2 for batch in kept).backward()
    for name, value in twin.named_parameters():
        assert torch.allclose(network.get_parameter(name), value - 0.5 * value.grad), name


def test_steps_that_are_skipped_without_end_end_the_run(tmp_path, monkeypatch):
    """A gradient that is nan whatever its scale; those that overflow now and then are nobody's concern."""
    monkeypatch.setattr(step_guard, "MOST_SKIPPED", 3)
    scaled = MixedPrecision("16-mixed", "cpu", scaler=make_scaler())
    guard = step_guard.StepGuard(
        Fabric(accelerator="cpu", plugins=[scaled]),
        directory=tmp_path,
        samples=Annotations(samples=(), class_names=("a",)),
        model=nn.Linear(1, 1),
        unreadable=UnreadableList(tmp_path / "unreadable.csv", total=1, limit=0),
        mix=lambda batch: batch,
        position=Position(),
        rate=lambda iteration: 0.1,
        saved_iteration=lambda: 0,
    )
    for norm in (math.nan, math.inf, 1.0, math.nan, math.nan):
        guard.check_gradient(norm)
    with pytest.raises(KinemixError, match="the gradient has been nan for 3 steps in epoch 1, step 1: lower"):
        guard.check_gradient(math.nan)


def test_without_scaler_such_a_step_ends_the_run(config, monkeypatch):
    """And the checkpoint before it stays: infinite weights would be worth nothing."""
    cross_entropy = F.cross_entropy

    def overflow(logits, labels, **options):
        if logits.requires_grad and torch.is_grad_enabled():
            calls.append(1)
            if len(calls) == 6:
                logits.register_hook(lambda gradient: gradient * torch.inf)
        return cross_entropy(logits, labels, **options)

    calls = []
    monkeypatch.setattr(F, "cross_entropy", overflow)
    config = replace(config, machine=replace(config.machine, precision="bf16-mixed"))
    with pytest.raises(KinemixError, match=r"the gradient is (nan|inf) in epoch 2, step 6.*lower optim\.lr"):
        train(config)
    assert len(calls) == 6


def test_bfloat16_is_refused_where_it_corrupts_memory(config):
    """torch's own fault, on the processor alone; what is frozen takes no gradient and may stay."""
    config = replace(
        config,
        model="mtconv_test_resnet",
        machine=replace(config.machine, accelerator="cpu", precision="bf16-mixed"),
    )
    with pytest.raises(
        ConfigError, match=r"machine\.precision is bf16-mixed.*conv \(.*machine\.precision=32"
    ):
        train(config)
    assert not Path(config.out).exists()
    frozen = OptimConfig(epochs=1, batch_size=5, lr_scales={"*": 0, "*.fc.*": 1})
    train(replace(config, optim=frozen))


def test_the_norm_is_measured_without_clipping_too(config, tmp_path):
    config = replace(config, optim=OptimConfig(epochs=1, batch_size=5, lr=0.05, clip_grad_norm=1e9))
    clipped = train(config)
    free = train(
        replace(config, out=str(tmp_path / "free"), optim=replace(config.optim, clip_grad_norm=None))
    )
    norms = [[r["gradient_norm"] for r in read_log(run) if r["kind"] == "train"] for run in (clipped, free)]
    assert norms[0] == norms[1]
    assert all(norm > 0 for norm in norms[0])
