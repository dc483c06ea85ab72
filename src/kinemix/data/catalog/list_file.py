"""A file that lists videos and labels: plain lines, CSV, TSV or Parquet.

Plain lines, as in the lists of TSN, TSM and UCF101::

    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1       path label
    my videos/first try.mp4 Pushing left to right       spaces in both: the path ends with its suffix
    frames/v_0001 120 3                                 folder of frames, number of frames, label

Tables have a header; columns are found by their usual names, or named as tasks. Relative paths start from the list's
folder. Labels and splits are reported as they are written (see :mod:`kinemix.data.annotations`).
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kinemix.data.annotations import PART_NAMES, Entry, Listing, Part, read_text
from kinemix.data.catalog.base import VIDEO_SUFFIXES, Dataset
from kinemix.data.naming import ALL_TASKS, ask_tasks, choose_tasks, split_labels
from kinemix.errors import ConfigError, DataError, did_you_mean

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": (
        "path", "video", "file", "filename", "file_name", "filepath", "file_path", "video_path", "clip",
        "folder", "video_id", "clip_id", "youtube_id", "id",
    ),
    "label": (
        "label", "class", "category", "action", "gesture", "target", "class_name", "label_name", "label_id",
        "class_id", "y",
    ),
    "group": ("group", "session", "subject", "person", "actor", "participant", "signer", "user"),
    "part": ("split", "part", "subset", "partition"),
    "num_frames": ("num_frames", "frames", "n_frames", "total_frames", "frame_count"),
}  # fmt: skip
"""What a column may be called, best first; upper or lower case, blanks and dashes for underscores."""

_SUFFIX = "|".join(re.escape(suffix[1:]) for suffix in sorted(VIDEO_SUFFIXES))
_VIDEO_AND_REST = re.compile(rf"(.+?\.(?:{_SUFFIX}))(?:[\s,;]+(.*))?", re.IGNORECASE)


class ListFile(Dataset):
    """Paths and labels in a file."""

    name = "list"
    takes = frozenset({"task", "label_separator"})

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_file()

    @staticmethod
    def list_videos(
        path: Path,
        *,
        root: str | None,
        group_by: str | None,
        task: str | None = None,
        label_separator: str | None = None,
    ) -> Listing:
        """See :meth:`Dataset.list_videos`.

        Args:
            path, root, group_by: as there.
            task: column that holds the label; several with commas between them are so many tasks.
            label_separator: what stands between the labels of one sample, which may then have none as well.

        Raises:
            DataError: the file cannot be read or is empty; no column for paths or labels; a line without
                label; an unknown split name; ``group_by`` names a column that is not there.
            ConfigError: ``task`` names a column that is not there; both are given, or a blank separator.
        """
        if label_separator is not None and not label_separator.strip():
            raise ConfigError(
                f"data.label_separator={label_separator!r}: blanks stand in names too: use | ; or , in {path}"
            )
        if task == ALL_TASKS:
            raise ConfigError(
                f"data.task=all: name the columns of {path} that are tasks, as in data.task=verb,noun"
            )
        if task is not None and label_separator is not None:
            raise ConfigError("data.task and data.label_separator: several tasks or several labels, not both")
        folder = Path(root) if root is not None else path.parent
        if root is not None and not folder.is_dir():
            raise DataError(
                f"data.root={root}: no such folder: give the folder that the paths in {path} start from"
            )
        table = _read_table(path)
        if table is None:
            if group_by not in (None, "auto", "name"):
                raise DataError(
                    f"{path}: data.group_by={group_by!r} is a column, and this list has none: use 'name', or "
                    "a CSV file with a header"
                )
            if task is not None:
                raise ConfigError(
                    f"data.task={task}: is a column, and {path} has none: use a CSV file with a header"
                )
            entries = _read_lines(path, folder)
        else:
            header, rows = table
            tasks = () if task is None else choose_tasks(task, header, title=str(path))
            column = _find_columns(path, header, group_by=group_by, tasks=tasks)
            entries = _read_columns(folder, rows, column, tasks=tasks, may_lack=label_separator is not None)
        if not entries:
            raise DataError(f"{path}: lists no videos: write 'path label' lines, or a header and rows")
        listing = Listing(str(path), tuple(entries))
        if label_separator is not None:
            return split_labels(listing, label_separator)
        return ask_tasks(listing, tasks) if task is not None else listing


def _read_table(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]] | None:
    """Header and rows (with their places) of a table; ``None`` if the file is plain lines."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    lines = read_text(path).splitlines()
    first = next((line for line in lines if line.strip()), "")
    for delimiter in ",;\t|":
        header = next(csv.reader([first], delimiter=delimiter), [])
        if len(header) > 1 and (_find_column(header, "path") or _find_column(header, "label")):
            return header, _read_rows(path, lines, delimiter)
    if path.suffix.lower() in (".csv", ".tsv") and not _VIDEO_AND_REST.fullmatch(first.strip()):
        if re.fullmatch(r".*\s-?\d+", first.strip()):  # "folder 120 3": lines under a table's name
            return None
        raise DataError(
            f"{path}, line 1: {first[:80]!r} is no header that names a path and a label: write one, such as "
            "'path,label'"
        )
    return None


def _read_rows(path: Path, lines: Sequence[str], delimiter: str) -> list[tuple[str, dict[str, str]]]:
    reader = csv.reader(lines, delimiter=delimiter)
    header: list[str] = []
    rows = []
    for values in reader:
        place = f"{path}, line {reader.line_num}"
        if not any(value.strip() for value in values):
            continue
        if not header:
            header = values
            continue
        if any(values[len(header) :]):
            raise DataError(
                f"{place}: more values than the header has columns: quote values that hold {delimiter!r}"
            )
        filled = values + [""] * (len(header) - len(values))
        rows.append((place, {name: value.strip() for name, value in zip(header, filled, strict=False)}))
    return rows


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    # Imported late: it takes long to load, and few lists need it.
    import pyarrow.parquet

    try:
        # No threads of its own: loader workers are forked later.
        table = pyarrow.parquet.read_table(path, use_threads=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: is no Parquet file that can be read ({str(error).splitlines()[0]})"
        ) from error
    rows = []
    for number, row in enumerate(table.to_pylist(), start=1):
        rows.append((f"{path}, row {number}", {name: _as_text(value) for name, value in row.items()}))
    return list(table.column_names), rows


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _find_columns(
    path: Path, header: Sequence[str], *, group_by: str | None, tasks: Sequence[str]
) -> dict[str, str | None]:
    """The column of every field, those that are not there as ``None``."""
    column = {field: _find_column(header, field) for field in COLUMNS}
    if tasks:
        column["label"] = tasks[-1]
    for field in ("path", "label"):
        if column[field] is None:
            raise DataError(
                f"{path}: no column for the {field} among {', '.join(header)}: name it {COLUMNS[field][0]!r} "
                f"(or {', '.join(COLUMNS[field][1:5])})"
            )
    if group_by in (None, "name"):
        column["group"] = None
    elif group_by != "auto":
        if group_by not in header:
            raise DataError(
                f"{path}: data.group_by: no column {group_by!r}: {did_you_mean(group_by, header)}"
            )
        column["group"] = group_by
    return column


def _read_columns(
    folder: Path,
    rows: Iterable[tuple[str, Mapping[str, str]]],
    column: Mapping[str, str | None],
    *,
    tasks: Sequence[str],
    may_lack: bool,
) -> list[Entry]:
    resolver = _PathResolver(folder)
    needed = {"path": column["path"]} if may_lack else {f: column[f] for f in ("path", "label")}
    needed |= {task: task for task in tasks}
    entries = []
    for place, row in rows:
        value = {field: row[name] if name else "" for field, name in column.items()}
        for field, name in needed.items():
            if not row[str(name)]:
                raise DataError(f"{place}: no {field} in column {name!r}: fill it in or remove the row")
        entries.append(
            Entry(
                resolver.resolve(value["path"]),
                value["label"],
                place,
                part=_read_part(value["part"], place),
                group=value["group"] or None,
                num_frames=int(value["num_frames"]) if value["num_frames"].isdecimal() else None,
                labels={task: row[task] for task in tasks},
            )
        )
    return entries


def _find_column(header: Sequence[str], field: str) -> str | None:
    by_name = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in reversed(header)}
    return next((by_name[name] for name in COLUMNS[field] if name in by_name), None)


def _read_part(written: str, place: str) -> Part | None:
    if not written:
        return None
    if written.lower() not in PART_NAMES:
        raise DataError(f"{place}: unknown split {written!r}: write train, val or test")
    return PART_NAMES[written.lower()]


def _read_lines(path: Path, folder: Path) -> list[Entry]:
    """Plain lines; whether folders of frames come with their number is decided for the file as a whole."""
    lines = [
        (f"{path}, line {number}", line.strip())
        for number, line in enumerate(read_text(path).splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    fields = [_split_line(line, place) for place, line in lines]
    counted = bool(fields) and all(_split_count(name)[1] is not None for name, _ in fields)
    if counted and any((folder / name).exists() for name, _ in fields[:1000]):
        counted = False  # "clip 12" is a folder's name
    resolver = _PathResolver(folder)
    entries = []
    for (place, _), (name, label) in zip(lines, fields, strict=True):
        num_frames = None
        if counted:
            name, num_frames = _split_count(name)
        elif found := re.fullmatch(r"(\d+)\s+(-?\d+)", label):
            num_frames, label = int(found[1]), found[2]
        entries.append(Entry(resolver.resolve(name), label, place, num_frames=num_frames))
    return entries


def _split_line(line: str, place: str) -> tuple[str, str]:
    """Path and label of one line: the path ends with a video's suffix, else before the last word."""
    if "\t" in line:
        name, _, label = line.partition("\t")
        label = label.replace("\t", " ")
    elif found := _VIDEO_AND_REST.fullmatch(line):
        name, label = found[1], found[2] or ""
    else:
        name, _, label = line.rpartition(" ")
    if not name.strip() or not label.strip():
        raise DataError(
            f"{place}: {line[:80]!r} has no label: a line is 'path label' or 'folder num_frames label'"
        )
    return name.strip().strip("\"'"), label.strip()


def _split_count(name: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.+?)\s+(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)


class _PathResolver:
    """Paths as written to absolute ones; a name without its suffix is looked up among the files beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.absolute())
        self._files: dict[str, dict[str, str]] = {}

    def resolve(self, written: str) -> str:
        written = written.replace("\\", "/") if os.sep == "/" else written  # lists made on Windows
        # Strings and not Path objects: lists are long.
        path = os.path.normpath(os.path.join(self._folder, written))  # noqa: PTH118
        folder, name = os.path.split(path)
        if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES:  # noqa: PTH122
            return path
        if folder not in self._files:
            self._files[folder] = _list_stems(folder)
        return os.path.join(folder, self._files[folder].get(name, name))  # noqa: PTH118


def _list_stems(folder: str) -> dict[str, str]:
    """Folders by their name, videos by their name without suffix (a folder of frames wins)."""
    if not os.path.isdir(folder):  # noqa: PTH112
        return {}
    found: dict[str, str] = {}
    with os.scandir(folder) as children:
        for child in sorted(children, key=lambda child: child.name):
            stem, suffix = os.path.splitext(child.name)  # noqa: PTH122
            if suffix.lower() in VIDEO_SUFFIXES:
                found.setdefault(stem, child.name)
    with os.scandir(folder) as children:
        found |= {child.name: child.name for child in children if child.is_dir()}
    return found
