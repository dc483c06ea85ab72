"""A run with its tests: read where they lie in the run directory, measured where they are missing.

What looks at several runs, or at one run in several orders (``kinemix compare``, ``kinemix report``), starts here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinemix.config import DataConfig, Protocol
from kinemix.data.annotations import Annotations
from kinemix.data.dataset import VideoOpener
from kinemix.data.views import FrameReader, Order
from kinemix.engine.measure import (
    measure_run,
    name_test,
    open_test_samples,
    read_metadata,
    settle_test_data,
)
from kinemix.engine.settle import make_absolute
from kinemix.errors import CheckpointError
from kinemix.evaluate.scores import Scores, read_scores
from kinemix.label_space import LabelSpace, label_space_from_dict
from kinemix.models.checkpoint import find_checkpoint, read_description

ORDERS: tuple[Order, ...] = ("forward", "reverse", "shuffle", "single")


@dataclass(frozen=True, kw_only=True)
class TestedRun:
    """A trained network and its tests on one collection of videos.

    Attributes:
        folder: of the weights.
        protocol: how videos are shown.
        space: what it has learnt.
        tests: order of the frames -> scores, of one question; ``forward`` is always there.
        files: order -> the file of the scores.
        epoch: epochs that the weights were trained for.
        data: how the tested videos are read.
        source: absolute, where they are not what the run held out.
    """

    __test__ = False  # pytest takes the name for a test's

    folder: Path
    protocol: Protocol
    space: LabelSpace
    tests: Mapping[Order, Scores]
    files: Mapping[Order, Path]
    epoch: int
    data: DataConfig
    source: str | None = None

    @property
    def scores(self) -> Scores:
        """Those of the frames in their order."""
        return self.tests["forward"]

    @property
    def directory(self) -> Path:
        """The run directory, or the checkpoint folder where it stands alone."""
        return self.folder.parent if self.folder.name in ("best", "last") else self.folder

    def open_videos(self) -> "TestedVideos":
        """The tested videos, to be looked at.

        Raises:
            DataError: they are no longer there.
        """
        first_number = self.data.labels_start_at or 0
        annotations, _ = open_test_samples(self.source, self.data, self.space, first_number=first_number)
        return TestedVideos(annotations, self.data)


class TestedVideos:
    """Videos of a test by the names that its scores have."""

    __test__ = False  # pytest takes the name for a test's

    def __init__(self, annotations: Annotations, data: DataConfig) -> None:
        self._samples = {sample.name: sample for sample in annotations.samples}
        self._open = VideoOpener(data.reader, data.short_side, data.cache)

    def open(self, name: str) -> FrameReader:
        """One of them, decoded as it was in the test.

        Raises:
            UnreadableVideoError: it gives no frames.
        """
        sample = self._samples[name]
        return self._open(sample.path, sample.segment)


def open_tested_run(
    run: str | Path,
    source: str | None = None,
    *,
    checkpoint: str | None = None,
    orders: Sequence[Order] = ORDERS,
    task: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: torch.device | str | None = None,
) -> TestedRun:
    """The tests of a run in several orders; those that are not there yet, or are of other weights, are run.

    Args:
        run: run directory, or a checkpoint folder.
        source, checkpoint, data_options, batch_size, workers, device: as in
            :func:`kinemix.engine.measure.measure_run`.
        orders: of the frames; ``forward`` comes in any case.
        task: the question that is looked at, of several; by default the leading one.

    Raises:
        KinemixError: checkpoint or data cannot be used.
    """
    folder = find_checkpoint(Path(run), checkpoint)
    description = read_description(folder)
    metadata, weights = description["metadata"], description["weights"]["sha256"]
    protocol, space, data = read_metadata(folder, metadata)
    source = make_absolute(source)
    tests: dict[Order, Scores] = {}
    files: dict[Order, Path] = {}
    for order in dict.fromkeys(("forward", *orders)):
        stem = name_test(folder, protocol, order=order, source=source)
        files[order] = stem.with_name(stem.name + ".parquet")
        scores = None if data_options else _read_test(files[order], weights, metadata, protocol)
        if scores is None:
            measured = measure_run(
                folder,
                source,
                order=order,
                data_options=data_options,
                batch_size=batch_size,
                workers=workers,
                device=device,
            )
            scores, files[order] = measured.scores, measured.scores_path
        tests[order] = scores.take_question(task)
    return TestedRun(
        folder=folder,
        protocol=protocol,
        space=space,
        tests=tests,
        files=files,
        epoch=metadata.get("epoch", 0),
        data=settle_test_data(data, source, dict(data_options or {}), space),
        source=source,
    )


def _read_test(path: Path, weights: str, metadata: Mapping[str, Any], protocol: Protocol) -> Scores | None:
    """Scores that lie there, if they are of the weights with this SHA-256 and of this protocol."""
    if not path.is_file():
        return None
    try:
        scores = read_scores(path)
    except CheckpointError:
        return None  # it is measured anew, which replaces it
    space = label_space_from_dict(metadata["class_names"], metadata.get("label_space", {}))
    fits = scores.protocol == protocol and scores.space == space
    return scores if fits and scores.model.get("weights") == weights else None
