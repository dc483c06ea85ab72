"""Draws what happens in a clip: one phase that runs round a circle, and everything else without direction.

Every class is a loop: the state of the moving object is a function of a phase in [0, 1), the phase starts
anywhere with equal probability, and only ever increases. Two things follow. The first frame of a clip is
distributed like its last and like every other, so no single frame tells the direction, even to a network
that knows which frame it sees. And playing the clip backwards makes the phase decrease, which is the opposite
class. Camera, light, background and distractors drift in directions drawn evenly from the circle, or swing;
reversed in time they are as likely as before.

Lengths are in units of the frame's side, the origin is the upper left corner, x runs right and y down.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Track = NDArray[np.floating[Any]]
Shape = Literal["disc", "box", "capsule", "ring", "half", "wedge"]

FORWARD_CLASSES = ("move_left", "move_up", "grow", "approach", "appear", "rotate_clockwise")
LOOP = 1.25
"""Things that leave the frame at one side come back at the other: space is a torus with this period."""

_EASY_SHAPES: dict[str, Shape] = {
    "move_left": "capsule",
    "move_up": "capsule",
    "grow": "ring",
    "approach": "box",
    "appear": "disc",
    "rotate_clockwise": "half",
}
_ANY_SHAPES: tuple[Shape, ...] = ("disc", "box", "capsule", "ring", "half", "wedge")


@dataclass(frozen=True, kw_only=True)
class Grade:
    """How hard a clip is.

    Attributes:
        num_frames, size: of a clip, where the user names none.
        advance: range of the phase's way, in loops a clip; drawn evenly in the logarithm.
        lasts: range of the share of the clip in which the object moves; it rests before and after.
        plain: each pair has a shape of its own, so that only the order of frames is left to learn, and moves
            along the frame's edges; if not, any shape moves along any line, and every class has an occluder.
        contrast: range of the distance between the colours of object and background (1: black to white).
        texture: amplitude of the background's texture, in the same unit.
        distractors: how many other things move.
        distractor_radius: range of their size.
        camera: amplitude of the camera's swing.
        flicker: amplitude of the light's change in time.
    """

    num_frames: int
    size: int
    advance: tuple[float, float]
    lasts: tuple[float, float]
    plain: bool
    contrast: tuple[float, float]
    texture: float
    distractors: int
    distractor_radius: tuple[float, float]
    camera: float
    flicker: float


GRADES: dict[str, Grade] = {
    "easy": Grade(
        num_frames=24,
        size=64,
        advance=(0.6, 1.5),
        lasts=(1.0, 1.0),
        plain=True,
        contrast=(0.5, 0.8),
        texture=0.06,
        distractors=2,
        distractor_radius=(0.03, 0.05),
        camera=0.0,
        flicker=0.0,
    ),
    "medium": Grade(
        num_frames=24,
        size=80,
        advance=(0.4, 1.6),
        lasts=(0.5, 1.0),
        plain=False,
        contrast=(0.3, 0.6),
        texture=0.12,
        distractors=3,
        distractor_radius=(0.03, 0.07),
        camera=0.03,
        flicker=0.1,
    ),
    "hard": Grade(
        num_frames=40,
        size=112,
        advance=(0.2, 1.2),
        lasts=(0.1, 1.0),
        plain=False,
        contrast=(0.12, 0.35),
        texture=0.16,
        distractors=6,
        distractor_radius=(0.03, 0.09),
        camera=0.08,
        flicker=0.2,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A textured look: ``color`` plus noise times ``tint`` (RGB, 0..1).

    Attributes:
        noise: periodic, ``N N`` texels, mean 0, deviation 1.
        grain: texels in a body's radius; of a background, in a 64th of the frame's side.
    """

    color: Track
    tint: Track
    noise: Track
    grain: float


@dataclass(frozen=True, kw_only=True)
class Body:
    """A shape that moves: one value a frame of centre, radius, angle (radians, clockwise) and opacity."""

    shape: Shape
    surface: Surface
    x: Track
    y: Track
    radius: Track
    angle: Track
    opacity: Track


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that is painted, from back to front.

    Attributes:
        background, shift: its surface, and where it lies in each frame, ``T 2`` (x, y).
        behind, targets, before: bodies behind the objects that carry the class, these, and those before them.
        light: brightness of each frame, ``T``.
        slope: how much brighter the right and the lower edge are than the middle (x, y).
        facts: the numbers drawn for the class's motion, for the record.
    """

    background: Surface
    shift: Track
    behind: tuple[Body, ...]
    targets: tuple[Body, ...]
    before: tuple[Body, ...]
    light: Track
    slope: Track
    facts: dict[str, float | str]


def draw_scene(random: Generator, motion: str, grade: Grade, num_frames: int) -> Scene:
    """One clip of a class of :data:`FORWARD_CLASSES`; its opposite is this clip played backwards."""
    gray = random.uniform(0.25, 0.55) + random.uniform(-0.05, 0.05, 3)
    ground = _draw_surface(random, gray, grade.texture, grain=random.uniform(0.8, 1.6))
    camera = _swing(random, grade.camera, num_frames), _swing(random, grade.camera, num_frames)
    phase, facts = _draw_phase(random, grade, num_frames)
    targets, occluder = _draw_targets(random, motion, grade, gray, phase)
    others = [_draw_distractor(random, grade, gray, num_frames) for _ in range(grade.distractors)]
    # The harder grades let some distractors pass before the object, and show an occluder in every class.
    hidden = len(others) if grade.plain else (len(others) + 1) // 2
    behind, before = others[:hidden], others[hidden:]
    if occluder is not None:
        before.append(occluder)
    elif not grade.plain:
        x, y = random.uniform(0.1, 0.9, 2)
        behind.append(_draw_occluder(random, gray, x, y, random.uniform(0, 2 * np.pi), 0.2, num_frames))
    drift = _drift(random, 0.1, num_frames)
    return Scene(
        background=ground,
        shift=np.stack([drift[0] + camera[0], drift[1] + camera[1]], axis=1),
        behind=_carry(behind, camera),
        targets=_carry(targets, camera),
        before=_carry(before, camera),
        light=np.float32(random.uniform(0.8, 1.15)) + _swing(random, grade.flicker, num_frames),
        slope=random.uniform(-0.2, 0.2, 2).astype(np.float32),
        facts=facts | {"shape": targets[0].shape, "radius": round(float(targets[0].radius.mean()), 4)},
    )


def _draw_phase(random: Generator, grade: Grade, num_frames: int) -> tuple[Track, dict[str, float | str]]:
    """The phase in [0, 1) of each frame: evenly drawn start, rest, steady increase, rest."""
    last = num_frames - 1
    lasts = last * _log_uniform(random, *grade.lasts)
    # Not so fast that half a loop passes between two frames of eight: then both directions would look alike.
    advance = min(_log_uniform(random, *grade.advance), 0.45 * lasts * 8 / num_frames)
    begins = random.uniform(0, last - lasts)
    start = random.uniform()
    moved = np.clip((np.arange(num_frames) - begins) / lasts, 0, 1)
    facts = {"start": start, "advance": advance, "begins": begins, "lasts": lasts}
    return ((start + advance * moved) % 1).astype(np.float32), {k: round(v, 4) for k, v in facts.items()}


def _draw_targets(
    random: Generator, motion: str, grade: Grade, gray: Track, phase: Track
) -> tuple[list[Body], Body | None]:
    """The bodies that carry the class, and the occluder where the class has one."""
    shape: Shape = _EASY_SHAPES[motion] if grade.plain else random.choice(_ANY_SHAPES)
    surface = _draw_bright_surface(random, gray, grade)
    zero, turn = np.zeros_like(phase), random.uniform(0, 2 * np.pi)

    def body(x: Track, y: Track, radius: Track, angle: Track, opacity: Track = zero + 1) -> Body:
        return Body(shape=shape, surface=surface, x=x, y=y, radius=radius, angle=angle, opacity=opacity)

    match motion:
        case "move_left" | "move_up":
            along, across = -LOOP * phase, zero + random.uniform(0.25, 0.75)
            x, y = (along, across) if motion == "move_left" else (across, along)
            if grade.plain:
                turn = 0 if motion == "move_left" else np.pi / 2
            return [body(x, y, zero + random.uniform(0.15, 0.22), zero + turn)], None
        case "grow":
            x, y = random.uniform(0.35, 0.65, 2)
            return [body(zero + x, zero + y, 0.08 * 4.5**phase, zero + turn, _fade(phase))], None
        case "approach":
            radius = random.uniform(0.11, 0.15)
            x, y = random.uniform(0.42, 0.58, 2)
            axis = random.uniform(-0.2, 0.2) if grade.plain else random.uniform(0, np.pi)
            apart = 0.46 + (0.9 * radius - 0.46) * phase
            dx, dy = apart * np.cos(axis), apart * np.sin(axis)
            sides = ((x - dx, y - dy), (x + dx, y + dy))
            return [body(cx, cy, zero + radius, zero + turn, _fade(phase)) for cx, cy in sides], None
        case "appear":
            radius, axis = random.uniform(0.11, 0.15), random.uniform(0, 2 * np.pi)
            if grade.plain:
                axis = np.pi * random.integers(2) + random.uniform(-0.2, 0.2)
            nx, ny = np.cos(axis), np.sin(axis)
            x, y = random.uniform(0.42, 0.58, 2) - 0.2 * np.array([nx, ny])
            # At phase 0 it is wholly behind the occluder, which is larger than any shape in any position.
            way = (2.3 * radius + 0.25) * phase
            opacity = np.clip((1 - phase) / 0.1, 0, 1)
            occluder = _draw_occluder(random, gray, x, y, axis, 1.45 * radius, len(phase))
            return [body(x + nx * way, y + ny * way, zero + radius, zero + turn, opacity)], occluder
        case "rotate_clockwise":
            x, y = random.uniform(0.38, 0.62, 2)
            angle = turn + 2 * np.pi * phase
            return [body(zero + x, zero + y, zero + random.uniform(0.22, 0.32), angle)], None
    raise ValueError(f"no forward class {motion!r}")


def _draw_distractor(random: Generator, grade: Grade, gray: Track, num_frames: int) -> Body:
    """A small thing that drifts, swings, pulsates and wavers, each with no direction in the mean."""
    x, y = random.uniform(0, LOOP, 2)
    drift = _drift(random, 0.3, num_frames)
    radius = random.uniform(*grade.distractor_radius)
    return Body(
        shape=random.choice(_ANY_SHAPES),
        surface=_draw_bright_surface(random, gray, grade),
        x=x + drift[0] + _swing(random, 0.08, num_frames),
        y=y + drift[1] + _swing(random, 0.08, num_frames),
        radius=radius + _swing(random, 0.3 * radius, num_frames),
        angle=random.uniform(0, 2 * np.pi) + _swing(random, 1.5, num_frames),
        opacity=np.ones(num_frames, np.float32),
    )


def _draw_occluder(
    random: Generator, gray: Track, x: float, y: float, angle: float, radius: float, num_frames: int
) -> Body:
    """A box that stands still, darker or lighter than the ground."""
    color = gray * random.choice([0.35, 1.7])
    still = np.zeros(num_frames, np.float32)
    return Body(
        shape="box",
        surface=_draw_surface(random, color, 0.1, grain=20),
        x=still + x,
        y=still + y,
        radius=still + radius,
        angle=still + angle,
        opacity=still + 1,
    )


def _draw_bright_surface(random: Generator, gray: Track, grade: Grade) -> Surface:
    """Colour at the grade's contrast from the ground: some channels brighter, or some darker, never all."""
    direction = random.permutation([1.0, random.uniform(-0.3, 1.0), -0.3])
    color = gray + random.uniform(*grade.contrast) * direction
    return _draw_surface(random, color, max(grade.texture, 0.1), grain=20)


def _draw_surface(random: Generator, color: Track, amplitude: float, *, grain: float) -> Surface:
    """Smooth noise on a torus of 128 x 128 texels: white noise in a ring of spatial frequencies."""
    side = 128
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    ring = np.exp(-(((f - 8) / 4) ** 2))
    noise = np.fft.irfft2(ring * np.exp(2j * np.pi * random.uniform(size=f.shape)), s=(side, side))
    noise /= noise.std()
    tint = amplitude * random.uniform(0.5, 1, 3)
    return Surface(
        color=np.clip(color, 0, 1).astype(np.float32),
        tint=tint.astype(np.float32),
        noise=noise.astype(np.float32),
        grain=grain,
    )


def _drift(random: Generator, most: float, num_frames: int) -> tuple[Track, Track]:
    """Steady motion of at most ``most`` a clip, in a direction drawn evenly from the circle."""
    length, angle = random.uniform(0, most), random.uniform(0, 2 * np.pi)
    way = np.linspace(-length / 2, length / 2, num_frames, dtype=np.float32)
    return way * np.float32(np.cos(angle)), way * np.float32(np.sin(angle))


def _swing(random: Generator, amplitude: float, num_frames: int) -> Track:
    """A sine of half a period to three in the clip, at any phase: as likely backwards as forwards."""
    time = np.linspace(0, 1, num_frames)
    wave = np.sin(2 * np.pi * (random.uniform(0.5, 3) * time + random.uniform()))
    return (amplitude * wave).astype(np.float32)


def _fade(phase: Track) -> Track:
    """Opacity that hides the jump from the end of the loop to its beginning."""
    return np.clip(np.minimum(phase, 1 - phase) / 0.1, 0, 1)


def _log_uniform(random: Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _carry(bodies: list[Body], camera: tuple[Track, Track]) -> tuple[Body, ...]:
    """The bodies as a swinging camera sees them."""
    return tuple(replace(body, x=body.x + camera[0], y=body.y + camera[1]) for body in bodies)
