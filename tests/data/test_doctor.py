"""The doctor on collections with planted faults: each is found, as bad as it is, and nothing else is."""

import csv
import json
import os
import shutil
import signal
import time
import wave
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from kinemix.cli import main
from kinemix.config import DataConfig
from kinemix.data.annotations import Sample
from kinemix.data.doctor import Examination, examine_collection
from kinemix.data.doctor.collection import judge_copies, judge_groups
from kinemix.data.doctor.cost import count_decoded
from kinemix.data.doctor.examine import examine_video
from kinemix.data.doctor.findings import judge_video
from kinemix.data.doctor.fingerprint import compare, hash_pictures, take_fingerprint
from kinemix.data.doctor.members import read_collection
from kinemix.data.doctor.record import Task, VideoRecord
from kinemix.data.reader import open_video
from kinemix.data.segment import Segment
from kinemix.errors import UnreadableVideoError

SEED = iter(range(10_000))
VIDEOS = Path(os.environ["KINEMIX_VIDEOS"]) if "KINEMIX_VIDEOS" in os.environ else None


def paint(num_frames: int = 16, *, size: tuple[int, int] = (48, 64), seed: int | None = None) -> np.ndarray:
    """A scene of its own: a smooth background over which a bright and a dark patch wander."""
    random = np.random.default_rng(next(SEED) if seed is None else seed)
    height, width = size
    coarse = Image.fromarray(random.integers(30, 200, (4, 4, 3), dtype=np.uint8))
    still = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    steps = random.uniform(-0.25, 0.25, (2, num_frames, 2)).cumsum(axis=1) + random.uniform(0, 1, (2, 1, 2))
    frames = np.repeat(still[None], num_frames, axis=0)
    side = height // 3
    for patch, level in zip(steps, (255, 0), strict=True):
        for frame, (y, x) in zip(frames, patch % 1, strict=True):
            top, left = int(y * (height - side)), int(x * (width - side))
            frame[top : top + side, left : left + side] = level
    return frames


def write(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    gaps: Iterable[int] = (),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    prepare: Callable[[av.VideoStream], None] = lambda stream: None,
    more_streams: int = 0,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        streams = [container.add_stream(codec, rate=25) for _ in range(1 + more_streams)]
        for stream in streams:
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt, stream.options = pixels, options or {}
            stream.codec_context.time_base = Fraction(1, 25)
            stream.codec_context.thread_count = 1
            prepare(stream)
        times = np.concatenate([[0], np.cumsum(list(gaps) or [1] * (len(frames) - 1))])
        for stream in streams:
            for time_, picture in zip(times, frames, strict=False):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
                frame.pts, frame.time_base = int(time_), Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


# One builder a fault. Each makes one video at the path given.
def make_truncated(path: Path) -> None:
    write(path, paint(60), options={"crf": "5"}, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


def make_corrupt(path: Path) -> None:
    write(path, paint(20))
    with av.open(str(path)) as container:
        position = [packet.pos for packet in container.demux(video=0) if packet.size][9]
    data = bytearray(path.read_bytes())
    data[position : position + 4] = b"\xff" * 4  # the length of its first NAL unit
    path.write_bytes(data)


def make_audio(path: Path) -> None:
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 8000)
    path.with_suffix(".wav").rename(path)


def make_rotated(path: Path) -> None:
    write(path, paint(), prepare=lambda stream: stream.set_display_rotation(90))


def make_squeezed(path: Path) -> None:
    def squeeze(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    write(path, paint(), prepare=squeeze)


def make_hdr(path: Path) -> None:
    def mark(stream: av.VideoStream) -> None:
        stream.codec_context.color_trc = 16

    write(path, paint(), codec="ffv1", pixels="yuv420p10le", prepare=mark)


def make_growing(path: Path) -> None:
    small = write(path.with_name("a.ts"), paint(12))
    large = write(path.with_name("b.ts"), paint(12, size=(96, 128)))
    path.write_bytes(small.read_bytes() + large.read_bytes())
    small.unlink()
    large.unlink()


def make_covered(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream, cover = container.add_stream("libx264", rate=25), container.add_stream("mjpeg", rate=25)
        for one, pixels in ((stream, "yuv420p"), (cover, "yuvj420p")):
            one.height, one.width, one.pix_fmt = 48, 64, pixels
        cover.disposition = Disposition.attached_pic
        for picture in paint():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        container.mux(cover.encode(av.VideoFrame.from_ndarray(paint(1)[0], format="rgb24")))
        container.mux(cover.encode())


def make_header(path: Path) -> None:
    """An MP4 whose pictures were never written."""
    write(path, paint(), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat")])


def make_images(path: Path, *, numbers: Iterable[int] = range(1, 13), broken: int | None = None) -> None:
    path.mkdir(parents=True)
    for number, picture in zip(numbers, paint(12), strict=False):
        Image.fromarray(picture).save(path / f"{number:05}.jpg")
    if broken is not None:
        (path / f"{broken:05}.jpg").write_bytes(b"no picture")


INTERLACED = {"x264-params": "interlaced=1"}
ERROR, WARNING, NOTE = "error", "warning", "note"
FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "sound.mp4": (lambda p: write(p, paint()), {}),
    "sound.mkv": (lambda p: write(p, paint(), codec="mpeg4"), {}),
    "sound_images": (make_images, {}),
    "empty.mp4": (lambda p: p.write_bytes(b""), {"empty": ERROR}),
    "page.mp4": (lambda p: p.write_text("<html>404 not found</html>\n" * 99), {"not_a_video": ERROR}),
    "junk.avi": (lambda p: p.write_bytes(bytes(range(256)) * 40), {"not_a_video": ERROR}),
    "sound_only.mp4": (make_audio, {"audio_only": ERROR}),
    "gone.mp4": (lambda p: None, {"missing": ERROR}),
    "header.mp4": (make_header, {"no_frames": ERROR}),
    "truncated.mp4": (make_truncated, {"truncated": ERROR, "corrupt": WARNING}),
    "corrupt.mp4": (make_corrupt, {"corrupt": WARNING, "frame_count": NOTE}),
    "one.mp4": (lambda p: write(p, paint(1)), {"still": ERROR}),
    "short.mp4": (lambda p: write(p, paint(5)), {"short": WARNING}),
    "uneven.mp4": (
        lambda p: write(p, paint(16), gaps=[1, 1, 3] * 5), {"variable_frame_rate": WARNING},
    ),
    "turned.mp4": (make_rotated, {"rotation": NOTE}),
    "squeezed.mp4": (make_squeezed, {"pixel_aspect": WARNING}),
    "fields.mp4": (lambda p: write(p, paint(), options=INTERLACED), {"interlaced": WARNING}),
    "glass.mkv": (lambda p: write(p, paint(), codec="ffv1", pixels="bgra"), {"alpha": WARNING}),
    "pale.mkv": (make_hdr, {"hdr": WARNING}),
    "deep.mkv": (lambda p: write(p, paint(), codec="ffv1", pixels="yuv420p10le"), {"pixel_format": NOTE}),
    "grows.ts": (make_growing, {"size_changes": WARNING, "unsound_times": NOTE, "corrupt": WARNING}),
    "covered.mp4": (make_covered, {"cover": NOTE}),
    "two.mkv": (lambda p: write(p, paint(), more_streams=1), {"several_streams": WARNING}),
    "frozen.mp4": (lambda p: write(p, np.repeat(paint(1), 16, axis=0)), {"frozen": WARNING}),
    "black.mp4": (lambda p: write(p, np.zeros((16, 48, 64, 3), np.uint8)), {"blank": WARNING}),
    "gappy_images": (lambda p: make_images(p, numbers=[1, 2, *range(5, 15)]), {"frames_left_out": WARNING}),
    "bad_images": (lambda p: make_images(p, broken=7), {"corrupt": ERROR}),
    "twin_a.mp4": (lambda p: write(p, paint(seed=77_777)), {"contradicting_duplicate": ERROR, "same_content": WARNING}),
    "twin_b.mp4": (lambda p: shutil.copy(p.with_name("twin_a.mp4"), p), {"contradicting_duplicate": ERROR}),
    "recoded.avi": (
        lambda p: write(p, paint(seed=77_777), codec="mpeg4", options={"qscale": "8"}),
        {"same_content": WARNING},
    ),
}  # fmt: skip


def write_list(path: Path, rows: Iterable[tuple[str, ...]], header: str = "path,label") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def kinds_of(examination: Examination, file: str | None = None) -> dict[str, str]:
    return {
        finding.kind: finding.severity
        for finding in examination.findings
        if file is None or any(Path(path).name == file for path in finding.files)
    }


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Examination]:
    folder = tmp_path_factory.mktemp("faulty")
    for name, (make, _) in FAULTS.items():
        make(folder / name)
    labels = {"twin_a.mp4": "a", "twin_b.mp4": "b", "recoded.avi": "a"}
    rows = [(name, labels.get(name, "ab"[number % 2])) for number, name in enumerate(FAULTS)]
    source = write_list(folder / "list.csv", rows)
    data = DataConfig(source=str(source), max_missing=1.0)
    return source, examine_collection(data, workers=2)


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_found_and_nothing_else(name: str, faulty: tuple[Path, Examination]) -> None:
    assert kinds_of(faulty[1], name) == FAULTS[name][1]


def test_cures_change_what_was_found(faulty: tuple[Path, Examination]) -> None:
    """Preparing reads as training does: it keeps times, stretched sizes and pixel shapes as they are."""
    cures = {finding.kind: finding.cure for finding in faulty[1].findings}
    assert {kind for kind, cure in cures.items() if "kinemix prepare" in cure} <= {"slow_to_sample"}
    assert "fps=" in cures["variable_frame_rate"]
    assert "sar" in cures["pixel_aspect"]


def test_every_record_counts_what_the_reader_counts(faulty: tuple[Path, Examination]) -> None:
    for record in faulty[1].records:
        if record.status != "readable":
            with pytest.raises(UnreadableVideoError) as refused:
                open_video(record.path)
            assert record.reason == refused.value.reason
            continue
        with open_video(record.path) as reader:
            assert record.num_frames == reader.num_frames
            assert record.problem == reader.problem
            assert record.frame_rate == pytest.approx(reader.frame_rate)


def test_at_least_fifteen_kinds_are_planted() -> None:
    assert len({kind for _, expected in FAULTS.values() for kind in expected}) >= 15


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve sound, different clips."""
    folder = tmp_path_factory.mktemp("clips")
    return [write(folder / f"{number:02}.mp4", paint(seed=number)) for number in range(12)]


def test_a_clean_collection_gives_no_finding(clips: list[Path], tmp_path: Path) -> None:
    for number, clip in enumerate(clips):
        target = tmp_path / ("jump", "wave")[number % 2] / clip.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(clip, target)
    examination = examine_collection(str(tmp_path), workers=2)
    assert examination.findings == ()
    assert not examination.harmful
    assert examination.cost is not None
    assert examination.cost.epoch_seconds > 0
    assert sum(examination.cost.shares.values()) == pytest.approx(1)
    assert {name: sum(parts.values()) for name, parts in examination.classes.items()} == {
        "jump": 6,
        "wave": 6,
    }


def examine_rows(
    clips: list[Path], rows: list[tuple[str, ...]], header: str, **options: object
) -> Examination:
    source = write_list(clips[0].parent / "list.csv", rows, header)
    return examine_collection(DataConfig(source=str(source), **options), quick=True, workers=1)  # type: ignore[arg-type]


def test_leaks_between_parts_are_found(clips: list[Path], tmp_path: Path) -> None:
    for clip in clips[:8]:
        shutil.copy(clip, tmp_path / clip.name)
    shutil.copy(clips[0], tmp_path / "copy.mp4")  # of a training clip, in val
    write(tmp_path / "again.avi", paint(seed=2), codec="mpeg4", options={"qscale": "4"})  # likewise, recoded
    parts = ["train"] * 6 + ["val"] * 4
    names = [f"{number:02}.mp4" for number in range(8)] + ["copy.mp4", "again.avi"]
    sessions = ["s1", "s1", "s2", "s2", "s3", "s3", "s4", "s3", "s5", "s5"]
    rows = [(n, "ab"[i % 2], p, s) for i, (n, p, s) in enumerate(zip(names, parts, sessions, strict=True))]
    source = write_list(tmp_path / "list.csv", rows, "path,label,split,session")
    examination = examine_collection(str(source), workers=2)
    leaks = {f.kind: {Path(p).name for p in f.files} for f in examination.findings if f.severity == "error"}
    assert leaks == {
        "leak_duplicate": {"00.mp4", "copy.mp4"},
        "leak_same_content": {"02.mp4", "again.avi"},
        "leak_group": {"07.mp4"},
    }


def test_a_file_in_two_parts_is_a_leak(clips: list[Path]) -> None:
    rows = [(c.name, "ab"[i % 2], "train" if i < 8 else "val") for i, c in enumerate(clips)]
    rows.append((clips[0].name, "a", "val"))
    found = kinds_of(examine_rows(clips, rows, "path,label,split"))
    assert found == {"refused": ERROR, "leak_same_file": ERROR}


def test_groups_in_names_leak_between_parts(clips: list[Path], tmp_path: Path) -> None:
    rows = []
    for number, clip in enumerate(clips[:8]):
        name = f"v_Jump_g0{number // 2 + 1}_c0{number % 2 + 1}.mp4"
        shutil.copy(clip, tmp_path / name)
        rows.append((name, "ab"[number % 2], "val" if number in (4, 5, 6) else "train"))
    source = write_list(tmp_path / "list.csv", rows, "path,label,split")
    (finding,) = examine_collection(str(source), quick=True, workers=1).findings
    assert (finding.kind, finding.severity) == ("leak_group", ERROR)
    assert "g04" in finding.value
    assert [Path(path).name for path in finding.files] == ["v_Jump_g04_c01.mp4"]


def test_a_split_by_clip_that_would_leak_is_told(clips: list[Path]) -> None:
    rows = [(c.name, "ab"[i % 2], f"s{i // 4}") for i, c in enumerate(clips)]
    assert kinds_of(examine_rows(clips, rows, "path,label,session")) == {"groups": NOTE}
    found = kinds_of(examine_rows(clips, rows, "path,label,session", group_by=None))
    assert found == {"leak_group": ERROR}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["jump"] * 5 + ["JUMP"] * 2 + ["run"] * 5, {"class_variants": ERROR}),
        (["hand stand"] * 4 + ["hand_stand"] * 4 + ["run"] * 4, {"class_variants": ERROR}),
        (["0"] * 4 + ["1"] * 4 + ["3"] * 4, {"refused": ERROR, "class_without_samples": ERROR}),
        (["0"] * 4 + ["1"] * 4 + ["-1"] * 4, {"refused": ERROR, "label_out_of_range": ERROR}),
        (["0"] * 5 + ["1"] * 5 + ["jump"] * 2, {"label_out_of_range": ERROR}),
        # A lone sample cannot be held out, so the held-out part lacks its class.
        (
            ["a"] * 11 + ["b"],
            {"imbalance": WARNING, "single_sample": WARNING, "class_without_samples": WARNING},
        ),
        (["turn left"] * 6 + ["turn right"] * 6, {"mirror_pairs": NOTE}),
        (["turn left"] * 6 + ["jump"] * 6, {"mirror_without_partner": NOTE}),
        (["only"] * 12, {"refused": ERROR}),
    ],
)
def test_labels(labels: list[str], expected: dict[str, str], clips: list[Path]) -> None:
    rows = [(clip.name, label) for clip, label in zip(clips, labels, strict=True)]
    assert kinds_of(examine_rows(clips, rows, "path,label")) == expected


def test_several_labels_are_counted_class_by_class(clips: list[Path]) -> None:
    labels = ["a|b", "b|a", "a", "b", "", "a|b", "a", "b", "a|b", "", "a", "b"]
    rows = [(clip.name, label) for clip, label in zip(clips, labels, strict=True)]
    examination = examine_rows(clips, rows, "path,label", label_separator="|")
    assert kinds_of(examination) == {}
    assert {name: sum(parts.values()) for name, parts in examination.classes.items()} == {"a": 7, "b": 7}
    rows = [*rows, (clips[0].name, "a")]
    assert "contradicting_labels" in kinds_of(examine_rows(clips, rows, "path,label", label_separator="|"))


def test_labels_beyond_the_class_file_are_found(clips: list[Path], tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("jump\nrun\n")
    rows = [(clip.name, "0127"[i % 4]) for i, clip in enumerate(clips)]
    examination = examine_rows(clips, rows, "path,label", class_file=str(names))
    blamed = [f.value for f in examination.findings if f.kind == "label_out_of_range"]
    assert blamed == ["label 2 is out of range", "label 7 is out of range"]


def test_classes_that_a_part_lacks_are_found(clips: list[Path]) -> None:
    rows = [(c.name, "abc"[i % 3], "val" if i % 3 == 2 else "train") for i, c in enumerate(clips)]
    findings = examine_rows(clips, rows, "path,label,split").findings
    assert [(f.severity, f.value) for f in findings if f.kind == "class_without_samples"] == [
        ("error", "not in train: c"),
        ("warning", "not in val: a, b"),
    ]


def test_videos_without_labels_are_examined_too(clips: list[Path], tmp_path: Path) -> None:
    shutil.copy(clips[0], tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"")
    assert kinds_of(examine_collection(str(tmp_path), quick=True)) == {"refused": ERROR, "empty": ERROR}


def test_segments_outside_and_short_ones_are_found(clips: list[Path]) -> None:
    segments = (Segment(0, 0.64), Segment(0, 0.12), Segment(9, 10))
    record = examine_video(Task(path=str(clips[0]), segments=segments))
    assert record.segment_frames == (16, 3, None)
    kinds = [(finding.kind, finding.severity) for finding in judge_video(record, 8)]
    assert kinds == [("short", "warning"), ("segment_outside", "error")]


def test_overlapping_segments_in_two_parts_leak(tmp_path: Path) -> None:
    from kinemix.data.doctor.members import Collection, Member

    def judge(second: Segment) -> list[str]:
        members = tuple(
            Member("a.mp4", segment, "a", part, None, part)
            for segment, part in ((Segment(0, 2), "train"), (second, "val"))
        )
        collection = Collection(
            source="", members=members, listings=(), class_names=("a",), official=True, num_named=None,
            own_parts=True, grouped_from="", groups_used=False, refusal=None, notices=(),
        )  # fmt: skip
        return [finding.kind for finding in judge_copies(collection, [], [])]

    assert judge(Segment(1, 3)) == ["leak_same_file"]
    assert judge(Segment(2, 3)) == []


# Bounded workers.
def sleep_or_die(task: Task) -> VideoRecord:
    name = Path(task.path).name
    if "hang" in name:
        time.sleep(600)
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return VideoRecord(path=task.path, status="readable", num_frames=16, num_bytes=1)


def test_a_hung_and_a_crashed_decode_are_bounded_and_reported(tmp_path: Path) -> None:
    names = ["a.mp4", "hang.mp4", "b.mp4", "crash.mp4", "c.mp4", "d.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    done: list[tuple[int, int]] = []
    started = time.monotonic()
    examination = examine_collection(
        str(tmp_path), workers=2, seconds=0.4, examine=sleep_or_die, progress=lambda *args: done.append(args)
    )
    assert time.monotonic() - started < 30
    assert done == [(count, 6) for count in range(1, 7)]
    assert [record.status for record in examination.records] == (
        ["readable", "readable", "readable", "crashed", "readable", "hung"]
    )
    assert "SIGSEGV" in next(r.reason for r in examination.records if r.status == "crashed")
    assert {"hung": ERROR, "crashed": ERROR}.items() <= kinds_of(examination).items()


def test_a_slow_video_is_examined_in_part(tmp_path: Path) -> None:
    record = examine_video(Task(path=str(write(tmp_path / "a.mp4", paint(50))), seconds=1e-9))
    assert record.cut_short
    assert record.num_frames == 1
    assert [finding.kind for finding in judge_video(record, 8)] == ["long"]


# Content.
def small(frames: np.ndarray) -> list[np.ndarray]:
    wanted = [int((i + 0.5) / 8 * len(frames)) for i in range(8)]
    return [np.asarray(Image.fromarray(frames[i]).convert("L").resize((32, 32))) for i in wanted]


def test_the_hash_is_that_of_a_naive_dct() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32))
    low = np.zeros((8, 8))
    for k in range(8):
        for m in range(8):
            for i in range(32):
                for j in range(32):
                    low[k, m] += (
                        picture[i, j]
                        * np.cos(np.pi * k * (i + 0.5) / 32)
                        * np.cos(np.pi * m * (j + 0.5) / 32)
                    )
    low[0, 0] = 0
    bits = (low > np.median(low)).reshape(-1)
    found = np.unpackbits(hash_pictures(picture[None].astype(np.uint8)).view(np.uint8)).astype(bool)
    assert (found == bits).all()


def test_one_background_is_not_one_content() -> None:
    """Two clips of one session: the same scene, another movement."""
    still = paint(1, seed=5)[0]
    prints = []
    for seed in (1, 2):
        moving = paint(16, seed=seed)
        mask = (moving == 255).all(axis=-1) | (moving == 0).all(axis=-1)
        prints.append(take_fingerprint(small(np.where(mask[..., None], moving, still))))
    assert compare(0, 1, *prints) is None
    again = compare(0, 1, prints[0], prints[0])
    assert again is not None
    assert again.same


def test_nearly_the_same_is_told_apart_from_the_same(tmp_path: Path) -> None:
    frames = paint(16, seed=3)
    changed = frames.copy()
    changed[:, :12, :24] = paint(16, seed=9)[:, :12, :24]  # something else in a corner
    likeness = compare(0, 1, take_fingerprint(small(frames)), take_fingerprint(small(changed)))
    assert likeness is not None
    assert not likeness.same


# Cost.
def test_decoded_frames_are_counted() -> None:
    short = VideoRecord(path="", status="readable", num_frames=100, width=320, height=240, key_frames=(0, 50))
    assert count_decoded(short, 8) == 100  # decoded whole, once
    long = VideoRecord(
        path="", status="readable", num_frames=8000, width=1920, height=1080, key_frames=tuple(range(0, 8000, 100))
    )  # fmt: skip
    # Frames 500, 1500, ... lie on key frames: one decode each.
    assert count_decoded(long, 8) == 8
    images = VideoRecord(path="", status="readable", num_frames=100, container="images", key_frames=(0,))
    assert count_decoded(images, 8) == 8


# Command line.
def test_the_command_writes_table_json_and_page(
    faulty: tuple[Path, Examination], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page, report = tmp_path / "report.html", tmp_path / "report.json"
    words = ["doctor", faulty[0], "--quick", "--html", page, "--json", report]
    assert main([str(word) for word in words]) == 1
    out = capfd.readouterr().out
    assert "audio_only" in out
    content = json.loads(report.read_text())
    assert content["harmful"]
    assert {video["path"] for video in content["videos"]} == {r.path for r in faulty[1].records}
    assert {"empty", "audio_only"} <= {finding["kind"] for finding in content["findings"]}
    html = page.read_text()
    assert "empty.mp4" in html
    assert "http" not in html.replace("<html", "")


def test_the_page_of_a_full_examination_shows_the_cost(faulty: tuple[Path, Examination]) -> None:
    from kinemix.explain.doctor_page import make_page

    html = make_page(faulty[1])
    assert "What reading costs" in html
    assert "variable_frame_rate" in html
    assert html.count("<img") == 1


def test_exit_codes(clips: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, clip in enumerate(clips[:8]):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / "ab"[number % 2])
    assert main(["doctor", str(tmp_path), "--quick", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["findings"] == []
    for words in (["doctor", "nowhere"], ["doctor", str(tmp_path), "--workers", "0"]):
        assert main(words) == 2
        assert capfd.readouterr().err.count("\n") == 1


# Real files.
needs_videos = pytest.mark.skipif(VIDEOS is None, reason="KINEMIX_VIDEOS is not set")

RIGHT_AGAINST_FFPROBE: dict[str, dict[str, object]] = {
    # See docs/doctor.md for the reasons.
    "libwebm__matroska_doctype.mkv": {"width": 0, "height": 0},
    "libwebm__tracks.webm": {"codec": "vp8", "width": 320, "height": 180, "pix_fmt": "yuv420p"},
    "libwebm__block_ends_beyond_cluster.mkv": {"error": False},
    "libwebm__blockgroup_block_ends_beyond_blockgroup.mkv": {
        "codec": "h264", "width": 640, "height": 480, "pix_fmt": "yuv420p", "frames_ffmpeg_decodes": 1,
    },
    "mp4parse-rust__no_timescale.mp4": {"rotation": -(2**31)},
}  # fmt: skip


@needs_videos
@pytest.mark.slow
def test_the_report_on_odd_files_agrees_with_their_manifest() -> None:
    assert VIDEOS is not None
    examination = examine_collection(str(VIDEOS / "odd"), workers=2)
    records = {Path(record.path).name: record for record in examination.records}
    with (VIDEOS / "odd" / "manifest.csv").open(newline="", errors="replace") as file:
        rows = list(csv.DictReader(file))
    assert set(records) == {row["file"] for row in rows}
    for row in rows:
        record = records[row["file"]]
        ours: dict[str, object] = {
            "bytes": record.num_bytes,
            "codec": record.codec,
            "width": record.width,
            "height": record.height,
            "pix_fmt": record.pixel_format,
            "frames_in_header": record.promised_frames,
            "frames_ffmpeg_decodes": record.num_frames or 0,
            "rotation": record.rotation,
            "error": bool(record.problem or record.reason),
        }
        texts = ("codec", "pix_fmt")
        theirs: dict[str, object] = {
            name: row[name] if name in texts else int(row[name] or 0) for name in ours if name != "error"
        }
        # A file of which we say that it is damaged need not have made FFmpeg complain; the other way round it must.
        theirs["error"] = bool(row["first_ffmpeg_error"]) or ours["error"]
        theirs |= RIGHT_AGAINST_FFPROBE.get(row["file"], {})
        assert ours == theirs, row["file"]
        broken = {f.kind for f in examination.findings if record.path in f.files and f.severity == "error"}
        assert (not int(row["frames_ffmpeg_decodes"] or 0)) <= bool(broken), row["file"]


@needs_videos
def test_gestures_have_uneven_frame_rates_and_sessions_that_a_split_by_clip_leaks() -> None:
    assert VIDEOS is not None
    uneven = VIDEOS / "gestures" / "star" / "star_2.mp4"
    record = examine_video(Task(path=str(uneven)))
    assert [finding.kind for finding in judge_video(record, 8)] == ["variable_frame_rate"]
    for source, expected in (("gestures/labels.csv", ("groups", NOTE)), ("gestures", ("leak_group", ERROR))):
        collection = read_collection(DataConfig(source=str(VIDEOS / source)))
        (finding,) = judge_groups(collection, share=0.2, seed=0)
        assert (finding.kind, finding.severity) == expected
        assert "labels.csv" in finding.cure or "a split by clip would test" in finding.value


def test_a_collection_reads_as_training_does(clips: list[Path]) -> None:
    source = write_list(clips[0].parent / "list.csv", [(c.name, "ab"[i % 2]) for i, c in enumerate(clips)])
    collection = read_collection(DataConfig(source=str(source)))
    assert {member.part for member in collection.members} == {"train", "val"}
    assert Sample(collection.members[0].path, 0).name == str(clips[0])
