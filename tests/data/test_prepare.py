"""A prepared dataset is the same dataset: the same clips, labels, parts and groups, whatever happened on the way."""

import faulthandler
import json
import os
import signal
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinemix.atomic import write_atomically
from kinemix.cli import main
from kinemix.config import AugmentConfig, DataConfig, InputSpec, Protocol
from kinemix.data._guarded import CAN_GUARD
from kinemix.data._shard import INDEX_SUFFIX, ROW
from kinemix.data.annotations import Annotations, Sample
from kinemix.data.loader import TrainLoader, build_test_loader, build_train_loader
from kinemix.data.miniature import Studio, build_epic, encode
from kinemix.data.prepare import clip, run
from kinemix.data.prepare.clip import Job, measure_psnr, prepare_clip
from kinemix.data.prepare.journal import Journal
from kinemix.data.prepare.manifest import read_rows
from kinemix.data.prepare.run import Prepared, prepare_dataset
from kinemix.data.prepare.settings import Settings
from kinemix.data.reader import open_video
from kinemix.data.sources import Splits, open_splits
from kinemix.data.views import read_views
from kinemix.errors import ConfigError, DataError, UnreadableVideoError

FORMS = {
    "video": Settings(quality=18, shard_clips=3),
    "video-4": Settings(quality=18, keyframes=4, shard_clips=3),
    "jpeg": Settings(to="frames", quality=95, shard_clips=3),
    "webp": Settings(to="frames", image="webp", quality=95, shard_clips=3),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, studio: Studio) -> Path:
    """Two classes with groups in the names, other lengths, other sizes, and one file that is no video."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(4):
        for label in ("left", "right"):
            path = folder / label / f"v_{label}_g{number:02d}_c01.mp4"
            path.parent.mkdir(exist_ok=True)
            _film(path, num_frames=10 + number, bright=label == "left", size=(48, 64 + number))
    studio.put_frames(folder / "left" / "v_left_g04_c01", count=6)
    (folder / "right" / "v_right_g04_c01.mp4").write_bytes(b"rubbish")
    return folder


def _film(path: Path, *, num_frames: int, bright: bool, size: tuple[int, int]) -> None:
    """A bar that moves over a slope, at a rate that varies."""
    height, width = size
    slope = np.linspace(40, 160, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.options = height, width, "rgb24", {"crf": "0"}
        for index in range(num_frames):
            picture = np.repeat(slope, 3, axis=2) + np.array([20, 0, -20 if bright else 20])
            place = index * (width - 8) // num_frames
            picture[:, place : place + 8] = 230
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts = index + (index > 4)  # a frame is shown twice as long
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _prepare(source: Path | str, out: Path, settings: Settings = FORMS["video"], **options: Any) -> Prepared:
    return prepare_dataset(
        str(source), out, settings=settings, **{"max_unreadable": 0.5, "time_clips": 0} | options
    )


def _open(source: Path, **options: Any) -> Splits:
    return open_splits(DataConfig(source=str(source), val_share=0.4, max_missing=0.5, **options))


def _read(sample: Sample) -> Tensor:
    with open_video(sample.path, segment=sample.segment) as video:
        return video.read(range(video.num_frames))


def _read_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_training_reads_the_same_dataset(form: str, source: Path, tmp_path: Path) -> None:
    made = _prepare(source, tmp_path / "out", FORMS[form])
    assert made.clips == 9
    assert [(Path(place).name, reason) for place, reason in made.unreadable] == [
        ("v_right_g04_c01.mp4", made.unreadable[0][1])
    ]
    before, after = _open(source, max_unreadable=1.0), _open(tmp_path / "out")
    assert before.class_names == after.class_names
    assert any(f"{n} groups found" in notice for notice in after.notices for n in (5,))
    for old, new in ((before.train, after.train), (before.val, after.val)):
        readable = [s for s in old.samples if not s.path.endswith("v_right_g04_c01.mp4")]
        assert [(s.label, s.group) for s in readable] == [(s.label, s.group) for s in new.samples]
        for one, other in zip(readable, new.samples, strict=True):
            expected, got = _read(one), _read(other)
            assert expected.shape == got.shape
            assert len(got) == other.num_frames
            assert measure_psnr(expected.numpy(), got.numpy()) > 30


def test_times_are_kept(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "out")
    by_name = {s.group: s for s in _open(source, max_unreadable=1.0).train.samples if s.path.endswith("mp4")}
    for sample in _open(tmp_path / "out").train.samples:
        if sample.group in by_name and sample.num_frames != 6:
            with (
                open_video(by_name[sample.group].path) as one,
                open_video(sample.path, segment=sample.segment) as other,
            ):
                assert other.timestamps == pytest.approx(one.timestamps, abs=1e-5)
                assert other.frame_rate == pytest.approx(one.frame_rate, abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_any_frames_in_any_order(form: str, source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "out", FORMS[form])
    sample = _open(tmp_path / "out").train.samples[0]
    everything = _read(sample)
    last = len(everything) - 1
    orders: list[Sequence[int]] = [[0], [last], [5, 2], [1, 1, 7], range(0, last, 3), [last, 0, 6, 3, 4]]
    with open_video(sample.path, segment=sample.segment) as video:
        for order in orders:
            assert torch.equal(video.read(order), everything[list(order)])
        with pytest.raises(DataError, match=f"frame {last + 1} asked for"):
            video.read([last + 1])
    with open_video(sample.path, segment=sample.segment, short_side=24) as video:
        assert video.read([3]).shape[-2:] == (video.height, video.width) == (24, round(24 * 64 / 48))


def test_a_shard_is_a_webdataset(source: Path, tmp_path: Path) -> None:
    """Grouped by WebDataset's rule: a sample's key is the name up to its first dot."""
    _prepare(source, tmp_path / "video")
    _prepare(source, tmp_path / "frames", FORMS["jpeg"])
    samples: dict[str, dict[str, dict[str, bytes]]] = {}
    for form in ("video", "frames"):
        for shard in sorted((tmp_path / form / "shards").glob("*.tar")):
            with tarfile.open(shard) as tar:
                for member in tar:
                    key, _, ending = member.name.partition(".")
                    file = tar.extractfile(member)
                    assert file is not None
                    samples.setdefault(form, {}).setdefault(key, {})[ending] = file.read()
    for form, by_key in samples.items():
        assert len(by_key) == 9
        for key, members in by_key.items():
            facts = json.loads(members["json"])
            assert facts["label"] in ("left", "right")
            assert Path(facts["source"]).exists()
            if form == "frames":
                endings = sorted(set(members) - {"json"})
                assert endings == [f"{number:04d}.jpg" for number in range(facts["frames"])]
            else:
                (tmp_path / f"{key}.mp4").write_bytes(members["mp4"])
                with open_video(tmp_path / f"{key}.mp4") as video:
                    assert video.num_frames == facts["frames"]
    # What a plain decode of the extracted file gives is what the index gives.
    for sample in _open(tmp_path / "video").train.samples:
        rows = list(read_rows(tmp_path / "video"))
        row = next(
            r
            for r in rows
            if r.get("start") == (sample.segment and sample.segment.start)
            and Path(sample.path).stem == f"{r['shard']:06d}"
        )
        with open_video(tmp_path / f"{row['key']}.mp4") as video:
            got = _read(sample)
            height, width = got.shape[-2:]  # an odd width has a column more in the file
            assert torch.equal(video.read(range(video.num_frames))[..., :height, :width], got)


def test_what_comes_out_does_not_depend_on_the_way(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(source, tmp_path / "whole", workers=3)
    expected = _read_bytes(tmp_path / "whole")
    note = Journal.note_clip
    for stop in (1, 4, 8):
        out = tmp_path / f"stopped-{stop}"

        def note_some(journal: Journal, number: int, row: dict[str, Any], *, stop: int = stop) -> None:
            note(journal, number, row)
            if len(journal.clips) >= stop:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "note_clip", note_some)
            with pytest.raises(KeyboardInterrupt):
                _prepare(source, out, workers=1)
        with pytest.raises(DataError, match="its preparation is not finished: run the same"):
            _open(out)
        with pytest.raises(ConfigError, match="another preparation was interrupted there, with settings"):
            _prepare(source, out, FORMS["jpeg"])
        journal = out / "unfinished" / "journal.jsonl"
        journal.write_bytes(journal.read_bytes() + b'{"what":"clip","num')  # the process ended here
        done: list[int] = []
        _prepare(source, out, workers=2, progress=lambda count, _, done=done: done.append(count))
        assert done[0] > stop
        assert _read_bytes(out) == expected


def test_what_was_damaged_meanwhile_is_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(source, tmp_path / "whole")
    note = Journal.note_clip

    def note_some(journal: Journal, number: int, row: dict[str, Any]) -> None:
        note(journal, number, row)
        if len(journal.clips) >= 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "note_clip", note_some)
        with pytest.raises(KeyboardInterrupt):
            _prepare(source, tmp_path / "out", workers=1)
    for damaged in (
        *(tmp_path / "out" / "shards").glob("*.tar"),
        *(tmp_path / "out").glob("unfinished/*.tar"),
    ):
        damaged.write_bytes(damaged.read_bytes()[:-700])
    _prepare(source, tmp_path / "out")
    assert _read_bytes(tmp_path / "out") == _read_bytes(tmp_path / "whole")


def test_a_finished_preparation_is_verified(source: Path, tmp_path: Path) -> None:
    made = _prepare(source, tmp_path / "out")
    assert _prepare(source, tmp_path / "out") == made
    with pytest.raises(ConfigError, match=r"holds another preparation \(settings differs\)"):
        _prepare(source, tmp_path / "out", replace(FORMS["video"], quality=30))
    shard = tmp_path / "out" / "shards" / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"000001.tar not as written"):
        _prepare(source, tmp_path / "out")


def _count_open_files() -> int:
    """Of this process; 0 where the system does not say."""
    return sum(1 for _ in Path("/proc/self/fd").glob("*"))


def test_a_shard_that_is_cut_short_is_unreadable(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "out")
    samples = [s for s in _open(tmp_path / "out").train.samples if s.path.endswith("000000.tar")]
    shard = Path(samples[0].path)
    content = shard.read_bytes()
    shard.write_bytes(content[:3000])
    with pytest.raises(UnreadableVideoError, match="the shard ends early"):
        [_read(sample) for sample in samples]
    held = _count_open_files()
    for _ in range(5):  # a decoder that lives as long as a training meets it again and again
        with pytest.raises(UnreadableVideoError, match="the shard ends early"):
            [_read(sample) for sample in samples]
    assert _count_open_files() == held
    shard.write_bytes(content)
    index = shard.with_suffix(INDEX_SUFFIX)
    index.write_bytes(index.read_bytes()[: 2 * ROW.itemsize])
    with pytest.raises(UnreadableVideoError, match="its index ends before row"):
        _read(samples[-1])
    with pytest.raises(UnreadableVideoError, match="a shard of many clips: name the folder"):
        open_video(shard)


def test_segments_parts_and_tasks(studio: Studio, tmp_path: Path) -> None:
    root = tmp_path / "epic"
    build_epic(root, studio)
    _prepare(f"epic:{root}", tmp_path / "out", FORMS["video-4"])
    config = DataConfig(source=f"epic:{root}", max_missing=1.0)
    before = open_splits(config)
    after = open_splits(replace(config, source=str(tmp_path / "out")))
    assert before.class_names == after.class_names
    for old, new in ((before.train, after.train), (before.val, after.val)):
        assert old.task_names == new.task_names
        facts = [(s.label, s.labels, s.group, s.id) for s in old.samples]
        assert facts == [(s.label, s.labels, s.group, s.id) for s in new.samples]
        assert facts
        for one, other in zip(old.samples, new.samples, strict=True):
            assert measure_psnr(_read(one).numpy(), _read(other).numpy()) > 30
    kept = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert kept["dataset"] == "epic_kitchens55"
    assert kept["protocol"]["frame_rate"] == 60


class _Net(nn.Module):
    """A small random network: frames to features, then time, then classes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.space = nn.Conv2d(3, 16, 5, stride=3)
        self.time = nn.Conv1d(16, 16, 3)
        self.head = nn.Linear(16, 10)
        for weights in self.parameters():
            nn.init.normal_(weights, std=0.3, generator=generator)

    def forward(self, clip: Tensor) -> Tensor:
        features = self.space(clip).relu().mean(dim=(2, 3))
        logits: Tensor = self.head(self.time(features.T[None]).relu().mean(dim=2))[0]
        return logits


def _predict(annotations: Annotations) -> Tensor:
    protocol, network = Protocol(input=InputSpec(size=(40, 40))), _Net()
    logits = []
    with torch.no_grad():
        for sample in annotations.samples:
            with open_video(sample.path, segment=sample.segment) as video:
                logits.append(network(read_views(video, protocol)[0]))
    return torch.stack(logits)


@pytest.mark.parametrize("form", FORMS)
def test_predictions_stay(form: str, source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "out", FORMS[form])
    before = [s for s in _open(source).train.samples if "v_right_g04" not in s.path]
    one = _predict(Annotations(tuple(before), ("left", "right")))
    other = _predict(_open(tmp_path / "out").train)
    assert torch.equal(one.argmax(1), other.argmax(1))
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.999


def test_workers_read_it(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "out")
    train = _open(tmp_path / "out").train
    protocol = Protocol(input=InputSpec(size=(40, 40)), num_frames=4)
    loaded = [
        list(build_test_loader(train, protocol=protocol, batch_size=2, workers=workers)) for workers in (0, 2)
    ]
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(*loaded, strict=True))


@pytest.mark.skipif(not CAN_GUARD, reason="what is patched here passes to forked processes alone")
def test_a_hang_or_crash_costs_its_clip_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(job: Job) -> dict[str, Any]:
        if job.key == "00000002":
            time.sleep(600)
        if job.key == "00000003":
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        return prepare_clip(job)

    monkeypatch.setattr(run, "prepare_clip", harm)
    made = _prepare(source, tmp_path / "out", max_seconds=2)
    assert made.clips == 7
    reasons = {row["key"]: row["unreadable"] for row in read_rows(tmp_path / "out") if "unreadable" in row}
    assert reasons.pop("00000002") == "took longer than 2 s"
    assert reasons.pop("00000003") == "its decoder crashed (SIGSEGV)"
    assert len(reasons) == 1  # the file that is no video


@pytest.mark.skipif(not CAN_GUARD, reason="what is patched here passes to forked processes alone")
def test_killed_workers_change_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL before a clip is read, while its piece is written, and before its worker has answered."""
    _prepare(source, tmp_path / "whole", workers=1)
    deaths = tmp_path / "deaths"
    deaths.mkdir()

    def die_once(key: str, moment: str) -> None:
        if not (mark := deaths / f"{key} {moment}").exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def write_or_die(path: Path, write: Callable[[Path], Any]) -> None:
        def write_half(place: Path) -> None:
            write(place)
            os.truncate(place, place.stat().st_size // 2)
            die_once(path.stem, f"writing {path.suffix}")
            write(place)

        write_atomically(path, write_half if int(path.stem) % 3 == 1 else write)

    def harm(job: Job) -> dict[str, Any]:
        dies_outside_writing = int(job.key) % 3 == 2
        if dies_outside_writing:
            die_once(job.key, "before")
        made = prepare_clip(job)
        if dies_outside_writing:
            die_once(job.key, "after")
        return made

    monkeypatch.setattr(run, "prepare_clip", harm)
    monkeypatch.setattr(clip, "write_atomically", write_or_die)
    _prepare(source, tmp_path / "out", workers=2)
    assert sorted(Counter(mark.name.split()[0] for mark in deaths.iterdir()).items()) == [
        ("00000001", 2),
        ("00000002", 2),
        ("00000004", 2),
        ("00000005", 2),
        ("00000007", 2),
        ("00000008", 2),
    ]
    assert _read_bytes(tmp_path / "out") == _read_bytes(tmp_path / "whole")


def test_sigterm_ends_it_and_it_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", str(source), str(tmp_path / "out"), "--max_unreadable", "0.2", "--quality", "20"]
    note, before = Journal.note_clip, signal.getsignal(signal.SIGTERM)

    def stop(journal: Journal, number: int, row: dict[str, Any]) -> None:
        note(journal, number, row)
        if len(journal.clips) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "note_clip", stop)
        assert main(words) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert "the same command goes on where this one stopped" in capsys.readouterr().err
    lines = (tmp_path / "out" / "unfinished" / "journal.jsonl").read_text().splitlines()
    assert sum('"what":"clip"' in line.replace(" ", "") for line in lines) == 4
    assert main(words) == 0
    settings = Settings(quality=20)
    _prepare(source, tmp_path / "whole", settings)
    assert _read_bytes(tmp_path / "out") == _read_bytes(tmp_path / "whole")


def test_too_many_unreadable_clips_stop_it(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"1 of 10 clips cannot be read, more than --max_unreadable 0.05 allows"
    ):
        _prepare(source, tmp_path / "out", max_unreadable=0.05)
    assert _prepare(source, tmp_path / "out", max_unreadable=0.2).clips == 9


def test_groups(tmp_path: Path) -> None:
    lines = []
    for number in range(8):
        encode(tmp_path / f"{number}.mp4", num_frames=4)
        lines.append(f"{number}.mp4,{'ab'[number % 2]},{number // 2},{number % 3}")
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(["path,label,session,person", *lines]) + "\n")
    _prepare(listed, tmp_path / "out")
    _prepare(listed, tmp_path / "by-person", group_by="person")
    for out, name in (("out", "auto"), ("by-person", "person")):
        before, after = _open(listed, group_by=name), _open(tmp_path / out, group_by=name)
        assert [s.group for s in before.train.samples] == [s.group for s in after.train.samples]
        assert [s.label for s in before.val.samples] == [s.label for s in after.val.samples]
    with pytest.raises(DataError, match="it was prepared with 'auto'; prepare it with --group_by person"):
        _open(tmp_path / "out", group_by="person")
    ungrouped = _open(tmp_path / "out", group_by=None)
    assert {s.group for s in ungrouped.train.samples} == {None}


def test_a_trial_is_spread_over_the_source(source: Path, tmp_path: Path) -> None:
    made = _prepare(source, tmp_path / "out", limit=5)
    rows = list(read_rows(tmp_path / "out"))
    assert made.clips == len(rows) == 5
    assert {row["label"] for row in rows} == {"left", "right"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": 60}, "--quality 60: it must be from 0 to 51"),
        ({"to": "frames", "quality": 0}, "--quality 0: it must be from 1 to 100"),
        ({"to": "frames", "keyframes": 2}, "--keyframes 2: belongs to --to video"),
        ({"image": "webp"}, "--image webp: belongs to --to frames"),
        ({"short_side": 8}, "--short_side 8: it must be from 16 to 8192"),
    ],
)
def test_refused_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**options)


def test_foreign_places_are_refused(source: Path, tmp_path: Path) -> None:
    """Neither among the source's own videos, nor in a run, nor below a file."""
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    before = sorted(source.rglob("*"))
    cures = {source: "holds something else", tmp_path / "run": r"holds .*\(config\.yaml\).*empty folder"}
    cures |= dict.fromkeys((tmp_path / "file", tmp_path / "file" / "out"), "no folder can be made")
    for out, message in cures.items():
        with pytest.raises(ConfigError, match=message):
            _prepare(source, out)
    assert sorted(source.rglob("*")) == before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_without_an_encoder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av, "Codec", refuse)
    with pytest.raises(ConfigError, match="no libx264: install PyAV from its wheels"):
        _prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    words = ["prepare", str(source), out, "--max_unreadable", "0.2", "--quality", "20"]
    assert main([*words, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clips"] == 9
    assert told["speed"]["before"] > 0
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "x as fast" in captured.out
    assert "cannot be read" in captured.err
    assert main([*words, "--to", "frames"]) == 2
    assert "holds another preparation" in capsys.readouterr().err


VIDEOS = Path(os.environ["KINEMIX_VIDEOS"]) if "KINEMIX_VIDEOS" in os.environ else None


@pytest.mark.slow
@pytest.mark.skipif(VIDEOS is None, reason="KINEMIX_VIDEOS is not set")
def test_real_videos(tmp_path: Path) -> None:
    """The defaults on compressed real videos: five times as fast, at most twice the disk, the same answers."""
    assert VIDEOS is not None
    source = VIDEOS / "gestures" / "labels.csv"
    made = prepare_dataset(str(source), tmp_path / "out", limit=48)
    assert made.clips == 48
    assert made.bytes <= 2 * made.source_bytes
    assert made.speed is not None
    assert made.speed.ratio >= 5
    splits = open_splits(DataConfig(source=str(tmp_path / "out"), group_by=None))
    rows = list(read_rows(tmp_path / "out"))
    sources = {(row["shard"], row["start"]): row["source"] for row in rows}
    samples = splits.train.samples[::3]
    pairs = [sources[int(Path(s.path).stem), int(s.segment.start)] for s in samples if s.segment]
    one = _predict(Annotations(tuple(Sample(path, 0) for path in pairs), ("a", "b")))
    other = _predict(replace(splits.train, samples=samples))
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.99
    assert (one.argmax(1) == other.argmax(1)).float().mean() >= 0.9


# ------------------------------------------------------------------------------------------ several processes


def test_epochs_over_shards_are_exact(tmp_path: Path) -> None:
    """Eight clips out of four shards, two processes with two loader workers each: every clip once in every epoch, and
    in the same company as in one process that takes the whole batch."""
    for number in range(10):
        path = tmp_path / "source" / ("left" if number % 2 else "right") / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        _film(path, num_frames=8 + number, bright=bool(number % 2), size=(32, 48))
    _prepare(tmp_path / "source", tmp_path / "out")
    assert len(list((tmp_path / "out" / "shards").glob("*.tar"))) == 4
    samples = open_splits(DataConfig(source=str(tmp_path / "out"), val_share=0.2, group_by=None)).train
    assert len(samples) == 8
    protocol = Protocol(num_frames=4, crop_fraction=1.0, input=InputSpec(size=(24, 24)))

    def load(rank: int, world_size: int) -> TrainLoader:
        return build_train_loader(
            samples,
            protocol=protocol,
            augment=AugmentConfig(flip="off", brightness=0.3),
            batch_size=4 // world_size,
            workers=2,
            rank=rank,
            world_size=world_size,
        )

    alone, team = load(0, 1), [load(rank, 2) for rank in range(2)]
    orders: list[list[int]] = []
    for epoch in range(3):
        orders.append([])
        for whole, *halves in zip(alone.epoch(epoch), *(one.epoch(epoch) for one in team), strict=True):
            assert torch.equal(torch.cat([half.indices for half in halves]), whole.indices)
            assert torch.equal(torch.cat([half.clips for half in halves]), whole.clips)
            orders[-1] += whole.indices.tolist()
        assert sorted(orders[-1]) == list(range(8))
    assert orders[0] != orders[1]
