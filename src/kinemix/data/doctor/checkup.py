"""The examination of a whole collection: who is in it, every video, what is between them, what reading costs."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from kinemix.config import DataConfig
from kinemix.data.bulk import LOCAL, Outcome, Workplace, call_on_all
from kinemix.data.doctor.collection import judge_copies, judge_groups, judge_labels
from kinemix.data.doctor.cost import Cost, Reading, choose_samples, estimate_cost, judge_cost, read_clip
from kinemix.data.doctor.examine import digest_file, examine_video
from kinemix.data.doctor.findings import SEVERITIES, Finding, judge_video
from kinemix.data.doctor.fingerprint import Likeness, find_likenesses
from kinemix.data.doctor.members import Collection, Member, read_collection
from kinemix.data.doctor.record import Task, VideoRecord
from kinemix.data.segment import Segment
from kinemix.errors import ConfigError

Progress = Callable[[int, int], None]
"""Told how many videos are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found.

    Attributes:
        source: as given.
        num_samples, num_videos: that are listed.
        records: of the videos that were examined, in the order of the list.
        findings: the gravest first.
        classes: samples by class, then by part (``""`` where there is none).
        cost: of reading; None where it was not measured.
        num_frames: of a clip.
        seconds: that the videos took, over all workers together the clock's.
        workers: processes.
    """

    source: str
    num_samples: int
    num_videos: int
    records: tuple[VideoRecord, ...]
    findings: tuple[Finding, ...]
    classes: Mapping[str, Mapping[str, int]]
    cost: Cost | None
    num_frames: int
    seconds: float
    workers: int

    @property
    def harmful(self) -> bool:
        """Whether training would suffer: there is an error among the findings."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the fingerprints, ready for JSON."""
        videos = [asdict(replace(record, fingerprint=None)) for record in self.records]
        for video in videos:
            del video["fingerprint"]
        return {
            "source": self.source,
            "harmful": self.harmful,
            "samples": self.num_samples,
            "videos_listed": self.num_videos,
            "videos_examined": len(self.records),
            "seconds": self.seconds,
            "workers": self.workers,
            "findings": [asdict(finding) for finding in self.findings],
            "classes": {name: dict(counts) for name, counts in self.classes.items()},
            "cost": asdict(self.cost) if self.cost is not None else None,
            "videos": videos,
        }


def examine_collection(
    data: DataConfig | str,
    *,
    workers: int = 2,
    seconds: float = 60.0,
    quick: bool = False,
    num_frames: int = 8,
    sample: int | None = None,
    progress: Progress | None = None,
    examine: Callable[[Task], VideoRecord] = examine_video,
    on: Workplace = LOCAL,
) -> Examination:
    """Examine what training would read, as training would read it.

    Args:
        data: the source and how it is split, or the source alone. Videos without labels are examined too.
        workers: processes.
        seconds: of processor time a video; one that takes longer is examined in part. One that does not
            answer at all is stopped after half as long again by the clock, tried once more alone, and reported.
        quick: headers only: nothing is decoded, compared by content, or timed.
        num_frames: of a clip, as the protocol has it.
        sample: videos to examine, drawn with a fixed seed; by default all. Labels are always read in full.
        progress: called after each video.
        examine: looks at one video, in a worker.
        on: where the workers are.

    Raises:
        DataError: nothing is there that can be examined.
        ConfigError: an option is out of range, or does not fit the source.
    """
    if workers < 1 or seconds <= 0 or num_frames < 1 or (sample is not None and sample < 1):
        raise ConfigError(
            f"workers={workers}, seconds={seconds}, num_frames={num_frames}, sample={sample}: all must be above 0"
        )
    config = DataConfig(source=data) if isinstance(data, str) else data
    collection = read_collection(config)
    tasks = _list_tasks(collection.members, seconds=seconds, quick=quick, sample=sample)
    started = time.perf_counter()
    records = _examine_all(
        tasks, examine=examine, on=on, workers=workers, limit=1.5 * seconds + 1, progress=progress
    )
    took = time.perf_counter() - started
    digests = _find_same_bytes(records)
    findings = [
        *judge_labels(collection),
        *judge_groups(collection, share=config.val_share, seed=config.split_seed),
        *chain.from_iterable(judge_video(record, num_frames) for record in records),
        *judge_copies(collection, digests, _find_same_content(records, digests)),
    ]
    cost = None
    if not quick:
        cost = _measure_cost(records, collection, num_frames, workers, limit=seconds + 1, on=on)
    if cost is not None:
        findings += judge_cost(cost)
    return Examination(
        source=config.source,
        num_samples=len(collection.members),
        num_videos=len({member.path for member in collection.members}),
        records=tuple(records),
        findings=tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.files))),
        classes=_count_classes(collection),
        cost=cost,
        num_frames=num_frames,
        seconds=took,
        workers=workers,
    )


def _list_tasks(members: Sequence[Member], *, seconds: float, quick: bool, sample: int | None) -> list[Task]:
    segments: defaultdict[str, list[Segment]] = defaultdict(list)
    for member in members:
        segments[member.path] += [member.segment] if member.segment is not None else []
    paths = list(segments)
    if sample is not None and sample < len(paths):
        chosen = set(random.Random(0).sample(range(len(paths)), sample))
        paths = [path for index, path in enumerate(paths) if index in chosen]
    return [Task(path=path, segments=tuple(segments[path]), seconds=seconds, quick=quick) for path in paths]


def _examine_all(
    tasks: Sequence[Task],
    *,
    examine: Callable[[Task], VideoRecord],
    on: Workplace,
    workers: int,
    limit: float,
    progress: Progress | None,
) -> list[VideoRecord]:
    records: dict[int, VideoRecord] = {}

    def keep(outcome: Outcome[VideoRecord], index: int) -> None:
        if outcome.value is not None:
            records[index] = outcome.value
        elif outcome.failure is not None:
            path = tasks[index].path
            records[index] = VideoRecord(path=path, status=outcome.failure, reason=outcome.detail)

    with closing(call_on_all(examine, tasks, workers=workers, max_seconds=limit, on=on)) as outcomes:
        for outcome in outcomes:
            keep(outcome, outcome.index)
            if progress is not None:
                progress(len(records), len(tasks))
    # A machine that stalls looks like a decoder that hangs, so those that gave no answer are asked once more.
    hung = [index for index, record in sorted(records.items()) if record.status == "hung"]
    suspects = [tasks[index] for index in hung]
    for outcome in call_on_all(examine, suspects, workers=workers, max_seconds=limit, on=on):
        keep(outcome, hung[outcome.index])
    return [records[index] for index in range(len(tasks))]


def _find_same_bytes(records: Sequence[VideoRecord]) -> list[tuple[str, ...]]:
    """Groups of paths whose files hold the same bytes; only files of equal size are read for it."""
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for record in records:
        if record.num_bytes and record.container != "images" and record.status != "missing":
            by_size[record.num_bytes].append(record.path)
    by_digest: defaultdict[str, list[str]] = defaultdict(list)
    for paths in by_size.values():
        for path in paths if len(paths) > 1 else []:
            by_digest[digest_file(path)].append(path)
    return [tuple(paths) for paths in by_digest.values() if len(paths) > 1]


def _find_same_content(
    records: Sequence[VideoRecord], same_bytes: Sequence[Sequence[str]]
) -> Iterator[tuple[str, str, Likeness]]:
    """Pairs of videos that show the same; of files of equal bytes only the first stands for all."""
    copies = {path for paths in same_bytes for path in paths[1:]}
    printed = [
        (record.path, record.fingerprint)
        for record in records
        if record.fingerprint is not None and record.path not in copies
    ]
    for likeness in find_likenesses([fingerprint for _, fingerprint in printed]):
        yield printed[likeness.a][0], printed[likeness.b][0], likeness


def _measure_cost(
    records: Sequence[VideoRecord],
    collection: Collection,
    num_frames: int,
    workers: int,
    *,
    limit: float,
    on: Workplace,
) -> Cost | None:
    samples_of = Counter(member.path for member in collection.members)
    segment_of = {member.path: member.segment for member in collection.members}
    tasks = choose_samples(records, segment_of=segment_of, num_frames=num_frames)
    readings: dict[str, Reading] = {}
    for outcome in call_on_all(read_clip, tasks, workers=workers, max_seconds=limit, on=on):
        if outcome.value is not None:
            readings[tasks[outcome.index].path] = outcome.value
    return estimate_cost(records, readings, samples_of=samples_of, num_frames=num_frames, workers=workers)


def _count_classes(collection: Collection) -> dict[str, dict[str, int]]:
    used = (name for member in collection.members for name in member.classes)
    counts: dict[str, dict[str, int]] = {name: {} for name in dict.fromkeys((*collection.class_names, *used))}
    for member in collection.members:
        for name in member.classes:
            parts = counts[name]
            parts[member.part or ""] = parts.get(member.part or "", 0) + 1
    return counts
