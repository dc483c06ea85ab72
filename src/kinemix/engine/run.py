"""A run under way: opened or taken up again, walked through epoch by epoch, validated and saved."""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from kinemix.data.annotations import Annotations
from kinemix.data.dataset import Batch
from kinemix.engine.bottleneck import Part
from kinemix.engine.checkpoints import Checkpoints
from kinemix.engine.interrupt import Interrupted, StopWish
from kinemix.engine.logbook import Step
from kinemix.engine.parts import Parts
from kinemix.engine.processes import do_all, do_first, gather
from kinemix.engine.run_directory import open_run_directory
from kinemix.engine.schedule import count_epochs, rate_at, scale_rate, tell_unreached
from kinemix.engine.settle import tell_unused
from kinemix.engine.step_guard import StepGuard
from kinemix.engine.training_state import Position, restore_rng_state_, seed_generators_
from kinemix.engine.unreadable import UnreadableList
from kinemix.engine.validation import validate
from kinemix.engine.watch import Watch
from kinemix.evaluate.scores import Scores


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
        guard: stops the run before it learns from what is not sound.

    Raises:
        KinemixError: the run directory cannot be used.
    """

    def __init__(self, fabric: Fabric, parts: Parts, *, stop: StopWish, quiet: bool = False) -> None:
        self.fabric, self.config, self.splits, self.model = fabric, parts.config, parts.splits, parts.model
        self.network, self.optimizer, self.objective = parts.network, parts.optimizer, parts.objective
        self._parts, self._stop = parts, stop
        self.position = Position()
        self._rng: dict[str, Any] | None = None  # of the generators, to go on with
        self._stack = ExitStack()
        self.resting = parts.resting
        self._lr = scale_rate(self.config.optim, processes=fabric.world_size)
        with ExitStack() as stack:  # lets go of everything if one of the steps fails
            self.directory = self._open_directory(stack)
            self._checkpoints = Checkpoints(
                fabric, parts, self.directory, before_saving=lambda: self._watch.flush()
            )
            resumed = self.config.resume and self._restore()
            self._watch = stack.enter_context(
                Watch(
                    fabric,
                    parts,
                    self.directory,
                    position=self.position,
                    total=sum(self._steps),
                    resumed=resumed,
                    quiet=quiet,
                )
            )
            self._unreadable = UnreadableList(
                self.directory / "unreadable.csv",
                total=len(self.splits.train) + len(self.splits.val),
                limit=self.config.data.max_unreadable,
                write=fabric.is_global_zero,
            )
            self.guard = StepGuard(
                fabric,
                directory=self.directory,
                samples=self.splits.train,
                model=self.model,
                unreadable=self._unreadable,
                mix=self.mix,
                position=self.position,
                rate=self.rate,
                saved_iteration=lambda: self._checkpoints.saved_iteration,
            )
            self._watch.introduce(
                is_over=self.is_over(),
                rate=self._lr,
                position=self.position,
                notices=(
                    *self.splits.notices,
                    *self._checkpoints.notices,
                    *tell_unreached(self.config.optim, self._steps),
                    *tell_unused(self.config),
                ),
            )
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
            restore_rng_state_(self._rng, self.fabric.device)
            self._rng = None
        else:  # behind the start of an epoch only where other processes have come to be
            seed = seed_of_epoch(self.config.seed, position.epoch, self.fabric.global_rank)
            seed_generators_(seed + position.batch)
        self.guard.begin_step()
        self._watch.begin_epoch()
        return self._parts.train_loader.epoch(position.epoch, start=position.batch)

    def span(self, part: Part) -> AbstractContextManager[None]:
        """Around a part of a step: a profile may tell what it takes."""
        return self._watch.span(part)

    def mix(self, batch: Batch) -> Batch:
        """The batch with its clips mixed, if that is asked for."""
        mixer = self._parts.mixer
        return batch if mixer is None else mixer(batch, epoch=self.position.epoch)

    def average_weights(self) -> None:
        """Take the weights up into their running mean, if there is one."""
        if self._parts.average is not None:
            self._parts.average.update_parameters(self.model)

    def note_step(self, step: Step) -> None:
        """Log it and move the bar."""
        self.guard.begin_step()
        epoch = self.position.epoch + self.position.batch / self.num_batches
        self._watch.note_step(step, position=self.position, epoch=epoch)

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
        line = f"epoch {number}/{optim.epochs}  {self._watch.sum_up_training(position)}"
        every = self.config.validate_every
        due = every is not None and (number == optim.epochs or number % every == 0)
        scores = self._validate() if due else None
        metrics = scores.metrics() if scores is not None else None
        position.end_epoch()
        if scores is not None and metrics is not None:
            line += f"  validation {metrics.describe()} ({scores.describe_protocol()})"
            self._watch.note_validation(scores, metrics, position=position)
            # Of equals the later one: it has been trained for longer.
            if position.best is None or metrics.headline > position.best:
                position.improved = position.epoch
            if position.best is None or metrics.headline >= position.best:
                position.best, position.best_epoch = metrics.headline, position.epoch
                self._checkpoints.save_best(position, metrics)
            waited, patience = position.epoch - (position.improved or 0), self.config.patience
            position.stopped = patience is not None and waited >= patience
        self._checkpoints.save_last(position, metrics)
        self._watch.say(line)
        if position.stopped:
            self._watch.say(f"no better validation for {waited} epochs: the run ends here (patience)")
        self._tell_unreadable()

    def is_save_due(self) -> bool:
        """Whether the last checkpoint is older than ``save_steps`` or ``save_minutes``."""
        return self._checkpoints.is_due(self.position.iteration)

    def save_last(self) -> None:
        """Save everything that it takes to go on from here."""
        self._checkpoints.save_last(self.position)

    def tell_how_to_resume(self) -> str:
        """One line for whoever stopped the run."""
        return self._checkpoints.tell_how_to_resume(self.position.iteration)

    # ------------------------------------------------------------------------------------ opening, validating

    def _restore(self) -> bool:
        """Go back to the last checkpoint, if the run has come to one."""
        restored = self._checkpoints.restore_()
        if restored is None:
            return False
        self.position, rng = restored
        # At the start of an epoch the generators are seeded anew; only within one their state matters.
        self._rng = rng if self.position.batch else None
        return True

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
        if self._checkpoints.saved_iteration != self.position.iteration:
            self.save_last()
        self._watch.show("validating")
        scores = validate(self.fabric, self._parts, loader, on_batch=self._stop_if_asked)
        self._unreadable.note_read(scores.ids)
        self._note_unreadable(scores.unreadable)
        return scores

    def _stop_if_asked(self, count: int) -> None:
        if self._stop.requested:
            raise Interrupted(self.tell_how_to_resume())

    def _note_unreadable(self, found: Iterable[tuple[str, str]] = ()) -> None:
        """Note what any process has found, in all of them, so that all find the same number of them too many."""
        mended: set[str] = set()
        for theirs in gather(self.fabric, (self._unreadable.reasons, self._unreadable.mended)):
            found, mended = [*found, *theirs[0].items()], mended | theirs[1]
        self._unreadable.drop(mended)
        do_all(self.fabric, lambda: self._unreadable.add(one for one in found if one[0] not in mended))

    def _tell_unreadable(self) -> None:
        self._note_unreadable()
        if news := self._unreadable.take_news():
            self._watch.say(f"note: {news}")


def seed_of_epoch(seed: int, epoch: int, rank: int) -> int:
    """What torch's generators start from in an epoch of one process; dropout draws from them."""
    return seed + 1_000_003 * (epoch + 1) + 7919 * rank


def _list_samples(annotations: Annotations) -> Iterator[tuple[str, str, str]]:
    """Name, labels and class names of every sample, with bars between several."""
    for index, sample in enumerate(annotations.samples):
        label = annotations.read_label(index)
        numbers = (label,) if isinstance(label, int) else label
        names = [annotations.space.class_names[k] for k in annotations.list_classes(index)]
        yield sample.name, "|".join(map(str, numbers)), "|".join(names)
