"""Schedules against closed forms and against torch's own schedulers; groups by counting."""

import math

import pytest
import torch
from torch import nn

from kinemix.engine.optim import build_optimizer, group_parameters, rate_at, set_rate_
from kinemix.errors import ConfigError

RUN = {"lr": 0.1, "iterations_per_epoch": 10, "epochs": 5}


def test_cosine_equals_torch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for iteration in range(50):
        assert rate_at(iteration, **RUN, schedule="cosine") == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_step_multiplies_at_each_milestone():
    rates = [rate_at(i, **RUN, schedule="step", milestones=(2, 3.5), gamma=0.1) for i in range(50)]
    assert rates == pytest.approx([0.1] * 20 + [0.01] * 15 + [0.001] * 15)


def test_warm_up_rises_from_a_hundredth_then_half_a_cosine():
    rates = [rate_at(i, **RUN, schedule="cosine", warmup_epochs=2) for i in range(50)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[10] == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert rates[20] == pytest.approx(0.1)
    assert rates[35] == pytest.approx(0.05)
    assert rates[49] == pytest.approx(0.05 * (1 + math.cos(math.pi * 29 / 30)))
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_warm_up_longer_than_the_run_and_constant():
    assert rate_at(49, **RUN, schedule="constant") == 0.1
    assert rate_at(25, **RUN, schedule="constant", warmup_epochs=5) == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert rate_at(25, **RUN, schedule="cosine", warmup_epochs=5) == pytest.approx(0.1 * (0.01 + 0.99 / 2))


def test_unknown_schedule():
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        rate_at(0, **RUN, schedule="cosin")


def make_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_norms_and_biases_are_spared():
    net = make_net()
    decayed, spared = group_parameters(net, weight_decay=0.1, decay_norms=False)
    assert {id(p) for p in decayed["params"]} == {id(net[0].weight), id(net[3].weight)}
    assert {id(p) for p in spared["params"]} == {id(net[i].bias) for i in (0, 1, 3)} | {id(net[1].weight)}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    (everything,) = group_parameters(net, weight_decay=0.1, decay_norms=True)
    assert len(everything["params"]) == 6


def test_frozen_parameters_are_left_out():
    net = make_net()
    net[0].requires_grad_(False)
    (group,) = group_parameters(net, weight_decay=0.1, decay_norms=True)
    assert len(group["params"]) == 4


def test_optimizers_and_their_rate():
    sgd = build_optimizer(make_net(), name="sgd", lr=0.1, weight_decay=0.1, nesterov=True, decay_norms=False)
    assert isinstance(sgd, torch.optim.SGD)
    set_rate_(sgd, 0.5)
    assert [g["lr"] for g in sgd.param_groups] == [0.5, 0.5]
    assert isinstance(build_optimizer(make_net(), name="adamw", lr=0.1, weight_decay=0.1), torch.optim.AdamW)
    with pytest.raises(ConfigError, match="adamw"):
        build_optimizer(make_net(), name="adam", lr=0.1, weight_decay=0.1)
    with pytest.raises(ConfigError, match="momentum"):
        build_optimizer(make_net(), name="sgd", lr=0.1, weight_decay=0.1, momentum=0, nesterov=True)
