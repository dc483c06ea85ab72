"""Score files that people have, read as :class:`~kinemix.evaluate.scores.Scores`: whoever wrote them, and however.

=========== ==========================================================================================
``.parquet`` what ``kinemix test`` wrote; else a table with a column of lists
``.npz``     arrays of scores, labels and names
``.npy``     an array of scores (labels from elsewhere), or a square confusion matrix of counts
``.csv``     a row a sample: name, label, and a column for each class, whose heading is its name
``.pkl``     MMAction's dumps: arrays, or dicts of arrays; plain data only (:mod:`~kinemix.evaluate.plain_pickle`)
a run        the one file of scores that ``kinemix test`` left in its directory
=========== ==========================================================================================

What a file does not say is not invented: without names the samples are called ``#0``, ``#1``, ..., and without class
names the classes are called by their numbers.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kinemix.errors import DataError
from kinemix.evaluate.plain_pickle import read_plain_pickle
from kinemix.evaluate.scores import Scores, read_scores
from kinemix.label_space import LabelSpace


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A confusion matrix: ``K K`` counts, rows are labels, columns are answers."""

    counts: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Names of the arrays or columns in a file; ``None`` looks for the usual ones."""

    scores: str | None = None
    labels: str | None = None
    names: str | None = None


_USUAL = {
    "scores": ("scores", "logits", "pred_scores", "pred_score", "score", "preds", "predictions", "probs"),
    "labels": ("labels", "label", "gt_labels", "gt_label", "targets", "target", "y"),
    "names": ("names", "ids", "id", "name", "video", "videos", "paths", "path", "file", "files"),
}


def read_any_scores(
    path: str | Path, *, keys: Keys | None = None, labels: Path | None = None
) -> Scores | Confusion:
    """Scores, or a confusion matrix, from a file or a run directory.

    Args:
        path: see the table above.
        keys: names of arrays or columns, if they are unusual.
        labels: a file with the labels, for score files that hold none: ``.npy`` numbers, or a text file with
            ``name ... label`` a line (TSN's and MMAction's lists).

    Raises:
        KinemixError: no such file, of no known kind, or without scores or labels.
    """
    path, keys = Path(path), keys or Keys()
    if path.is_dir():
        path = find_scores(path)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file or run: give a scores file, or a run that `kinemix test` has measured"
        )
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: scores are read from {', '.join(_READERS)} and run directories")
    return read(path, keys, labels)


def find_scores(run: Path) -> Path:
    """The one file of scores in a run directory.

    Raises:
        DataError: there is none, or there are several.
    """
    found = sorted(run.glob("test-*.parquet"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{run}: no scores there: make them with kinemix test {run}")
    names = ", ".join(file.name for file in found)
    raise DataError(f"{run}: several tests have left scores there: name one of {names}")


def names_samples(scores: Scores) -> bool:
    """Whether the file told its samples' names."""
    return scores.ids != _number_samples(len(scores.ids)) or not scores.ids


def names_classes(scores: Scores) -> bool:
    """Whether the file told its classes' names."""
    return scores.class_names != _number_classes(len(scores.class_names))


# ------------------------------------------------------------------------------------------------- the kinds


def _read_parquet(path: Path, keys: Keys, labels: Path | None) -> Scores:
    try:
        metadata = pq.read_schema(path).metadata or {}
        if b"kinemix" in metadata:
            return read_scores(path)
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: no Parquet file ({_one_line(error)})") from error
    columns = {name: table[name] for name in table.column_names}
    scores = np.array(_take(columns, "scores", keys, path).to_pylist(), np.float32)
    return _assemble(
        path,
        scores,
        labels=_take_optional(columns, "labels", keys),
        names=_take_optional(columns, "names", keys),
        labels_file=labels,
    )


def _read_npz(path: Path, keys: Keys, labels: Path | None) -> Scores:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if _is_wanted(name, keys)}
            names = archive.files
    except ValueError as error:
        raise DataError(_explain_numpy(path, error)) from error
    if not arrays:
        raise DataError(f"{path}: no array of scores among {', '.join(names)}: name it with --scores_key")
    return _assemble(
        path,
        _take(arrays, "scores", keys, path),
        labels=_take_optional(arrays, "labels", keys),
        names=_take_optional(arrays, "names", keys),
        labels_file=labels,
    )


def _read_npy(path: Path, keys: Keys, labels: Path | None) -> Scores | Confusion:
    try:
        array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise DataError(_explain_numpy(path, error)) from error
    if labels is None and _is_confusion(array):
        return Confusion(counts=array.astype(np.int64))
    return _assemble(path, array, labels=None, names=None, labels_file=labels)


def _read_csv(path: Path, keys: Keys, labels: Path | None) -> Scores:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            heading = next(csv.reader(file), [])
        text = {name: pa.string() for name in heading if _is_usual(name, "names", keys)}
        options = pyarrow.csv.ConvertOptions(column_types=text)
        table = pyarrow.csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no CSV table ({_one_line(error)})") from error
    columns = {name: table[name] for name in table.column_names}
    given = _take_optional(columns, "labels", keys)
    names = _take_optional(columns, "names", keys)
    classes = [c for c in columns if not (_is_usual(c, "names", keys) or _is_usual(c, "labels", keys))]
    wrong = [
        c
        for c in classes
        if not pa.types.is_floating(columns[c].type) and not pa.types.is_integer(columns[c].type)
    ]
    if wrong or not classes:
        raise DataError(
            f"{path}: column {(wrong or ['?'])[0]!r} holds no numbers; besides name and label, every column "
            "is a class with its scores"
        )
    scores = np.stack([columns[c].to_numpy() for c in classes], axis=1)
    return _assemble(path, scores, labels=given, names=names, labels_file=labels, class_names=classes)


def _read_pickle(path: Path, keys: Keys, labels: Path | None) -> Scores:
    content = read_plain_pickle(path)
    if isinstance(content, Mapping):
        fields = dict(content)
    elif isinstance(content, Sequence) and content and all(isinstance(row, Mapping) for row in content):
        fields = {
            key: [_unwrap(row[key]) for row in content]
            for key in content[0]
            if all(key in r for r in content)
        }
    else:
        fields = {"scores": content}
    return _assemble(
        path,
        _take(fields, "scores", keys, path),
        labels=_take_optional(fields, "labels", keys),
        names=_take_optional(fields, "names", keys),
        labels_file=labels,
    )


_READERS: Mapping[str, Any] = {
    ".parquet": _read_parquet,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
}


# ------------------------------------------------------------------------------------------------- the pieces


def _assemble(
    path: Path,
    scores: Any,
    *,
    labels: Any,
    names: Any,
    labels_file: Path | None,
    class_names: Sequence[str] | None = None,
) -> Scores:
    """Scores from what a file holds, checked; views are averaged."""
    logits = _as_numbers(scores, path)
    views = logits if logits.ndim == 3 else None
    logits = logits.mean(axis=1) if logits.ndim == 3 else logits
    count, num_classes = logits.shape
    if labels is None and labels_file is not None:
        labels, listed = read_labels(labels_file)
        names = listed if names is None else names
    if labels is None:
        raise DataError(
            f"{path}: scores without labels: give --labels FILE, or --labels_key if they have another name"
        )
    classes = _number_classes(num_classes) if class_names is None else tuple(class_names)
    ids = _number_samples(count) if names is None else tuple(str(name) for name in _as_list(names))
    numbers = _number_labels(_as_list(labels), classes, path)
    for what, values in (("labels", numbers), ("names", ids)):
        if len(values) != count:
            raise DataError(f"{path}: {count} rows of scores, but {len(values)} {what}")
    if count and not 0 <= numbers.min() <= numbers.max() < num_classes:
        raise DataError(
            f"{path}: labels run from {numbers.min()} to {numbers.max()}, scores have {num_classes} classes"
        )
    return Scores(
        ids=ids,
        indices=np.arange(count),
        logits=logits.astype(np.float32),
        labels=numbers,
        space=LabelSpace(class_names=classes),
        protocol=None,
        model={"name": path.stem},
        view_logits=None if views is None else views.astype(np.float32),
    )


def read_labels(path: Path) -> tuple[list[Any], list[str] | None]:
    """Labels, and names where there are any, from ``.npy`` or from lines ``[name ...] label``.

    Raises:
        DataError: the file cannot be read so.
    """
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False).tolist(), None
        lines = [line.replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [line for line in lines if line]
        labels = [int(row[-1]) for row in rows]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(
            f"{path}: a list of labels has a number at the end of every line ({error})"
        ) from error
    return labels, [row[0] for row in rows] if all(len(row) > 1 for row in rows) else None


def _as_numbers(scores: Any, path: Path) -> NDArray[np.float64]:
    try:
        array = np.asarray(scores if isinstance(scores, np.ndarray) else list(scores), np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: the scores are no table of numbers ({_one_line(error)})") from error
    if array.ndim not in (2, 3) or 0 in array.shape[1:]:
        raise DataError(f"{path}: scores are N x classes or N x views x classes, got {array.shape}")
    if not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"{path}: a score of row {bad} is not a finite number")
    return array


def _number_labels(labels: Sequence[Any], classes: tuple[str, ...], path: Path) -> NDArray[np.int64]:
    """Labels as numbers; in a file that names its classes they may be names."""
    place = {name: number for number, name in enumerate(classes)}
    if all(isinstance(label, str) for label in labels):
        unknown = next((label for label in labels if label not in place), None)
        if unknown is not None:
            raise DataError(f"{path}: label {unknown!r} is none of the classes, which are the headings")
        return np.array([place[label] for label in labels], np.int64)
    numbers = np.array(labels).reshape(len(labels), -1)
    if numbers.shape[1] != 1 or not np.equal(numbers, numbers.astype(np.int64)).all():
        raise DataError(f"{path}: labels are one whole number a row")
    return numbers[:, 0].astype(np.int64)


def _take(fields: Mapping[str, Any], what: str, keys: Keys, path: Path) -> Any:
    value = _take_optional(fields, what, keys)
    if value is None:
        raise DataError(f"{path}: no {what} among {', '.join(map(str, fields))}: name them with --{what}_key")
    return value


def _take_optional(fields: Mapping[str, Any], what: str, keys: Keys) -> Any:
    wanted = getattr(keys, what)
    return next((fields[name] for name in ((wanted,) if wanted else _USUAL[what]) if name in fields), None)


def _is_usual(name: str, what: str, keys: Keys) -> bool:
    wanted = getattr(keys, what)
    return name == wanted if wanted else name in _USUAL[what]


def _is_wanted(name: str, keys: Keys) -> bool:
    return any(_is_usual(name, what, keys) for what in _USUAL)


def _unwrap(value: Any) -> Any:
    """MMAction2 keeps a score or label as ``{"item": array}`` in some of its versions."""
    return value["item"] if isinstance(value, Mapping) and "item" in value else value


def _is_confusion(array: NDArray[Any]) -> bool:
    square = array.ndim == 2 and array.shape[0] == array.shape[1]
    return bool(square and (array >= 0).all() and np.equal(array, np.floor(array)).all() and array.any())


def _as_list(values: Any) -> list[Any]:
    return values.to_pylist() if isinstance(values, pa.ChunkedArray) else np.asarray(values).tolist()


def _number_samples(count: int) -> tuple[str, ...]:
    return tuple(f"#{number}" for number in range(count))


def _number_classes(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def _explain_numpy(path: Path, error: ValueError) -> str:
    if "allow_pickle" in str(error):
        return (
            f"{path}: holds pickled Python objects, which can run code when they are read: save its scores, labels and "
            "names as plain arrays"
        )
    return f"{path}: no NumPy file ({_one_line(error)})"


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
