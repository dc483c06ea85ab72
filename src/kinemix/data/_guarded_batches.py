"""Batches whose samples are read in a guarded child: one that hangs or crashes costs itself and no other.

A loader worker does not decode. It has a child (:mod:`kinemix.data._guarded`) to which it gives one sample
after the other, with a piece of shared memory for the whole batch; the child writes each clip into its row.
Samples that were read before a child died are in that memory already, a new child reads the remaining ones,
and the finished batch goes on to the main process without being copied.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinemix.data._guarded import RETRIES, ChildDiedError, GuardedChild
from kinemix.data.annotations import Label
from kinemix.data.dataset import Batch, Collate, Item, Key, Unreadable, VideoDataset
from kinemix.errors import DataError
from kinemix.shortage import describe_shared_shortage

Answer: TypeAlias = Unreadable | tuple[Label, NDArray[np.float32] | None]
"""Of the child: the label, and the clip where it was not written into memory that is shared."""


class GuardedBatches(torch.utils.data.Dataset[Batch]):
    """A dataset that gives whole batches: for a torch loader whose ``collate_fn`` is :func:`hand_on`.

    Args:
        dataset: of single samples.
        collate: makes batches of them; ``collate.shape_of`` tells every clip's shape, unless they have ``own_shapes``.
        own_shapes: clips differ in shape, and come one a batch.
        max_seconds: for one sample.
    """

    def __init__(
        self, dataset: VideoDataset, *, collate: Collate, own_shapes: bool, max_seconds: float
    ) -> None:
        self.dataset, self._collate, self._own_shapes = dataset, collate, own_shapes
        self._child = GuardedChild(_ClipReader(dataset), max_seconds=max_seconds)
        self._dead: dict[int, str] = {}
        self._num_batches = 0
        self._told = (0, 0)

    def __len__(self) -> int:
        return len(self.dataset)

    def start(self) -> None:
        """Fork the child; called in a new worker, whose own it is."""
        self._child.start()

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """The batch of these samples, in their order."""
        self._num_batches += 1
        if self._own_shapes:
            return self._collate([self._read(key, row, None) for row, key in enumerate(keys)])
        clips = _allocate_shared((len(keys), *self._collate.shape_of(keys)))
        items = [self._read(key, row, clips) for row, key in enumerate(keys)]
        rows = [row for row, item in enumerate(items) if isinstance(item, Item)]
        return self._collate.describe(clips if len(rows) == len(keys) else clips[rows], items)

    def _read(self, key: Key, row: int, clips: Tensor | None) -> Item | Unreadable:
        """One sample; its clip is in ``clips[row]`` if that is given."""
        index = key.index
        name = self.dataset.annotations.samples[index].name
        if index in self._dead:  # it has cost a child; every epoch would cost another
            return Unreadable(index, name, self._dead[index])
        try:
            answer = self._ask(key, row, clips)
        except ChildDiedError as death:
            self._dead[index] = death.reason
            return Unreadable(index, name, death.reason)
        if isinstance(answer, Unreadable):
            return answer
        label, clip = answer
        return Item(torch.empty(0) if clip is None else torch.from_numpy(clip), label, index)

    def _ask(self, key: Key, row: int, clips: Tensor | None) -> Answer:
        """What the child made of a sample. One that was killed says nothing about it: a new child is asked again."""
        for attempt in range(RETRIES + 1):
            self._child.start()
            told = (self._child.generation, self._num_batches)
            memory = clips if told != self._told else None  # the child remembers it for the rest of the batch
            self._told = told
            try:
                answer: Answer = self._child.ask((key, row if clips is not None else None, memory))
                return answer
            except ChildDiedError as death:
                if death.end != "killed" or attempt == RETRIES:
                    raise
        raise AssertionError("the last attempt answers or raises")


class _ClipReader:
    """What the child does: read one sample, put its clip where it belongs."""

    def __init__(self, dataset: VideoDataset) -> None:
        self._dataset = dataset
        self._clips: Tensor | None = None

    def __call__(self, request: tuple[Key, int | None, Tensor | None]) -> Answer:
        key, row, clips = request
        if clips is not None:
            self._clips = clips
        item = self._dataset[key]
        if isinstance(item, Unreadable):
            return item
        if row is None:
            return item.label, item.clip.numpy()
        assert self._clips is not None
        self._clips[row] = item.clip
        return item.label, None


def _allocate_shared(shape: Sequence[int]) -> Tensor:
    """Float32 memory that other processes can map. ``share_memory_`` would copy what is not written yet.

    Raises:
        DataError: there is not enough.
    """
    num_bytes = 4 * math.prod(shape)
    try:
        storage = torch.UntypedStorage._new_shared(num_bytes, device="cpu")
    except RuntimeError as error:
        raise DataError(describe_shared_shortage(num_bytes)) from error
    strides = torch.empty(*shape, device="meta").stride()
    return torch.empty(0, dtype=torch.float32).set_(storage, 0, tuple(shape), strides)


def hand_on(batch: Batch) -> Batch:
    """A batch is one already."""
    return batch
