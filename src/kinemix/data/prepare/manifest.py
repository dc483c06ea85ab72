"""What was made of what: the files that make a folder a prepared dataset.

::

    OUT/prepared.json      how it was prepared, classes, shards and their digests; written last of all
    OUT/manifest.jsonl     a line a clip, in the order of the source: where it came from, labels, part, group,
                           frames, size, and where it is in which shard
    OUT/shards/            see kinemix.data._shard
    OUT/unfinished/        only while it is being prepared: the clips of shards that are not complete

The listing of the source is kept whole: labels as they were written, its parts and its groups. So training on
the folder numbers, splits and groups the clips exactly as training on the source would.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinemix.data.annotations import Entry, Listing
from kinemix.data.prepare.shards import name_shard
from kinemix.data.segment import Segment
from kinemix.errors import DataError

FORMAT = 1
FACTS_NAME, MANIFEST_NAME, SHARDS_NAME, UNFINISHED_NAME = (
    "prepared.json",
    "manifest.jsonl",
    "shards",
    "unfinished",
)


def describe_entry(entry: Entry, *, name_group: str | None) -> dict[str, Any]:
    """What the source says of a clip.

    Args:
        entry: as it is listed.
        name_group: the group that its file name tells.
    """
    segment = entry.segment
    return {
        "source": entry.path,
        "segment": None if segment is None else [segment.start, segment.stop, segment.unit],
        "place": entry.place,
        "id": entry.id,
        "label": entry.label,
        "labels": dict(entry.labels),
        "label_set": list(entry.label_set),
        "part": entry.part,
        "group": entry.group,
        "name_group": name_group,
        "stated_frames": entry.num_frames,
    }


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The manifest's lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(format_line(row) for row in rows)


def format_line(row: Mapping[str, Any]) -> str:
    """One line, the same for the same content."""
    return json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def read_facts(folder: Path) -> dict[str, Any]:
    """The content of ``prepared.json``.

    Raises:
        DataError: the preparation is not finished, or of another format.
    """
    path = folder / FACTS_NAME
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: its preparation is not finished: run the same 'kinemix prepare' again, it goes on"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): prepare the dataset again") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise DataError(
            f"{path}: not of format {FORMAT}, which this kinemix reads: prepare the dataset again"
        )
    return facts


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The clips of a prepared dataset.

    Raises:
        DataError: the manifest is not there, or damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: damaged: prepare the dataset again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): prepare the dataset again") from error


def read_listing(folder: Path, *, group_by: str | None) -> Listing:
    """The source's listing with every video replaced by its prepared clip.

    A clip that could not be read points nowhere: it counts as missing, and moves no other in a split.

    Args:
        folder: of the prepared dataset.
        group_by: as for the source; a column must be the one that it was prepared with.

    Raises:
        DataError: not finished, damaged, or groups that were not kept.
    """
    facts = read_facts(folder)
    kept = facts["group_by"]
    if group_by not in (None, "auto", "name", kept):
        raise DataError(
            f"{folder}: data.group_by={group_by!r}: it was prepared with {kept!r}; prepare it with --group_by "
            f"{group_by}, or leave the option out"
        )
    rows = list(read_rows(folder))
    if len(rows) != facts["clips"]:
        raise DataError(
            f"{folder / MANIFEST_NAME}: {len(rows)} lines, {facts['clips']} clips were prepared: copy it anew"
        )
    listing = facts["listing"]
    tasks = listing.get("tasks", listing["task_names"])
    return Listing(
        str(folder),
        tuple(_read_entry(folder.absolute(), row, _choose_group(group_by, facts)) for row in rows),
        _as_tuple(listing["declared"]),
        (f"{folder}: prepared from {facts['source']}",),
        _as_tuple(listing["class_names"]),
        {task: tuple(listing["task_names"][task]) for task in tasks},
        listing["split"],
        tuple(listing.get("asked", ())),
        listing.get("multilabel", False),
        {task: tuple(names) for task, names in listing.get("many_shot", {}).items()},
    )


def _choose_group(group_by: str | None, facts: Mapping[str, Any]) -> str | None:
    """The field of the manifest that holds the groups."""
    if group_by is None:
        return None
    by_name = group_by == "name" or (group_by == "auto" and not facts["has_groups"])
    return "name_group" if by_name else "group"


def _read_entry(folder: Path, row: Mapping[str, Any], group: str | None) -> Entry:
    if "shard" in row:
        path = folder / SHARDS_NAME / name_shard(row["shard"])
        segment = Segment(row["start"], row["stop"], unit="frames")
    else:
        path, segment = folder / "unreadable" / row["key"], None
    return Entry(
        str(path),
        row["label"],
        row["place"],
        row["part"],
        row[group] if group else None,
        row.get("num_frames"),
        segment,
        row["labels"],
        tuple(row["label_set"]),
        row["id"],
    )


def _as_tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
