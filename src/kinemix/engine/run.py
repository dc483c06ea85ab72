"""A run under way: what it consists of, how it is saved, and how it is taken up again."""

import math
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional as F

from kinemix.config import TrainConfig, to_dict
from kinemix.data.annotations import Annotations
from kinemix.data.dataset import Batch
from kinemix.data.loader import TestLoader, TrainLoader, build_test_loader, build_train_loader
from kinemix.data.mirror import mirror_labels
from kinemix.data.sources import Splits, open_splits
from kinemix.engine.launch import do_first, gather
from kinemix.engine.logbook import Logbook, Step
from kinemix.engine.optim import build_optimizer, rate_at
from kinemix.engine.progress import ProgressBar
from kinemix.engine.run_directory import open_run_directory
from kinemix.engine.settle import build_model
from kinemix.engine.training_state import (
    Position,
    collect_rng_state,
    read_checkpoint_,
    restore_rng_state_,
    write_checkpoint,
)
from kinemix.engine.unreadable import UnreadableList
from kinemix.errors import KinemixError
from kinemix.evaluate.evaluator import evaluate
from kinemix.evaluate.metrics import Metrics
from kinemix.evaluate.protocol import build_protocol, protocol_to_dict
from kinemix.evaluate.scores import Scores, merge_scores
from kinemix.models.checkpoint import JSON_NAME
from kinemix.models.video import VideoModel


def open_run(fabric: Fabric, config: TrainConfig) -> "Run":
    """Open the data, build the model, and make or reopen the run directory.

    In that order, so that a mistake in the data or the model leaves no directory behind.

    Raises:
        KinemixError: one of them cannot be used.
    """
    splits = open_splits(config.data)
    resumable = config.resume and config.out is not None and (Path(config.out) / "last" / JSON_NAME).exists()
    torch.manual_seed(config.seed)
    model = build_model(
        config, num_classes=len(splits.class_names), pretrained=config.pretrained and not resumable
    )
    protocol = build_protocol(config.protocol, input_spec=model.input_spec)
    config = replace(config, protocol=protocol, size=protocol.input.size, color=protocol.input.color)
    return Run(fabric, config, splits, model)


class Run:
    """Model, optimizer, data, position and directory of a run; use it in a ``with`` block.

    Args:
        fabric: launched.
        config: settled, with the protocol, size and colour of the model.
        splits: who is trained on and who is held out.
        model: with its first weights.

    Attributes:
        directory: of the run.
        network: the model as ``fabric`` has set it up.
        optimizer: likewise.
        position: how far the run has come.
        num_batches: micro-batches in an epoch, on each process.
    """

    def __init__(self, fabric: Fabric, config: TrainConfig, splits: Splits, model: VideoModel) -> None:
        self.fabric, self.config, self.splits, self.model = fabric, config, splits, model
        self.position = Position()
        self._rng: dict[str, Any] | None = None
        self._stack = ExitStack()
        with ExitStack() as stack:  # lets go of everything if one of the steps fails
            self.directory = self._open_directory(stack)
            self.network, self.optimizer = self._set_up()
            resumed = self._restore()
            first = fabric.is_global_zero
            at = self.position.iteration if resumed else None
            self._log = stack.enter_context(Logbook(self.directory, resume_at=at)) if first else None
            self._train_loader, self._val_loader = self._build_loaders()
            self.num_batches = len(self._train_loader)
            self._steps_per_epoch = math.ceil(self.num_batches / config.optim.accumulate)
            total = self._steps_per_epoch * config.optim.epochs
            self._bar = stack.enter_context(
                ProgressBar(total=total, done=self.position.iteration, quiet=not first)
            )
            self._unreadable = UnreadableList(
                self.directory / "unreadable.csv",
                total=len(splits.train) + len(splits.val),
                limit=config.data.max_unreadable,
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

    def rate(self, iteration: int) -> float:
        """Learning rate of a step."""
        optim = self.config.optim
        return rate_at(
            iteration,
            lr=optim.lr,
            iterations_per_epoch=self._steps_per_epoch,
            epochs=optim.epochs,
            schedule=optim.schedule,
            milestones=optim.milestones,
            gamma=optim.gamma,
            warmup_epochs=optim.warmup_epochs,
        )

    def open_epoch(self) -> Iterator[Batch]:
        """Micro-batches of the epoch under way, from the position on; seeds the random numbers with them."""
        position = self.position
        if self._rng is not None:
            restore_rng_state_(self._rng)
            self._rng = None
        else:
            torch.manual_seed(seed_of_epoch(self.config.seed, position.epoch, self.fabric.global_rank))
        return self._train_loader.epoch(position.epoch, start=position.batch)

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
                loss=step.loss,
                rate=step.rate,
                gradient_norm=step.gradient_norm,
                clips_per_second=round(clips / step.seconds, 3),
                waiting=round(share, 4),
            )
        self._bar.advance(
            epoch=position.epoch + 1,
            epochs=self.config.optim.epochs,
            loss=step.loss,
            clips=clips,
            seconds=step.seconds,
            waiting=step.waiting,
        )

    def end_epoch(self) -> None:
        """Validate if it is time to, save, and tell how it went."""
        position, optim = self.position, self.config.optim
        loss, accuracy = self._sum_up_training()
        position.end_epoch()
        is_last = position.epoch == optim.epochs
        due = is_last or position.epoch % self.config.validate_every == 0
        line = f"epoch {position.epoch}/{optim.epochs}  loss {loss:.4f}  training top-1 {accuracy:.1%}"
        metrics = None
        if due and self._val_loader is not None:
            scores = self._validate(self._val_loader)
            metrics = scores.metrics()
            self._log_validation(scores, metrics)
            line += f"  validation top-1 {metrics.top1:.1%} ({scores.describe_protocol()})"
            # Of equals the later one: it has been trained for longer.
            if position.best is None or metrics.top1 >= position.best:
                position.best, position.best_epoch = metrics.top1, position.epoch
                self._write("best", metrics)
        self.save_last(metrics)
        self._bar.say(line)

    # ------------------------------------------------------------------------------------ saving and resuming

    def is_save_due(self) -> bool:
        """Whether the last checkpoint is older than ``save_minutes``; the first process's clock decides."""
        due = time.monotonic() - self._saved_at > 60 * self.config.save_minutes
        return bool(self.fabric.broadcast(due)) if self.fabric.world_size > 1 else due

    def save_last(self, metrics: Metrics | None = None) -> None:
        """Save everything that it takes to go on from here."""
        mine = {"position": asdict(self.position), "rng": collect_rng_state()}
        state = {
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "processes": gather(self.fabric, mine),
        }
        self._write("last", metrics, state)
        self._saved_at, self._saved_step = time.monotonic(), self.position.iteration

    def tell_how_to_resume(self) -> str:
        """One line for whoever stopped the run."""
        command = f"kinemix train --resume --out {shlex.quote(str(self.directory))}"
        done, saved = self.position.iteration, self._saved_step
        state = f"and saved after step {done}" if done == saved else f"after step {done}, saved after {saved}"
        return f"stopped {state}; to go on: {command}"

    def _write(self, name: str, metrics: Metrics | None, state: dict[str, Any] | None = None) -> None:
        position = self.position
        metadata = {
            "protocol": protocol_to_dict(self.config.protocol),
            "class_names": list(self.splits.class_names),
            "mirrored_labels": self._mirrored_labels(),
            "config": to_dict(self.config),
            "epoch": position.epoch,
            "iteration": position.iteration,
            "validation": metrics
            and {"top1": metrics.top1, "top5": metrics.top5, "mean_class": metrics.mean_class},
            "best": {"top1": position.best, "epoch": position.best_epoch},
        }
        write = partial(
            write_checkpoint, self.directory / name, model=self.model, metadata=metadata, state=state
        )
        do_first(self.fabric, write)

    def _restore(self) -> bool:
        """Go back to the last checkpoint, if the run is to be resumed and has come to one."""
        folder = self.directory / "last"
        if not (self.config.resume and (folder / JSON_NAME).exists()):
            return False
        _, state = read_checkpoint_(folder, model=self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        processes = state["processes"]
        mine = processes[min(self.fabric.global_rank, len(processes) - 1)]
        self.position = Position(**mine["position"])
        # At the start of an epoch the generators are seeded anew; only within one their state matters.
        self._rng = mine["rng"] if self.position.batch else None
        return True

    # ---------------------------------------------------------------------------------------------- the parts

    def _open_directory(self, stack: ExitStack) -> Path:
        def open_first() -> Path:
            directory = stack.enter_context(open_run_directory(self.config))
            directory.write_facts(
                self.config, train=_list_samples(self.splits.train), val=_list_samples(self.splits.val)
            )
            return directory.path

        return Path(self.fabric.broadcast(do_first(self.fabric, open_first)))

    def _set_up(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        machine, optim = self.config.machine, self.config.optim
        if machine.channels_last:
            for parameter in self.model.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        optimizer = build_optimizer(
            self.model,
            name=optim.name,
            lr=optim.lr,
            weight_decay=optim.weight_decay,
            decay_norms=optim.decay_norms,
            momentum=optim.momentum,
            nesterov=optim.nesterov,
        )
        network = torch.compile(self.model) if machine.compile else self.model
        return self.fabric.setup(network, optimizer)

    def _build_loaders(self) -> tuple[TrainLoader, TestLoader | None]:
        data, splits, fabric = self.config.data, self.splits, self.fabric
        common: dict[str, Any] = {
            "protocol": self.config.protocol,
            "reader": data.reader,
            "short_side": data.short_side,
            "cache": data.cache,
            "workers": data.workers,
            "rank": fabric.global_rank,
            "world_size": fabric.world_size,
            "pin_memory": fabric.device.type == "cuda",
        }
        size, seed = self.config.optim.batch_size, self.config.seed
        train = build_train_loader(
            splits.train, augment=self.config.augment, batch_size=size, seed=seed, **common
        )
        val = build_test_loader(splits.val, batch_size=size, **common) if len(splits.val) else None
        return train, val

    def _validate(self, loader: TestLoader) -> Scores:
        """Scores of the held-out samples, of all processes."""
        self._bar.show("validating")
        scores = evaluate(
            self.network,
            loader,
            ids=[sample.path for sample in self.splits.val.samples],
            class_names=self.splits.class_names,
            protocol=self.config.protocol,
            mirrored_labels=self._mirrored_labels(),
            description=self.model.description,
            device=self.fabric.device,
        )
        merged = merge_scores(gather(self.fabric, scores))
        self._unreadable.add(merged.unreadable)
        return merged

    def _mirrored_labels(self) -> list[int]:
        """For each class that of its mirror image; a class that must not be mirrored stands for itself."""
        augment = self.config.augment
        flip = "auto" if augment.flip == "off" else augment.flip
        mirrors = mirror_labels(self.splits.class_names, flip=flip, flip_labels=augment.flip_labels)
        return [label if mirror is None else mirror for label, mirror in enumerate(mirrors)]

    def _log_validation(self, scores: Scores, metrics: Metrics) -> None:
        if self._log is not None:
            loss = F.cross_entropy(torch.from_numpy(scores.logits), torch.from_numpy(scores.labels))
            self._log.write(
                "val",
                iteration=self.position.iteration,
                epoch=self.position.epoch,
                loss=float(loss),
                top1=metrics.top1,
                top5=metrics.top5,
                mean_class=metrics.mean_class,
                protocol=scores.describe_protocol(),
            )

    def _sum_up_training(self) -> tuple[float, float]:
        """Mean loss and accuracy over the epoch's clips, of all processes."""
        parts = gather(self.fabric, (self.position.loss_sum, self.position.correct, self.position.clips))
        losses, correct, clips = (sum(values) for values in zip(*parts, strict=True))
        return losses / max(clips, 1), correct / max(clips, 1)

    def _introduce(self, resumed: bool) -> None:
        for notice in self.splits.notices:
            self._bar.say(f"note: {notice}")
        train, val = len(self.splits.train), len(self.splits.val)
        begin = f"resuming after step {self.position.iteration}" if resumed else "training"
        self._bar.say(
            f"{begin}: {self.config.model}, {len(self.splits.class_names)} classes, {train} videos, "
            f"{val} held out; everything goes to {self.directory}"
        )


def seed_of_epoch(seed: int, epoch: int, rank: int) -> int:
    """What torch's generators start from in an epoch of one process; dropout draws from them."""
    return seed + 1_000_003 * (epoch + 1) + 7919 * rank


def _list_samples(annotations: Annotations) -> Iterator[tuple[str, int, str]]:
    return ((s.path, s.label, annotations.class_names[s.label]) for s in annotations.samples)
