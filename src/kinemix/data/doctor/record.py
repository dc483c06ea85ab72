"""What is known of one video after it was looked at: facts alone, no judgement."""

from dataclasses import dataclass
from typing import Literal

from kinemix.data.doctor.fingerprint import Fingerprint
from kinemix.data.segment import Segment

Status = Literal["readable", "unreadable", "missing", "hung", "crashed"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One video to look at.

    Attributes:
        path: absolute.
        segments: parts of it that are samples; none if the whole is one.
        seconds: of processor time after which decoding is cut short.
        quick: look at the headers only.
    """

    path: str
    segments: tuple[Segment, ...] = ()
    seconds: float = 60.0
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoRecord:
    """One video.

    Attributes:
        path: as in the task.
        status: whether it gave frames, or what happened instead.
        reason: why it gave none.
        problem: what is wrong although it gave frames (:attr:`kinemix.data.VideoReader.problem`).
        num_bytes: of the file, or of all images of a folder; None if it is not there.
        container: FFmpeg's name of the format; ``images`` for a folder of frames.
        codec: FFmpeg's name, as the header says.
        pixel_format: of the first frame, else as the header says.
        width, height: stored pixels, before rotation; of the first frame, else as the header says.
        other_sizes: sizes (width, height) of later frames that differ from the first's.
        promised_frames: by the header, 0 if it is silent.
        num_frames: that decode; None where nothing was decoded.
        hidden_frames: packets that the container marks as not to be shown (an edit list).
        cut_short: decoding was stopped because its time was over.
        frame_rate: mean frames per second.
        gaps: shortest, median and longest time between frames in milliseconds; None if the times are unsound.
        odd_gaps: gaps that differ from the median by more than a tenth (and by more than the clock's ticks).
        sound_times: every frame carries a time later than the one before.
        rotation: degrees counter-clockwise that the display is to turn it.
        pixel_aspect: width of a pixel over its height.
        interlaced: frames that hold two fields.
        bits: a colour component.
        alpha: there is a transparency channel.
        transfer: ``PQ`` or ``HLG`` for high dynamic range, else empty.
        video_streams, covers: moving streams, and still cover pictures.
        key_frames: indices of the frames at which decoding can start; empty where seeking is unsafe.
        bad_image: what is wrong with an image of a folder of frames.
        left_out: numbers that are left out between its images, in words.
        segment_frames: frames of each segment of the task; None for one that starts after the end.
        fingerprint: of the content.
        seconds: that looking took.
    """

    path: str
    status: Status
    reason: str = ""
    problem: str | None = None
    num_bytes: int | None = None
    container: str = ""
    codec: str = ""
    pixel_format: str = ""
    width: int = 0
    height: int = 0
    other_sizes: tuple[tuple[int, int], ...] = ()
    promised_frames: int = 0
    num_frames: int | None = None
    hidden_frames: int = 0
    cut_short: bool = False
    frame_rate: float | None = None
    gaps: tuple[float, float, float] | None = None
    odd_gaps: int = 0
    sound_times: bool = True
    rotation: int = 0
    pixel_aspect: float = 1.0
    interlaced: int = 0
    bits: int = 8
    alpha: bool = False
    transfer: str = ""
    video_streams: int = 0
    covers: int = 0
    key_frames: tuple[int, ...] = ()
    bad_image: str = ""
    left_out: str = ""
    segment_frames: tuple[int | None, ...] = ()
    fingerprint: Fingerprint | None = None
    seconds: float = 0.0

    @property
    def format(self) -> str:
        """Container, codec and size in one word: videos of one format cost alike to read."""
        return f"{self.container.split(',')[0]} {self.codec} {self.width}x{self.height}"

    @property
    def key_interval(self) -> int | None:
        """The longest run of frames that decodes from one key frame; None where there is no seeking."""
        if not self.key_frames or not self.num_frames:
            return None
        ends = (*self.key_frames[1:], self.num_frames)
        return max(end - start for start, end in zip(self.key_frames, ends, strict=True))
