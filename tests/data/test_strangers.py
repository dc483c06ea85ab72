"""Videos of strangers: what is refused before it is decoded, and a reader that survives them."""

import os
import signal
import time

import av
import numpy as np
import pytest

from kinemix.data._container import Decoding
from kinemix.data.reader import open_video
from kinemix.data.strangers import CarefulReader, check_video
from kinemix.errors import UnreadableVideoError


def write_video(path, *, num_frames=30, rate=10, codec="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(num_frames):
            picture = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Three seconds."""
    return write_video(tmp_path_factory.mktemp("videos") / "three.mp4")


def test_a_video_within_the_limit_passes(video):
    check_video(video, max_seconds=3.0)


def test_a_longer_one_is_refused_before_anything_is_decoded(video, monkeypatch):
    monkeypatch.setattr(Decoding, "frames", None)
    with pytest.raises(UnreadableVideoError, match=r"three\.mp4: longer than 2\.5 s: give a shorter one"):
        check_video(video, max_seconds=2.5)


def test_a_header_is_not_believed(tmp_path):
    """Of a file that was cut off it promises more than there is."""
    whole = write_video(tmp_path / "whole.mkv", num_frames=40).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 3])
    with open_video(path) as reader:
        assert 0.5 < reader.timestamps[-1] < 2
        assert "promises" in reader.problem or "ends early" in reader.problem
    check_video(path, max_seconds=2.0)


def test_times_tell_the_length(tmp_path):
    path = write_video(tmp_path / "silent.ts", codec="mpeg2video", rate=25, num_frames=100)
    check_video(path, max_seconds=4.0)
    with pytest.raises(UnreadableVideoError, match="longer than 2 s"):
        check_video(path, max_seconds=2.0)


def test_packets_are_counted_whatever_times_they_tell(tmp_path):
    path = write_video(tmp_path / "fast.mp4", num_frames=400, rate=1000)  # 0.4 s, it says
    with open_video(path) as reader:
        assert reader.num_frames == 400
    check_video(path, max_seconds=7.0)
    with pytest.raises(UnreadableVideoError, match="more than 60 frames: 1 s may have 60 each"):
        check_video(path, max_seconds=1.0)


def test_without_any_times_frames_last_a_25th_of_a_second(tmp_path):
    path = write_video(tmp_path / "raw.h264", num_frames=50)
    check_video(path, max_seconds=2.0)
    with pytest.raises(UnreadableVideoError, match=r"longer than 1\.9 s"):
        check_video(path, max_seconds=1.9)


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
def test_what_leads_to_other_files_is_refused(video, tmp_path, kind):
    """Such a file would show its sender a video of this machine."""
    texts = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\n{video}\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile {video.name}\n",
    }
    path = video.parent / f"list.{kind}"
    path.write_text(texts[kind])
    with pytest.raises(UnreadableVideoError, match=r"a list of other files|not a video"):
        check_video(path, max_seconds=60)


def test_ffconcat_would_be_followed_if_it_were_not_refused(video):
    path = video.parent / "follow.ffconcat"
    path.write_text(f"ffconcat version 1.0\nfile {video.name}\n")
    with open_video(path) as reader:
        assert reader.num_frames == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "empty file"),
        (b"a text, no video\n" * 50, "not a video"),
        ("folder", "a folder"),
    ],
)
def test_what_is_no_video_says_why(tmp_path, content, message):
    path = tmp_path / "thing.mp4"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableVideoError, match=message):
        check_video(path, max_seconds=60)


def count_frames(path):
    if path.name == "crash.mp4":
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name == "hang.mp4":
        time.sleep(60)
    with open_video(path) as reader:
        return reader.num_frames, reader.read([0])


def test_a_reader_survives_a_crash_and_a_hang(video, tmp_path):
    reader = CarefulReader(count_frames, max_seconds=60, reading_seconds=1.0)
    try:
        for name, message in (("crash.mp4", "crashed"), ("hang.mp4", "took longer than 1 s")):
            path = tmp_path / name
            path.write_bytes(video.read_bytes())
            with pytest.raises(UnreadableVideoError, match=f"{name}.*{message}"):
                reader.read(path)
            count, frame = reader.read(video)
            assert (count, tuple(frame.shape)) == (30, (1, 3, 32, 32))
    finally:
        reader.close()


def test_a_reader_refuses_what_is_too_long(video):
    reader = CarefulReader(count_frames, max_seconds=1.0)
    try:
        with pytest.raises(UnreadableVideoError, match="longer than 1 s"):
            reader.read(video)
    finally:
        reader.close()
