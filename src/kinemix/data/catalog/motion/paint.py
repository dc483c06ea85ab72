"""Paints a scene: all frames of a clip at once, from back to front, with soft edges.

A body is a signed distance in its own coordinates (radius 1, upright), so one formula places, turns, scales
and smooths any shape in every frame. Arrays are ``T H W``, colours ``3 T H W``.
"""

import numpy as np
from numpy.typing import NDArray

from kinemix.data.catalog.motion.scene import LOOP, Body, Scene, Shape, Track

Box = tuple[int, int, int, int]
"""Left, upper, right, lower edge in pixels; right and lower are the first outside."""


def paint_scene(scene: Scene, size: int) -> tuple[NDArray[np.uint8], list[list[Box]]]:
    """The frames, and in each frame the boxes of what is seen of the moving objects.

    Returns:
        ``T H W 3`` RGB 0..255, and for each frame zero or more boxes: none where the object is hidden or
        faded, two where there are two objects, or one that leaves at one edge and comes back at the other.
    """
    canvas = _paint_background(scene, size)
    for body in scene.behind:
        _paint_body(canvas, body)
    seen = [_paint_body(canvas, body) for body in scene.targets]
    for body in scene.before:
        cover = _paint_body(canvas, body)
        for mask in seen:
            mask *= 1 - cover
    canvas *= _shade(scene, size)
    pixels = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
    boxes = [[box for mask in seen for box in _find_boxes(mask[t] > 0.5)] for t in range(len(scene.light))]
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), boxes


def _centers(size: int) -> Track:
    """Pixel centres in units of the side."""
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


def _paint_background(scene: Scene, size: int) -> Track:
    surface = scene.background
    # 64 texels a side at grain 1, whatever the size: a larger frame shows the same scene in more detail.
    x, y = ((_centers(size) - scene.shift[:, axis, None]) * 64 * surface.grain for axis in (0, 1))
    noise = _look_up(surface.noise, x[:, None, :], y[:, :, None])
    return surface.color[:, None, None, None] + surface.tint[:, None, None, None] * noise


def _paint_body(canvas: Track, body: Body) -> Track:
    """Blends a body into the canvas, in place; returns how much of it each pixel shows, ``T H W``."""
    size = canvas.shape[-1]
    radius = body.radius[:, None].astype(np.float32)
    x, y = (
        _wrap(_centers(size) - center[:, None].astype(np.float32)) / radius for center in (body.x, body.y)
    )
    # Only the rows and columns that the body ever touches; no shape reaches further than 1.25 radii.
    columns, rows = (slice(*_find_span((np.abs(way) < 1.25).any(axis=0))) for way in (x, y))
    x, y = x[:, columns], y[:, rows]
    cos, sin = (f(body.angle).astype(np.float32)[:, None] for f in (np.cos, np.sin))
    u = (cos * x)[:, None, :] + (sin * y)[:, :, None]
    v = (cos * y)[:, :, None] - (sin * x)[:, None, :]
    # The edge is one pixel wide: full inside by half a pixel, gone outside by half a pixel.
    distance = _measure_distance(body.shape, u, v) * (radius * size)[:, :, None]
    part = np.clip(0.5 - distance, 0, 1) * body.opacity.astype(np.float32)[:, None, None]
    noise = _look_up(body.surface.noise, u * body.surface.grain, v * body.surface.grain)
    for channel, color, tint in zip(canvas, body.surface.color, body.surface.tint, strict=True):
        view = channel[:, rows, columns]
        view += part * (color + tint * noise - view)
    cover = np.zeros(canvas.shape[1:], np.float32)
    cover[:, rows, columns] = part
    return cover


def _wrap(difference: Track) -> Track:
    """The shorter way round the torus."""
    return difference - LOOP * np.round(difference / LOOP)


def _measure_distance(shape: Shape, u: Track, v: Track) -> Track:
    """Signed distance to the outline of a shape of radius about 1, negative inside."""
    match shape:
        case "disc":
            return np.hypot(u, v) - 1
        case "ring":
            return np.abs(np.hypot(u, v) - 0.7) - 0.3
        case "box":
            return np.maximum(np.abs(u), np.abs(v)) - 0.85
        case "capsule":
            return np.hypot(np.maximum(np.abs(u) - 0.55, 0), v) - 0.45
        case "half":
            return np.maximum(np.hypot(u, v) - 1, v - 0.1)
        case "wedge":  # a triangle with its point up
            return np.maximum(v - 0.6, 0.87 * np.abs(u) - 0.5 * v - 0.5)
    raise ValueError(f"no shape {shape!r}")


def _look_up(noise: Track, x: Track, y: Track) -> Track:
    """Nearest texel of periodic noise; a power of two texels a side, so that wrapping is a bit mask."""
    last = len(noise) - 1
    return noise[np.floor(y).astype(np.int32) & last, np.floor(x).astype(np.int32) & last]


def _shade(scene: Scene, size: int) -> Track:
    """Brightness, ``T H W``: one factor a frame times a ramp over the picture."""
    off = _centers(size) - 0.5
    ramp = 1 + scene.slope[0] * off[None, :] + scene.slope[1] * off[:, None]
    return scene.light[:, None, None] * ramp


def _find_boxes(shown: NDArray[np.bool_]) -> list[Box]:
    """Boxes of the parts of a mask ``H W`` that empty columns, and then empty rows, separate."""
    boxes = []
    for left, right in _find_runs(np.logical_or.reduce(shown, axis=0)):
        for upper, lower in _find_runs(np.logical_or.reduce(shown[:, left:right], axis=1)):
            boxes.append((left, upper, right, lower))
    return boxes


def _find_runs(filled: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each run of true values."""
    edges = np.flatnonzero(np.diff(filled, prepend=False, append=False))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def _find_span(filled: NDArray[np.bool_]) -> tuple[int, int]:
    """Begin of the first and end of the last true value; empty where there is none."""
    places = np.flatnonzero(filled)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
