"""Batches for training and test, and the processes that fetch them. Who comes when: :mod:`kinemix.data.order`.

Workers are forked on Linux. They start at once and need no importable ``__main__``, so a script without guard
and a notebook work too; it is safe because a worker uses one torch thread, never touches CUDA, and opens its
own decoder, while the main process decodes nothing in other threads. Each decodes in a child that is replaced
where a video hangs or crashes it (:mod:`kinemix.data._guarded_batches`), so that such a video is reported like
any other that cannot be read. Elsewhere the platform's way of starting workers is used, and they decode
themselves.
"""

import atexit
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from kinemix.config import AugmentConfig, Protocol
from kinemix.data._guarded import CAN_GUARD
from kinemix.data._guarded_batches import GuardedBatches, hand_on
from kinemix.data.annotations import Annotations
from kinemix.data.dataset import (
    Batch,
    Collate,
    TestViews,
    TrainClips,
    VideoDataset,
    VideoOpener,
)
from kinemix.data.multigrid import Phase
from kinemix.data.order import TestOrder, TrainOrder
from kinemix.data.reader import Backend
from kinemix.data.views import Order
from kinemix.errors import DataError, KinemixError
from kinemix.shortage import explain_shortage

FRAMES_A_BATCH = 512
"""Frames in a test batch, at most, unless one video has more: thirty views of many videos fill the memory."""

_WORKERS: weakref.WeakSet[multiprocessing.process.BaseProcess] = weakref.WeakSet()
"""Those that this process has started."""


class WorkerDeathError(DataError):
    """A process that reads videos is gone: out of memory, crashed in a decoder, or stopped by somebody."""


def explain_worker_death(error: Exception) -> WorkerDeathError | None:
    """What torch says of a dead loader process, with the cure; ``None`` if the error is about something else.

    torch notices a death by a signal, so its error may come up anywhere in the main process.
    """
    if isinstance(error, WorkerDeathError):
        return error
    line = str(error).partition("\n")[0]
    if "DataLoader worker" not in line or not ("exited unexpectedly" in line or "killed by signal" in line):
        return None
    return WorkerDeathError(
        f"a loader worker died ({line}): if memory or /dev/shm is short, lower data.workers or the batch size; "
        "data.workers=0 shows a decoder that crashes"
    )


class _Batches:
    """A torch loader whose errors name the videos and the cure."""

    def __init__(self, dataset: VideoDataset, order: TrainOrder | TestOrder, loader: DataLoader) -> None:
        self.dataset, self._order, self._loader = dataset, order, loader

    def __len__(self) -> int:
        """Batches in an epoch, for this process."""
        return len(self._order)

    def _fetch(self) -> Iterator[Batch]:
        batches = self._start()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except KinemixError as error:
                raise _without_traceback(error) from None
            except RuntimeError as error:
                raise self._explain(error) from error
            yield batch

    def _start(self) -> Iterator[Batch]:
        with warnings.catch_warnings():
            # Python 3.12 warns of every fork beside threads; see the module's docstring.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            before = set(multiprocessing.active_children())
            batches = iter(self._loader)
            _WORKERS.update(set(multiprocessing.active_children()) - before)
            return batches

    def _explain(self, error: RuntimeError) -> Exception:
        if "timed out" in str(error):
            return DataError(
                f"no batch within {self._loader.timeout:g} s: a video hangs the decoder, or the disk does not "
                "answer: try another data.reader"
            )
        if (shortage := explain_shortage(error)) is not None:
            return DataError(shortage)
        return explain_worker_death(error) or error


class TrainLoader(_Batches):
    """Training batches, epoch by epoch (:func:`build_train_loader`)."""

    _order: TrainOrder

    def count_batches(self, epoch: int) -> int:
        """Batches in an epoch, for this process."""
        return self._order.count_batches(epoch)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch ``start`` on: the same as if all had been asked for.

        Raises:
            DataError: a worker dies; decoded frames cannot be stored.
        """
        self._order.epoch, self._order.start = epoch, start
        return self._fetch()


class TestLoader(_Batches):
    """Test batches, every sample of this process once (:func:`build_test_loader`)."""

    __test__ = False  # pytest takes the name for a test's

    _order: TestOrder

    @property
    def num_samples(self) -> int:
        """Samples of this process."""
        return len(self._order.mine)

    def __iter__(self) -> Iterator[Batch]:
        return self._fetch()


def build_train_loader(
    annotations: Annotations,
    *,
    protocol: Protocol,
    augment: AugmentConfig,
    batch_size: int,
    seed: int = 0,
    reader: Backend = "auto",
    short_side: int | None = None,
    cache: str | None = None,
    workers: int = 2,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    max_seconds: float = 120,
    balance_classes: bool = False,
    phases: Sequence[Phase] = (),
    accumulate: int = 1,
) -> TrainLoader:
    """Augmented clips in random order.

    Args:
        annotations: who is trained on.
        protocol: frames, size, normalisation.
        augment: what is drawn at random.
        batch_size: of this process.
        seed: of order and augmentation.
        reader, short_side, cache: how videos are opened (:class:`kinemix.config.DataConfig`).
        workers: processes; 0 loads in this one. The batches are the same for any number.
        rank, world_size: this process, and how many there are.
        pin_memory: page-locked batches, for CUDA.
        max_seconds: for one video; a worker's child that takes longer is ended, and the video counts as
            unreadable (Linux, with workers; elsewhere a whole batch may take that long for each of its videos).
        balance_classes: let all classes come equally often.
        phases, accumulate: how the shape of batches changes (:class:`kinemix.data.order.TrainOrder`).

    Returns:
        A loader; ``for batch in loader.epoch(3, start=0)``.

    Raises:
        ConfigError: fewer samples than processes; ``augment.flip_labels`` does not fit the classes.
    """
    load = TrainClips(protocol=protocol, augment=augment, space=annotations.space, seed=seed)
    dataset = VideoDataset(annotations, load=load, open_reader=VideoOpener(reader, short_side, cache))
    order = TrainOrder(
        len(annotations),
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        labels=annotations.strata if balance_classes else None,
        phases=phases,
        accumulate=accumulate,
    )
    collate = Collate(_clip_shape(protocol), annotations.space)
    loader = _build_torch_loader(
        dataset, order, collate, workers, pin_memory=pin_memory, max_seconds=max_seconds
    )
    return TrainLoader(dataset, order, loader)


def build_test_loader(
    annotations: Annotations,
    *,
    protocol: Protocol,
    batch_size: int,
    order: Order = "forward",
    seed: int = 0,
    reader: Backend = "auto",
    short_side: int | None = None,
    cache: str | None = None,
    workers: int = 2,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    max_seconds: float = 120,
) -> TestLoader:
    """All views of every video, in order.

    Args:
        annotations: who is tested.
        protocol: frames, clips, crops, size, normalisation.
        batch_size: videos (not views) a batch, at most; fewer where they have very many views, and one where
            their frames keep their own shapes.
        order: what happens to the sampled frames of each clip (:func:`kinemix.data.views.read_views`).
        seed: of ``order="shuffle"``.
        reader, short_side, cache, workers, rank, world_size, pin_memory, max_seconds: as in
            :func:`build_train_loader`.

    Returns:
        A loader; ``for batch in loader`` gives clips B V T C H W.
    """
    frames_a_video = protocol.num_frames * protocol.num_clips * protocol.num_crops
    batch_size = min(batch_size, max(1, FRAMES_A_BATCH // frames_a_video))
    if protocol.crop_size == "frame":
        batch_size = 1  # videos of different shapes do not stack; whoever tests joins those that do
    load = TestViews(protocol=protocol, order=order, seed=seed)
    dataset = VideoDataset(annotations, load=load, open_reader=VideoOpener(reader, short_side, cache))
    turns = TestOrder(len(annotations), batch_size=batch_size, rank=rank, world_size=world_size)
    views = protocol.num_clips * protocol.num_crops
    collate = Collate((views, *_clip_shape(protocol)), annotations.space)
    loader = _build_torch_loader(
        dataset,
        turns,
        collate,
        workers,
        own_shapes=protocol.crop_size == "frame",
        pin_memory=pin_memory,
        max_seconds=max_seconds,
    )
    return TestLoader(dataset, turns, loader)


def _clip_shape(protocol: Protocol) -> tuple[int, ...]:
    return (protocol.num_frames, protocol.input.channels, *protocol.input.size)


def _build_torch_loader(
    dataset: VideoDataset,
    order: TrainOrder | TestOrder,
    collate: Collate,
    workers: int,
    *,
    own_shapes: bool = False,
    pin_memory: bool,
    max_seconds: float,
) -> DataLoader:
    guarded = workers > 0 and CAN_GUARD
    batches = GuardedBatches(dataset, collate=collate, own_shapes=own_shapes, max_seconds=max_seconds)
    join: Callable[[Any], Batch] = hand_on if guarded else collate
    return DataLoader(
        batches if guarded else dataset,
        batch_sampler=order,
        collate_fn=join,
        num_workers=workers,
        pin_memory=pin_memory,
        timeout=max_seconds * order.largest_batch if workers and not guarded else 0,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        persistent_workers=workers > 0,
        # Without it torch would draw the workers' seeds, which nobody uses, from the global stream.
        generator=torch.Generator(),
    )


def _without_traceback(error: KinemixError) -> KinemixError:
    """torch wraps a worker's error in the worker's traceback, whose last line is ``type: message``."""
    if "Original Traceback" not in str(error):
        return error
    return type(error)(str(error).strip().splitlines()[-1].partition(": ")[2])


def _start_worker(worker: int) -> None:
    """In a new worker: one thread, and whether to stop is the main process's business.

    Ctrl-C goes to the whole process group, a scheduler's SIGTERM to every process of a job. A worker in a group of
    its own that heeds neither lives on until the main process has saved and lets it go, or has died.
    """
    # What the parent left to its collector (loaders that are over) is the parent's to end, not this process's.
    gc.freeze()
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    info = torch.utils.data.get_worker_info()
    if info is not None and isinstance(info.dataset, GuardedBatches):
        info.dataset.start()
    if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
        threading.Thread(target=_end_with, args=(parent.pid,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when ``parent`` is no longer its parent.

    torch looks out for that too, but from a parent on that it learns of late: had it died by then, never.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@atexit.register
def _end_workers() -> None:
    """Kill what is left of the workers when the program ends: Python itself would ask them by SIGTERM, and wait."""
    workers = [worker for worker in _WORKERS if worker.is_alive()]
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would take their end for an accident
    for worker in workers:
        worker.kill()
