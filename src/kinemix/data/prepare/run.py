"""``kinemix prepare``: every clip of a dataset, in several processes, resumed where it was interrupted.

A clip is prepared by itself in a worker (:mod:`kinemix.data.bulk`), so one that hangs or crashes its decoder is
listed and the rest goes on. What comes out depends on the source and the settings alone: not on the number of
processes, not on where they run, not on the order in which clips were finished, not on where it was interrupted.
"""

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kinemix.atomic import write_atomically
from kinemix.data.annotations import Entry, Listing, check_paths
from kinemix.data.bulk import LOCAL, Workplace, call_on_all
from kinemix.data.catalog.base import Dataset
from kinemix.data.catalog.official import OfficialDataset
from kinemix.data.mirror import mirror_labels
from kinemix.data.naming import collect_class_names
from kinemix.data.prepare.clip import Job, prepare_clip
from kinemix.data.prepare.journal import Journal
from kinemix.data.prepare.manifest import (
    FACTS_NAME,
    FORMAT,
    MANIFEST_NAME,
    SHARDS_NAME,
    UNFINISHED_NAME,
    describe_entry,
    format_line,
    read_facts,
    read_rows,
    write_lines,
)
from kinemix.data.prepare.settings import Settings, check_encoder
from kinemix.data.prepare.shards import check_shard, name_shard, write_shard
from kinemix.data.prepare.speed import Speed, Timed, measure_speed
from kinemix.data.segment import Segment
from kinemix.data.sources import _recognise, list_videos, locate_source
from kinemix.data.splits import find_groups
from kinemix.errors import ConfigError, DataError, UnreadableVideoError

_CLIPS_TO_TIME = 24


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was made.

    Attributes:
        folder: the dataset; training takes it as DATA.
        clips, frames: that can be read.
        unreadable: place and reason of the others.
        source_bytes: of all source files that were read.
        bytes: of all shards and indices.
        psnr: the median over clips of each one's worst compared frame, decibels.
        speed: of sampling; ``None`` where no clip could be read or it was not asked for.
    """

    folder: Path
    clips: int
    frames: int
    unreadable: tuple[tuple[str, str], ...]
    source_bytes: int
    bytes: int
    psnr: float
    speed: Speed | None


def prepare_dataset(
    source: str,
    out: str | Path,
    *,
    settings: Settings | None = None,
    root: str | None = None,
    group_by: str | None = "auto",
    split: str | None = None,
    task: str | None = None,
    label_separator: str | None = None,
    limit: int | None = None,
    workers: int = 2,
    max_seconds: float = 300,
    max_unreadable: float = 0.1,
    time_clips: int = _CLIPS_TO_TIME,
    progress: Callable[[int, int], None] | None = None,
    on: Workplace = LOCAL,
) -> Prepared:
    """Prepare a dataset; go on where it was interrupted; verify where it is finished.

    Args:
        source: whatever training reads (:func:`kinemix.data.sources.list_videos`).
        out: folder to make.
        settings: how clips are prepared.
        root, group_by, split, task, label_separator: how the source is read (:class:`kinemix.config.DataConfig`).
        limit: prepare only so many clips, spread evenly over the source.
        workers: processes.
        max_seconds: for one clip; it counts as unreadable if it takes longer.
        max_unreadable: share of unreadable clips above which it stops.
        time_clips: clips to time reading with, before and after; 0 for none.
        progress: called with the numbers of clips done and of all.
        on: where the processes are; elsewhere than on this machine, source and ``out`` must be on a file system
            that all machines share, under the same paths.

    Raises:
        ConfigError: an option is out of range or contradicts what is in ``out``; that holds something else, or
            cannot be made; no encoder.
        DataError: the source cannot be read; too many clips cannot; ``out`` is damaged.
    """
    settings = settings or Settings()
    for name, value in (("workers", workers), ("limit", limit)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name} {value}: give at least 1")
    check_encoder(settings)
    listing = list_videos(
        source,
        root=root,
        group_by=group_by,
        split=split,
        task=task,
        label_separator=label_separator,
        told_by="DATA",
    )
    check_paths([listing], cure="set --root to the folder that the paths start from")
    listing = _take_some(listing, limit)
    rows = _describe_entries(listing)
    plan = {
        "format": FORMAT,
        "source": listing.source,
        "group_by": group_by,
        "settings": asdict(replace(settings, quality=settings.settled_quality)),
        "entries": hashlib.sha256("".join(map(format_line, rows)).encode()).hexdigest(),
    }
    folder = Path(out)
    if (folder / FACTS_NAME).exists():
        _check_finished(folder, plan)
    else:
        _check_place(folder)
        work = _Preparation(folder, rows, settings, plan=plan, max_unreadable=max_unreadable)
        named, path = locate_source(source)
        with _lock(folder), work.open_journal():
            work.run(listing.entries, on=on, workers=workers, max_seconds=max_seconds, progress=progress)
            work.finish(_describe_listing(listing, named or _recognise(path)))
        shutil.rmtree(folder / UNFINISHED_NAME)
    return _report(folder, time_clips=time_clips)


class _Preparation:
    """One preparation under way."""

    def __init__(
        self,
        folder: Path,
        rows: Sequence[dict[str, Any]],
        settings: Settings,
        *,
        plan: dict[str, Any],
        max_unreadable: float,
    ) -> None:
        self._folder, self._rows, self._settings, self._plan = folder, rows, settings, plan
        self._max_unreadable = max_unreadable
        self._unfinished, self._shards = folder / UNFINISHED_NAME, folder / SHARDS_NAME
        for needed in (self._unfinished, self._shards):
            needed.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def open_journal(self) -> Iterator[None]:
        """With the journal open; everything below needs it."""
        size = self._settings.shard_clips
        self._journal = Journal(self._unfinished, self._shards, plan=self._plan, shard_clips=size)
        try:
            yield
        finally:
            self._journal.close()

    def run(
        self,
        entries: Sequence[Entry],
        *,
        on: Workplace,
        workers: int,
        max_seconds: float,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Prepare every clip that is not done, and put shards together as soon as they are complete."""
        done = self._journal.clips
        self._num_unreadable = sum("unreadable" in row for row in done.values())
        self._waiting = Counter(n // self._settings.shard_clips for n in range(len(entries)) if n not in done)
        for number in range(-(-len(entries) // self._settings.shard_clips)):
            self._complete_shard(number)
        numbers = [number for number in range(len(entries)) if number not in done]
        jobs = (self._make_job(number, entries[number]) for number in numbers)
        with contextlib.closing(
            call_on_all(
                _try_clip, jobs, workers=min(workers, max(1, len(numbers))), max_seconds=max_seconds, on=on
            )
        ) as outcomes:
            for outcome in outcomes:
                number, made = numbers[outcome.index], outcome.value
                row = made if isinstance(made, dict) else {"unreadable": made or outcome.detail}
                self._journal.note_clip(number, {"key": f"{number:08d}", **self._rows[number], **row})
                self._num_unreadable += "unreadable" in row
                self._check_unreadable(total=len(entries))
                self._waiting[number // self._settings.shard_clips] -= 1
                self._complete_shard(number // self._settings.shard_clips)
                if progress is not None:
                    progress(len(done), len(entries))
        self._check_unreadable(total=len(entries))

    def _make_job(self, number: int, entry: Entry) -> Job:
        facts = {
            name: self._rows[number][name] for name in ("source", "segment", "label", "labels", "label_set")
        } | {name: self._rows[number][name] for name in ("part", "group", "id")}
        return Job(
            f"{number:08d}", entry.path, entry.segment, self._unfinished.absolute(), self._settings, facts
        )

    def _complete_shard(self, number: int) -> None:
        """Write a shard whose clips are all done, if it is not there yet, and drop their pieces."""
        if self._waiting[number]:
            return
        first = number * self._settings.shard_clips
        numbers = range(first, min(first + self._settings.shard_clips, len(self._rows)))
        read = [n for n in numbers if "unreadable" not in self._journal.clips[n]]
        pieces = [self._journal.locate(n) for n in read]
        if number not in self._journal.shards:
            self._journal.note_shard(number, write_shard(self._shards, number, pieces))
        for path in (path for piece in pieces for path in piece):
            path.unlink(missing_ok=True)

    def _check_unreadable(self, *, total: int) -> None:
        if self._num_unreadable > self._max_unreadable * total:
            first = next(row for row in self._journal.clips.values() if "unreadable" in row)
            raise DataError(
                f"{self._num_unreadable} of {total} clips cannot be read, more than --max_unreadable "
                f"{self._max_unreadable:g} allows, e.g. {first['source']}: {first['unreadable']}: mend "
                "them and choose another folder, or raise it and run again"
            )

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the manifest, and then what makes the folder a dataset."""
        rows = [self._journal.clips[number] for number in range(len(self._rows))]
        place = Counter[int]()
        for number, row in enumerate(rows):
            if "unreadable" not in row:
                shard = number // self._settings.shard_clips
                start = place[shard] + 1
                row |= {"shard": shard, "start": start, "stop": start + row["num_frames"]}
                place[shard] = row["stop"]
        manifest = self._folder / MANIFEST_NAME
        write_atomically(manifest, lambda path: write_lines(path, rows))
        facts = {
            **self._plan,
            **facts,
            "clips": len(rows),
            "shards": [self._journal.shards[number] for number in sorted(self._journal.shards)],
            "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        }
        text = json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        write_atomically(self._folder / FACTS_NAME, lambda path: path.write_text(text, encoding="utf-8"))


def _try_clip(job: Job) -> dict[str, Any] | str:
    """What the manifest says of a clip, or why it cannot be read; this runs in a worker."""
    try:
        return prepare_clip(job)
    except UnreadableVideoError as error:
        return error.reason


def _take_some(listing: Listing, limit: int | None) -> Listing:
    count = len(listing.entries)
    if limit is None or limit >= count:
        return listing
    return replace(listing, entries=tuple(listing.entries[i * count // limit] for i in range(limit)))


def _describe_entries(listing: Listing) -> list[dict[str, Any]]:
    """The source's words on every clip; groups in names are looked for where a split would be drawn."""
    drawn = [entry for entry in listing.entries if entry.part in (None, "train", "val")]
    groups = iter(find_groups([entry.path for entry in drawn]) or ())
    return [
        describe_entry(entry, name_group=next(groups, None) if entry.part in (None, "train", "val") else None)
        for entry in listing.entries
    ]


def _describe_listing(listing: Listing, kind: type[Dataset]) -> dict[str, Any]:
    """Classes, mirrors and the dataset's own protocol."""
    official = kind if issubclass(kind, OfficialDataset) else None
    names = listing.class_names
    if names is None and not all(entry.label.isdecimal() for entry in listing.entries):
        names = collect_class_names([listing], allow_empty=True)
    mirrors = mirror_labels(names) if names else ()
    facts = asdict(official.facts) if official is not None else {}
    kept = ("title", "metric", "frame_rate", "sampling", "frame_stride", "protocol", "licence", "url")
    return {
        "dataset": official.name if official is not None else None,
        "protocol": {name: facts[name] for name in kept} if facts else None,
        "class_names": list(names) if names else None,
        "mirrored": {
            name: None if mirror is None else names[mirror]
            for index, (name, mirror) in enumerate(zip(names or (), mirrors, strict=True))
            if names and mirror != index
        },
        "has_groups": any(entry.group for entry in listing.entries),
        "listing": {
            "declared": listing.declared,
            "class_names": listing.class_names,
            "tasks": list(listing.task_names),  # in their order, which a JSON file with sorted keys forgets
            "task_names": dict(listing.task_names),
            "split": listing.split,
            "asked": listing.asked,
            "multilabel": listing.multilabel,
            "many_shot": dict(listing.many_shot),
        },
    }


def _check_place(folder: Path) -> None:
    """Nothing but a preparation may be there: what it makes would lie among other people's files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            f"{folder}: no folder can be made there ({error.strerror}): choose another OUT"
        ) from error
    names = sorted(path.name for path in folder.iterdir())
    if names and UNFINISHED_NAME not in names:
        raise ConfigError(
            f"{folder}: holds something else already ({names[0]}): give a new or empty folder as OUT"
        )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / UNFINISHED_NAME / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{folder}: another process prepares it: wait for it, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_finished(folder: Path, plan: dict[str, Any]) -> None:
    """A finished preparation of the same is verified and left as it is."""
    facts = read_facts(folder)
    for name, value in plan.items():
        if facts.get(name) != value:
            raise ConfigError(f"{folder}: holds another preparation ({name} differs): choose another folder")
    damaged = [
        str(shard["name"]) for shard in facts["shards"] if not check_shard(folder / SHARDS_NAME, shard)
    ]
    if damaged:
        raise DataError(
            f"{folder}: {', '.join(damaged)} not as written: copy the folder anew, or remove it and prepare again"
        )


def _report(folder: Path, *, time_clips: int) -> Prepared:
    facts = read_facts(folder)
    rows = list(read_rows(folder))
    read = [row for row in rows if "unreadable" not in row]
    worst = sorted(row["psnr"] for row in read)
    timed = [_locate(folder, row) for row in _spread(read, time_clips)]
    there = [clip for clip in timed if Path(clip.source).exists()]
    side = facts["settings"]["short_side"]
    return Prepared(
        folder=folder,
        clips=len(read),
        frames=sum(row["num_frames"] for row in read),
        unreadable=tuple((row["place"], row["unreadable"]) for row in rows if "unreadable" in row),
        source_bytes=sum({row["source"]: row["source_bytes"] for row in read}.values()),
        bytes=sum(shard["bytes"] + shard["index_bytes"] for shard in facts["shards"]),
        psnr=worst[len(worst) // 2] if worst else 0.0,
        speed=measure_speed(there, short_side=side) if there else None,
    )


def _spread(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    count = min(count, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]


def _locate(folder: Path, row: dict[str, Any]) -> Timed:
    return Timed(
        row["source"],
        None if row["segment"] is None else Segment(*row["segment"]),
        str(folder / SHARDS_NAME / name_shard(row["shard"])),
        Segment(row["start"], row["stop"], unit="frames"),
    )
