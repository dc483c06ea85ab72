"""The reader against videos whose every frame spells its own index, so that no decoder is taken on trust."""

import importlib.util
import struct
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from kinemix.data import _pyav
from kinemix.data._container import Decoding
from kinemix.data._frame_table import Walk
from kinemix.data.reader import VideoReader, open_video
from kinemix.errors import ConfigError, DataError, UnreadableVideoError

BITS = 8
HEIGHT, WIDTH = 48, 64
NUM_FRAMES = 100


def paint(index: int, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture whose columns are the bits of ``index``, highest first, white for one."""
    bits = [(index >> (BITS - 1 - column)) & 1 for column in range(BITS)]
    row = np.repeat(np.array(bits, dtype=np.uint8) * 255, width // BITS)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def spell(frames: torch.Tensor) -> list[int]:
    """The indices that frames spell: ``T 3 H W`` to T numbers."""
    columns = frames.float().mean((1, 2)).unflatten(1, (BITS, -1)).mean(2)
    return [int("".join("01"[int(bit > 127)] for bit in row), 2) for row in columns]


def encode(
    path: Path,
    *,
    num_frames: int = NUM_FRAMES,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video whose frame i spells i, with B-frames and a key frame every 12 unless told otherwise."""
    if codec == "libx264":
        options = {
            "g": "12",
            "bf": "3",
            "b-adapt": "0",
            "preset": "ultrafast",
            "crf": "10",
            **(options or {}),
        }
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 25)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(paint(index, height=size[0], width=size[1]))
            frame.pts = index if times is None else times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode_plainly(path: Path) -> list[np.ndarray]:
    """The whole file, packet by packet from its start, broken packets skipped, without the reader."""
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # concealment of damage depends on it
        for packet in container.demux(stream):
            try:
                pictures += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.FFmpegError:
                continue
    return pictures


def as_tensor(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def torchcodec_loads() -> bool:
    if importlib.util.find_spec("torchcodec") is None:
        return False
    try:
        import torchcodec.decoders  # noqa: F401
    except RuntimeError:
        return False
    return True


BACKENDS = [
    "pyav",
    pytest.param(
        "torchcodec", marks=pytest.mark.skipif(not torchcodec_loads(), reason="torchcodec does not load here")
    ),
]


@pytest.fixture(scope="module")
def b_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("reader") / "b_frames.mp4")


@pytest.fixture(scope="module")
def b_frames_truth(b_frames: Path) -> torch.Tensor:
    return as_tensor(decode_plainly(b_frames))


@pytest.fixture(scope="module", params=["kept", "packets", "scanned", "torchcodec"])
def way(request: pytest.FixtureRequest, b_frames: Path) -> Iterator[VideoReader]:
    """One long-lived reader for each way of knowing and reading frames."""
    if request.param == "torchcodec" and not torchcodec_loads():
        pytest.skip("torchcodec does not load here")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "scanned":  # decoded once to count, too large to keep
            patch.setattr(_pyav, "KEEP_BYTES", 0)
        reader = open_video(
            b_frames,
            backend="torchcodec" if request.param == "torchcodec" else "pyav",
            full_scan=request.param != "packets",
        )
    with reader:
        assert reader.backend == ("torchcodec" if request.param == "torchcodec" else "pyav")
        yield reader


class TestExactFrames:
    def test_the_file_has_b_frames_and_many_key_frames(self, b_frames: Path) -> None:
        with av.open(str(b_frames)) as container:
            packets = [p for p in container.demux(video=0) if p.size]
        assert [p.pts for p in packets] != sorted(p.pts for p in packets if p.pts is not None)
        assert sum(p.is_keyframe for p in packets) > 5

    def test_facts(self, way: VideoReader) -> None:
        assert (way.num_frames, way.height, way.width) == (NUM_FRAMES, HEIGHT, WIDTH)
        assert way.frame_rate == pytest.approx(25)
        assert way.timestamps == pytest.approx([i / 25 for i in range(NUM_FRAMES)])
        assert way.problem is None
        assert way.fallback_reason is None

    def test_every_frame(self, way: VideoReader, b_frames_truth: torch.Tensor) -> None:
        frames = way.read(range(NUM_FRAMES))
        assert frames.dtype == torch.uint8
        assert spell(frames) == list(range(NUM_FRAMES))
        assert torch.equal(frames, b_frames_truth)

    @settings(max_examples=40, deadline=None)
    @given(indices=st.lists(st.integers(0, NUM_FRAMES - 1), max_size=12))
    def test_any_indices(self, way: VideoReader, b_frames_truth: torch.Tensor, indices: list[int]) -> None:
        frames = way.read(indices)
        assert frames.shape == (len(indices), 3, HEIGHT, WIDTH)
        assert torch.equal(frames, b_frames_truth[indices])

    def test_a_far_frame_is_reached_by_a_seek(self, b_frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_video(b_frames, full_scan=False) as reader:
            steps: list[Walk] = []
            advance = Walk._advance

            def count_step(walk: Walk) -> av.VideoFrame:
                steps.append(walk)
                return advance(walk)

            monkeypatch.setattr(Walk, "_advance", count_step)
            assert spell(reader.read([95])) == [95]
            assert len(steps) <= 12
            steps.clear()
            assert spell(reader.read([97])) == [97]
            assert len(steps) <= 2  # goes on from where it stands

    @pytest.mark.parametrize("indices", [[100], [-1], [3, 4, 200]])
    def test_an_index_out_of_range_names_the_count(self, way: VideoReader, indices: list[int]) -> None:
        with pytest.raises(DataError, match="has 100 frames"):
            way.read(indices)

    def test_tensors_and_arrays_are_indices(self, way: VideoReader) -> None:
        assert spell(way.read(torch.tensor([7, 3]))) == [7, 3]
        assert spell(way.read(np.array([7, 3]))) == [7, 3]

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize(
        ("codec", "suffix"),
        [
            ("mpeg4", ".avi"),
            ("libvpx-vp9", ".webm"),
            ("libx264", ".mkv"),
            ("mpeg2video", ".mpg"),
            ("gif", ".gif"),
        ],
    )
    def test_containers(self, tmp_path: Path, backend: str, codec: str, suffix: str) -> None:
        path = tmp_path / f"clip{suffix}"
        if codec == "gif":
            images = [Image.fromarray(paint(i)) for i in range(30)]
            images[0].save(path, save_all=True, append_images=images[1:], duration=40)
        else:
            options = {"mpeg4": {"bf": "2"}, "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}
            encode(path, num_frames=30, codec=codec, options=options.get(codec))
        with open_video(path, backend=backend) as reader:  # type: ignore[arg-type]
            assert reader.num_frames == len(decode_plainly(path)) == 30
            assert spell(reader.read([29, 0, 17, 17])) == [29, 0, 17, 17]

    @pytest.mark.parametrize("way", ["packets", "scanned"])
    @pytest.mark.parametrize(
        ("suffix", "parameters"),
        [
            (".mp4", "keyint=12:min-keyint=12:bframes=3:open-gop=1"),
            (".mkv", "keyint=12:bframes=2:intra-refresh=1"),
            (".mp4", "keyint=3:min-keyint=3:bframes=16:b-pyramid=2"),
        ],
        ids=["open groups", "intra refresh", "groups shorter than the delay"],
    )
    def test_seeks_in_streams_that_make_them_hard(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, parameters: str, way: str
    ) -> None:
        """Key packets that do not cut the stream clean: exact all the same, by a seek or without one."""
        options = {"preset": "medium", "x264-params": f"scenecut=0:{parameters}"}
        path = encode(tmp_path / f"hard{suffix}", options=options)
        truth = as_tensor(decode_plainly(path))
        monkeypatch.setattr(_pyav, "KEEP_BYTES", 0)
        with open_video(path, full_scan=way == "scanned") as reader:
            assert reader.num_frames == len(truth) == NUM_FRAMES
            for index in [99, 3, 50, 13, 61, 37, 12, 24, 25, 11]:
                assert torch.equal(reader.read([index]), truth[[index]]), index


class TestTimesAndGeometry:
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_variable_frame_rate(self, tmp_path: Path, backend: str) -> None:
        times = [0, 1, 2, 10, 11, 30, 31, 32, 50, 75]
        path = encode(tmp_path / "vfr.mp4", num_frames=10, times=times)
        with open_video(path, backend=backend) as reader:  # type: ignore[arg-type]
            assert reader.timestamps == pytest.approx([t / 25 for t in times])
            assert reader.frame_rate == pytest.approx(9 / 3)
            assert spell(reader.read(range(10))) == list(range(10))

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("rotation", [0, 90, 180, 270])
    def test_rotation_is_applied(self, tmp_path: Path, backend: str, rotation: int) -> None:
        path = encode(tmp_path / "turned.mp4", num_frames=6, rotation=rotation)
        with av.open(str(path)) as container:
            marked = next(container.decode(video=0)).rotation
        with open_video(path, backend=backend, short_side=24) as reader:  # type: ignore[arg-type]
            assert marked % 360 in (rotation, -rotation % 360)
            turns = marked // 90 % 4  # counter-clockwise
            assert (reader.height, reader.width) == ((24, 32) if turns % 2 == 0 else (32, 24))
            frames = reader.read(range(6))
            assert frames.shape[2:] == (reader.height, reader.width)
            assert spell(torch.rot90(frames, -turns, (2, 3))) == list(range(6))

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_one_frame(self, tmp_path: Path, backend: str) -> None:
        path = encode(tmp_path / "one.mp4", num_frames=1)
        with open_video(path, backend=backend) as reader:  # type: ignore[arg-type]
            assert (reader.num_frames, reader.timestamps) == (1, (0.0,))
            assert reader.read([0, 0]).shape == (2, 3, HEIGHT, WIDTH)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_short_side_keeps_the_aspect_and_never_enlarges(self, tmp_path: Path, backend: str) -> None:
        path = encode(tmp_path / "wide.mp4", num_frames=4, size=(90, 160))
        with open_video(path, backend=backend, short_side=45) as reader:  # type: ignore[arg-type]
            assert (reader.height, reader.width) == (45, 80)
            small = reader.read(range(4))
        with open_video(path, backend=backend, short_side=1000) as reader:  # type: ignore[arg-type]
            assert (reader.height, reader.width) == (90, 160)
            full = reader.read(range(4))
        reference = F.interpolate(full, size=(45, 80), mode="bilinear", antialias=True)
        assert (small.float() - reference.float()).abs().mean() < 3
        assert spell(small) == list(range(4))

    def test_a_size_that_changes_is_brought_to_the_first(self, tmp_path: Path) -> None:
        small = encode(tmp_path / "small.h264", num_frames=5)
        large = encode(tmp_path / "large.h264", num_frames=5, size=(96, 160))
        path = tmp_path / "both.h264"
        path.write_bytes(small.read_bytes() + large.read_bytes())
        with open_video(path) as reader:
            assert (reader.num_frames, reader.height, reader.width) == (10, HEIGHT, WIDTH)
            assert spell(reader.read(range(10))) == [*range(5), *range(5)]

    def test_metadata_in_another_encoding(self, tmp_path: Path) -> None:
        path = tmp_path / "latin.avi"
        with av.open(str(path), "w") as container:
            container.metadata["title"] = "MARKMARK"
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(paint(9))))
            container.mux(stream.encode(None))
        path.write_bytes(path.read_bytes().replace(b"MARKMARK", b"\xe9\xff\xfe\x80\xe9\xff\xfe\x80"))
        with pytest.raises(UnicodeDecodeError):
            av.open(str(path))
        with open_video(path) as reader:
            assert spell(reader.read([0])) == [9]


class TestDamage:
    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize(
        ("suffix", "options"), [(".mp4", {"movflags": "faststart"}), (".mkv", {}), (".avi", {})]
    )
    def test_a_file_that_ends_early(
        self, tmp_path: Path, backend: str, suffix: str, options: dict[str, str]
    ) -> None:
        codec = "mpeg4" if suffix == ".avi" else "libx264"
        whole = encode(tmp_path / f"whole{suffix}", codec=codec, container_options=options)
        path = tmp_path / f"cut{suffix}"
        data = whole.read_bytes()
        path.write_bytes(data[: int(len(data) * 0.6)])
        truth = as_tensor(decode_plainly(path))
        with open_video(path, backend=backend) as reader:  # type: ignore[arg-type]
            assert 10 < reader.num_frames == len(truth) < NUM_FRAMES
            assert reader.problem
            assert "\n" not in reader.problem
            assert torch.equal(reader.read(range(len(truth))), truth)
            with pytest.raises(DataError, match=f"has {len(truth)} frames"):
                reader.read([NUM_FRAMES - 1])

    def damage(self, source: Path, target: Path, packets: Sequence[int]) -> Path:
        """Overwrite whole packets, so that they no longer decode."""
        with av.open(str(source)) as container:
            places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
        data = bytearray(source.read_bytes())
        for packet in packets:
            position, size = places[packet]
            assert position is not None
            data[position : position + size] = b"\xff" * size
        target.write_bytes(data)
        return target

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_a_broken_packet_is_not_counted(self, b_frames: Path, tmp_path: Path, backend: str) -> None:
        path = self.damage(b_frames, tmp_path / "broken.mp4", [30, 31])
        truth = as_tensor(decode_plainly(path))
        assert len(truth) < NUM_FRAMES
        with open_video(path, backend=backend) as reader:  # type: ignore[arg-type]
            assert reader.num_frames == len(truth)
            assert reader.problem is not None
            assert "packets failed" in reader.problem
            assert torch.equal(reader.read(range(len(truth))), truth)

    def test_a_wrong_promise_of_the_packets_is_mended(self, b_frames: Path, tmp_path: Path) -> None:
        path = self.damage(b_frames, tmp_path / "broken.mp4", [30, 31])
        truth = as_tensor(decode_plainly(path))
        with open_video(path, full_scan=False) as reader:
            assert reader.num_frames == NUM_FRAMES  # what the packets promise
            assert torch.equal(reader.read([35]), truth[[35]])
            assert reader.num_frames == len(truth)
            assert reader.problem is not None
            with pytest.raises(DataError, match=f"has {len(truth)} frames"):
                reader.read([NUM_FRAMES - 1])

    def test_a_broken_end_is_noticed_before_anything_is_read(self, b_frames: Path, tmp_path: Path) -> None:
        path = self.damage(b_frames, tmp_path / "broken.mp4", [NUM_FRAMES - 1])
        with open_video(path, full_scan=False) as reader:
            assert reader.num_frames == len(decode_plainly(path)) < NUM_FRAMES

    def test_damage_leaves_the_terminal_silent(
        self, b_frames: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with open_video(self.damage(b_frames, tmp_path / "broken.mp4", [30, 31])) as reader:
            reader.read([0])
        assert capfd.readouterr() == ("", "")

    def test_reading_is_bounded_by_the_size_of_the_file(self, b_frames: Path) -> None:
        with Decoding(b_frames, stream_index=0, num_threads=1) as decoding:
            decoding._file_size = 10 - 2**10  # leaves ten packets
            assert sum(1 for _ in decoding.packets()) == 10
            assert decoding.failures == ["the index points at more data than the file holds"]


class TestFrameFolder:
    @pytest.mark.parametrize("suffix", [".jpg", ".PNG"])
    def test_numbers_sort_as_numbers(self, tmp_path: Path, suffix: str) -> None:
        for index in [11, 2, 1, 100, 10]:
            Image.fromarray(paint(index)).save(tmp_path / f"img_{index}{suffix}")
        (tmp_path / "notes.txt").write_text("no image")
        with open_video(tmp_path) as reader:
            assert (reader.num_frames, reader.height, reader.width) == (5, HEIGHT, WIDTH)
            assert (reader.backend, reader.frame_rate) == ("images", 25)
            assert spell(reader.read([0, 1, 2, 3, 4, 0])) == [1, 2, 10, 11, 100, 1]

    def test_other_sizes_and_modes(self, tmp_path: Path) -> None:
        Image.fromarray(paint(1)).save(tmp_path / "1.png")
        Image.fromarray(paint(2, height=96, width=128)).convert("L").save(tmp_path / "2.png")
        Image.fromarray(paint(3)).convert("RGBA").save(tmp_path / "3.png")
        with open_video(tmp_path, short_side=24) as reader:
            frames = reader.read(range(3))
        assert frames.shape == (3, 3, 24, 32)
        assert spell(frames) == [1, 2, 3]

    def test_a_damaged_image_is_named(self, tmp_path: Path) -> None:
        for index in range(3):
            Image.fromarray(paint(index)).save(tmp_path / f"{index}.jpg")
        whole = (tmp_path / "1.jpg").read_bytes()
        (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
        with open_video(tmp_path) as reader:
            assert spell(reader.read([0, 2])) == [0, 2]
            with pytest.raises(UnreadableVideoError, match=r"1\.jpg does not decode"):
                reader.read([1])

    def test_a_folder_without_images(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("no image")
        with pytest.raises(UnreadableVideoError, match="without JPEG or PNG"):
            open_video(tmp_path)


class TestRefusals:
    def refuse(self, path: Path, reason: str, backend: str = "auto") -> None:
        with pytest.raises(UnreadableVideoError, match=reason) as caught:
            open_video(path, backend=backend)  # type: ignore[arg-type]
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_audio_only(self, tmp_path: Path, backend: str) -> None:
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16000)
            stream.layout = "mono"
            samples = np.zeros((1, 1024), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        self.refuse(path, "audio only", backend)

    def test_no_video(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "absent.mp4", "no such file")
        (tmp_path / "empty.mp4").touch()
        self.refuse(tmp_path / "empty.mp4", "empty file")
        for name in ("text.mp4", "text.txt"):
            (tmp_path / name).write_text("this is no video\n" * 50)
            self.refuse(tmp_path / name, "not a video")

    def test_header_only(self, b_frames: Path, tmp_path: Path) -> None:
        path = encode(
            tmp_path / "whole.mp4",
            container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
        )
        data = path.read_bytes()
        (tmp_path / "head.mp4").write_bytes(data[: data.index(b"moof") - 4])
        self.refuse(tmp_path / "head.mp4", "header only")

    def test_no_permission(self, b_frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.access", lambda path, mode: False)  # the superuser may read everything
        self.refuse(b_frames, "no permission")

    def test_a_picture_too_large_to_decode(self, tmp_path: Path) -> None:
        """Forty bytes that ask for 576 MB a frame."""
        screen = struct.pack("<HHBBB", 12000, 12000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
        image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
        (tmp_path / "bomb.gif").write_bytes(b"GIF89a" + screen + image + b"\x3b")
        self.refuse(tmp_path / "bomb.gif", "no decodable frame")

    def test_a_backend_that_does_not_load(self, b_frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
        with pytest.raises(ConfigError, match="pip install"):
            open_video(b_frames, backend="torchcodec")

    @pytest.mark.parametrize(
        "options", [{"backend": "opencv"}, {"short_side": 0}, {"num_threads": 0}], ids=str
    )
    def test_options_out_of_range(self, b_frames: Path, options: dict[str, object]) -> None:
        with pytest.raises(ConfigError):
            open_video(b_frames, **options)  # type: ignore[arg-type]

    def test_a_closed_reader(self, b_frames: Path) -> None:
        reader = open_video(b_frames)
        reader.close()
        reader.close()
        with pytest.raises(DataError, match="closed"):
            reader.read([0])

    def test_names_that_mean_something_to_ffmpeg(self, b_frames: Path, tmp_path: Path) -> None:
        for name in ("12:30 talk.mp4", "-dash.mp4", "%03d.mp4", "naïve ?.mp4"):
            path = tmp_path / name
            path.write_bytes(b_frames.read_bytes())
            with open_video(path) as reader:
                assert reader.num_frames == NUM_FRAMES
