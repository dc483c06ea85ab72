"""Schedules against closed forms, torch's own schedulers and published rates."""

import math

import pytest
import torch
from torch import nn

from kinemix.config import OptimConfig
from kinemix.engine.schedule import count_epochs, rate_at, scale_rate
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


def test_gsm_as_published():
    """From .001 to .0091 over ten epochs, each at one rate, then half a cosine from .01 to 60 epochs."""
    options = {"lr": 0.01, "epochs": 60, "warmup_epochs": 10, "warmup_start": 0.1, "schedule_by": "epoch"}
    rates = [rate_at(i, iterations_per_epoch=7, **options) for i in range(7 * 60)]
    epochs = [rates[7 * epoch : 7 * epoch + 7] for epoch in range(60)]
    assert all(len(set(rates)) == 1 for rates in epochs)
    firsts = [rates[0] for rates in epochs]
    assert firsts[:11] == pytest.approx(
        [0.001, 0.0019, 0.0028, 0.0037, 0.0046, 0.0055, 0.0064, 0.0073, 0.0082, 0.0091, 0.01]
    )
    assert firsts[10:] == pytest.approx([0.005 * (1 + math.cos(math.pi * e / 50)) for e in range(50)])


def test_mtnet_as_published():
    """lr_n = lr_0 0.5 (cos(n pi / n_max) + 1) over the whole run, with a warm-up in iterations before it."""
    options = {"lr": 1.16, "epochs": 400, "warmup_iterations": 8000, "cosine_over": "run"}
    n_max = 400 * 300
    published = [1.16 * 0.5 * (math.cos(n / n_max * math.pi) + 1) for n in (8000, 50_000, 119_999)]
    rates = [rate_at(n, iterations_per_epoch=300, **options) for n in (8000, 50_000, 119_999)]
    assert rates == pytest.approx(published)
    first, middle = (rate_at(n, iterations_per_epoch=300, **options) for n in (0, 4000))
    assert (first, middle) == pytest.approx((0.0116, (0.0116 + published[0]) / 2))


def test_ctm_as_published():
    """.02, times .1 at epochs 30 and 50."""
    options = {"lr": 0.02, "epochs": 60, "schedule": "step", "milestones": (30, 50), "schedule_by": "epoch"}
    rates = [rate_at(5 * epoch + 4, iterations_per_epoch=5, **options) for epoch in range(60)]
    assert rates == pytest.approx([0.02] * 30 + [0.002] * 20 + [0.0002] * 10)


def test_epochs_of_different_lengths():
    lengths = [4, 2, 5]
    positions = [e + i / n for e, n in enumerate(lengths) for i in range(n)]
    assert [count_epochs(i, lengths) for i in range(11)] == pytest.approx(positions)
    assert count_epochs(11, lengths) == 3
    options = {"lr": 1.0, "epochs": 3, "warmup_epochs": 1, "warmup_start": 0.0}
    rates = [rate_at(i, iterations_per_epoch=lengths, **options) for i in range(11)]
    assert rates[:4] == pytest.approx([0, 0.25, 0.5, 0.75])
    assert rates[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * (p - 1) / 2)) for p in positions[4:]])


def test_rate_grows_with_the_batch():
    optim = OptimConfig(lr=0.02, batch_size=8, accumulate=3)
    assert scale_rate(optim, processes=4) == 0.02
    scaled = scale_rate(OptimConfig(lr=0.02, lr_batch=64, batch_size=8, accumulate=3), processes=4)
    assert scaled == pytest.approx(0.02 * 96 / 64)
