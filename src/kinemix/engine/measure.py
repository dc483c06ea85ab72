"""A finished run, tested: on what it held out, or on other data; forwards, backwards or shuffled."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinemix.atomic import write_atomically
from kinemix.config import DataConfig, Protocol, from_dict
from kinemix.data.annotations import Annotations
from kinemix.data.loader import build_test_loader
from kinemix.data.sources import open_annotations, open_splits
from kinemix.data.views import Order
from kinemix.engine.progress import CountBar
from kinemix.engine.settle import make_absolute
from kinemix.engine.training_state import find_checkpoint
from kinemix.errors import CheckpointError, ConfigError, DataError
from kinemix.evaluate.evaluator import evaluate
from kinemix.evaluate.metrics import Metrics, metrics_to_dict
from kinemix.evaluate.protocol import override_views, protocol_from_dict, protocol_to_dict
from kinemix.evaluate.scores import Scores, write_scores
from kinemix.models.checkpoint import load_checkpoint


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a test found.

    Attributes:
        scores: every logit.
        metrics: the figures.
        scores_path, metrics_path: the files that were written.
        checkpoint: the folder of the weights.
        epoch: epochs that they were trained for.
        chosen_on: whether these very samples chose the checkpoint among the epochs.
        notices: what the user should know about the data.
    """

    scores: Scores
    metrics: Metrics
    scores_path: Path
    metrics_path: Path
    checkpoint: Path
    epoch: int
    chosen_on: bool
    notices: tuple[str, ...]


def measure_run(
    run: str | Path,
    source: str | None = None,
    *,
    checkpoint: str | None = None,
    num_clips: int | None = None,
    num_crops: int | None = None,
    order: Order = "forward",
    batch_size: int = 8,
    workers: int = 2,
    device: torch.device | str | None = None,
) -> Measurement:
    """Test a run and write its scores (Parquet) and figures (JSON) into the run directory.

    Args:
        run: run directory, or a checkpoint folder.
        source: folder or list file to test on; by default what the run held out.
        checkpoint: ``best`` or ``last``; by default the best, or the last where there is no best.
        num_clips, num_crops: of the protocol, if other than the run's.
        order: of each clip's frames.
        batch_size: videos at a time.
        workers: loader processes.
        device: by default CUDA where there is one.

    Raises:
        KinemixError: checkpoint or data cannot be used; more unreadable videos than ``data.max_unreadable``.
    """
    if batch_size < 1 or workers < 0:
        raise ConfigError(f"batch_size={batch_size}, workers={workers}: give at least 1 and 0")
    folder = find_checkpoint(Path(run), checkpoint)
    model, metadata = load_checkpoint(folder)
    protocol, class_names, data = _read_metadata(folder, metadata)
    protocol = override_views(protocol, num_clips=num_clips, num_crops=num_crops)
    annotations, notices = _open_samples(source, data, class_names)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loader = build_test_loader(
        annotations,
        protocol=protocol,
        batch_size=batch_size,
        order=order,
        reader=data.reader,
        short_side=data.short_side,
        cache=data.cache,
        workers=workers,
    )
    with CountBar("testing", total=len(annotations)) as bar:
        scores = evaluate(
            model.to(device),
            loader,
            ids=[sample.path for sample in annotations.samples],
            class_names=class_names,
            protocol=protocol,
            mirrored_labels=metadata.get("mirrored_labels"),
            order=order,
            description={**model.description, "checkpoint": str(folder), "epoch": metadata.get("epoch")},
            device=device,
            on_batch=bar.advance,
        )
    _check_unreadable(scores, len(annotations), data.max_unreadable)
    metrics = scores.metrics()
    scores_path, metrics_path = _write(folder, scores, metrics, source)
    return Measurement(
        scores=scores,
        metrics=metrics,
        scores_path=scores_path,
        metrics_path=metrics_path,
        checkpoint=folder,
        epoch=metadata.get("epoch", 0),
        chosen_on=source is None and folder.name == "best",
        notices=notices,
    )


def _read_metadata(folder: Path, metadata: dict[str, Any]) -> tuple[Protocol, tuple[str, ...], DataConfig]:
    try:
        protocol = protocol_from_dict(metadata["protocol"])
        return protocol, tuple(metadata["class_names"]), from_dict(DataConfig, metadata["config"]["data"])
    except KeyError as error:
        raise CheckpointError(
            f"{folder}: a network without {error}; give a run directory of `kinemix train`"
        ) from error


def _open_samples(
    source: str | None, data: DataConfig, class_names: tuple[str, ...]
) -> tuple[Annotations, tuple[str, ...]]:
    if source is not None:
        return open_annotations(
            make_absolute(source) or "", class_names=class_names, labels_start_at=data.labels_start_at
        )
    splits = open_splits(data)
    if not len(splits.val):
        raise DataError(f"{data.source}: the run held nothing out; name the data: kinemix test RUN DATA")
    if splits.class_names != class_names:
        raise DataError(
            f"{data.source}: its classes have changed since the run; name the data: kinemix test RUN DATA"
        )
    return splits.val, splits.notices


def _check_unreadable(scores: Scores, total: int, limit: float) -> None:
    if len(scores.unreadable) > limit * total:
        path, reason = scores.unreadable[0]
        raise DataError(
            f"{len(scores.unreadable)} of {total} videos cannot be read, more than data.max_unreadable = "
            f"{limit:g} allows; the first: {path}: {reason}"
        )


def _write(checkpoint: Path, scores: Scores, metrics: Metrics, source: str | None) -> tuple[Path, Path]:
    # Into the run directory, also where one of its checkpoints was named.
    folder = checkpoint.parent if checkpoint.name in ("best", "last") else checkpoint
    protocol = scores.protocol
    views = f"{protocol.num_frames}x{protocol.num_clips}x{protocol.num_crops}"
    parts = ["test", Path(source).stem if source else "held-out", views]
    parts += ["last"] if checkpoint.name == "last" else []
    parts += [scores.order] if scores.order != "forward" else []
    name = "-".join(parts)
    scores_path, metrics_path = folder / f"{name}.parquet", folder / f"{name}.json"
    content = {
        "protocol_line": scores.describe_protocol(),
        "protocol": protocol_to_dict(protocol),
        "order": scores.order,
        "source": source,
        "model": scores.model,
        "unreadable": scores.unreadable,
        **metrics_to_dict(metrics),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_scores(scores, scores_path)
    write_atomically(metrics_path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return scores_path, metrics_path
