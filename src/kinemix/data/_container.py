"""FFmpeg's side of the door: open a file safely, walk its packets, keep going past what is broken.

Files come from anywhere, so nothing they say is believed: no network is reached, packets are counted against
the file's size, pictures have a largest size, and the failure of one packet is noted instead of raised, as
FFmpeg's own command line does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from kinemix.errors import UnreadableVideoError

MAX_PIXELS = 2**27
"""The largest picture that is decoded (16K video has 2**27): a 60-byte file can claim 65535 x 65535."""

# FFmpeg follows playlists; only what lies beside the file may be opened, never an address.
_OPEN_OPTIONS = {"protocol_whitelist": "file,crypto,data"}
_STALL_SECONDS = 60.0


def explain_error(error: BaseException) -> str:
    """FFmpeg's reason as one line without the names of its functions."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).lower()


def open_container(path: Path) -> InputContainer:
    """Open ``path`` for reading.

    Raises:
        UnreadableVideoError: It is not a video, or its header is damaged.
    """
    try:
        # "file:" keeps a colon in the name from being read as a protocol. Metadata may be in any encoding.
        container = av.open(
            f"file:{path}", metadata_errors="ignore", options=_OPEN_OPTIONS, timeout=_STALL_SECONDS
        )
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideoError(
            path, f"not a video, or its header is damaged ({explain_error(error)})"
        ) from error
    if container.format.name == "tty":  # FFmpeg draws text files as pictures
        container.close()
        raise UnreadableVideoError(path, "a text file, not a video")
    return container


@dataclass(frozen=True)
class StreamHeader:
    """What a file's header claims about one video stream: claims choose the way and word the reports.

    Attributes:
        index: The stream's index among all streams of the file.
        time_base: Seconds a tick, or None where the file gives none.
        frame_rate: Mean frames per second, or None where absurd or absent.
        num_frames: Frames promised, 0 for unknown.
        likely_frames: The same, guessed from the file's duration where nothing is promised.
        seconds: Duration promised for the stream, or for the file where video is all it holds; or None.
        picture_bytes: Bytes of one decoded picture at 12 bits a pixel, 0 for unknown.
    """

    index: int
    time_base: Fraction | None
    frame_rate: float | None
    num_frames: int
    likely_frames: int
    seconds: float | None
    picture_bytes: int


def read_stream_headers(path: Path) -> list[StreamHeader]:
    """The streams that hold moving pictures, in file order; a cover picture is none.

    Raises:
        UnreadableVideoError: There is no such stream; the reason tells what there is instead.
    """
    with open_container(path) as container:
        streams = container.streams
        moving = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
        if moving:
            return [_read_header(container, stream) for stream in moving]
        if streams.video:
            raise UnreadableVideoError(path, "no video stream, only a still cover picture")
        if streams.audio:
            raise UnreadableVideoError(path, "audio only, no video stream")
        raise UnreadableVideoError(path, "no video stream")


def _read_header(container: InputContainer, stream: VideoStream) -> StreamHeader:
    rates = [float(r) for r in (stream.average_rate, stream.guessed_rate) if r and 0.01 <= r <= 1000]
    frame_rate = rates[0] if rates else None
    file_seconds = max(0.0, (container.duration or 0) / av.time_base)
    own_seconds = float((stream.duration or 0) * (stream.time_base or 0))
    if own_seconds <= 0 and len(container.streams) == 1:
        own_seconds = file_seconds
    context = stream.codec_context if has_decoder(stream) else None
    return StreamHeader(
        index=stream.index,
        time_base=stream.time_base or None,
        frame_rate=frame_rate,
        num_frames=max(0, stream.frames),
        likely_frames=max(0, stream.frames) or int(file_seconds * (frame_rate or 0)),
        seconds=own_seconds if own_seconds > 0 else None,
        picture_bytes=context.width * context.height * 3 // 2 if context else 0,
    )


def has_decoder(stream: VideoStream) -> bool:
    """Whether FFmpeg knows a decoder for the stream; PyAV gives no codec context where it does not."""
    return getattr(stream, "codec_context", None) is not None


class Decoding:
    """One pass over one stream of a file, from the start or from a seek onwards.

    Attributes:
        failures: Why packets did not decode, in order; the frames around them are kept.
        num_packets: Packets seen so far.
        truncated: A packet was cut off by the end of the file.
        encrypted: The stream says that it is encrypted.
    """

    def __init__(self, path: Path, *, stream_index: int, num_threads: int) -> None:
        self.failures: list[str] = []
        self.num_packets = 0
        self.truncated = False
        self._file_size = path.stat().st_size
        self.container = open_container(path)
        stream = self.container.streams[stream_index]
        assert isinstance(stream, VideoStream)
        self.stream = stream
        self.encrypted = "enc_key_id" in stream.metadata
        if has_decoder(stream):
            stream.codec_context.thread_type = "AUTO" if num_threads > 1 else "NONE"
            stream.codec_context.thread_count = num_threads
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}

    def __enter__(self) -> "Decoding":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.container.close()

    def packets(self) -> Iterator[Packet]:
        """The stream's packets in file order, then FFmpeg's empty one that flushes the decoder.

        A damaged index can point at the same bytes again and again; what is read in all is bounded by a
        multiple of the file's size, and so is the number of packets.
        """
        bytes_left = 16 * self._file_size + 2**20
        packets_left = self._file_size + 2**10
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self.failures.append(f"reading stopped: {explain_error(error)}")
                return
            bytes_left -= packet.size
            packets_left -= 1
            if bytes_left < 0 or packets_left < 0:
                self.failures.append("the index points at more data than the file holds")
                return
            is_flush = packet.pts is None and packet.dts is None
            if packet.size == 0 and not is_flush:
                continue  # the decoder would take it for the end of the stream
            if packet.size:
                self.num_packets += 1
                self.truncated |= packet.is_corrupt
                self.encrypted |= packet.has_sidedata("encryption_info")
            yield packet

    def frames(self, packets: Iterator[Packet] | None = None) -> Iterator[VideoFrame]:
        """Every frame that decodes, in the decoder's order of output."""
        flushed = False
        for packet in self.packets() if packets is None else packets:
            flushed = packet.size == 0
            yield from self._decode(packet)
        if not flushed:  # reading broke off; the decoder may still hold frames back for reordering
            yield from self._decode(None)

    def _decode(self, packet: Packet | None) -> list[VideoFrame]:
        try:
            return list(self.stream.decode(packet))
        except av.EOFError:
            return []
        except (av.FFmpegError, ValueError) as error:
            self.failures.append(explain_error(error))
            return []

    def explain_no_frames(self) -> str:
        """Why a whole pass gave no frame."""
        if not has_decoder(self.stream):
            return "no decoder for its video codec"
        if self.num_packets == 0:
            return "header only, the video stream holds no frames"
        if self.encrypted:
            return "encrypted, no frame decodes without the key"
        reason = self.failures[0] if self.failures else "the decoder stays silent"
        return f"no decodable frame ({reason})"

    def describe_failures(self) -> str | None:
        """What went wrong although frames came, in one line, or None."""
        parts = []
        if self.truncated:
            parts.append("the file ends early, inside a frame")
        if self.failures:
            parts.append(f"{len(self.failures)} of {self.num_packets} packets failed ({self.failures[0]})")
        return "; ".join(parts) or None
