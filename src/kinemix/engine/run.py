"""A run under way: how it is told about, validated, saved, and taken up again."""

import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from kinemix.config import to_dict
from kinemix.data.annotations import Annotations
from kinemix.data.dataset import Batch
from kinemix.engine.interrupt import Interrupted, StopWish
from kinemix.engine.launch import do_first, gather
from kinemix.engine.logbook import Logbook, Step
from kinemix.engine.parts import Parts, find_mirrors
from kinemix.engine.progress import ProgressBar
from kinemix.engine.run_directory import open_run_directory
from kinemix.engine.schedule import count_epochs, rate_at, scale_rate
from kinemix.engine.training_state import (
    Position,
    collect_rng_state,
    read_checkpoint_,
    restore_rng_state_,
    write_checkpoint,
)
from kinemix.engine.unreadable import UnreadableList
from kinemix.engine.validation import validate
from kinemix.errors import KinemixError
from kinemix.evaluate.metrics import AnyMetrics
from kinemix.evaluate.protocol import protocol_to_dict
from kinemix.evaluate.scores import Scores
from kinemix.label_space import label_space_to_dict
from kinemix.models.checkpoint import JSON_NAME


class Run:
    """Parts, position and directory of a run; use it in a ``with`` block.

    Args:
        fabric: launched.
        parts: what the run is made of.
        stop: whether somebody has asked the run to stop.
        quiet: say nothing.

    Attributes:
        directory: of the run.
        network: the model as ``fabric`` has set it up.
        optimizer: likewise.
        position: how far the run has come.
        objective: logits and labels to a loss.
        resting: modules that stay in evaluation mode.

    Raises:
        KinemixError: the run directory cannot be used.
    """

    def __init__(self, fabric: Fabric, parts: Parts, *, stop: StopWish, quiet: bool = False) -> None:
        self.fabric, self.config, self.splits, self.model = fabric, parts.config, parts.splits, parts.model
        self.network, self.optimizer, self.objective = parts.network, parts.optimizer, parts.objective
        self._parts, self._stop = parts, stop
        self.position = Position()
        self._rng: dict[str, Any] | None = None
        self._stack = ExitStack()
        self.resting = parts.resting
        self._lr = scale_rate(self.config.optim, processes=fabric.world_size)
        with ExitStack() as stack:  # lets go of everything if one of the steps fails
            self.directory = self._open_directory(stack)
            resumed = self._restore()
            first = fabric.is_global_zero
            at = self.position if resumed else None
            self._log = stack.enter_context(Logbook(self.directory, resume_at=at)) if first else None
            self._bar = stack.enter_context(
                ProgressBar(total=sum(self._steps), done=self.position.iteration, quiet=quiet or not first)
            )
            self._unreadable = UnreadableList(
                self.directory / "unreadable.csv",
                total=len(self.splits.train) + len(self.splits.val),
                limit=self.config.data.max_unreadable,
                write=first,
            )
            self._saved_at, self._saved_step = time.monotonic(), self.position.iteration
            self._introduce(resumed)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    # --------------------------------------------------------------------------------------- the loop's needs

    @property
    def num_batches(self) -> int:
        """Micro-batches in the epoch under way, on each process."""
        return self._parts.train_loader.count_batches(self.position.epoch)

    @cached_property
    def _steps(self) -> list[int]:
        """Steps of the optimizer in every epoch."""
        count, accumulate = self._parts.train_loader.count_batches, self.config.optim.accumulate
        return [math.ceil(count(epoch) / accumulate) for epoch in range(self.config.optim.epochs)]

    def is_over(self) -> bool:
        """Whether all epochs are done, or validations have found nothing better for long enough."""
        return self.position.stopped or self.position.epoch >= self.config.optim.epochs

    def rate(self, iteration: int) -> float:
        """Learning rate of a step."""
        optim = self.config.optim
        epoch = int(count_epochs(iteration, self._steps))
        factor = next((p.factor for p in self._parts.phases if p.first <= epoch < p.last), 1)
        return factor * rate_at(
            iteration,
            lr=self._lr,
            iterations_per_epoch=self._steps,
            epochs=optim.epochs,
            schedule=optim.schedule,
            schedule_by=optim.schedule_by,
            milestones=optim.milestones,
            gamma=optim.gamma,
            warmup_epochs=optim.warmup_epochs,
            warmup_iterations=optim.warmup_iterations,
            warmup_start=optim.warmup_start,
            cosine_over=optim.cosine_over,
        )

    def open_epoch(self) -> Iterator[Batch]:
        """Micro-batches of the epoch under way, from the position on; seeds the random numbers with them."""
        position = self.position
        if self._rng is not None:
            restore_rng_state_(self._rng)
            self._rng = None
        else:
            torch.manual_seed(seed_of_epoch(self.config.seed, position.epoch, self.fabric.global_rank))
        return self._parts.train_loader.epoch(position.epoch, start=position.batch)

    def check_batch(self, batch: Batch, loss: float) -> None:
        """Note its unreadable videos.

        Raises:
            DataError: they are too many.
            KinemixError: the loss is not finite, or nothing could be read where other processes wait.
        """
        self._unreadable.add((video.path, video.reason) for video in batch.unreadable)
        files = ", ".join(self.splits.train.samples[i].path for i in batch.indices.tolist())
        if not math.isfinite(loss):
            raise KinemixError(
                f"the loss is {loss} in epoch {self.position.epoch + 1}, step {self.position.iteration + 1}: "
                f"lower optim.lr (now {self.config.optim.lr:g}), or look at the videos of this batch: {files}"
            )
        if not files and self.fabric.world_size > 1:
            first = batch.unreadable[0]
            raise KinemixError(
                f"{first.path}: {first.reason}; no video of this batch can be read, and with several "
                "processes no batch may be left out: remove the videos, or raise optim.batch_size"
            )

    def mix(self, batch: Batch) -> Batch:
        """The batch with its clips mixed, if that is asked for."""
        mixer = self._parts.mixer
        return batch if mixer is None else mixer(batch, epoch=self.position.epoch)

    def check_gradient(self, norm: float) -> None:
        """Raise a :class:`KinemixError` if the gradient is not finite and nothing skips the step.

        In half precision it overflows now and then; the scaler leaves such a step out and scales less.
        """
        if not (math.isfinite(norm) or self.fabric.strategy.precision.state_dict()):
            raise KinemixError(
                f"the gradient is {norm} in epoch {self.position.epoch + 1}, step {self.position.iteration + 1}, "
                f"while the loss is a number: lower optim.lr (now {self.config.optim.lr:g})"
            )

    def average_weights(self) -> None:
        """Take the weights up into their running mean, if there is one."""
        if self._parts.average is not None:
            self._parts.average.update_parameters(self.model)

    def note_step(self, step: Step) -> None:
        """Log it and move the bar."""
        position, clips = self.position, step.clips * self.fabric.world_size
        share = step.waiting / step.seconds
        epoch = position.epoch + position.batch / self.num_batches
        if self._log is not None:
            self._log.write(
                "train",
                iteration=position.iteration,
                epoch=round(epoch, 6),
                **step.losses,
                rate=step.rate,
                gradient_norm=step.gradient_norm,
                clips_per_second=round(clips / step.seconds, 3),
                waiting=round(share, 4),
            )
        self._bar.advance(
            epoch=position.epoch + 1,
            epochs=self.config.optim.epochs,
            loss=step.losses["loss"],
            clips=clips,
            seconds=step.seconds,
            waiting=step.waiting,
        )

    def end_epoch(self) -> None:
        """Save, validate if it is time to, save what came of it, and tell how it went.

        Whatever happens while validating, the epoch is not lost: its last batch is done in the checkpoint that
        is written first, so a resumed run goes on with the validation.

        Raises:
            Interrupted: somebody has asked the run to stop while it validated.
            DataError: too many videos are unreadable.
        """
        position, optim = self.position, self.config.optim
        number = position.epoch + 1
        line = f"epoch {number}/{optim.epochs}  {self._sum_up_training()}"
        every = self.config.validate_every
        due = every is not None and (number == optim.epochs or number % every == 0)
        scores = self._validate() if due else None
        metrics = scores.metrics() if scores is not None else None
        position.end_epoch()
        if scores is not None and metrics is not None:
            line += f"  validation {metrics.describe()} ({scores.describe_protocol()})"
            self._log_validation(scores, metrics)
            # Of equals the later one: it has been trained for longer.
            if position.best is None or metrics.headline > position.best:
                position.improved = position.epoch
            if position.best is None or metrics.headline >= position.best:
                position.best, position.best_epoch = metrics.headline, position.epoch
                self._write("best", metrics)
            waited, patience = position.epoch - (position.improved or 0), self.config.patience
            position.stopped = patience is not None and waited >= patience
        self.save_last(metrics)
        self._bar.say(line)
        if position.stopped:
            self._bar.say(f"no better validation for {waited} epochs: the run ends here (patience)")
        self._tell_unreadable()

    # ------------------------------------------------------------------------------------ saving and resuming

    def is_save_due(self) -> bool:
        """Whether the last checkpoint is older than ``save_minutes``; the first process's clock decides."""
        due = time.monotonic() - self._saved_at > 60 * self.config.save_minutes
        return bool(self.fabric.broadcast(due)) if self.fabric.world_size > 1 else due

    def save_last(self, metrics: AnyMetrics | None = None) -> None:
        """Save everything that it takes to go on from here."""
        mine = {"position": asdict(self.position), "rng": collect_rng_state()}
        state = {
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "processes": gather(self.fabric, mine),
        }
        if (average := self._parts.average) is not None:
            # The checkpoint's own weights are the mean; these are the ones that go on learning.
            state["weights"] = self.model.state_dict()
            state["averaged"] = int(average.n_averaged)
        self._write("last", metrics, state)
        self._saved_at, self._saved_step = time.monotonic(), self.position.iteration

    def tell_how_to_resume(self) -> str:
        """One line for whoever stopped the run."""
        command = f"kinemix train --resume --out {shlex.quote(str(self.directory))}"
        done, saved = self.position.iteration, self._saved_step
        state = f"and saved after step {done}" if done == saved else f"after step {done}, saved after {saved}"
        return f"stopped {state}; to go on: {command}"

    def _write(self, name: str, metrics: AnyMetrics | None, state: dict[str, Any] | None = None) -> None:
        position = self.position
        metadata = {
            "protocol": protocol_to_dict(self.config.protocol),
            "class_names": list(self.splits.space.class_names),
            "label_space": label_space_to_dict(self.splits.space),
            "mirrored_labels": find_mirrors(self.config, self.splits.space),
            "config": to_dict(self.config),
            "epoch": position.epoch,
            "iteration": position.iteration,
            "validation": metrics and metrics.summary(),
            "best": {"figure": position.best, "epoch": position.best_epoch},
        }
        write = partial(
            write_checkpoint,
            self.directory / name,
            model=self._parts.answering,
            metadata=metadata,
            state=state,
        )
        do_first(self.fabric, write)

    def _restore(self) -> bool:
        """Go back to the last checkpoint, if the run is to be resumed and has come to one."""
        folder = self.directory / "last"
        if not (self.config.resume and (folder / JSON_NAME).exists()):
            return False
        _, state = read_checkpoint_(folder, model=self._parts.answering)
        if (average := self._parts.average) is not None:
            self.model.load_state_dict(state["weights"])
            average.n_averaged.fill_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        processes = state["processes"]
        mine = processes[min(self.fabric.global_rank, len(processes) - 1)]
        self.position = Position(**mine["position"])
        # At the start of an epoch the generators are seeded anew; only within one their state matters.
        self._rng = mine["rng"] if self.position.batch else None
        return True

    # ---------------------------------------------------------------------------------------- opening, telling

    def _open_directory(self, stack: ExitStack) -> Path:
        def open_first() -> Path:
            directory = stack.enter_context(open_run_directory(self.config))
            directory.write_facts(
                self.config, train=_list_samples(self.splits.train), val=_list_samples(self.splits.val)
            )
            directory.write_missing(self.splits.missing)
            return directory.path

        return Path(self.fabric.broadcast(do_first(self.fabric, open_first)))

    def _validate(self) -> Scores | None:
        """Scores of the held-out samples, if there are any; the run is saved before."""
        loader = self._parts.val_loader
        if loader is None:
            return None
        if self._saved_step != self.position.iteration:
            self.save_last()
        self._bar.show("validating")
        scores = validate(self.fabric, self._parts, loader, on_batch=self._stop_if_asked)
        self._unreadable.add(scores.unreadable)
        return scores

    def _stop_if_asked(self, count: int) -> None:
        # Several processes validate to the end: none may wait for one that has gone.
        if self._stop.requested and self.fabric.world_size == 1:
            raise Interrupted(self.tell_how_to_resume())

    def _log_validation(self, scores: Scores, metrics: AnyMetrics) -> None:
        if self._log is not None:
            logits, labels = torch.from_numpy(scores.logits), torch.from_numpy(scores.labels)
            self._log.write(
                "val",
                iteration=self.position.iteration,
                epoch=self.position.epoch,
                **self.objective.plain().loss(logits, labels).values(),
                **metrics.summary(),
                protocol=scores.describe_protocol(),
            )

    def _sum_up_training(self) -> str:
        """Mean losses and accuracies over the epoch's clips, of all processes, in words."""
        parts = gather(self.fabric, self.position)
        clips = max(sum(part.clips for part in parts), 1)
        losses = _add_up([part.losses for part in parts])
        right = _add_up([part.right for part in parts])
        told = [f"{name.replace('_', ' ')} {total / clips:.4f}" for name, total in losses.items()]
        told += [f"training {name} {count / clips:.1%}" for name, count in right.items()]
        return "  ".join(told)

    def _introduce(self, resumed: bool) -> None:
        for notice in self.splits.notices:
            self._bar.say(f"note: {notice}")
        if self.is_over():
            option = "patience" if self.position.stopped else "optim.epochs"
            self._bar.say(
                f"nothing left to do: {self.position.epoch} of {self.config.optim.epochs} epochs are done in "
                f"{self.directory}; to train for longer, start a new run with more {option}"
            )
            return
        if (transfer := self._parts.transfer) is not None:
            self._bar.say(f"note: {transfer.describe()}")
        if (lr_batch := self.config.optim.lr_batch) is not None:
            self._bar.say(
                f"learning rate {self._lr:g}: optim.lr {self.config.optim.lr:g} is meant for {lr_batch} clips"
            )
        train, val = len(self.splits.train), len(self.splits.val)
        begin = f"resuming after step {self.position.iteration}" if resumed else "training"
        self._bar.say(
            f"{begin}: {self.config.model}, {self.splits.space.describe()}, {train} videos, "
            f"{val} held out; everything goes to {self.directory}"
        )

    def _tell_unreadable(self) -> None:
        for reasons in gather(self.fabric, self._unreadable.reasons):
            self._unreadable.add(reasons.items())
        if news := self._unreadable.take_news():
            self._bar.say(f"note: {news}")


def seed_of_epoch(seed: int, epoch: int, rank: int) -> int:
    """What torch's generators start from in an epoch of one process; dropout draws from them."""
    return seed + 1_000_003 * (epoch + 1) + 7919 * rank


def _add_up(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _list_samples(annotations: Annotations) -> Iterator[tuple[str, str, str]]:
    """Name, labels and class names of every sample, with bars between several."""
    for index, sample in enumerate(annotations.samples):
        label = annotations.read_label(index)
        numbers = (label,) if isinstance(label, int) else label
        names = [annotations.space.class_names[k] for k in annotations.list_classes(index)]
        yield sample.name, "|".join(map(str, numbers)), "|".join(names)
