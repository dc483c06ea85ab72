"""Batches are a function of (seed, epoch) alone: workers, resuming and processes change nothing."""

import faulthandler
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinemix.config import AugmentConfig, InputSpec, Protocol
from kinemix.data import dataset as dataset_module
from kinemix.data._guarded import CAN_GUARD
from kinemix.data._guarded_batches import GuardedBatches
from kinemix.data.annotations import Annotations, Sample
from kinemix.data.dataset import Batch, Collate, Key, TrainClips, Unreadable, VideoDataset, mix_seed
from kinemix.data.loader import TrainLoader, build_test_loader, build_train_loader
from kinemix.data.order import TestOrder, TrainOrder
from kinemix.data.reader import VideoReader, open_video
from kinemix.errors import ConfigError, DataError
from kinemix.label_space import LabelSpace

PROTOCOL = Protocol(input=InputSpec(size=(16, 16)), num_frames=4, num_clips=2, num_crops=3)
AUGMENT = AugmentConfig(brightness=0.2, noise=0.1, trim=0.1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> Annotations:
    folder = tmp_path_factory.mktemp("videos")
    paths = [
        write_video(folder / f"{number}.mkv", num_frames=6 + number, seed=number) for number in range(11)
    ]
    samples = tuple(Sample(str(path), number % 2) for number, path in enumerate(paths))
    return Annotations(samples, ("left", "right"))


@pytest.fixture
def with_bad(videos: Annotations, tmp_path: Path) -> Annotations:
    (tmp_path / "bad.mp4").write_bytes(b"rubbish")
    bad = (Sample(str(tmp_path / "bad.mp4"), 0), Sample(str(tmp_path / "missing.mp4"), 1))
    return Annotations(bad + videos.samples, videos.class_names)


def _train(annotations: Annotations, **options: object) -> TrainLoader:
    options = {"protocol": PROTOCOL, "augment": AUGMENT, "batch_size": 3, "workers": 0} | options
    return build_train_loader(annotations, **options)  # type: ignore[arg-type]


def _same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(
        torch.equal(a.clips, b.clips)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.indices, b.indices)
        and a.unreadable == b.unreadable
        for a, b in pairs
    )


def test_batches_have_shape_and_labels(videos: Annotations) -> None:
    loader = _train(videos)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 3
    for batch in batches:
        assert batch.clips.shape == (3, 4, 3, 16, 16)
        assert batch.clips.dtype == torch.float32
        assert batch.labels.dtype == torch.int64
        assert len(batch) == 3
    seen = [index for batch in batches for index in batch.indices.tolist()]
    assert len(set(seen)) == 9


def test_workers_change_nothing(with_bad: Annotations) -> None:
    expected = [list(_train(with_bad).epoch(epoch)) for epoch in (0, 1)]
    assert not torch.equal(expected[0][0].indices, expected[1][0].indices)
    for workers in (1, 2):
        loader = _train(with_bad, workers=workers)
        for epoch in (0, 1, 0):  # persistent workers are told the epoch
            assert _same(loader.epoch(epoch), expected[epoch])


def test_the_seed_changes_order_and_clips(videos: Annotations) -> None:
    one, other = (list(_train(videos, seed=seed).epoch(0)) for seed in (0, 1))
    assert any(not torch.equal(a.indices, b.indices) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_gives_the_rest_of_the_epoch(videos: Annotations, workers: int) -> None:
    whole = list(_train(videos).epoch(5))
    loader = _train(videos, workers=workers)
    for start in range(4):
        assert _same(loader.epoch(5, start=start), whole[start:])


def test_an_abandoned_epoch_leaves_no_trace(videos: Annotations) -> None:
    loader = _train(videos, workers=2)
    next(loader.epoch(0))
    assert _same(loader.epoch(1), list(_train(videos).epoch(1)))


def test_the_global_stream_is_left_alone(videos: Annotations) -> None:
    for workers in (0, 1):
        state = torch.get_rng_state()
        list(_train(videos, workers=workers).epoch(0))
        assert torch.equal(torch.get_rng_state(), state)


def test_a_sample_does_not_depend_on_its_batch(videos: Annotations) -> None:
    by_index: dict[int, list[torch.Tensor]] = {}
    for batch_size in (1, 2, 5):
        for batch in _train(videos, batch_size=batch_size).epoch(2):
            for clip, index in zip(batch.clips, batch.indices.tolist(), strict=True):
                by_index.setdefault(index, []).append(clip)
    assert all(torch.equal(clips[0], clip) for clips in by_index.values() for clip in clips)


def test_unreadable_videos_are_reported_and_never_replaced(with_bad: Annotations) -> None:
    batches = list(_train(with_bad, batch_size=13).epoch(0))
    (batch,) = batches
    assert sorted(batch.indices.tolist()) == list(range(2, 13))
    assert {(item.index, Path(item.path).name) for item in batch.unreadable} == {
        (0, "bad.mp4"),
        (1, "missing.mp4"),
    }
    assert all(item.reason for item in batch.unreadable)


def test_a_batch_may_be_empty(with_bad: Annotations) -> None:
    bad = with_bad.pick([0, 1])
    (batch,) = _train(bad).epoch(0)
    assert batch.clips.shape == (0, 4, 3, 16, 16)
    assert len(batch) == 0
    assert len(batch.unreadable) == 2
    (views,) = build_test_loader(bad, protocol=PROTOCOL, batch_size=4, workers=0)
    assert views.clips.shape == (0, 6, 4, 3, 16, 16)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_test_sample_comes_once(with_bad: Annotations, workers: int) -> None:
    seen: list[int] = []
    for rank in range(3):
        loader = build_test_loader(
            with_bad, protocol=PROTOCOL, batch_size=2, workers=workers, rank=rank, world_size=3
        )
        for batch in loader:
            assert batch.clips.shape[1:] == (6, 4, 3, 16, 16)
            assert [with_bad.samples[index].label for index in batch.indices] == batch.labels.tolist()
            seen += batch.indices.tolist() + [item.index for item in batch.unreadable]
    assert sorted(seen) == list(range(13))


def test_reversed_views(videos: Annotations) -> None:
    forward, backward = (
        next(iter(build_test_loader(videos, protocol=PROTOCOL, batch_size=4, workers=0, order=order)))
        for order in ("forward", "reverse")
    )
    assert torch.equal(forward.clips, backward.clips.flip(2))


def test_cache_and_short_side_give_the_same_clips(videos: Annotations, tmp_path: Path) -> None:
    expected = list(_train(videos, short_side=20).epoch(0))
    for _ in range(2):
        cached = _train(videos, short_side=20, cache=str(tmp_path / "cache"), workers=2)
        assert _same(cached.epoch(0), expected)


@pytest.mark.parametrize(
    ("count", "size", "world"), [(10, 3, 1), (10, 2, 2), (2, 8, 1), (5, 8, 2), (12, 3, 2)]
)
def test_training_order_of_several_processes(count: int, size: int, world: int) -> None:
    orders = [
        TrainOrder(count, batch_size=size, seed=4, rank=rank, world_size=world) for rank in range(world)
    ]
    batches = [list(order) for order in orders]
    assert len({len(each) for each in batches}) == 1
    assert all(len(order) == len(each) for order, each in zip(orders, batches, strict=True))
    keys = [key for each in batches for batch in each for key in batch]
    assert len(keys) == len(set(keys))
    size = min(size, count // world)
    assert len(keys) == count // (size * world) * size * world


def test_every_epoch_leaves_out_others() -> None:
    order = TrainOrder(10, batch_size=4, seed=0)
    left_out = set()
    for epoch in range(30):
        order.epoch = epoch
        left_out |= set(range(10)) - {key.index for batch in order for key in batch}
    assert left_out == set(range(10))


def test_too_few_samples_for_the_processes() -> None:
    with pytest.raises(ConfigError, match="2 training samples for 3 processes"):
        TrainOrder(2, batch_size=1, seed=0, world_size=3)


def test_test_order_pads_nothing() -> None:
    batches = [list(TestOrder(7, batch_size=2, rank=rank, world_size=3)) for rank in range(3)]
    assert [[key.index for key in batch] for batch in batches[0]] == [[0, 3], [6]]
    assert sorted(key.index for each in batches for batch in each for key in batch) == list(range(7))
    assert len(TestOrder(1, batch_size=2, rank=1, world_size=2)) == 0


def test_seeds_of_neighbours_have_nothing_in_common() -> None:
    seeds = {mix_seed(seed, epoch, index) for seed in range(5) for epoch in range(5) for index in range(50)}
    assert len(seeds) == 1250
    assert mix_seed(1, 2, 3) == 2904650318439132554


def test_training_frames_follow_the_options(videos: Annotations) -> None:
    clips = TrainClips(
        protocol=Protocol(num_frames=4),
        augment=AugmentConfig(jitter_frames=False),
        space=LabelSpace(class_names=("a", "b")),
        seed=0,
    )
    assert clips.draw_frames(12, torch.Generator()) == [1, 4, 7, 10]
    dense = TrainClips(
        protocol=Protocol(num_frames=4, sampling="dense", frame_stride=3),
        augment=AugmentConfig(),
        space=LabelSpace(class_names=("a", "b")),
        seed=0,
    )
    assert dense.draw_frames(12, torch.Generator()) == [0, 3, 6, 9]


def test_batch_moves() -> None:
    batch = Collate((1, 1, 1, 1), LabelSpace(class_names=("a", "b")))([Unreadable(3, "x", "why")])
    moved = batch.to("meta")
    assert moved.clips.device.type == moved.labels.device.type == "meta"
    assert moved.unreadable == batch.unreadable


def test_an_index_alone_is_epoch_zero(videos: Annotations) -> None:
    load = TrainClips(protocol=PROTOCOL, augment=AUGMENT, space=videos.space, seed=0)
    dataset = VideoDataset(videos, load=load)
    assert len(dataset) == 11
    first, later = dataset[Key(0, 3)], dataset[Key(1, 3)]
    assert torch.equal(dataset[3].clip, first.clip)  # type: ignore[union-attr]
    assert not torch.equal(first.clip, later.clip)  # type: ignore[union-attr]


# What may go wrong in a worker


@pytest.mark.parametrize(
    ("workers", "fault"),
    [
        pytest.param(
            1,
            "no shared memory for a batch of 1,296,000.0 GB.*: .* left; .*lower the number of workers",
            marks=pytest.mark.skipif(not CAN_GUARD, reason="batches are shared on Linux alone"),
        ),
        (0, "memory does not suffice .*more were asked for.*: lower the batch size"),
    ],
)
def test_a_batch_that_no_memory_holds_is_told_with_its_size(
    videos: Annotations, workers: int, fault: str
) -> None:
    huge = replace(PROTOCOL, input=InputSpec(size=(3_000_000, 3_000_000)))
    with pytest.raises(DataError, match=fault) as error:
        list(_train(videos, workers=workers, protocol=huge).epoch(0))
    assert len(str(error.value).splitlines()) == 1


class _Failing:
    """Opens videos, but does ``harm`` instead with those of some names; as a decoder in C it cannot be caught."""

    def __init__(self, names: set[str], harm: Callable[[], object]) -> None:
        self.names, self.harm = names, harm

    def __call__(self, path: str, **options: object) -> VideoReader:
        if Path(path).name in self.names:
            self.harm()
        return open_video(path, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(not CAN_GUARD, reason="children are forked on Linux alone")
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda: time.sleep(600), "took longer than 1 s"),
        (lambda: os._exit(3), "its decoder ended the process (exit code 3)"),
        (
            lambda: (faulthandler.disable(), os.kill(os.getpid(), signal.SIGSEGV)),
            "its decoder crashed (SIGSEGV)",
        ),
    ],
)
def test_a_hang_or_crash_costs_its_sample_alone(
    videos: Annotations, monkeypatch: pytest.MonkeyPatch, harm: Callable[[], object], reason: str
) -> None:
    expected = list(_train(videos).epoch(0))
    monkeypatch.setattr(dataset_module, "open_video", _Failing({"3.mkv", "8.mkv"}, harm))
    loader = _train(videos, workers=2, max_seconds=1)
    for _ in range(2):  # the second epoch does not try the videos again
        started = time.monotonic()
        batches = list(loader.epoch(0))
        assert len(batches) == len(expected)
        lost = {Path(item.path).name: item.reason for batch in batches for item in batch.unreadable}
        seen = {index for batch in expected for index in batch.indices.tolist()}
        assert lost == {f"{index}.mkv": reason for index in {3, 8} & seen}
        for batch, whole in zip(batches, expected, strict=True):
            kept = [row for row, index in enumerate(whole.indices.tolist()) if index not in (3, 8)]
            assert torch.equal(batch.clips, whole.clips[kept])
            assert torch.equal(batch.labels, whole.labels[kept])
            assert torch.equal(batch.indices, whole.indices[kept])
    assert time.monotonic() - started < 10


@pytest.mark.skipif(not CAN_GUARD, reason="children are forked on Linux alone")
@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_child_that_is_killed_costs_no_sample_unless_it_is_always_the_same(
    videos: Annotations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deaths: int
) -> None:
    """A kill comes from outside (want of memory, a person): the video is read again, as in bulk work."""
    expected = list(_train(videos).epoch(0))
    tries = tmp_path / "tries"

    def die_at_first() -> None:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(dataset_module, "open_video", _Failing({"3.mkv"}, die_at_first))
    batches = list(_train(videos, workers=1).epoch(0))
    lost = [(item.index, item.reason) for batch in batches for item in batch.unreadable]
    if deaths <= 2:
        assert lost == []
        assert all(torch.equal(a.clips, b.clips) for a, b in zip(batches, expected, strict=True))
    else:
        assert lost == [(3, "its decoder crashed (SIGKILL; out of memory?)")]
    assert len(tries.read_text()) == min(deaths + 1, 3)


@pytest.mark.skipif(not CAN_GUARD, reason="children are forked on Linux alone")
def test_a_hang_costs_its_sample_alone_in_a_test_of_whole_frames(
    videos: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "open_video", _Failing({"3.mkv"}, lambda: time.sleep(600)))
    whole = Protocol(input=InputSpec(size=(16, 16)), num_frames=4, crop_size="frame")
    loader = build_test_loader(videos, protocol=whole, batch_size=4, workers=1, max_seconds=1)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    assert batches[3].unreadable[0].reason == "took longer than 1 s"
    monkeypatch.undo()
    plain = list(build_test_loader(videos, protocol=whole, batch_size=4, workers=0))
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(batches, plain, strict=True) if not a.unreadable)


@pytest.mark.skipif(not CAN_GUARD, reason="children are forked on Linux alone")
def test_a_dying_worker_is_explained(videos: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedBatches, "__getitems__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(DataError, match=r"a loader worker died .*lower data.workers"):
        next(_train(videos, workers=1).epoch(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_mistake_in_a_worker_stays_one_line(
    videos: Annotations, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="decoded frames cannot be stored") as error:
        next(_train(videos, workers=workers, cache=str(tmp_path / "file")).epoch(0))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "file"))


def test_ctrl_c_is_quiet_in_the_workers(videos: Annotations) -> None:
    program = f"""
        import signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background
        from kinemix.config import *
        from kinemix.data import Annotations, Sample, build_train_loader
        samples = tuple(Sample(path, 0) for path in {[sample.path for sample in videos.samples]!r}) * 50
        loader = build_train_loader(
            Annotations(samples, ("a", "b")),
            protocol=Protocol(input=InputSpec(size=(16, 16)), num_frames=4),
            augment=AugmentConfig(), batch_size=2, workers=2,
        )
        try:
            for batch in loader.epoch(0):
                print("batch", flush=True)
                time.sleep(0.2)
        except KeyboardInterrupt:
            print("stopped", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "batch\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, errors = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "stopped"
    assert errors == ""
    assert process.returncode == 0


ORPHAN = """
import multiprocessing, os, time
from kinemix.data import loader

def work():
    time.sleep(0.5)  # its parent is gone by then
    loader._start_worker(0)
    time.sleep(300)

worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
def test_a_worker_whose_main_process_died_at_once_ends_too() -> None:
    """It holds the other end of standard output, which is closed when it is gone."""
    subprocess.run([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, check=True, timeout=200)
