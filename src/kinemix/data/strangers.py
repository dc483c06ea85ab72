"""Videos of strangers: looked at before they are decoded, and decoded where they can do no harm.

A file may be hours long, may lead to other files of this machine, and may keep the decoder busy for ever or crash it.
"""

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from kinemix.data._container import Decoding, open_container, read_stream_headers
from kinemix.data._frames import ASSUMED_FRAME_RATE
from kinemix.data._guarded import ChildDiedError, GuardedChild
from kinemix.data.reader import is_folder
from kinemix.errors import UnreadableVideoError

Result = TypeVar("Result")

MOST_FRAMES_A_SECOND = 60
"""Of the seconds that a video may last: packets are counted, because a header may promise anything."""

READING_SECONDS = 120.0
"""How long a child may read one video."""

_LISTS = frozenset({"hls", "dash", "webm_dash_manifest", "imf", "concat", "sdp", "rtsp", "rtp", "image2"})
"""FFmpeg's names of formats that hold no pictures but lead to other files."""


def check_video(path: Path, *, max_seconds: float) -> None:
    """Refuse what is no video by itself, or longer than it may be; nothing is decoded.

    What a header promises is not asked. Packets are counted and their times are looked at, as far as they may go.

    Args:
        path: of the file.
        max_seconds: that it may last, and :data:`MOST_FRAMES_A_SECOND` frames for each of them.

    Raises:
        UnreadableVideoError: the reason names the limit.
    """
    if is_folder(path):
        raise UnreadableVideoError(path, "a folder, not a video file")
    with open_container(path) as container:
        kinds = set(container.format.name.split(","))
    if kinds & _LISTS:
        raise UnreadableVideoError(path, "a list of other files, not a video")
    for header in read_stream_headers(path):
        with Decoding(path, stream_index=header.index, num_threads=1) as decoding:
            _check_packets(path, decoding, float(header.time_base or 0), max_seconds)


def _check_packets(path: Path, decoding: Decoding, tick: float, max_seconds: float) -> None:
    """Refuse a stream whose packets are too many, or too far apart in time; ``tick`` is in seconds."""
    most_frames = int(max_seconds * MOST_FRAMES_A_SECOND)
    first: int | None = None
    for packet in decoding.packets():
        if decoding.num_packets > most_frames:
            reason = f"more than {most_frames} frames: {max_seconds:g} s may have {MOST_FRAMES_A_SECOND} each"
            raise UnreadableVideoError(path, reason)
        if packet.size == 0 or packet.pts is None:
            continue
        first = packet.pts if first is None else first
        if (packet.pts - first) * tick > max_seconds:
            raise UnreadableVideoError(path, _explain_length(max_seconds))
    if first is None and decoding.num_packets > max_seconds * ASSUMED_FRAME_RATE:
        raise UnreadableVideoError(path, _explain_length(max_seconds))


def _explain_length(max_seconds: float) -> str:
    return f"longer than {max_seconds:g} s: give a shorter one"


class CarefulReader(Generic[Result]):
    """Reads videos of strangers one at a time, in a process of its own that is replaced if it hangs or crashes.

    Args:
        read: what is done with each; its result must pickle.
        max_seconds: that a video may last.
        reading_seconds: that reading it may take.
    """

    def __init__(
        self,
        read: Callable[[Path], Result],
        *,
        max_seconds: float,
        reading_seconds: float = READING_SECONDS,
    ) -> None:
        def work(path: Path) -> bytes:
            check_video(path, max_seconds=max_seconds)
            return pickle.dumps(
                read(path)
            )  # by value: torch would send handles of memory that ends with the child

        self._child = GuardedChild(work, max_seconds=reading_seconds)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Make the process now: the fewer threads there are, the better."""
        self._child.start()

    def close(self) -> None:
        """End it."""
        self._child.close()

    def read(self, path: Path) -> Result:
        """What ``read`` gives for a video.

        Raises:
            UnreadableVideoError: it gives no frames, is too long, or took its reader down.
        """
        with self._lock:
            try:
                return pickle.loads(self._child.ask(path))
            except ChildDiedError as death:
                raise UnreadableVideoError(path, death.reason) from None
