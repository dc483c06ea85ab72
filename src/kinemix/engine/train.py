"""Training: one loop that can be read from top to bottom.

:func:`train` walks through the epochs; :func:`train_epoch` is the loop itself, and gives control back after
every step of the optimizer, when weights, optimizer and position agree and may be saved. What is drawn at
random depends on the seed, the epoch and the sample alone, so a run that was killed and resumed ends with the
weights of one that was not, bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import nn

from kinemix.config import TrainConfig
from kinemix.data.dataset import Batch
from kinemix.data.loader import WorkerDeathError, explain_worker_death
from kinemix.engine.bottleneck import Part
from kinemix.engine.interrupt import Interrupted, catch_stop
from kinemix.engine.launch import launch_fabric
from kinemix.engine.logbook import Step
from kinemix.engine.objective import Objective
from kinemix.engine.optim import set_rate_
from kinemix.engine.parts import build_parts
from kinemix.engine.portions import deal
from kinemix.engine.processes import (
    add_up,
    any_process,
    explain_lost_process,
    tell_of_lost_process,
)
from kinemix.engine.run import Run
from kinemix.engine.settle import settle_config
from kinemix.engine.training_state import Position, join_sums
from kinemix.models.sharding import read_norm


def train(config: TrainConfig, *, quiet: bool = False) -> Path:
    """Train a network, or go on training it.

    Args:
        config: everything.
        quiet: show no bar and say nothing.

    Returns:
        The run directory, with checkpoints ``best`` and ``last``.

    Raises:
        KinemixError: data, options or the run directory cannot be used; too many videos are unreadable; the
            loss is no longer a number; the disk is full.
        Interrupted: Ctrl-C or SIGTERM, after the run was saved.
    """
    config = settle_config(config)
    optim = config.optim
    fabric = launch_fabric(config.machine)
    with (
        catch_stop() as stop,
        tell_of_lost_process(),
        Run(fabric, build_parts(fabric, config), stop=stop, quiet=quiet) as run,
    ):
        try:
            while not run.is_over():
                steps = train_epoch(
                    fabric,
                    run.network,
                    run.optimizer,
                    run.open_epoch(),
                    objective=run.objective,
                    num_batches=run.num_batches,
                    position=run.position,
                    rate=run.rate,
                    accumulate=optim.accumulate,
                    clip_grad_norm=optim.clip_grad_norm,
                    mix=run.mix,
                    check_batch=run.guard.check_batch,
                    check_loss=run.guard.check_loss,
                    check_gradient=run.guard.check_gradient,
                    resting=run.resting,
                    span=run.span,
                )
                for step in steps:
                    run.average_weights()
                    run.note_step(step)
                    stopping = any_process(fabric, stop.requested)
                    if stopping or run.is_save_due():
                        run.save_last()
                    if stopping:
                        raise Interrupted(run.tell_how_to_resume())
                run.end_epoch()
        except (RuntimeError, WorkerDeathError) as error:
            # torch tells of a dead loader process, or of another one of the run, wherever this one is just then.
            death = explain_worker_death(error) or explain_lost_process(error)
            if death is None:
                raise
            if stop.requested:  # a scheduler's SIGTERM goes to every process of a job, the loader's too
                raise Interrupted(run.tell_how_to_resume()) from error
            raise death from None
        return run.directory


def train_epoch(
    fabric: Fabric,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    *,
    objective: Objective,
    num_batches: int,
    position: Position,
    rate: Callable[[int], float],
    accumulate: int = 1,
    clip_grad_norm: float | None = None,
    mix: Callable[[Batch], Batch] = lambda batch: batch,
    check_batch: Callable[[Batch], object] = lambda batch: None,
    check_loss: Callable[[Batch, float], object] = lambda batch, loss: None,
    check_gradient: Callable[[float], None] = lambda norm: None,
    resting: Sequence[nn.Module] = (),
    span: Callable[[Part], AbstractContextManager[None]] = lambda part: nullcontext(),
) -> Iterator[Step]:
    """The loop: micro-batches to gradients, gradients to steps, until the epoch's batches are used up.

    Every micro-batch counts the same within its step; the last step of an epoch may have fewer of them, and one of
    which nothing could be read is left out. Within a micro-batch every clip counts the same, whichever process has
    it.

    Args:
        fabric: moves tensors, casts, and averages gradients over processes.
        network: set up by ``fabric``; clips to logits.
        optimizer: set up by ``fabric``.
        batches: from ``position.batch`` on.
        objective: logits and labels to a loss.
        num_batches: micro-batches in the whole epoch, on each process.
        position: moved on, in place, before each step is yielded.
        rate: learning rate of an iteration.
        accumulate: micro-batches in a step.
        clip_grad_norm: largest norm of the gradient.
        mix: what is done to each micro-batch on the device.
        check_batch: called with each micro-batch as it comes; may raise a :class:`KinemixError`.
        check_loss: called with each micro-batch as it came and its loss, before the loss is used; raises in all
            processes or in none.
        check_gradient: called with the norm of each step's gradient, before it is used; likewise.
        resting: modules of the network that stay in evaluation mode, each for itself.
        span: stands around each part of a step.

    Yields:
        A report after each step, the same in all processes but for the time that it took.
    """
    waiting = 0.0

    def fetch() -> Batch:
        nonlocal waiting
        asked = time.perf_counter()
        with span("data"):
            batch = next(batches)
        waiting += time.perf_counter() - asked
        return batch

    network.train()
    for module in resting:
        module.training = False
    while position.batch < num_batches:
        started, waiting, clips, used, norm = time.perf_counter(), 0.0, 0, 0, None
        losses: dict[str, float] = {}
        lr = rate(position.iteration)
        set_rate_(optimizer, lr)
        group = min(accumulate, num_batches - position.batch)
        for portion in deal(fabric, fetch, count=group, objective=objective, check=check_batch):
            with span("copy"):
                batch = portion.batch.to(fabric.device, non_blocking=True)
            batch, count = mix(batch), portion.clips
            with fabric.no_backward_sync(network, enabled=not portion.is_last):
                with span("forward"):
                    logits = network(batch.clips)
                    loss = objective.loss(logits, batch.labels)
                    if portion.shares is not None:
                        loss = objective.share(loss, portion.shares)
                    values = loss.values()
                check_loss(portion.batch, values["loss"])
                with span("backward"):
                    fabric.backward(loss.total / group)
            sums = {name: value * portion.weight for name, value in values.items()}
            clips, used = clips + count, used + 1
            losses = join_sums([losses, sums])
            if count:
                position.count(clips=count, losses=sums, right=objective.count_right(logits, batch.labels))
        clips, losses = add_up(fabric, clips, losses)
        if clips:
            if used < group:
                _scale_gradients_(network, group / used)
            largest = math.inf if clip_grad_norm is None else clip_grad_norm
            with span("optimizer"):
                norm = read_norm(
                    fabric.clip_gradients(network, optimizer, max_norm=largest, error_if_nonfinite=False)
                )
                check_gradient(norm)
                optimizer.step()  # in half precision, the scaler leaves it out where the gradient is not finite
                optimizer.zero_grad()
        position.batch += group
        position.iteration += 1
        seconds = time.perf_counter() - started
        if norm is not None and not math.isfinite(norm):
            norm = None
        means = {name: value / clips for name, value in losses.items()} or {"loss": float("nan")}
        yield Step(losses=means, clips=clips, rate=lr, gradient_norm=norm, seconds=seconds, waiting=waiting)


def _scale_gradients_(network: nn.Module, factor: float) -> None:
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(factor)
