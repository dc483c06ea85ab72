"""Whether the loader keeps its processes at decoding: its clips a second against theirs.

By turns, the same augmented clips of the same videos are made by the loader, which batches them and hands them
to this process, and by as many processes that make them and throw them away. Printed are the medians of both
and of their ratio.

    python benchmarks/loader.py                               on generated videos, made first
    python benchmarks/loader.py path/to/data --workers 2
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time

import torch

from kinemix.config import AugmentConfig, DataConfig, InputSpec, Protocol
from kinemix.data import Annotations, Batch, TrainLoader, build_train_loader, open_splits
from kinemix.data.catalog.motion import make_motion
from kinemix.data.order import Key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=96, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.data is not None:
        compare(open_splits(DataConfig(source=arguments.data, group_by=None)).train, arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = make_motion(folder, grade="easy", train_per_class=8, val_per_class=1, size=256, num_frames=48)
        compare(open_splits(DataConfig(source=str(made))).train, arguments)


def compare(samples: Annotations, arguments: argparse.Namespace) -> None:
    """Time both by turns, and print."""
    count = arguments.clips // arguments.batch_size * arguments.batch_size
    repeats = -(-count // len(samples))
    samples = Annotations((samples.samples * repeats)[:count], samples.class_names)
    options = {
        "protocol": Protocol(
            input=InputSpec(size=(arguments.size, arguments.size)), num_frames=arguments.frames
        ),
        "augment": AugmentConfig(),
        "batch_size": arguments.batch_size,
    }
    loader = build_train_loader(samples, workers=arguments.workers, **options)
    alone = build_train_loader(samples, workers=0, **options)
    _drain(loader, epoch=0)  # the workers start
    loaded, decoded = [], []
    for turn in range(1, arguments.turns + 1):
        decoded.append(count / _decode_alone(alone, epoch=turn, processes=arguments.workers))
        loaded.append(count / _drain(loader, epoch=turn))
        print(f"turn {turn}: loader {loaded[-1]:.1f}, decoding alone {decoded[-1]:.1f} clips/s", flush=True)
    ratio = statistics.median(a / b for a, b in zip(loaded, decoded, strict=True))
    print(
        f"medians of {arguments.turns} turns, {arguments.workers} processes: loader "
        f"{statistics.median(loaded):.1f}, decoding alone {statistics.median(decoded):.1f} clips/s: {ratio:.2f}"
    )


def _drain(loader: TrainLoader, *, epoch: int) -> float:
    """Seconds for an epoch of the loader."""
    started = time.perf_counter()
    batch: Batch
    for batch in loader.epoch(epoch):
        assert not batch.unreadable
    return time.perf_counter() - started


def _decode_alone(loader: TrainLoader, *, epoch: int, processes: int) -> float:
    """Seconds for the same clips in processes that keep them to themselves, once all have started."""
    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(processes + 1)
    count = len(loader.dataset)
    workers = [
        fork.Process(target=_decode, args=(loader, range(first, count, processes), epoch, ready))
        for first in range(processes)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return time.perf_counter() - started


def _decode(loader: TrainLoader, indices: range, epoch: int, ready: object) -> None:
    torch.set_num_threads(1)
    ready.wait()  # type: ignore[attr-defined]
    for index in indices:
        loader.dataset[Key(epoch, index)]


if __name__ == "__main__":
    main()
