"""Who comes when: the samples of every batch as a function of (seed, epoch), for each process.

Nothing is remembered from epoch to epoch, so a run goes on from the middle of one as if it had never stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch.utils.data import Sampler

from kinemix.data.dataset import Key, mix_seed
from kinemix.data.multigrid import BatchShape, ClipShape, Phase
from kinemix.errors import ConfigError


class TrainOrder(Sampler[list[Key]]):
    """Batches of one process in one epoch: the samples in an order drawn from (seed, epoch), dealt out in turn.

    The last, incomplete round of batches is dropped, since batch statistics of a few leftover samples do harm
    and every process must make as many steps; each epoch leaves others out. Data smaller than one round makes
    one smaller batch.

    Args:
        num_samples: of all processes together.
        batch_size: of one process.
        seed: of the orders.
        rank, world_size: this process, and how many there are.
        labels: class of each sample, to let all classes come equally often (:func:`draw_balanced`).
        phases: shapes of the batches, if they change (:func:`kinemix.data.multigrid.plan_phases`).
        accumulate: micro-batches in a step, which all have one shape.

    Attributes:
        epoch, start: what the next iteration yields: this epoch, from this batch on.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        labels: Sequence[int] | None = None,
        phases: Sequence[Phase] = (),
        accumulate: int = 1,
    ) -> None:
        if num_samples < world_size:
            raise ConfigError(
                f"{num_samples} training samples for {world_size} processes: lower machine.devices"
            )
        self.num_samples, self.seed, self.rank, self.world_size = num_samples, seed, rank, world_size
        self.batch_size = batch_size
        self.largest_batch = max([shape.batch_size for p in phases for shape in p.shapes], default=batch_size)
        self._labels, self._phases, self._accumulate = labels, phases, accumulate
        self._sizes: dict[tuple[object, ...], list[tuple[int, ClipShape | None]]] = {}
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self._list_sizes(self.epoch))

    def __iter__(self) -> Iterator[list[Key]]:
        yield from self.list_batches()[self.start :]

    def count_batches(self, epoch: int) -> int:
        """Batches in an epoch, for this process."""
        return len(self._list_sizes(epoch))

    def list_batches(self) -> list[list[Key]]:
        """All batches of the epoch, in order."""
        keys = self._draw_keys()
        batches, first = [], 0
        for size, shape in self._list_sizes(self.epoch):
            mine = keys[first + size * self.rank : first + size * (self.rank + 1)]
            batches.append(mine if shape is None else [replace(key, shape=shape) for key in mine])
            first += size * self.world_size
        return batches

    def _list_sizes(self, epoch: int) -> list[tuple[int, ClipShape | None]]:
        """Clips in each batch of an epoch, and their shape if it is not the usual one."""
        shapes: Sequence[BatchShape | tuple[int, None]] = next(
            (phase.shapes for phase in self._phases if phase.first <= epoch < phase.last),
            ((self.batch_size, None),),
        )
        key = tuple(shapes)
        if (
            key not in self._sizes
        ):  # many epochs have the same, and a long run asks for all of them at its start
            self._sizes[key] = self._deal(shapes)
        return self._sizes[key]

    def _deal(self, shapes: Sequence[BatchShape | tuple[int, None]]) -> list[tuple[int, ClipShape | None]]:
        most = left = self.num_samples // self.world_size
        sizes: list[tuple[int, ClipShape | None]] = []
        while True:
            size, shape = shapes[len(sizes) // self._accumulate % len(shapes)]
            size = min(size, most)
            if size > left:
                return sizes
            sizes.append((size, shape))
            left -= size

    def _draw_keys(self) -> list[Key]:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, self.epoch))
        order = torch.randperm(self.num_samples, generator=generator).tolist()
        if self._labels is None:
            return [Key(self.epoch, index) for index in order]
        drawn = draw_balanced(self._labels, epoch=self.epoch, seed=self.seed)
        turns: dict[int, int] = {}
        keys = []
        for place in order:
            index = drawn[place]
            turns[index] = turns.get(index, -1) + 1
            keys.append(Key(self.epoch, index, turn=turns[index]))
        return keys


def draw_balanced(labels: Sequence[int], *, epoch: int, seed: int) -> list[int]:
    """As many samples as there are, such that all classes come equally often: in an epoch they differ by one at most.

    The epochs go on where the one before stopped. The classes take turns, and each deals out its samples in an
    order that is drawn anew when all have come, so at any time the samples of a class differ by one at most too.

    Args:
        labels: class of each sample.
        epoch: which one.
        seed: of the orders.

    Returns:
        Indices of samples, class after class in turn.
    """
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    classes = sorted(members)
    drawn = []
    decks: dict[tuple[int, int], list[int]] = {}
    for draw in range(epoch * len(labels), (epoch + 1) * len(labels)):
        turn, place = divmod(draw, len(classes))
        label = classes[place]
        deal, card = divmod(turn, len(members[label]))
        if (label, deal) not in decks:
            generator = torch.Generator().manual_seed(mix_seed(seed, label, deal, 0))
            decks[label, deal] = torch.randperm(len(members[label]), generator=generator).tolist()
        drawn.append(members[label][decks[label, deal][card]])
    return drawn


class TestOrder(Sampler[list[Key]]):
    """Every sample once, in order: process r takes samples r, r + world_size, ..."""

    __test__ = False  # pytest takes the name for a test's

    def __init__(self, num_samples: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.mine = range(rank, num_samples, world_size)
        self.batch_size = self.largest_batch = batch_size
        self.start = 0

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        yield from self.list_batches()

    def list_batches(self) -> list[list[Key]]:
        """All batches, in order."""
        firsts = range(0, len(self.mine), self.batch_size)
        return [[Key(0, index) for index in self.mine[first : first + self.batch_size]] for first in firsts]
