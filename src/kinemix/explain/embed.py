"""``kinemix embed``: the features of one run or of several for the same videos, projected, drawn and saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from kinemix.atomic import write_atomically
from kinemix.config import DataConfig, Protocol
from kinemix.data.annotations import Annotations
from kinemix.data.loader import build_test_loader
from kinemix.engine.measure import (
    check_data_options,
    open_test_samples,
    read_metadata,
    settle_test_data,
)
from kinemix.engine.progress import CountBar
from kinemix.engine.settle import make_absolute
from kinemix.engine.unreadable import check_unreadable
from kinemix.errors import ConfigError, DataError
from kinemix.explain.arrays import write_arrays
from kinemix.explain.embedding import (
    PERPLEXITY,
    Matrix,
    Separation,
    Way,
    measure_separation,
    plot_embedding,
    project_features,
)
from kinemix.explain.features import FEATURES, collect_features
from kinemix.explain.groups import Groups, group_samples
from kinemix.explain.page import render_png
from kinemix.label_space import LabelSpace
from kinemix.models.checkpoint import find_checkpoint, load_checkpoint
from kinemix.models.video import VideoModel

Save = Literal["parquet", "npz", "none"]

_WHO_IS_HELD_OUT = ("source", "val_source", "val_share", "folds", "fold", "split_seed", "split", "group_by")


@dataclass(frozen=True)
class Panel:
    """The videos as one layer of one network has them.

    Attributes:
        vectors: ``N F``.
        points: ``N 2``.
        separation: of the groups, in ``vectors``.
    """

    vectors: Matrix
    points: Matrix
    separation: Separation | None


@dataclass(frozen=True)
class Embedding:
    """N videos, as some networks have them.

    Attributes:
        panels: by the title that stands above.
        ids: of the videos.
        labels: N class indices.
        class_names: K names.
        groups: what is told apart.
        notices: what the user should know.
    """

    panels: Mapping[str, Panel]
    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    groups: Groups
    notices: tuple[str, ...]


def embed_runs(
    runs: Mapping[str, str | Path],
    source: str | None = None,
    *,
    layers: Sequence[str] = (FEATURES,),
    last_blocks: int | None = None,
    classes: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    keep_others: bool = False,
    sample: int | None = None,
    way: Way = "tsne",
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    checkpoint: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: torch.device | str | None = None,
) -> Embedding:
    """Project what one run or several make of the same videos.

    Args:
        runs: title -> run directory.
        source: folder or list file; by default what the first run held out.
        layers: paths of modules in the backbone; by default what the classifier sees.
        last_blocks: the outputs of so many of the last blocks, instead.
        classes, groups: what is told apart (:func:`kinemix.explain.groups.group_samples`).
        keep_others: let the classes that were not chosen take part, in grey.
        sample: at most so many videos, drawn evenly from all.
        way, perplexity, seed: as in :func:`kinemix.explain.embedding.project_features`.
        checkpoint, data_options, batch_size, workers, device: as in :func:`kinemix.engine.measure.measure_run`.

    Raises:
        KinemixError: as those functions; runs with other classes.
    """
    if batch_size < 1 or workers < 0:
        raise ConfigError(f"batch_size={batch_size}, workers={workers}: give at least 1 and 0")
    options = dict(data_options or {})
    check_data_options(source, options, verb="embed")
    opened = {title: _open(run, source, checkpoint, options) for title, run in runs.items()}
    annotations, notices = _list_videos(list(opened.values()), make_absolute(source))
    annotations = _choose_videos(
        annotations, classes=classes, groups=groups, keep_others=keep_others, sample=sample, seed=seed
    )
    vectors, places = _look(
        opened, annotations, layers, last_blocks, batch_size=batch_size, workers=workers, device=device
    )
    samples = [annotations.samples[index] for index in places]
    labels = np.array([one.label for one in samples], np.int64)
    told = group_samples(labels, annotations.class_names, classes=classes, groups=groups)
    panels: dict[str, Panel] = {}
    with CountBar("projecting", total=len(vectors)) as bar:
        for title, matrix in vectors.items():
            points = project_features(matrix, way=way, perplexity=perplexity, seed=seed)
            panels[title] = Panel(matrix, points, measure_separation(matrix, told))
            bar.advance(1)
    ids = tuple(one.name for one in samples)
    notices += [told.remark] if told.remark else []
    return Embedding(panels, ids, labels, annotations.class_names, told, tuple(notices))


@dataclass(frozen=True)
class _Opened:
    """A run, ready to look at videos."""

    model: VideoModel
    protocol: Protocol
    space: LabelSpace
    data: DataConfig
    folder: Path
    first_number: int


def _open(run: str | Path, source: str | None, checkpoint: str | None, options: Mapping[str, Any]) -> _Opened:
    folder = find_checkpoint(Path(run), checkpoint)
    model, metadata = load_checkpoint(folder)
    protocol, space, data = read_metadata(folder, metadata)
    settled = settle_test_data(data, make_absolute(source), options, space)
    return _Opened(model, protocol, space, settled, folder, data.labels_start_at or 0)


def _list_videos(opened: Sequence[_Opened], source: str | None) -> tuple[Annotations, list[str]]:
    """The videos that all runs look at, and what the user should know about them."""
    first, *others = opened
    for other in others:
        if other.space != first.space:
            raise ConfigError(
                f"{other.folder}: has learnt other classes than the first run: embed them one by one"
            )
    annotations, found = open_test_samples(source, first.data, first.space, first_number=first.first_number)
    notices = list(found)
    if annotations.multilabel:
        notices.append("videos with several labels stand under their first")
    if source is None:
        notices += [
            f"{other.folder}: held out other videos than the first run, and may have learned from some of these"
            for other in others
            if any(getattr(other.data, name) != getattr(first.data, name) for name in _WHO_IS_HELD_OUT)
        ]
    return annotations, notices


def _choose_videos(
    annotations: Annotations,
    *,
    classes: Sequence[str] | None,
    groups: Mapping[str, Sequence[str]] | None,
    keep_others: bool,
    sample: int | None,
    seed: int,
) -> Annotations:
    labels = np.array([one.label for one in annotations.samples], np.int64)
    told = group_samples(labels, annotations.class_names, classes=classes, groups=groups)
    chosen = np.arange(len(labels))
    if (classes is not None or groups is not None) and not keep_others:
        chosen = np.flatnonzero(told.members >= 0)
    if sample is not None and sample < 5:
        raise ConfigError(f"sample is {sample}: give 5 or more")
    if sample is not None and sample < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, sample, replace=False))
    return annotations.pick(chosen.tolist())


def _choose_layers(opened: _Opened, layers: Sequence[str], last_blocks: int | None) -> tuple[str, ...]:
    if last_blocks is None:
        return tuple(layers)
    blocks = opened.model.blocks
    if not 1 <= last_blocks <= len(blocks):
        raise ConfigError(
            f"last_blocks is {last_blocks}: this network has {len(blocks)} blocks; give 1 to {len(blocks)}"
        )
    return tuple(blocks[-last_blocks:])


def _look(
    opened: Mapping[str, _Opened],
    annotations: Annotations,
    layers: Sequence[str],
    last_blocks: int | None,
    *,
    batch_size: int,
    workers: int,
    device: torch.device | str | None,
) -> tuple[dict[str, Matrix], np.ndarray]:
    """The features of every panel, and the places of the videos that could be read."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    vectors: dict[str, Matrix] = {}
    places: list[np.ndarray] = []
    with CountBar("looking", total=len(opened) * len(annotations)) as bar:
        for title, one in opened.items():
            wanted = _choose_layers(one, layers, last_blocks)
            data = one.data
            loader = build_test_loader(
                annotations,
                protocol=one.protocol,
                batch_size=batch_size,
                reader=data.reader,
                short_side=data.short_side,
                cache=data.cache,
                max_seconds=data.max_seconds,
                workers=workers,
            )
            found = collect_features(
                one.model.to(device), loader, layers=wanted, device=device, on_batch=bar.advance
            )
            check_unreadable(dict(found.unreadable), total=len(annotations), limit=data.max_unreadable)
            places.append(found.indices)
            for layer in wanted:
                vectors[_name_panel(title, layer, many_runs=len(opened) > 1)] = found.vectors[layer]
    if any(not np.array_equal(place, places[0]) for place in places):
        raise DataError("the runs could not read the same videos: kinemix doctor says which and why")
    return vectors, places[0]


def _name_panel(title: str, layer: str, *, many_runs: bool) -> str:
    if layer == FEATURES:
        return title
    return f"{title}: {layer}" if many_runs else layer


def write_embedding(out: Path, embedding: Embedding, *, save: Save = "parquet", title: str = "") -> Path:
    """Write the picture, and the features for use elsewhere.

    Parquet: one file a panel with a row a video: ``id``, ``label``, ``class``, ``group``, ``x``, ``y`` and the list
    ``features``. npz: one file with ``ids``, ``labels``, ``class_names``, ``groups`` and, for each panel,
    ``<panel>/features`` and ``<panel>/points``.

    Args:
        out: folder, made if missing.
        embedding: of :func:`embed_runs`.
        save: how the features are saved.
        title: of the picture.

    Returns:
        The picture's path.
    """
    out.mkdir(parents=True, exist_ok=True)
    figure = plot_embedding(
        {name: (panel.points, embedding.groups) for name, panel in embedding.panels.items()},
        separations={name: panel.separation for name, panel in embedding.panels.items()},
        title=title,
    )
    picture = render_png(figure)
    path = out / "embedding.png"
    write_atomically(path, lambda partial: partial.write_bytes(picture), durable=False)
    if save == "parquet":
        for name, panel in embedding.panels.items():
            _write_parquet(out / f"{_name_file(name)}.parquet", embedding, panel)
    elif save == "npz":
        _write_npz(out / "features.npz", embedding)
    return path


def _group_names(embedding: Embedding) -> list[str | None]:
    names = embedding.groups.names
    return [names[member] if member >= 0 else None for member in embedding.groups.members]


def _write_parquet(path: Path, embedding: Embedding, panel: Panel) -> None:
    width = panel.vectors.shape[1]
    features = pa.FixedSizeListArray.from_arrays(pa.array(panel.vectors.ravel(), pa.float32()), width)
    table = pa.table(
        {
            "id": list(embedding.ids),
            "label": embedding.labels,
            "class": [embedding.class_names[k] if k >= 0 else None for k in embedding.labels],
            "group": pa.array(_group_names(embedding), pa.string()),
            "x": panel.points[:, 0],
            "y": panel.points[:, 1],
            "features": features,
        }
    )
    write_atomically(path, lambda partial: pq.write_table(table, partial), durable=False)


def _write_npz(path: Path, embedding: Embedding) -> None:
    arrays: dict[str, Any] = {
        "ids": np.array(embedding.ids),
        "labels": embedding.labels,
        "class_names": np.array(embedding.class_names),
        "groups": np.array([name or "" for name in _group_names(embedding)]),
    }
    for name, panel in embedding.panels.items():
        arrays |= {f"{name}/features": panel.vectors, f"{name}/points": panel.points}
    write_arrays(path, arrays)


def _name_file(panel: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in panel)
