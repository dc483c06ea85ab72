"""What each way of preparing a dataset costs on disk and gains in time: the table of docs/prepare.md.

Prepares ``--limit`` clips of a dataset with every setting, and samples 8 frames of each before and after, by
turns, one thread.

    python benchmarks/prepare.py path/to/data --limit 24
"""

import argparse
import tempfile
from pathlib import Path

from kinemix.data.prepare.run import prepare_dataset
from kinemix.data.prepare.settings import Settings

SETTINGS = {
    "video, every frame by itself, quality 23": Settings(quality=23),
    "video, every frame by itself, quality 29": Settings(quality=29),
    "video, every frame by itself, quality 31": Settings(quality=31),
    "video, every frame by itself, quality 34": Settings(quality=34),
    "video, a key frame every 2, quality 28": Settings(keyframes=2, quality=28),
    "video, a key frame every 4, quality 26": Settings(keyframes=4, quality=26),
    "video, a key frame every 8, quality 24": Settings(keyframes=8, quality=24),
    "video, quality 29, short side 128": Settings(quality=29, short_side=128),
    "frames, JPEG 75": Settings(to="frames", quality=75),
    "frames, JPEG 30": Settings(to="frames", quality=30),
    "frames, WebP 50": Settings(to="frames", image="webp", quality=50),
    "frames, WebP 10": Settings(to="frames", image="webp", quality=10),
    "frames, JPEG 75, short side 128": Settings(to="frames", quality=75, short_side=128),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print("| how | disk | times faster | ms before | ms after | worst PSNR of a clip, median |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            made = prepare_dataset(
                arguments.data,
                Path(folder) / "prepared",
                settings=settings,
                limit=arguments.limit,
                workers=arguments.workers,
            )
        assert made.speed is not None
        speed, disk = made.speed, made.bytes / made.source_bytes
        print(
            f"| {name} | {disk:.2f} x | {speed.ratio:.1f} | {speed.before:.1f} | {speed.after:.1f} "
            f"| {made.psnr:.1f} dB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
