"""One sample at a time: open its video, take frames, make network input.

What a sample looks like depends on (seed, epoch, index) alone, so the number of loader workers, the order of
batches and a resumed run change nothing. A video that gives no frames becomes an :class:`Unreadable`, never
another video.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from typing import Protocol as Interface

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinemix.config import AugmentConfig, Protocol
from kinemix.data.annotations import Annotations, Label
from kinemix.data.frame_cache import open_cached_video
from kinemix.data.multigrid import ClipShape
from kinemix.data.reader import Backend, open_video
from kinemix.data.sampling import dense_train, sparse_train, trim_ends
from kinemix.data.segment import Segment
from kinemix.data.transforms import TrainTransform
from kinemix.data.views import FrameReader, Order, read_views
from kinemix.errors import UnreadableVideoError
from kinemix.label_space import LabelSpace


@dataclass(frozen=True)
class Key:
    """What a dataset is asked for.

    Attributes:
        epoch, index: when, and which sample.
        shape: of the clip, if it is not the protocol's.
        turn: how often the sample has come in this epoch before.
    """

    epoch: int
    index: int
    shape: ClipShape | None = None
    turn: int = 0


@dataclass(frozen=True)
class Item:
    """One sample.

    Attributes:
        clip: T C H W in training, V T C H W (all views) in a test.
        label: as :meth:`kinemix.data.annotations.Annotations.read_label` gives it.
        index: of the sample in its annotations.
    """

    clip: Float[Tensor, "... T C H W"]
    label: Label
    index: int


@dataclass(frozen=True)
class Unreadable:
    """A sample whose video gives no frames."""

    index: int
    path: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """B samples that could be read, and the ones that could not.

    Attributes:
        clips: B T C H W in training, B V T C H W in a test. B may be smaller than asked for, even 0.
        labels: B class indices; B tasks where there are several; B K of 0 and 1 where a sample may have several
            labels (:class:`kinemix.label_space.LabelSpace`).
        indices: B indices into the annotations.
        unreadable: who is missing.
    """

    clips: Float[Tensor, "B *views T C H W"]
    labels: Int[Tensor, "B ..."]
    indices: Int[Tensor, " B"]
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return replace(
            self,
            clips=self.clips.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            indices=self.indices.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; the loader calls this."""
        return replace(
            self,
            clips=self.clips.pin_memory(),
            labels=self.labels.pin_memory(),
            indices=self.indices.pin_memory(),
        )


class LoadClip(Interface):
    """From an open video to network input and label."""

    def __call__(self, reader: FrameReader, *, label: Label, key: Key) -> tuple[Tensor, Label]: ...


@dataclass(frozen=True)
class VideoOpener:
    """How videos are opened: which decoder, how large, and whether decoded frames are kept."""

    backend: Backend = "auto"
    short_side: int | None = None
    cache: str | None = None

    def __call__(self, path: str, segment: Segment | None = None) -> FrameReader:
        if self.cache is None:
            return open_video(path, backend=self.backend, short_side=self.short_side, segment=segment)
        return open_cached_video(
            path, cache=self.cache, backend=self.backend, short_side=self.short_side, segment=segment
        )


class VideoDataset(torch.utils.data.Dataset[Item | Unreadable]):
    """Annotated videos as network input.

    Args:
        annotations: who is in it.
        load: :class:`TrainClips` or :class:`TestViews`.
        open_reader: how a path becomes an open video.
    """

    def __init__(
        self, annotations: Annotations, *, load: LoadClip, open_reader: VideoOpener | None = None
    ) -> None:
        self.annotations, self.load = annotations, load
        self.open_reader = open_reader or VideoOpener()

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: Key | int) -> Item | Unreadable:
        """The sample of that key; an index alone means epoch 0."""
        key = key if isinstance(key, Key) else Key(0, key)
        index = key.index
        sample = self.annotations.samples[index]
        try:
            with self.open_reader(sample.path, sample.segment) as reader:
                clip, label = self.load(reader, label=self.annotations.read_label(index), key=key)
        except UnreadableVideoError as error:
            return Unreadable(index, sample.name, error.reason)
        return Item(clip, label, index)


class TrainClips:
    """One augmented clip of a video; every epoch another one.

    Args:
        protocol: frames, size, normalisation.
        augment: what is drawn at random.
        space: the classes, for the labels of mirrored clips.
        seed: of everything drawn.
    """

    def __init__(self, *, protocol: Protocol, augment: AugmentConfig, space: LabelSpace, seed: int) -> None:
        self.protocol, self.augment, self.seed = protocol, augment, seed
        self.transform = TrainTransform(protocol=protocol, augment=augment, space=space)
        self._space = space
        self._reshaped: dict[ClipShape, TrainClips] = {}

    def __call__(self, reader: FrameReader, *, label: Label, key: Key) -> tuple[Tensor, Label]:
        if key.shape is not None:
            return self._reshape(key.shape)(reader, label=label, key=replace(key, shape=None))
        turn = (key.turn,) if key.turn else ()
        generator = torch.Generator().manual_seed(mix_seed(self.seed, key.epoch, key.index, *turn))
        frames = reader.read(self.draw_frames(reader.num_frames, generator))
        return self.transform(frames, label, generator)

    def _reshape(self, shape: ClipShape) -> "TrainClips":
        """The same for clips of another shape, which span the same time."""
        if shape not in self._reshaped:
            self._reshaped[shape] = TrainClips(
                protocol=reshape_protocol(self.protocol, shape),
                augment=self.augment,
                space=self._space,
                seed=self.seed,
            )
        return self._reshaped[shape]

    def draw_frames(self, num_video_frames: int, generator: torch.Generator) -> list[int]:
        """T sorted frame indices, drawn as the protocol and the augmentation say."""
        protocol, augment = self.protocol, self.augment
        first, count = 0, num_video_frames
        if augment.trim:
            first, count = trim_ends(
                num_video_frames=count, share=augment.trim, generator=generator, keep=protocol.num_frames
            )
        if protocol.sampling == "dense":
            drawn = dense_train(
                num_video_frames=count,
                num_frames=protocol.num_frames,
                generator=generator,
                frame_stride=protocol.frame_stride,
            )
        else:
            drawn = sparse_train(
                num_video_frames=count,
                num_frames=protocol.num_frames,
                generator=generator,
                jitter=augment.jitter_frames,
                segments=augment.segments,
            )
        return [first + index for index in drawn]


@dataclass(frozen=True, kw_only=True)
class TestViews:
    """All views of a video, the same in every epoch."""

    __test__ = False  # pytest takes the name for a test's

    protocol: Protocol
    order: Order = "forward"
    seed: int = 0

    def __call__(self, reader: FrameReader, *, label: Label, key: Key) -> tuple[Tensor, Label]:
        seed = mix_seed(self.seed, key.index)
        return read_views(reader, self.protocol, order=self.order, seed=seed), label


@dataclass(frozen=True)
class Collate:
    """Items to a batch.

    Attributes:
        clip_shape: what an empty batch is made of.
        space: the classes that the labels are of.
    """

    clip_shape: tuple[int, ...]
    space: LabelSpace

    def shape_of(self, keys: Sequence[Key]) -> tuple[int, ...]:
        """Of each clip of a batch: the usual shape, or that of its keys."""
        shape = keys[0].shape
        if shape is None:
            return self.clip_shape
        return (shape.num_frames, self.clip_shape[-3], *shape.size)

    def __call__(self, items: Sequence[Item | Unreadable]) -> Batch:
        read = [item for item in items if isinstance(item, Item)]
        if read:
            # In a worker, torch's own stacks straight into shared memory.
            clips: Any = torch.utils.data.default_collate([item.clip for item in read])
        else:
            clips = torch.empty(0, *self.clip_shape)
        return self.describe(clips, items)

    def describe(self, clips: Tensor, items: Sequence[Item | Unreadable]) -> Batch:
        """The batch of clips that are stacked already, those of the items that could be read."""
        read = [item for item in items if isinstance(item, Item)]
        return Batch(
            clips,
            self._stack_labels([item.label for item in read]),
            torch.tensor([item.index for item in read], dtype=torch.int64),
            tuple(item for item in items if isinstance(item, Unreadable)),
        )

    def _stack_labels(self, labels: Sequence[Label]) -> Int[Tensor, "B ..."]:
        if self.space.multilabel:
            present = torch.zeros(len(labels), len(self.space.class_names), dtype=torch.int64)
            for row, label in zip(present, labels, strict=True):
                row[list(label if isinstance(label, tuple) else (label,))] = 1
            return present
        return torch.tensor(labels, dtype=torch.int64).reshape(len(labels), *self.space.answer_shape)


def reshape_protocol(protocol: Protocol, shape: ClipShape) -> Protocol:
    """The same protocol for clips of another shape: of fewer frames, further apart."""
    stride = protocol.frame_stride
    if stride is not None:
        stride = max(1, stride * protocol.num_frames // shape.num_frames)
    return replace(
        protocol,
        num_frames=shape.num_frames,
        frame_stride=stride,
        input=replace(protocol.input, size=shape.size),
    )


def mix_seed(*parts: int) -> int:
    """One seed from several numbers, such that neighbours have nothing in common."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
