"""The cache gives the same frames, decodes once, and survives damage and company."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from kinemix.data import frame_cache
from kinemix.data.frame_cache import open_cached_video
from kinemix.data.reader import open_video
from kinemix.errors import DataError, UnreadableVideoError

WriteVideo = Callable[..., Path]


def _entries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npy"))


@pytest.mark.parametrize("short_side", [None, 12])
def test_frames_equal_the_readers(tmp_path: Path, write_video: WriteVideo, short_side: int | None) -> None:
    path, cache = write_video(tmp_path / "a.mkv"), tmp_path / "cache"
    with open_video(path, short_side=short_side) as plain:
        for _ in range(2):
            with open_cached_video(path, cache=cache, short_side=short_side) as cached:
                assert (cached.num_frames, cached.height, cached.width) == (12, plain.height, plain.width)
                assert cached.problem == plain.problem
                for indices in ([0], [11, 0, 5, 5], range(12), []):
                    assert torch.equal(cached.read(indices), plain.read(indices))
                cached.read([0]).zero_()  # a copy: the entry stays


def test_a_video_is_decoded_once(
    tmp_path: Path, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = write_video(tmp_path / "a.mkv"), tmp_path / "cache"
    open_cached_video(path, cache=cache)
    monkeypatch.setattr(frame_cache, "open_video", lambda *_, **__: pytest.fail("decoded again"))
    assert open_cached_video(path, cache=cache).num_frames == 12
    assert not list(cache.rglob("*.part"))


def test_long_videos_are_stored_in_chunks(
    tmp_path: Path, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mkv")
    monkeypatch.setattr(frame_cache, "_CHUNK_BYTES", 3 * 24 * 32 * 5)
    cached = open_cached_video(path, cache=tmp_path / "cache")
    with open_video(path) as plain:
        assert torch.equal(cached.read(range(12)), plain.read(range(12)))


def test_a_changed_video_or_size_is_another_entry(tmp_path: Path, write_video: WriteVideo) -> None:
    path, cache = write_video(tmp_path / "a.mkv"), tmp_path / "cache"
    open_cached_video(path, cache=cache)
    open_cached_video(path, cache=cache, short_side=12)
    assert len(_entries(cache)) == 2
    write_video(path, num_frames=5, seed=1)
    assert open_cached_video(path, cache=cache).num_frames == 5
    assert len(_entries(cache)) == 3


def test_folders_of_frames(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 6), (number * 50, 0, 0)).save(tmp_path / f"{number}.png")
    cache = tmp_path / "cache"
    first = open_cached_video(tmp_path, cache=tmp_path.parent / "cache")
    assert first.read(range(3))[:, 0, 0, 0].tolist() == [0, 50, 100]
    status = (tmp_path / "1.png").stat()
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "1.png")
    os.utime(tmp_path / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert open_cached_video(tmp_path, cache=cache).read([1])[0, 0, 0, 0] == 255


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_entry_is_built_again(
    tmp_path: Path, write_video: WriteVideo, damage: bytes | None
) -> None:
    path, cache = write_video(tmp_path / "a.mkv"), tmp_path / "cache"
    expected = open_cached_video(path, cache=cache).read(range(12))
    (entry,) = _entries(cache)
    entry.write_bytes(entry.read_bytes()[:-100] if damage is None else damage)
    assert torch.equal(open_cached_video(path, cache=cache).read(range(12)), expected)


def test_unreadable_videos_stay_unreadable_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    for path in (tmp_path / "bad.mp4", tmp_path / "missing.mp4"):
        with pytest.raises(UnreadableVideoError):
            open_cached_video(path, cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_problem_is_remembered(tmp_path: Path, write_video: WriteVideo) -> None:
    whole = write_video(tmp_path / "a.mkv", num_frames=40)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with open_video(cut, full_scan=True) as plain:
        problem, num_frames = plain.problem, plain.num_frames
    for _ in range(2):
        cached = open_cached_video(cut, cache=tmp_path / "cache")
        assert (cached.problem, cached.num_frames) == (problem, num_frames)


def test_a_cache_that_cannot_be_written(tmp_path: Path, write_video: WriteVideo) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"decoded frames cannot be stored .*data\.cache"):
        open_cached_video(write_video(tmp_path / "a.mkv"), cache=tmp_path / "file")


def _open(arguments: tuple[Path, Path]) -> float:
    path, cache = arguments
    return open_cached_video(path, cache=cache).read(range(12)).double().sum().item()


def test_several_processes_at_once(tmp_path: Path, write_video: WriteVideo) -> None:
    paths = [write_video(tmp_path / f"{name}.mkv", seed=name) for name in range(3)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.map(_open, [(path, tmp_path / "cache") for path in paths for _ in range(4)], chunksize=1)
    assert sums == [_open((path, tmp_path / "cache")) for path in paths for _ in range(4)]
    assert len(_entries(tmp_path / "cache")) == 3
    assert not list((tmp_path / "cache").rglob("*.part"))
