"""Where the moving objects are: the boxes of the index, and the same as a video, white where an object is."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from kinemix.data.catalog.motion.make import INDEX_NAME
from kinemix.data.catalog.motion.paint import Box
from kinemix.errors import DataError
from kinemix.types import Video


def read_boxes(folder: str | Path) -> dict[str, list[list[Box]]]:
    """For each clip (its path in the folder) and each of its frames, the boxes of what is seen of moving objects.

    Raises:
        DataError: the folder holds no motion benchmark.
    """
    path = Path(folder) / INDEX_NAME
    try:
        clips = json.loads(path.read_text(encoding="utf-8"))["clips"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: is no index of a motion benchmark ({error}): make one with kinemix motion"
        ) from error
    return {clip["path"]: [[tuple(box) for box in boxes] for boxes in clip["boxes"]] for clip in clips}


def draw_boxes(boxes: Sequence[Sequence[Box]], size: int) -> Video:
    """The boxes of a clip as a video of its size, which can be cropped and resized as the clip is.

    Args:
        boxes: of each frame.
        size: side of the clip's frames in pixels.

    Returns:
        ``T 3 H W``, uint8: 255 inside a box, 0 outside.
    """
    video = torch.zeros(len(boxes), 3, size, size, dtype=torch.uint8)
    for frame, inside in zip(video, boxes, strict=True):
        for left, upper, right, lower in inside:
            frame[:, upper:lower, left:right] = 255
    return video
