"""From the facts of one video to findings: what is wrong, how bad it is, and the cure.

``error``: training loses the video, or learns something false from it. ``warning``: it may; look at it.
``note``: worth knowing, handled. Each rule is one small function, and :data:`RULES` is all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kinemix.data.doctor.record import VideoRecord

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """Something to know about the data.

    Attributes:
        kind: what it is, in one word; the same for all files that have it.
        severity: how bad it is.
        files: whom it is about.
        value: what was found.
        cure: what to do.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    value: str
    cure: str


Rule: TypeAlias = Callable[[VideoRecord, int], Iterator[Finding]]
"""From a record and the number of frames of the protocol to findings."""

PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "rgb24", ""})
"""Pixel formats whose 8 bits come through as they are; an empty one is not known."""

_REASONS: tuple[tuple[str, str, str], ...] = (
    ("empty file", "empty", "download or export it again"),
    ("audio only", "audio_only", "replace it by the video, or remove it from the data"),
    ("no video stream, only a still cover", "audio_only", "a picture is no video: remove it from the data"),
    ("no video stream", "not_a_video", "remove it from the data"),
    ("a text file", "not_a_video", "an error page, maybe: download it again"),
    ("not a video", "not_a_video", "download it again, or remove it from the data"),
    ("a folder without", "not_a_video", "put the frames into it, or remove it"),
    ("header only", "no_frames", "the download broke off, or recording failed: get the file again"),
    ("encrypted", "encrypted", "decrypt it first; no frame can be had without the key"),
    ("no decoder", "no_decoder", "transcode it with a tool that knows its codec"),
    ("no decodable frame", "no_frames", "damaged: get the file again, or remove it"),
)
"""How the reader's reasons begin, what to call them, and their cures."""


def judge_video(record: VideoRecord, num_frames: int) -> list[Finding]:
    """All findings about one video.

    Args:
        record: its facts.
        num_frames: that the protocol takes of it.
    """
    if record.status != "readable":
        return [_judge_unreadable(record)]
    return [finding for rule in RULES for finding in rule(record, num_frames)]


def _judge_unreadable(record: VideoRecord) -> Finding:
    files = (record.path,)
    if record.status == "missing":
        return Finding("missing", "error", files, record.reason, "get the file, or correct the path (--root)")
    if record.status in ("hung", "crashed"):
        cure = "it would stop a training run: transcode it, or remove it from the data"
        return Finding(record.status, "error", files, record.reason, cure)
    for beginning, kind, cure in _REASONS:
        if record.reason.startswith(beginning):
            return Finding(kind, "error", files, record.reason, cure)
    return Finding("unreadable", "error", files, record.reason, "get the file again, or remove it")


def _find_damage(record: VideoRecord, _: int) -> Iterator[Finding]:
    for part in (record.problem or "").split("; "):
        if part.endswith(" s") and not record.sound_times:
            continue  # a duration says nothing where the clock is broken (joined transport streams)
        if "ends early" in part and record.container == "mpegts":
            value = "the stream breaks off inside a frame (lost packets, or joined recordings)"
            yield Finding("corrupt", "warning", (record.path,), value, "look at it; get the file again")
        elif "promises" in part or "ends early" in part:
            cure = "the end of the action may be gone: get the file again, or trim the label"
            yield Finding("truncated", "error", (record.path,), part, cure)
        elif part:
            cure = "the frames that decode are used, after damage perhaps smeared: get the file again"
            yield Finding("corrupt", "warning", (record.path,), part, cure)
    if record.bad_image:
        yield Finding("corrupt", "error", (record.path,), record.bad_image, "extract its frames again")
    if record.left_out:
        yield Finding(
            "frames_left_out", "warning", (record.path,), record.left_out, "extract its frames again"
        )


def _find_count(record: VideoRecord, _: int) -> Iterator[Finding]:
    decoded, promised = record.num_frames, record.promised_frames
    if record.cut_short:
        value = f"only its first {decoded} frames were examined"
        yield Finding("long", "note", (record.path,), value, "allow more time with --seconds")
    elif decoded and promised and decoded != promised and not (record.problem or "").count("promises"):
        hidden = f", {record.hidden_frames} hidden by an edit list" if record.hidden_frames else ""
        value = f"the header says {promised} frames, {decoded} decode{hidden}"
        yield Finding("frame_count", "note", (record.path,), value, "nothing: decoded frames are counted")


def _find_shortness(record: VideoRecord, num_frames: int) -> Iterator[Finding]:
    counts: list[int | None] = list(record.segment_frames) or [record.num_frames or record.promised_frames]
    if record.cut_short:
        counts = []
    for count in counts:
        if count is None:
            cure = "correct its times, or remove it"
            yield Finding("segment_outside", "error", (record.path,), "a segment starts after its end", cure)
        elif count == 1:
            yield Finding(
                "still", "error", (record.path,), "1 frame", "a still picture shows no action: remove it"
            )
        elif 0 < count < num_frames:
            value = f"{count} frames, {num_frames} are sampled"
            cure = "frames will be repeated: lower --num_frames, or leave it out"
            yield Finding("short", "warning", (record.path,), value, cure)


def _find_timing(record: VideoRecord, _: int) -> Iterator[Finding]:
    # A frame that was lost to damage leaves a gap too; that is reported as damage.
    if record.odd_gaps and record.gaps and "packets failed" not in (record.problem or ""):
        shortest, middle, longest = record.gaps
        value = (
            f"{record.odd_gaps} of {(record.num_frames or 1) - 1} gaps differ from {middle:.1f} ms "
            f"({shortest:.1f} to {longest:.1f} ms)"
        )
        rate = f"ffmpeg -vf fps={1000 / middle:.4g}"
        cure = f"frames are sampled by number, so its speed is bent: even it out ({rate})"
        yield Finding("variable_frame_rate", "warning", (record.path,), value, cure)
    if not record.sound_times:
        value = "timestamps are missing, repeated or scrambled"
        cure = "nothing: decode order is used, never timestamps; seeking is off, so reading is slower"
        yield Finding("unsound_times", "note", (record.path,), value, cure)


def _find_geometry(record: VideoRecord, _: int) -> Iterator[Finding]:
    files = (record.path,)
    if record.other_sizes:
        sizes = ", ".join(f"{width}x{height}" for width, height in record.other_sizes[:3])
        value = f"{record.width}x{record.height}, then {sizes}"
        cure = "later frames are stretched to the first one's size: cut it where the size changes"
        yield Finding("size_changes", "warning", files, value, cure)
    if record.rotation % 360:
        if record.rotation % 90 or abs(record.rotation) > 360:
            cure = "it is not applied: if the picture is askew, turn it (ffmpeg -vf rotate)"
            yield Finding("odd_rotation", "warning", files, f"{record.rotation} degrees", cure)
        else:
            value = f"{record.rotation} degrees, by metadata"
            yield Finding("rotation", "note", files, value, "nothing: it is applied; other tools may not")
    if abs(record.pixel_aspect - 1) > 0.01:
        cure = "the reader shows them square, so shapes are squeezed: scale it (ffmpeg -vf scale=iw*sar:ih,setsar=1)"
        value = f"pixels {record.pixel_aspect:.3f} times as wide as high"
        yield Finding("pixel_aspect", "warning", files, value, cure)
    if record.interlaced:
        value = f"{record.interlaced} of {record.num_frames} frames"
        cure = "moving edges are combed: deinterlace it (ffmpeg -vf yadif)"
        yield Finding("interlaced", "warning", files, value, cure)


def _find_pixels(record: VideoRecord, _: int) -> Iterator[Finding]:
    files = (record.path,)
    if record.alpha and record.codec != "gif":  # a GIF's palette always has it
        cure = "transparency is dropped, and what lies under it shows: flatten it onto a background"
        yield Finding("alpha", "warning", files, record.pixel_format, cure)
    elif record.transfer:
        cure = "it is not tone-mapped, so it looks pale beside the others: transcode it to SDR"
        yield Finding("hdr", "warning", files, f"{record.transfer}, {record.bits} bits", cure)
    elif record.bits > 8 or (record.pixel_format not in PLAIN_FORMATS and record.container != "images"):
        yield Finding("pixel_format", "note", files, record.pixel_format, "nothing: converted to 8-bit RGB")


def _find_streams(record: VideoRecord, _: int) -> Iterator[Finding]:
    if record.video_streams > 1:
        value = f"{record.video_streams} video streams"
        cure = "the first that gives frames is read: keep only the one that is meant"
        yield Finding("several_streams", "warning", (record.path,), value, cure)
    if record.covers:
        value = f"{record.covers} cover picture" + "s" * (record.covers > 1)
        yield Finding("cover", "note", (record.path,), value, "nothing: the moving stream is read")


def _find_stillness(record: VideoRecord, _: int) -> Iterator[Finding]:
    content = record.fingerprint
    if content is None or (record.num_frames or 0) < 2:
        return
    if content.contrast < 1.0:
        cure = "a lens cap, or a failed download: look at it and remove it"
        yield Finding("blank", "warning", (record.path,), "one plain colour", cure)
    elif content.motion == 0.0:
        cure = "frozen, or a slide: look at it, and remove it if nothing happens"
        yield Finding("frozen", "warning", (record.path,), "all sampled frames are alike", cure)


RULES: Sequence[Rule] = (
    _find_damage,
    _find_count,
    _find_shortness,
    _find_timing,
    _find_geometry,
    _find_pixels,
    _find_streams,
    _find_stillness,
)
