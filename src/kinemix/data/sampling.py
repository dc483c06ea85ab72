"""Which frames of a video enter the network: pure functions from counts to sorted frame indices.

Everything random comes from a ``torch.Generator``, so that a sample depends on its seed alone.
The formulas are those of TSN (Wang et al., "Temporal Segment Networks", ECCV 2016) and of TSM's released
code, which MixTConv and GSM share; where they leave a case open, the docstring says what was chosen.
"""

from typing import Literal

import numpy as np
import torch

DENSE_WINDOW = 64
"""Frames that a dense clip spans in the published protocols."""


def sparse_train(
    *,
    num_video_frames: int,
    num_frames: int,
    generator: torch.Generator,
    jitter: bool = True,
    segments: Literal["floor", "equal"] = "floor",
) -> list[int]:
    """One frame from each of T equal segments of the whole video, drawn at random within its segment.

    With n = 14 frames and T = 4 (``^`` marks a frame that may be drawn)::

        floor   d = 14 // 4 = 3      |0  1  2 |3  4  5 |6  7  8 |9 10 11 | 12 13
                i d + randint(d)      ^  ^  ^  ^  ^  ^  ^  ^  ^  ^  ^  ^  never seen

        equal   [i n // T,           |0  1  2 |3  4  5  6 |7  8  9 |10 11 12 13|
                 (i + 1) n // T)      ^  ^  ^  ^  ^  ^  ^  ^  ^  ^  ^  ^  ^  ^

    Args:
        num_video_frames: n, frames in the video.
        num_frames: T, frames wanted.
        generator: source of randomness.
        jitter: draw within the segment; otherwise take its middle.
        segments: ``floor`` is the published formula, which never looks at the last n mod T frames (of 31
            frames and T = 16 it sees the first 16 only); ``equal`` cuts the whole video into T parts.

    Returns:
        T sorted indices. Where n < T, frames are repeated evenly: ``i n // T``.
    """
    n, T = _check_counts(num_video_frames, num_frames)
    if n < T:
        return [i * n // T for i in range(T)]
    if segments == "floor":
        edges = [i * (n // T) for i in range(T + 1)]
    else:
        edges = [i * n // T for i in range(T + 1)]
    if not jitter:
        return [(edges[i] + edges[i + 1]) // 2 for i in range(T)]
    drawn = torch.rand(T, generator=generator, dtype=torch.float64).tolist()
    return [edges[i] + int(drawn[i] * (edges[i + 1] - edges[i])) for i in range(T)]


def sparse_test(*, num_video_frames: int, num_frames: int, clip: int = 0, num_clips: int = 1) -> list[int]:
    """One frame from each of T equal segments, always the same: ``int(offset + t i)`` with t = n / T.

    With n = 12 and T = 4, so t = 3::

        frames             |0  1  2 |3  4  5 |6  7  8 |9 10 11 |
        1 clip                ^        ^        ^       ^          offset t / 2: the segments' centres
        2 clips, clip 0     ^        ^        ^        ^           offset 0:     the segments' starts
        2 clips, clip 1       ^        ^        ^       ^          offset t / 2: the centres

    More clips divide the segment evenly: offset t clip / num_clips.

    Args:
        num_video_frames: n, frames in the video; fewer than T are repeated evenly by the same formula.
        num_frames: T, frames wanted.
        clip: which of the clips, from 0.
        num_clips: clips a video.

    Returns:
        T sorted indices.
    """
    n, T = _check_counts(num_video_frames, num_frames)
    t = n / T
    offset = t / 2 if num_clips == 1 else t * clip / num_clips
    return [int(offset + t * i) for i in range(T)]


def dense_train(
    *, num_video_frames: int, num_frames: int, generator: torch.Generator, frame_stride: int | None = None
) -> list[int]:
    """T frames at a fixed distance from a window that starts anywhere it fits.

    With n = 14, T = 3 and stride 4, so a window of 12::

        frames    0  1  2  3  4  5  6  7  8  9 10 11 12 13
        window      |___________________________________|      start = randint(1 + n - window)
                     ^           ^           ^

    Args:
        num_video_frames: n, frames in the video.
        num_frames: T, frames wanted.
        generator: source of randomness.
        frame_stride: distance in frames; the window is T times as long. By default 64 // T and a window of
            64 frames.

    Returns:
        T sorted indices. A video shorter than the window is read on from its beginning (index modulo n); the
        indices are sorted afterwards so that time never jumps back within a clip (our choice; the released
        code leaves the jump).
    """
    n, T = _check_counts(num_video_frames, num_frames)
    stride, starts = _dense_window(n, T, frame_stride)
    start = int(torch.randint(starts, (1,), generator=generator))
    return _wrap(n, T, start, stride)


def dense_test(
    *,
    num_video_frames: int,
    num_frames: int,
    clip: int = 0,
    num_clips: int = 10,
    frame_stride: int | None = None,
) -> list[int]:
    """As :func:`dense_train`, with ``num_clips`` windows whose starts are evenly spaced.

    Three clips of a long video::

        frames    0 .................................. n-1
        clip 0   |^  ^  ^  ^|
        clip 1             |^  ^  ^  ^|
        clip 2                       |^  ^  ^  ^|

    The starts are ``int(linspace(0, n - window, num_clips))``; a single clip is taken from the centre.

    Returns:
        T sorted indices.
    """
    n, T = _check_counts(num_video_frames, num_frames)
    stride, starts = _dense_window(n, T, frame_stride)
    if num_clips == 1:
        start = (starts - 1) // 2
    else:
        start = int(np.linspace(0, starts - 1, num=num_clips)[clip])
    return _wrap(n, T, start, stride)


def trim_ends(
    *, num_video_frames: int, share: float, generator: torch.Generator, keep: int = 1
) -> tuple[int, int]:
    """A random part of the video: up to ``share`` of it is cut off at each end.

    ::

        frames   0 ......................... n-1
                 |cut|      what is left    |cut|
                     first               first + count

    Args:
        num_video_frames: n, frames in the video.
        share: largest share cut off at each end, below one half.
        generator: source of randomness.
        keep: never leave fewer frames than this, if there are as many.

    Returns:
        ``(first, count)``: the part is frames ``first`` to ``first + count - 1``.
    """
    n = num_video_frames
    start, end = (torch.rand(2, generator=generator, dtype=torch.float64) * share * n).long().tolist()
    spare = max(0, n - keep)
    start = min(start, spare)
    end = min(end, spare - start)
    return start, n - start - end


def _check_counts(num_video_frames: int, num_frames: int) -> tuple[int, int]:
    if num_video_frames < 1 or num_frames < 1:
        raise ValueError(
            f"need at least one frame: num_video_frames={num_video_frames}, num_frames={num_frames}"
        )
    return num_video_frames, num_frames


def _dense_window(n: int, T: int, frame_stride: int | None) -> tuple[int, int]:
    """Distance between frames, and in how many places the window can start."""
    stride = max(1, DENSE_WINDOW // T) if frame_stride is None else frame_stride
    window = DENSE_WINDOW if frame_stride is None else T * frame_stride
    return stride, max(1, 1 + n - window)


def _wrap(n: int, T: int, start: int, stride: int) -> list[int]:
    return sorted((start + i * stride) % n for i in range(T))
