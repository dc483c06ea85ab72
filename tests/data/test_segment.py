"""Segments of long videos: the same frames as decoding everything and cutting, found without decoding it."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from kinemix.config import InputSpec, Protocol
from kinemix.data._container import Decoding
from kinemix.data._segment import SegmentSource, SlicedSource
from kinemix.data.annotations import Annotations, Sample
from kinemix.data.dataset import TestViews, VideoDataset, VideoOpener
from kinemix.data.frame_cache import open_cached_video
from kinemix.data.miniature import FRAME_RATE, LONG_FRAMES, Studio, encode, open_studio
from kinemix.data.reader import open_video
from kinemix.data.segment import Segment
from kinemix.errors import DataError, UnreadableVideoError

KINDS = {"mp4": "libx264", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4", "ts": "libx264"}
"""Containers and codecs: with B-frames, with hidden frames, without usable times, without an index."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return open_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("segments")
    return {
        suffix: encode(folder / f"v.{suffix}", num_frames=100, codec=codec) for suffix, codec in KINDS.items()
    }


def _decode_all(path: Path) -> np.ndarray:
    """Every frame by a plain decode, nothing of ours in between."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("suffix", KINDS)
def test_frames_are_those_of_a_plain_decode(suffix: str, videos: dict[str, Path]) -> None:
    everything = torch.from_numpy(_decode_all(videos[suffix])).permute(0, 3, 1, 2)
    rate = FRAME_RATE
    cuts = [(0, 0.5), (0.2, 1.0), (23 / rate, 25 / rate), (1.0, 2.7), (2.9, 3.3), (3.0, 99.0), (0, 99)]
    for start, stop in cuts:
        with open_video(videos[suffix], segment=Segment(start, stop)) as reader:
            first, last = (round(np.ceil(t * rate - 0.05)) for t in (start, min(stop, 100 / rate)))
            assert reader.num_frames == last - first, (start, stop)
            assert torch.equal(reader.read(range(reader.num_frames)), everything[first:last])
            assert torch.equal(reader.read([last - first - 1, 0]), everything[[last - 1, first]])
            assert reader.timestamps[0] == 0
            assert reader.frame_rate == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("suffix", KINDS)
def test_frame_numbers(suffix: str, videos: dict[str, Path]) -> None:
    everything = torch.from_numpy(_decode_all(videos[suffix])).permute(0, 3, 1, 2)
    with open_video(videos[suffix], segment=Segment(30, 41, unit="frames")) as reader:
        assert reader.num_frames == 11
        assert torch.equal(reader.read([0, 10]), everything[[30, 40]])


def test_nothing_else_is_decoded(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key frames are 24 apart: a segment of 15 frames costs at most two groups of pictures and what is reordered."""
    decoded = []
    original = Decoding._decode
    monkeypatch.setattr(Decoding, "_decode", lambda self, packet: decoded.append(1) or original(self, packet))
    with open_video(studio.long, segment=Segment(6.0, 6.5)) as reader:
        assert isinstance(reader._source, SegmentSource)
        assert reader._source._fallback is None
        reader.read(range(reader.num_frames))
    assert 15 <= len(decoded) <= 60 < LONG_FRAMES
    few = len(decoded)
    with open_video(studio.long, segment=Segment(0, 8)) as reader:
        reader.read([200])
    assert len(decoded) - few < 60


def test_packets_that_lie_are_noticed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a seek lands somewhere else, the whole video is opened, and the frames are the same."""
    with open_video(studio.long, segment=Segment(2, 3)) as reader:
        honest = reader.read(range(reader.num_frames))
    import kinemix.data._segment as module

    original = module._read_times
    monkeypatch.setattr(
        module, "_read_times", lambda *a: tuple([time + 7 for time in times] for times in original(*a))
    )
    with open_video(studio.long, segment=Segment(2, 3)) as reader:
        assert isinstance(reader._source, SegmentSource)
        assert isinstance(reader._source._fallback, SlicedSource)
        assert torch.equal(reader.read(range(reader.num_frames)), honest)


def test_bounds(studio: Studio) -> None:
    with pytest.raises(UnreadableVideoError, match=r"segment 8\.50-9\.00s starts after its end \(7\.97 s\)"):
        open_video(studio.long, segment=Segment(8.5, 9))
    with pytest.raises(UnreadableVideoError, match=r"segment 240-250f starts after its end \(240 frames\)"):
        open_video(studio.long, segment=Segment(240, 250, unit="frames"))
    with open_video(studio.long, segment=Segment(1.001, 1.01)) as reader, open_video(studio.long) as whole:
        assert reader.num_frames == 1
        assert torch.equal(reader.read([0]), whole.read([30]))
    with (
        open_video(studio.long, segment=Segment(1, 2)) as reader,
        pytest.raises(DataError, match="30 frames"),
    ):
        reader.read([30])
    for start, stop in ((2, 2), (3, 1), (-1, 2)):
        with pytest.raises(DataError, match="must start at 0 or later"):
            Segment(start, stop)


def test_folders_of_frames(studio: Studio, tmp_path: Path) -> None:
    folder = studio.put_frames(tmp_path / "P01_01", template="frame_{:010d}.jpg", count=20)
    with open_video(folder) as whole, open_video(folder, segment=Segment(7, 12, unit="frames")) as reader:
        assert reader.num_frames == 5
        assert torch.equal(reader.read(range(5)), whole.read(range(7, 12)))
    with open_video(folder, segment=Segment(18, 30, unit="frames")) as reader:
        assert reader.num_frames == 2
    (folder / "frame_0000000010.jpg").unlink()  # a gap shows itself when its frame is asked for
    with (
        open_video(folder, segment=Segment(7, 12, unit="frames")) as reader,
        pytest.raises(UnreadableVideoError),
    ):
        reader.read(range(5))


def test_flow_beside_frames_is_no_frame(studio: Studio, tmp_path: Path) -> None:
    for template in ("img_{:05d}.jpg", "flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"):
        studio.put_frames(tmp_path / "v", template=template, count=6)
    with open_video(tmp_path / "v") as reader:
        assert reader.num_frames == 6


@pytest.mark.parametrize("frames", [False, True])
def test_the_cache_keeps_segments_apart(frames: bool, studio: Studio, tmp_path: Path) -> None:
    if frames:
        path = studio.put_frames(tmp_path / "v", count=20)
        segments = [Segment(2, 6, unit="frames"), Segment(3, 9, unit="frames")]
    else:
        path, segments = studio.long, [Segment(1, 2), Segment(1, 2.5), Segment(1.0001, 2)]
    for _ in range(2):
        for segment in segments:
            with (
                open_cached_video(path, cache=tmp_path / "cache", segment=segment) as cached,
                open_video(path, segment=segment) as reader,
            ):
                assert cached.num_frames == reader.num_frames
                assert torch.equal(cached.read([0, 2]), reader.read([0, 2]))
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == len(segments)


def test_a_segment_is_sampled_like_a_short_video(studio: Studio) -> None:
    samples = (Sample(str(studio.long), 0, segment=Segment(2, 4)), Sample(str(studio.long), 1))
    protocol = Protocol(input=InputSpec(size=(48, 64)), num_frames=4, crop_fraction=1.0)
    dataset = VideoDataset(
        Annotations(samples, ("a", "b")), load=TestViews(protocol=protocol), open_reader=VideoOpener()
    )
    with open_video(studio.long) as reader:
        # Four segments of sixty frames from frame 60 on, the middle of each.
        frames = reader.read([60 + 7, 60 + 22, 60 + 37, 60 + 52])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (protocol.input.mean, protocol.input.std))
    item = dataset[0]
    assert torch.allclose(item.clip[0], (frames / 255 - mean) / std, atol=1e-5)
    assert not torch.equal(item.clip, dataset[1].clip)
    assert [sample.name for sample in samples] == [f"{studio.long}#2.00-4.00s", str(studio.long)]


def test_an_unreadable_segment_is_named(studio: Studio) -> None:
    sample = Sample(str(studio.long), 0, segment=Segment(100, 101))
    protocol = Protocol(input=InputSpec(size=(8, 8)), num_frames=2)
    dataset = VideoDataset(Annotations((sample,), ("a", "b")), load=TestViews(protocol=protocol))
    failed = dataset[0]
    assert (failed.path, failed.index) == (sample.name, 0)
    assert "starts after its end" in failed.reason
