"""The doctor's pass over videos against decoding them, and nothing else, from first to last frame.

One process and one FFmpeg thread, every video by turns with both, in the processor's time, which other work on the
machine touches less than the clock's.

    python benchmarks/doctor.py path/to/data --limit 96
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import av
import numpy as np

from kinemix.config import DataConfig
from kinemix.data.doctor.examine import examine_video
from kinemix.data.doctor.members import read_collection
from kinemix.data.doctor.record import Task


def decode(path: str) -> int:
    """How many frames the first video stream gives."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        return sum(1 for _ in container.decode(stream))


def measure(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, default=96)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    paths = sorted({member.path for member in read_collection(DataConfig(source=arguments.data)).members})
    paths = [
        paths[i] for i in np.linspace(0, len(paths) - 1, min(arguments.limit, len(paths))).round().astype(int)
    ]
    frames = sum(decode(path) for path in paths)  # and the files are in the system's memory now
    turns = []
    for turn in range(arguments.turns):
        plain = examined = 0.0
        for path in paths:
            plain += measure(partial(decode, path))
            examined += measure(partial(examine_video, Task(path=path)))
        turns.append((plain, examined))
        print(f"turn {turn + 1}: decoding {plain:.2f} s, examining {examined:.2f} s", flush=True)
    ratio = np.median([plain / examined for plain, examined in turns])
    examined = np.median([examined for _, examined in turns])
    print(
        f"{len(paths)} videos, {frames} frames, medians of {arguments.turns} turns: "
        f"{len(paths) / examined:.1f} videos/s, {ratio:.2f} of the speed of decoding alone"
    )


if __name__ == "__main__":
    main()
