"""What is told about a run while it goes: to people on the bar, to programs in the log, to trackers elsewhere."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from kinemix.config import to_dict
from kinemix.data.catalog.prepared import Prepared
from kinemix.engine.bottleneck import Part, Setting
from kinemix.engine.environment import count_cores
from kinemix.engine.logbook import Logbook, Step
from kinemix.engine.memory import MemoryMeter
from kinemix.engine.parts import Parts
from kinemix.engine.processes import do_first, gather
from kinemix.engine.profiling import StepProfiler, plan_window
from kinemix.engine.progress import ProgressBar
from kinemix.engine.tracking.following import Followers
from kinemix.engine.training_state import Position, join_sums
from kinemix.evaluate.complexity import measure_complexity
from kinemix.evaluate.metrics import AnyMetrics
from kinemix.evaluate.scores import Scores
from kinemix.models.factory import create_model
from kinemix.models.sharding import is_sharded


class Watch:
    """Bar, logbook, trackers and profile of a run; use it in a ``with`` block.

    Every process has one, because sums are over all of them; that of the first alone speaks and writes.

    Args:
        fabric: launched.
        parts: what the run is made of.
        directory: of the run.
        position: how far the run has come.
        total: steps of the optimizer in the run.
        resumed: whether the run goes on from a checkpoint.
        quiet: show no bar and say nothing.

    Raises:
        ConfigError: a tracker cannot be opened.
    """

    def __init__(
        self,
        fabric: Fabric,
        parts: Parts,
        directory: Path,
        *,
        position: Position,
        total: int,
        resumed: bool,
        quiet: bool = False,
    ) -> None:
        self._fabric, self._parts, self._config = fabric, parts, parts.config
        self._directory, self._resumed = directory, resumed
        self._memory = MemoryMeter(fabric.device)
        self._log: Logbook | None = None
        self._followers: Followers | None = None
        self._bar = ProgressBar(
            total=total, done=position.iteration, quiet=quiet or not fabric.is_global_zero
        )
        with ExitStack() as stack:
            do_first(fabric, lambda: self._open_log(stack, position if resumed else None))
            stack.enter_context(self._bar)  # behind the trackers, which may ask for a key
            self._profiler = self._open_profiler(position, total)
            if self._profiler is not None:
                stack.callback(self._profiler.close)
            self._stack = stack.pop_all()

    def _open_log(self, stack: ExitStack, resume_at: Position | None) -> None:
        self._log = stack.enter_context(Logbook(self._directory, resume_at=resume_at))
        self._followers = stack.enter_context(
            Followers(
                self._config.track,
                directory=self._directory,
                config=to_dict(replace(self._config, resume=False)),
                count=self._count,
                say=self.say,
                resume_at=None if resume_at is None else resume_at.iteration,
                is_needed=resume_at
                is None,  # a run that goes on at night is not stopped by a service that is down
            )
        )

    def _open_profiler(self, position: Position, total: int) -> StepProfiler | None:
        config, device = self._config, self._fabric.device
        if not (config.profile and self._fabric.is_global_zero):
            return None
        window = plan_window(total - position.iteration)
        if window is None:
            self.say("note: so few steps are left that there is nothing to profile")
            return None
        return StepProfiler(
            self._directory,
            title=f"{config.model}, {config.optim.batch_size} clips of {config.protocol.num_frames} frames, {device}",
            device=device,
            setting=Setting(
                device=device.type,
                workers=config.data.workers,
                processes=config.machine.devices or 1,
                cores=count_cores(),
                is_prepared=Prepared.recognises(Path(config.data.source)),
            ),
            window=window,
            first=position.iteration + 1,
            say=self.say,
        )

    def _count(self) -> dict[str, int]:
        model = self._parts.model
        if is_sharded(model):  # which all processes would have to run
            model = create_model(**model.description)
        cost = measure_complexity(model)
        return {"parameters": cost.parameters, "macs": cost.macs}

    def _note(self, kind: str, **values: Any) -> None:
        if self._log is not None and self._followers is not None:
            self._followers.note(self._log.write(kind, **values))

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.say(line)

    def show(self, what: str) -> None:
        """Say on the bar itself what is going on."""
        self._bar.show(what)

    def flush(self) -> None:
        """Wait until all that was logged is on the disk."""
        if self._log is not None and self._followers is not None:
            self._log.flush()
            self._followers.flush()

    def introduce(self, *, is_over: bool, rate: float, position: Position, notices: Sequence[str]) -> None:
        """Say what the run is, or that nothing of it is left to do.

        Args:
            is_over: whether that is so.
            rate: learning rate after warm-up.
            position: how far the run has come.
            notices: what the user should know about it.
        """
        splits, config = self._parts.splits, self._config
        for notice in notices:
            self.say(f"note: {notice}")
        if is_over:
            option = "patience" if position.stopped else "optim.epochs"
            self.say(
                f"nothing left to do: {position.epoch} of {config.optim.epochs} epochs are done in "
                f"{self._directory}; to train for longer, start a new run with more {option}"
            )
            return
        if (transfer := self._parts.transfer) is not None:
            self.say(f"note: {transfer.describe()}")
        if (lr_batch := config.optim.lr_batch) is not None:
            self.say(f"learning rate {rate:g}: optim.lr {config.optim.lr:g} is meant for {lr_batch} clips")
        if self._fabric.world_size > 1:
            self.say(f"note: {self._describe_processes()}")
        begin = f"resuming after step {position.iteration}" if self._resumed else "training"
        self.say(
            f"{begin}: {config.model}, {splits.space.describe()}, {len(splits.train)} videos, "
            f"{len(splits.val)} held out; everything goes to {self._directory}"
        )

    def begin_epoch(self) -> None:
        """Steps follow."""
        if self._profiler is not None:
            self._profiler.begin_epoch()

    def span(self, part: Part) -> AbstractContextManager[None]:
        """Around a part of a step: a profile may tell what it takes."""
        return nullcontext() if self._profiler is None else self._profiler.span(part)

    def _describe_processes(self) -> str:
        """``4 processes on 2 machines: 4 x 16 clips x 2 micro-batches = 128 clips a step``."""
        machine, optim, count = self._config.machine, self._config.optim, self._fabric.world_size
        on = f" on {machine.nodes} machines" if machine.nodes != 1 else ""
        micro = f" x {optim.accumulate} micro-batches" if optim.accumulate > 1 else ""
        clips = count * optim.batch_size * optim.accumulate
        shards = ", the network divided among them (FSDP2)" if machine.strategy == "fsdp" else ""
        return (
            f"{count} processes{on}{shards}: {count} x {optim.batch_size} clips{micro} = {clips} clips a step"
        )

    def note_step(self, step: Step, *, position: Position, epoch: float) -> None:
        """Log it and move the bar.

        Args:
            step: of all processes.
            position: behind it.
            epoch: epochs so far, as a fraction.
        """
        if not self._fabric.is_global_zero:
            return
        self._note(
            "train",
            iteration=position.iteration,
            epoch=round(epoch, 6),
            **step.losses,
            rate=step.rate,
            gradient_norm=step.gradient_norm,
            clips_per_second=round(step.clips / step.seconds, 3),
            waiting=round(step.waiting / step.seconds, 4),
            memory=round(self._memory.read() / 1e9, 3),
        )
        self._bar.advance(
            epoch=position.epoch + 1,
            epochs=self._config.optim.epochs,
            loss=step.losses["loss"],
            clips=step.clips,
            seconds=step.seconds,
            waiting=step.waiting,
            memory=self._memory.describe(),
        )
        if self._profiler is not None:
            self._profiler.end_step()

    def note_validation(self, scores: Scores, metrics: AnyMetrics, *, position: Position) -> None:
        """Log what was measured at the end of an epoch that is counted as done."""
        if not self._fabric.is_global_zero:
            return
        logits, labels = torch.from_numpy(scores.logits), torch.from_numpy(scores.labels)
        self._note(
            "val",
            iteration=position.iteration,
            epoch=position.epoch,
            **self._parts.objective.plain().loss(logits, labels).values(),
            **metrics.summary(),
            protocol=scores.describe_protocol(),
        )

    def sum_up_training(self, position: Position) -> str:
        """Mean losses and accuracies over the epoch's clips, of all processes, in words."""
        parts = gather(self._fabric, position)
        clips = max(sum(part.clips for part in parts), 1)
        losses = join_sums([part.losses for part in parts])
        right = join_sums([part.right for part in parts])
        told = [f"{name.replace('_', ' ')} {total / clips:.4f}" for name, total in losses.items()]
        told += [f"training {name} {count / clips:.1%}" for name, count in right.items()]
        return "  ".join(told)
