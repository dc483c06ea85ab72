"""``kinemix prepare``: transcode a dataset once into a layout that is fast to sample.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from kinemix.cli import VERBS, explain_going_on
from kinemix.cli.bulk import add_workplace, open_workplace
from kinemix.cli.options import Options

if TYPE_CHECKING:
    from kinemix.data.prepare.run import Prepared


def run_prepare(words: list[str]) -> int:
    """``kinemix prepare DATA OUT``."""
    options = Options("prepare", "DATA OUT [--OPTION VALUE ...]", VERBS["prepare"])
    options.add("DATA", str, about="whatever training reads: folder, list file, or published dataset")
    options.add("OUT", str, about="folder to make, or to go on with; training takes it as DATA")
    options.add(
        "--to", Literal["video", "frames"], "video", about="H.264 clips, or an image a frame, in tar shards"
    )
    options.add("--short_side", int, 256, about="pixels of the shorter side; smaller clips stay as they are")
    options.add(
        "--quality",
        int | None,
        about="video: x264's rate factor, 0 to 51, lower is better (31); frames: 1 to 100 (JPEG 75, WebP 50)",
    )
    options.add("--keyframes", int, 1, about="video: frames from one key frame to the next; 1 is fastest")
    options.add("--image", Literal["jpeg", "webp"], "jpeg", about="of frames; WebP is half as large, slower")
    options.add("--shard_clips", int, 100, about="clips in a shard")
    options.add("--limit", int | None, about="only so many clips, spread evenly: a trial")
    options.add("--workers", int, 2, about="processes")
    add_workplace(options)
    options.add(
        "--max_seconds", float, 300.0, about="for one clip; it counts as unreadable if it takes longer"
    )
    options.add("--max_unreadable", float, 0.1, about="share of unreadable clips above which it stops")
    options.add("--root", str | None, about="folder that relative paths in a list file start from")
    options.add("--group_by", str | None, "auto", about="column of the groups, as in training")
    options.add("--split", str | None, about="published split; by default the first")
    options.add("--task", str | None, about="verb, noun, action or all of EPIC-Kitchens; by default the last")
    options.add(
        "--label_separator", str | None, about="stands between the labels of a sample that may have several"
    )
    options.add("--format", Literal["table", "json"], "table", about="of the output")
    given = options.parse(words)

    from kinemix.data.prepare.run import prepare_dataset
    from kinemix.data.prepare.settings import Settings
    from kinemix.engine.progress import CountBar

    settings = Settings(
        to=given.to,
        image=given.image,
        short_side=given.short_side,
        quality=given.quality,
        keyframes=given.keyframes,
        shard_clips=given.shard_clips,
    )
    with explain_going_on(), open_workplace(given) as on, CountBar("preparing clips", total=0) as bar:
        made = prepare_dataset(
            given.DATA,
            given.OUT,
            settings=settings,
            root=given.root,
            group_by=given.group_by,
            split=given.split,
            task=given.task,
            label_separator=given.label_separator,
            limit=given.limit,
            workers=given.workers,
            max_seconds=given.max_seconds,
            max_unreadable=given.max_unreadable,
            progress=bar.reach_of,
            on=on,
        )
    _print(made, given.format)
    return 0


def _print(made: "Prepared", form: str) -> None:
    for place, reason in made.unreadable[: None if form == "json" else 10]:
        print(f"note: cannot be read: {place}: {reason}", file=sys.stderr)
    if form == "json":
        print(json.dumps({**asdict(made), "folder": str(made.folder)}, indent=2, ensure_ascii=False))
        return
    from kinemix.cli.tables import _open_console, _start_table

    table = _start_table(left=(str(made.folder), ""), right=())
    table.add_row("clips", f"{made.clips:,}, {made.frames:,} frames")
    table.add_row(
        "unreadable", f"{len(made.unreadable):,} (all in manifest.jsonl)" if made.unreadable else "0"
    )
    ratio = f", {made.bytes / made.source_bytes:.2f} x the source" if made.source_bytes else ""
    table.add_row("size", f"{made.bytes / 1e6:,.1f} MB{ratio}")
    table.add_row("likeness", f"{made.psnr:.1f} dB PSNR, the median clip's worst frame")
    if made.speed is not None:
        speed = made.speed
        table.add_row(
            "8 frames of a clip",
            f"{speed.before:.1f} ms before, {speed.after:.1f} ms after: {speed.ratio:.1f} x as fast "
            f"(medians of {speed.clips} clips)",
        )
    _open_console().print(table)
