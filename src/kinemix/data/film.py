"""Films for people: frames to an MP4 file that every browser and player shows."""

import io
import math
from fractions import Fraction

import av
import numpy as np
from torch import Tensor

from kinemix.types import Video


def encode_film(frames: Video, *, frames_per_second: float = 8.0) -> bytes:
    """One MP4 file (H.264, 4:2:0).

    Args:
        frames: ``T 3 H W``, uint8 RGB. H.264 wants even sides: an odd one repeats its last row or column.
        frames_per_second: how fast it plays.

    Returns:
        The bytes of the file.
    """
    file = io.BytesIO()
    rate = Fraction(frames_per_second).limit_denominator(1001)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = (2 * math.ceil(side / 2) for side in frames.shape[2:])
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "medium"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_make_even(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _make_even(frame: Tensor) -> np.ndarray:
    pixels = frame.permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
