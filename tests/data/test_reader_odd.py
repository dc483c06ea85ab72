"""The reader on real files that break readers, against a plain decode of each whole file written here.

Set KINEMIX_VIDEOS to a folder that holds ``odd/`` with the videos and their ``manifest.csv``.
"""

import csv
import importlib.util
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from kinemix.data import _pyav
from kinemix.data.reader import VideoReader, open_video
from kinemix.errors import UnreadableVideoError

ODD = Path(os.environ["KINEMIX_VIDEOS"]) / "odd" if "KINEMIX_VIDEOS" in os.environ else None
pytestmark = pytest.mark.skipif(ODD is None, reason="KINEMIX_VIDEOS is not set")

BROKEN_INSIDE = "mp4parse-rust__no_timescale.mp4"  # looks sound by its packets, 12 of which do not decode
NUM_SAMPLED, NUM_IN_A_ROW = 3, 6

PLAIN_FORMATS = {"yuv420p", "yuvj420p", "yuv444p", "yuvj444p", "bgra", "gbrp"}
ROUNDING = 0.02
CHROMA_ROUNDING = 4.0
"""Mean levels by which torchcodec's colours may differ: none but rounding for 8 bits and even sizes. Where
chroma is interpolated instead (more bits, odd sizes) the two FFmpeg versions place and filter it unlike."""


def read_manifest() -> dict[str, int]:
    """Frames that FFmpeg's command line decodes, by file name."""
    if ODD is None:
        return {"(no videos)": 0}
    with (ODD / "manifest.csv").open(newline="", errors="replace") as rows:
        return {row["file"]: int(row["frames_ffmpeg_decodes"] or 0) for row in csv.DictReader(rows)}


MANIFEST = read_manifest()
# The manifest's FFmpeg (5.1) refuses this one; the FFmpeg in PyAV (8.1) and in torchcodec decode a frame.
LATER_DECODED = {"libwebm__blockgroup_block_ends_beyond_blockgroup.mkv": 1}


@dataclass
class Truth:
    """A whole file decoded in order: the count, and the pictures around the sampled indices."""

    count: int = 0
    plain: bool = True
    pictures: dict[int, torch.Tensor] = field(default_factory=dict)


def decode_plainly(path: Path, wanted: Iterable[int]) -> Truth:
    truth, wanted = Truth(), set(wanted)
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = next(
            s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
        )
        stream.codec_context.thread_count = 1  # how damage is concealed depends on it
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                if truth.count in wanted:
                    turns = frame.rotation // 90 % 4 if abs(frame.rotation) <= 360 else 0
                    rgb = np.rot90(frame.to_ndarray(format="rgb24"), turns)
                    truth.pictures[truth.count] = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
                even = frame.width % 2 == frame.height % 2 == 0
                truth.plain &= even and frame.format.name in PLAIN_FORMATS
                truth.count += 1
    return truth


def sample(count: int) -> list[int]:
    """The first, the last, some others, and some in a row (timestamps scramble neighbours), unordered."""
    some = random.Random(count).sample(range(count), min(count, NUM_SAMPLED))
    start = max(0, min(some[0], count - NUM_IN_A_ROW))
    return [*some, count - 1, 0, *range(start, min(count, start + NUM_IN_A_ROW))]


def around(indices: Iterable[int]) -> set[int]:
    return {index + step for index in indices for step in (-1, 0, 1)}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a[:, ::2, ::2].float() - b[:, ::2, ::2].float()).abs().mean().item()


def assert_same_frames(reader: VideoReader, truth: Truth, indices: list[int]) -> None:
    frames = reader.read(indices)
    assert frames.shape == (len(indices), 3, reader.height, reader.width)
    if reader.backend == "pyav":
        assert torch.equal(frames, torch.stack([truth.pictures[i] for i in indices]))
        return
    for index, frame in zip(indices, frames, strict=True):
        own = distance(frame, truth.pictures[index])
        assert own <= (ROUNDING if truth.plain else CHROMA_ROUNDING)
        for neighbour in (index - 1, index + 1):
            if neighbour in truth.pictures:
                # A still scene may repeat a frame; then the neighbour is as near, never nearer.
                assert own <= distance(frame, truth.pictures[neighbour]) + ROUNDING


@pytest.mark.parametrize("name", MANIFEST)
def test_both_readers_give_the_frames_of_a_plain_decode(name: str) -> None:
    assert ODD is not None
    expected = LATER_DECODED.get(name, MANIFEST[name])
    if expected == 0:
        with pytest.raises(UnreadableVideoError, match=r"\A[^\n]+\Z"):
            open_video(ODD / name)
        return
    with open_video(ODD / name) as reader:
        indices = sample(reader.num_frames)
        truth = decode_plainly(ODD / name, around(indices))
        assert reader.num_frames == truth.count == expected
        assert len(reader.timestamps) == truth.count
        assert all(b > a for a, b in zip(reader.timestamps, reader.timestamps[1:], strict=False))
        assert 0 < reader.frame_rate < 1100
        assert_same_frames(reader, truth, indices)
    if importlib.util.find_spec("torchcodec") is None:
        pytest.skip("torchcodec is not installed; PyAV agrees")
    with open_video(ODD / name, backend="torchcodec") as reader:
        assert reader.num_frames == truth.count
        assert_same_frames(reader, truth, indices)
        assert (reader.fallback_reason is None) == (reader.backend == "torchcodec")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("moviepy__result.webm", "empty file"),
        ("exiftool__ASF.wmv", "not a video"),
        ("exoplayer__sample_ac3.mp4", "audio only"),
        ("exoplayer__sample.text.mp4", "no video stream"),
        ("exiftool__QuickTime.mov", "header only"),
        ("mp4parse-rust__short-cenc.mp4", "encrypted"),
        ("exoplayer__subsample_encrypted_altref.webm", "encrypted"),
        ("libwebm__matroska_doctype.mkv", "no decoder"),
        ("exoplayer__invalid-bitstream.webm", "no decodable frame"),
    ],
)
def test_a_refusal_tells_the_reason(name: str, reason: str) -> None:
    assert ODD is not None
    with pytest.raises(UnreadableVideoError) as caught:
        open_video(ODD / name)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize("name", ["decord__corrupted.mp4", BROKEN_INSIDE])
def test_damage_is_reported(name: str) -> None:
    assert ODD is not None
    with open_video(ODD / name) as reader:
        assert reader.problem is not None
        assert "packets failed" in reader.problem


@pytest.mark.slow
@pytest.mark.parametrize("way", ["packets", "scanned"])
@pytest.mark.parametrize(
    "name", [name for name, count in MANIFEST.items() if count and name != BROKEN_INSIDE]
)
def test_seeks_give_the_frames_of_a_plain_decode(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above with no picture kept, so that every read seeks where it may."""
    assert ODD is not None
    monkeypatch.setattr(_pyav, "KEEP_BYTES", 0)
    with open_video(ODD / name, full_scan=way == "scanned") as reader:
        indices = sample(reader.num_frames)
        truth = decode_plainly(ODD / name, indices)
        assert reader.num_frames == truth.count
        for index in indices:
            assert_same_frames(reader, truth, [index])
