"""Scores: every logit of a test, kept as Parquet with the protocol and the model in its metadata.

Whoever has the file can compute any figure again, average it with another model's (an ensemble), or find the
samples that were missed. A row is ``id, index, view, label, label_name, logits``; where ``view`` is null the logits
are the average over the views. A file that keeps its views has a row for each of them too, after the averages.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kinemix.atomic import write_atomically
from kinemix.config import Protocol
from kinemix.errors import CheckpointError
from kinemix.evaluate.metrics import Metrics, compute_metrics
from kinemix.evaluate.protocol import describe_protocol, protocol_from_dict, protocol_to_dict


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model answered to every sample of a test.

    Attributes:
        ids: N names of samples (paths).
        indices: ``N``, the samples' numbers in the tested list, each once.
        logits: ``N K``, averaged over the views of the protocol.
        labels: ``N``.
        class_names: K names.
        protocol: how the videos were shown; ``None`` where nobody wrote it down, and of an ensemble, whose members
            may have been shown different views.
        order: order of the frames: ``forward``, ``reverse`` or ``shuffle``.
        model: description of the model, as JSON can hold it.
        unreadable: samples that gave no frames, with the reason; they are in no figure.
        view_logits: ``N V K``, those of each view, if they were kept.
    """

    ids: tuple[str, ...]
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    protocol: Protocol | None
    order: str = "forward"
    model: Any = None
    unreadable: tuple[tuple[str, str], ...] = ()
    view_logits: NDArray[np.float32] | None = None

    def metrics(self) -> Metrics:
        """Accuracies and confusion over the samples that could be read.

        Raises:
            DataError: none could.
        """
        return compute_metrics(self.logits, self.labels, self.class_names)

    def describe_protocol(self) -> str:
        """The line that stands beside every figure."""
        if self.protocol is None:
            return "views not recorded"
        return describe_protocol(self.protocol, order=self.order)


def merge_scores(parts: Sequence[Scores]) -> Scores:
    """Scores of several processes as one, each sample once (a sampler may have padded the parts)."""
    indices, rows = np.unique(np.concatenate([part.indices for part in parts]), return_index=True)
    ids = [sample for part in parts for sample in part.ids]
    views = [part.view_logits for part in parts if part.view_logits is not None]
    return replace(
        parts[0],
        ids=tuple(ids[row] for row in rows),
        indices=indices,
        logits=np.concatenate([part.logits for part in parts])[rows],
        labels=np.concatenate([part.labels for part in parts])[rows],
        unreadable=tuple(sorted({entry for part in parts for entry in part.unreadable})),
        view_logits=np.concatenate(views)[rows] if len(views) == len(parts) else None,
    )


def write_scores(scores: Scores, path: Path) -> None:
    """Write one row a sample, and one a view if they are kept, with everything else in the file's metadata."""
    num_classes, num_samples = len(scores.class_names), len(scores.ids)
    num_views = 0 if scores.view_logits is None else scores.view_logits.shape[1]
    about = {
        "class_names": scores.class_names,
        "protocol": scores.protocol and protocol_to_dict(scores.protocol),
        "order": scores.order,
        "model": scores.model,
        "unreadable": scores.unreadable,
        "views_kept": num_views,
    }
    sample = np.concatenate([np.arange(num_samples), np.repeat(np.arange(num_samples), num_views)])
    view = [None] * num_samples + list(range(num_views)) * num_samples
    flat = [np.ascontiguousarray(scores.logits, np.float32).reshape(-1)]
    if scores.view_logits is not None:
        flat.append(np.ascontiguousarray(scores.view_logits, np.float32).reshape(-1))
    labels = scores.labels[sample]
    table = pa.table(
        {
            "id": pa.array([scores.ids[row] for row in sample], pa.string()),
            "index": pa.array(scores.indices[sample], pa.int64()),
            "view": pa.array(view, pa.int32()),
            "label": pa.array(labels, pa.int64()),
            "label_name": pa.array([scores.class_names[k] for k in labels], pa.string()),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(flat)), num_classes),
        }
    ).replace_schema_metadata({"kinemix": json.dumps(about)})
    write_atomically(path, partial(pq.write_table, table))


def read_scores(path: Path) -> Scores:
    """What :func:`write_scores` wrote, now or before views could be kept.

    Raises:
        CheckpointError: the file is missing or is no Parquet file of scores.
    """
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"kinemix"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no file of scores that `kinemix test` wrote ({error})") from error
    class_names, num_views = tuple(about["class_names"]), about.get("views_kept", 0)
    flat = table["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    logits = flat.reshape(-1, len(class_names))
    num_samples = len(logits) // (1 + num_views)
    averages = table.slice(0, num_samples)
    return Scores(
        ids=tuple(averages["id"].to_pylist()),
        indices=averages["index"].to_numpy(),
        logits=logits[:num_samples],
        labels=averages["label"].to_numpy(),
        class_names=class_names,
        protocol=about["protocol"] and protocol_from_dict(about["protocol"]),
        order=about["order"],
        model=about["model"],
        unreadable=tuple((path_, reason) for path_, reason in about["unreadable"]),
        view_logits=logits[num_samples:].reshape(num_samples, num_views, len(class_names))
        if num_views
        else None,
    )
