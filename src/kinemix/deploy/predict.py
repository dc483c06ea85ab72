"""A recogniser: a trained network with its protocol and its class names, and nothing left to choose.

It reads a video exactly as the test did, through :func:`kinemix.data.views.read_views`, so what it answers is
what was measured.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from kinemix.config import Protocol
from kinemix.data.bulk import LOCAL, Outcome, Workplace, call_on_all
from kinemix.data.reader import Backend, open_video
from kinemix.data.remembered import RememberedFrames, remember_frames
from kinemix.data.views import FrameReader, Order, read_views
from kinemix.errors import CheckpointError, ConfigError, KinemixError, LayoutError
from kinemix.evaluate.evaluator import check_finite, score_views
from kinemix.evaluate.protocol import describe_protocol, protocol_from_dict
from kinemix.label_space import LabelSpace, label_space_from_dict
from kinemix.models.checkpoint import find_checkpoint, load_checkpoint
from kinemix.models.video import VideoModel
from kinemix.types import Video

VideoLike: TypeAlias = str | PathLike[str] | Tensor | RememberedFrames
"""A video file, a folder of frames, frames ``T C H W`` (uint8, or floats from 0 to 1), or what
:meth:`Recogniser.remember` kept of one of them."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answer.

    Attributes:
        label: name of the class.
        score: its probability: the softmax over all classes of its task; where a video may have several classes,
            the sigmoid, by itself.
        logit: what the network gave, averaged over views.
        task: that the class belongs to, where the network has several.
        present: whether the score reaches the threshold, where a video may have several classes.
    """

    label: str
    score: float
    logit: float
    task: str | None = None
    present: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """What stands in JSON: what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of one of many files: predictions, or the reason why there are none."""

    path: str
    predictions: tuple[Prediction, ...] = ()
    error: str | None = None


class Recogniser:
    """Names what is seen in videos.

    Args:
        model: clips to logits.
        protocol: how a video becomes clips.
        space: what its K logits are about.
        mirrored_labels: for each class, that of its mirror image; only ten crops need it.
        short_side: decode to this short side first, as in training.
        reader: video decoder.
        device: where the model runs.
    """

    def __init__(
        self,
        model: VideoModel,
        *,
        protocol: Protocol,
        space: LabelSpace,
        mirrored_labels: Sequence[int | None] | None = None,
        short_side: int | None = None,
        reader: Backend = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model.to(device).eval()
        self.protocol, self.space = protocol, space
        self.mirrored_labels = mirrored_labels
        self.short_side, self.reader, self.device = short_side, reader, torch.device(device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, of all tasks one after the other."""
        return self.space.class_names

    def predict(
        self, video: VideoLike, *, top: int = 5, threshold: float = 0.5, order: Order = "forward"
    ) -> list[Prediction]:
        """The likeliest classes of one video, best first; of several tasks, those of one after the other.

        Args:
            video: a file, a folder of frames, a tensor ``T C H W`` of RGB frames (uint8, or floats from 0 to 1),
                or what :meth:`remember` kept.
            top: how many of each task; all classes where there are fewer.
            threshold: score from which a class is present, where a video may have several: all those are named,
                also beyond ``top``.
            order: play the sampled frames ``forward``, in ``reverse``, or in one ``shuffle``.

        Raises:
            UnreadableVideoError: the file gives no frames.
            LayoutError: the tensor has another layout or range.
            ConfigError: ``top`` below 1, or a threshold that no score can miss or reach.
        """
        _check_ranking(top, threshold)
        return self.rank(self.score(video, order=order), top, threshold)

    def predict_files(
        self,
        paths: Iterable[str | PathLike[str]],
        *,
        top: int = 5,
        threshold: float = 0.5,
        order: Order = "forward",
    ) -> Generator[Answer]:
        """Answers for many files, one after the other; a file that cannot be read does not stop the others.

        :func:`predict_in_bulk` does the same in several processes, which a decoder cannot take down.

        Raises:
            ConfigError: as :meth:`predict`.
        """
        _check_ranking(top, threshold)
        for path in paths:
            yield self.answer(path, top=top, threshold=threshold, order=order)

    def answer(self, path: str | PathLike[str], *, top: int, threshold: float, order: Order) -> Answer:
        """The answer for one file: :meth:`predict`, or why it cannot."""
        try:
            found = self.predict(path, top=top, threshold=threshold, order=order)
        except KinemixError as error:
            return Answer(path=str(path), error=str(error))
        return Answer(path=str(path), predictions=tuple(found))

    def score(self, video: VideoLike, *, order: Order = "forward") -> Float[Tensor, " K"]:
        """Logits of one video, averaged over the protocol's views.

        Raises:
            UnreadableVideoError: the file gives no frames.
            LayoutError: the tensor has another layout or range.
        """
        with self.open(video) as frames:
            views = read_views(frames, self.protocol, order=order)
        logits = score_views(
            self.model,
            views[None],
            protocol=self.protocol,
            space=self.space,
            mirrored_labels=self.mirrored_labels,
            device=self.device,
        )
        check_finite(logits, [str(video) if isinstance(video, str | PathLike) else "tensor"])
        return logits[0]

    def remember(self, video: VideoLike) -> RememberedFrames:
        """The frames that this network looks at, in memory: every method answers to them as to the video.

        Raises:
            UnreadableVideoError: the file gives no frames.
            LayoutError: the tensor has another layout or range.
        """
        with self.open(video) as frames:
            return remember_frames(frames, self.protocol)

    def open(self, video: VideoLike) -> FrameReader:
        """The frames of a video, as every other method reads them.

        Raises:
            UnreadableVideoError: the file gives no frames.
            LayoutError: the tensor has another layout or range.
            ConfigError: the frames were remembered for another protocol.
        """
        if isinstance(video, RememberedFrames):
            if video.protocol != self.protocol:
                raise ConfigError(
                    f"these frames were remembered for another protocol ({describe_protocol(video.protocol)}; this "
                    f"network's is {describe_protocol(self.protocol)}): let this network remember the video"
                )
            return video
        if isinstance(video, Tensor):
            return _TensorReader(video, short_side=self.short_side)
        if not isinstance(video, str | PathLike):
            raise LayoutError(_explain_kind(video))
        return open_video(video, backend=self.reader, short_side=self.short_side)

    def rank(self, logits: Float[Tensor, " K"], top: int = 5, threshold: float = 0.5) -> list[Prediction]:
        """Logits of one video as :meth:`predict` answers."""
        if self.space.multilabel:
            found = _rank_classes(logits, logits.sigmoid(), self.class_names)
            judged = [replace(one, present=one.score >= threshold) for one in found]
            return [one for rank, one in enumerate(judged) if rank < top or one.present]
        if not self.space.tasks:
            return _rank_classes(logits, logits.softmax(dim=0), self.class_names)[:top]
        return [
            replace(one, task=task)
            for task, place in self.space.places.items()
            for one in _rank_classes(logits[place], logits[place].softmax(dim=0), self.class_names[place])[
                :top
            ]
        ]

    def __repr__(self) -> str:
        name = self.model.description.get("name", self.model.description.get("backbone"))
        return f"Recogniser({name}, {self.space.describe()}, {describe_protocol(self.protocol)})"


def _rank_classes(
    logits: Float[Tensor, " K"], scores: Float[Tensor, " K"], class_names: Sequence[str]
) -> list[Prediction]:
    """All classes of one task, the best first; equal logits rank by class number."""
    best = logits.argsort(descending=True, stable=True).tolist()
    return [Prediction(label=class_names[k], score=float(scores[k]), logit=float(logits[k])) for k in best]


def load(
    path: str | PathLike[str],
    *,
    checkpoint: str | None = None,
    device: torch.device | str | None = None,
    reader: Backend = "auto",
) -> Recogniser:
    """A recogniser from what ``kinemix train`` wrote.

    Args:
        path: a run directory, or one checkpoint folder in it.
        checkpoint: ``best`` or ``last``; by default the best, or the last where there is no best.
        device: by default CUDA where there is one.
        reader: video decoder.

    Raises:
        CheckpointError: nothing there, damaged, or no recogniser (a bare network without class names).
    """
    folder = find_checkpoint(Path(path), checkpoint)
    model, metadata = load_checkpoint(folder)
    if not {"protocol", "class_names"} <= metadata.keys():
        raise CheckpointError(
            f"{folder}: a network without protocol and class names; give a run directory of `kinemix train`"
        )
    return Recogniser(
        model,
        protocol=protocol_from_dict(metadata["protocol"]),
        space=label_space_from_dict(metadata["class_names"], metadata.get("label_space", {})),
        mirrored_labels=metadata.get("mirrored_labels"),
        short_side=metadata.get("config", {}).get("data", {}).get("short_side"),
        reader=reader,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )


def predict_in_bulk(
    path: str | PathLike[str],
    videos: Iterable[str | PathLike[str]],
    *,
    checkpoint: str | None = None,
    device: str | None = None,
    reader: Backend = "auto",
    top: int = 5,
    threshold: float = 0.5,
    order: Order = "forward",
    on: Workplace = LOCAL,
    workers: int = 2,
    max_seconds: float = 300,
) -> Generator[Answer]:
    """Answers for any number of files, in their order, from several processes that each load the recogniser once.

    Every video passes the network by itself, on one thread (or on a GPU), so its answer does not depend on the
    others, on the number of workers, or on where they are, as long as processors and versions are the same. A video
    that takes too long or crashes its decoder is answered with the reason. Close the generator to end the workers.

    Args:
        path, checkpoint, reader: as :func:`load`.
        videos: files or folders of frames.
        device: as :func:`load`; each worker chooses for itself.
        top, threshold, order: as :meth:`Recogniser.predict`.
        on: where the workers are; elsewhere than on this machine, ``path`` and ``videos`` must be on a file system
            that all machines share.
        workers: processes.
        max_seconds: for one video (and, where it is a worker's first, for loading).

    Raises:
        CheckpointError: as :func:`load`.
        ConfigError: as :meth:`Recogniser.predict`; fewer than one worker; no such place to work at.
    """
    _check_ranking(top, threshold)
    find_checkpoint(Path(path), checkpoint)  # before workers are started for nothing
    clerk = _Clerk(fspath(path), checkpoint, device, reader, top, threshold, order)
    paths = [fspath(video) for video in videos]
    outcomes = call_on_all(clerk, paths, workers=workers, max_seconds=max_seconds, on=on, ordered=True)
    return _take_answers(outcomes, paths)


def _take_answers(outcomes: Generator[Outcome[Answer]], paths: Sequence[str]) -> Generator[Answer]:
    with closing(outcomes):
        for outcome in outcomes:
            path = paths[outcome.index]
            yield outcome.value or Answer(path=path, error=f"{path}: {outcome.detail}")


@dataclass
class _Clerk:
    """What a worker of :func:`predict_in_bulk` does, whose arguments these are: load once, answer file by file."""

    path: str
    checkpoint: str | None
    device: str | None
    reader: Backend
    top: int
    threshold: float
    order: Order
    recogniser: Recogniser | None = None

    def __call__(self, video: str) -> Answer:
        if self.recogniser is None:
            self.recogniser = load(
                self.path, checkpoint=self.checkpoint, device=self.device, reader=self.reader
            )
        return self.recogniser.answer(video, top=self.top, threshold=self.threshold, order=self.order)


class _TensorReader:
    """Frames that are in memory already, as an open video."""

    def __init__(self, frames: Tensor, *, short_side: int | None) -> None:
        self._frames = _as_video(frames)
        self._short_side = short_side

    @property
    def num_frames(self) -> int:
        return self._frames.shape[0]

    def read(self, indices: Sequence[int]) -> Video:
        frames = self._frames[list(indices)]
        if self._short_side is not None and min(frames.shape[-2:]) > self._short_side:
            frames = F.resize(frames, [self._short_side], antialias=True)
        return frames

    def close(self) -> None:
        pass

    def __enter__(self) -> "_TensorReader":
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def _as_video(frames: Tensor) -> Video:
    """A user's tensor as ``T 3 H W``, uint8, on the CPU; an error names the layout that it seems to have."""
    shape = tuple(frames.shape)
    wanted = "a video is T C H W with C = 3 (RGB) or 1 (grey)"
    if frames.ndim != 4:
        cure = (
            "give one clip at a time: clip[0]" if frames.ndim == 5 else "stack the frames along a first axis"
        )
        raise LayoutError(f"{wanted}, got {frames.ndim} dimensions {shape}: {cure}")
    if 0 in shape:
        raise LayoutError(f"{wanted}, got {shape}: it holds no frames")
    if shape[1] not in (1, 3):
        if shape[3] in (1, 3):
            raise LayoutError(
                f"{wanted}, got {shape}, which looks like T H W C: use video.permute(0, 3, 1, 2)"
            )
        if shape[0] in (1, 3):
            raise LayoutError(f"{wanted}, got {shape}, which looks like C T H W: use video.transpose(0, 1)")
        raise LayoutError(f"{wanted}, got C = {shape[1]} in {shape}")
    frames = frames.detach().cpu().expand(-1, 3, -1, -1)
    if frames.dtype == torch.uint8:
        return frames
    if not frames.is_floating_point():
        raise LayoutError(f"a video holds uint8 from 0 to 255 or floats from 0 to 1, got {frames.dtype}")
    low, high = frames.aminmax()
    if not (low >= 0 and high <= 1):  # also where a value is not a number
        raise LayoutError(
            f"a video of floats holds values from 0 to 1, got {float(low):g} to {float(high):g}: "
            "give the frames as they are decoded; the protocol normalises them"
        )
    return (frames * 255).round().to(torch.uint8)


def _explain_kind(video: object) -> str:
    """What to do with something that is neither a path nor a tensor."""
    kind = f"{type(video).__module__}.{type(video).__qualname__}".removeprefix("builtins.")
    wanted = f"a video is the path of a file or folder, or a tensor T C H W, not {kind}"
    if hasattr(video, "__array__") or hasattr(video, "__array_interface__"):
        shape = tuple(getattr(video, "shape", ()))
        turned = ".permute(0, 3, 1, 2)" if len(shape) == 4 and shape[-1] in (1, 3) else ""
        return f"{wanted}: use torch.from_numpy(video){turned}"
    if isinstance(video, list | tuple):
        return f"{wanted}: predict_files takes many files; torch.stack(frames) makes one tensor of frames"
    return wanted


def _check_ranking(top: int, threshold: float) -> None:
    if top < 1:
        raise ConfigError(f"top is {top}: ask for 1 answer or more")
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold is {threshold}: a score lies between 0 and 1, and so must it")
