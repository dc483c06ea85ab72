"""Encodes a clip so evenly that no frame betrays its place: every frame is an intra frame of one quantiser.

An ordinary stream spends more bits on its first frame than on the rest, and predicts each frame from those
before it. A network could tell a clip from its reversal by such traces alone. Here each frame is coded by
itself, with one constant quantiser and no rate control, so the decoded picture depends on nothing but the
frame: encoding the reversed frames gives exactly the reversed pictures.
"""

import io
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

FRAMES_PER_SECOND = 12
QUANTISER = 18

# keyint=1 makes every frame an IDR picture; the rest takes away all that looks at neighbouring frames or at
# the bits spent so far. One thread, so that the bytes do not depend on the machine's number of cores.
_X264 = (
    f"qp={QUANTISER}:keyint=1:min-keyint=1:scenecut=0:bframes=0:ref=1:aq-mode=0:mbtree=0:"
    "rc-lookahead=0:sync-lookahead=0:weightp=0:threads=1:lookahead-threads=1"
)


def encode_clip(frames: NDArray[np.uint8]) -> bytes:
    """One MP4 file (H.264, 4:2:0) of the frames.

    Args:
        frames: ``T H W 3``, RGB 0..255, even height and width.

    Returns:
        The bytes of the file; the same frames always give the same bytes.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        stream.thread_count = 1
        stream.options = {"preset": "veryfast", "x264-params": _X264}
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
