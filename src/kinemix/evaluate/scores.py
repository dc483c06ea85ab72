"""Scores: every logit of a test, kept as Parquet with the protocol and the model in its metadata.

Whoever has the file can compute any figure again, average it with another model's (an ensemble), or find the
samples that were missed. A row is ``id, index, view, label, label_name, logits``; where ``view`` is null the logits
are the average over the views. A file that keeps its views has a row for each of them too, after the averages. Where
there are several tasks, each has its own ``label``, ``label_name`` and ``logits``, with the task in front
(``verb_logits``); where a sample may have several labels, ``label`` and ``label_name`` are lists. A label that nobody
knows has no name. A dataset's own names of its samples are in ``uid``.
"""

import json
from collections.abc import Mapping, Sequence
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
from kinemix.errors import CheckpointError, DataError, did_you_mean
from kinemix.evaluate.metrics import AnyMetrics, measure
from kinemix.evaluate.protocol import describe_protocol, protocol_from_dict, protocol_to_dict
from kinemix.label_space import UNLABELLED, LabelSpace, label_space_from_dict, label_space_to_dict


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model answered to every sample of a test.

    Attributes:
        ids: N names of samples (paths).
        uids: the dataset's own names of them, where it has some.
        indices: ``N``, the samples' numbers in the tested list, each once.
        logits: ``N K``, averaged over the views of the protocol.
        labels: as ``space`` has them: ``N``; ``N tasks``; or ``N K`` of 0 and 1.
        space: what the logits are about.
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
    space: LabelSpace
    protocol: Protocol | None
    order: str = "forward"
    model: Any = None
    unreadable: tuple[tuple[str, str], ...] = ()
    view_logits: NDArray[np.float32] | None = None
    uids: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""
        return self.space.class_names

    @property
    def labelled(self) -> bool:
        """Whether the labels are known; those of the samples that only a test server knows are not."""
        return self.space.multilabel or not (self.labels == UNLABELLED).any()

    def metrics(self) -> AnyMetrics:
        """The figures over the samples that could be read.

        Raises:
            DataError: none could, or their labels are not known.
        """
        return measure(self.logits, self.labels, self.space)

    def take_question(self, task: str | None = None) -> "Scores":
        """The scores of one question with one answer, which is what accuracies and comparisons are about.

        Args:
            task: of several; by default the leading one.

        Raises:
            DataError: no such task; a sample may have several labels.
        """
        tasks = self.space.tasks
        if self.space.multilabel:
            raise DataError("scores of any number of labels a video: there is no accuracy to compare")
        if task is not None and task not in tasks:
            cure = did_you_mean(task, tasks) if tasks else "they answer one question only"
            raise DataError(f"scores have no task {task!r}: {cure}")
        return self.take_task(task or str(self.space.leading)) if tasks else self

    def take_task(self, task: str) -> "Scores":
        """The scores of one of several tasks by themselves."""
        place, number = self.space.places[task], list(self.space.tasks).index(task)
        return replace(
            self,
            logits=self.logits[:, place],
            labels=self.labels[:, number],
            space=self.space.pick(task),
            view_logits=None if self.view_logits is None else self.view_logits[:, :, place],
        )

    def describe_protocol(self) -> str:
        """The line that stands beside every figure."""
        if self.protocol is None:
            return "views not recorded"
        return describe_protocol(self.protocol, order=self.order)


def merge_scores(parts: Sequence[Scores]) -> Scores:
    """Scores of several processes as one, each sample once (a sampler may have padded the parts)."""
    indices, rows = np.unique(np.concatenate([part.indices for part in parts]), return_index=True)
    ids = [sample for part in parts for sample in part.ids]
    uids = [uid for part in parts for uid in part.uids]
    views = [part.view_logits for part in parts if part.view_logits is not None]
    return replace(
        parts[0],
        ids=tuple(ids[row] for row in rows),
        indices=indices,
        logits=np.concatenate([part.logits for part in parts])[rows],
        labels=np.concatenate([part.labels for part in parts])[rows],
        unreadable=tuple(sorted({entry for part in parts for entry in part.unreadable})),
        view_logits=np.concatenate(views)[rows] if len(views) == len(parts) else None,
        uids=tuple(uids[row] for row in rows) if uids else (),
    )


def join_tasks(tasks: Mapping[str, Scores]) -> Scores:
    """The scores of several tasks side by side: what :meth:`Scores.take_task` took apart."""
    parts = list(tasks.values())
    models = {task: part.model for task, part in tasks.items()}
    views = [part.view_logits for part in parts if part.view_logits is not None]
    return replace(
        parts[0],
        logits=np.concatenate([part.logits for part in parts], axis=1),
        labels=np.stack([part.labels for part in parts], axis=1),
        space=LabelSpace.of_tasks(
            {task: part.class_names for task, part in tasks.items()},
            {
                task: tuple(part.class_names[k] for k in sorted(part.space.many_shot))
                for task, part in tasks.items()
            },
        ),
        model=parts[0].model if all(m == parts[0].model for m in models.values()) else {"by_task": models},
        view_logits=np.concatenate(views, axis=2) if len(views) == len(parts) else None,
    )


def write_scores(scores: Scores, path: Path) -> None:
    """Write one row a sample, and one a view if they are kept, with everything else in the file's metadata."""
    num_samples = len(scores.ids)
    num_views = 0 if scores.view_logits is None else scores.view_logits.shape[1]
    about = {
        "class_names": scores.class_names,
        **label_space_to_dict(scores.space),
        "protocol": scores.protocol and protocol_to_dict(scores.protocol),
        "order": scores.order,
        "model": scores.model,
        "unreadable": scores.unreadable,
        "views_kept": num_views,
    }
    sample = np.concatenate([np.arange(num_samples), np.repeat(np.arange(num_samples), num_views)])
    view = [None] * num_samples + list(range(num_views)) * num_samples
    columns = {
        "id": pa.array([scores.ids[row] for row in sample], pa.string()),
        "index": pa.array(scores.indices[sample], pa.int64()),
        "view": pa.array(view, pa.int32()),
    }
    if scores.uids:
        columns["uid"] = pa.array([scores.uids[row] for row in sample], pa.string())
    for prefix, part in _by_prefix(scores):
        columns |= {f"{prefix}{name}": column for name, column in _make_columns(part, sample).items()}
    table = pa.table(columns).replace_schema_metadata({"kinemix": json.dumps(about)})
    write_atomically(path, partial(pq.write_table, table))


def _by_prefix(scores: Scores) -> list[tuple[str, Scores]]:
    """The scores of each task, and what stands in front of its columns' names."""
    if not scores.space.tasks:
        return [("", scores)]
    return [(f"{task}_", scores.take_task(task)) for task in scores.space.tasks]


def _make_columns(scores: Scores, sample: NDArray[np.int64]) -> dict[str, Any]:
    """Labels and logits of one task.

    Args:
        scores: of it.
        sample: of each row of the file, its row in the scores.
    """
    names = scores.class_names
    flat = [np.ascontiguousarray(scores.logits, np.float32).reshape(-1)]
    if scores.view_logits is not None:
        flat.append(np.ascontiguousarray(scores.view_logits, np.float32).reshape(-1))
    if scores.space.multilabel:
        present = [np.flatnonzero(row) for row in scores.labels]
        labels = pa.array([present[row] for row in sample], pa.list_(pa.int64()))
        named = pa.array([[names[k] for k in present[row]] for row in sample], pa.list_(pa.string()))
    else:
        labels = pa.array(scores.labels[sample], pa.int64())
        named = pa.array([names[k] if k >= 0 else None for k in scores.labels[sample]], pa.string())
    logits = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(flat)), len(names))
    return {"label": labels, "label_name": named, "logits": logits}


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
    space, num_views = label_space_from_dict(about["class_names"], about), about.get("views_kept", 0)
    num_samples = table.num_rows // (1 + num_views)
    averages = table.slice(0, num_samples)
    parts = {task: f"{task}_" for task in space.tasks} or {"": ""}
    logits = np.concatenate([_read_logits(table[f"{prefix}logits"]) for prefix in parts.values()], axis=1)
    labels = [_read_labels(averages[f"{prefix}label"], space) for prefix in parts.values()]
    return Scores(
        ids=tuple(averages["id"].to_pylist()),
        indices=averages["index"].to_numpy(),
        logits=logits[:num_samples],
        labels=np.stack(labels, axis=1) if space.tasks else labels[0],
        space=space,
        protocol=about["protocol"] and protocol_from_dict(about["protocol"]),
        order=about["order"],
        model=about["model"],
        unreadable=tuple((path_, reason) for path_, reason in about["unreadable"]),
        view_logits=logits[num_samples:].reshape(num_samples, num_views, logits.shape[1])
        if num_views
        else None,
        uids=tuple(averages["uid"].to_pylist()) if "uid" in table.column_names else (),
    )


def _read_logits(column: pa.ChunkedArray) -> NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), column.type.list_size)


def _read_labels(column: pa.ChunkedArray, space: LabelSpace) -> NDArray[np.int64]:
    if not space.multilabel:
        return column.to_numpy()
    present = np.zeros((len(column), len(space.class_names)), np.int64)
    for row, labels in zip(present, column.to_pylist(), strict=True):
        row[labels] = 1
    return present
