"""When two files show the same: a fingerprint that survives encoding again, and the search for equal ones.

Eight frames, spread over the video, are made grey and small. The signs of the lowest frequencies of each (a
perceptual hash: DCT, 8 x 8 coefficients, bits by their median) find candidates among many videos quickly. But
clips of one scene share a background, and such a hash sees little else. So candidates are then compared as
pictures, and above all in what moves: the difference of each small picture from the clip's mean picture.
A library's image hash would give the first half only, and numpy needs ten lines for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

NUM_FRAMES = 8
SIDE = 32
"""Side of the grey picture that is hashed; half of it is kept for comparing."""

SAME_PICTURE, NEAR_PICTURE = 0.97, 0.90
SAME_MOTION, NEAR_MOTION = 0.93, 0.80
"""Correlations from which two videos show the same, or nearly so."""

SAME_STILL = 0.995
"""The same where nothing moves: talking heads of one recording session reach 0.98."""

_STILL = 1.0  # grey levels (root mean square) below which nothing moves but coding noise
_WINDOW = 64  # neighbours of equal key that a video is compared with


@dataclass(frozen=True)
class Fingerprint:
    """The content of a video.

    Attributes:
        hashes: 8 perceptual hashes, uint64.
        pictures: ``8 x 16 x 16`` grey, uint8, in the order of time.
    """

    hashes: NDArray[np.uint64]
    pictures: NDArray[np.uint8]

    @property
    def motion(self) -> float:
        """Root mean square of what changes, in grey levels: 0 for a still picture."""
        pictures = self.pictures.astype(np.float32)
        return float(np.sqrt(np.mean((pictures - pictures.mean(axis=0)) ** 2)))

    @property
    def contrast(self) -> float:
        """Standard deviation within the pictures, in grey levels: 0 for plain colour."""
        return float(self.pictures.astype(np.float32).std(axis=(1, 2)).max())


def take_fingerprint(pictures: Sequence[NDArray[np.uint8]]) -> Fingerprint:
    """Fingerprint of 8 grey pictures ``32 x 32`` in the order of time."""
    stack = np.stack(pictures)
    half = SIDE // 2
    small = stack.reshape(len(stack), half, 2, half, 2).mean(axis=(2, 4))
    return Fingerprint(hash_pictures(stack), small.round().astype(np.uint8))


def hash_pictures(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A 64-bit perceptual hash of each grey picture ``N x 32 x 32``.

    Bit k tells whether coefficient k of the lowest 8 x 8 of the DCT-II lies above their median.
    """
    basis = _dct_basis()
    low = (basis @ pictures.astype(np.float64) @ basis.T).reshape(len(pictures), 64)
    low[:, 0] = 0  # the mean brightness
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


@cache
def _dct_basis() -> NDArray[np.float64]:
    k, i = np.arange(8)[:, None], np.arange(SIDE)[None, :]
    return np.cos(np.pi * k * (2 * i + 1) / (2 * SIDE))


@dataclass(frozen=True)
class Likeness:
    """Two videos that show the same (``same``) or nearly the same.

    Attributes:
        a, b: their indices, a < b.
        picture, motion: correlations; ``motion`` is None where nothing moves.
        same: equal but for the coding.
    """

    a: int
    b: int
    picture: float
    motion: float | None
    same: bool


def find_likenesses(fingerprints: Sequence[Fingerprint]) -> list[Likeness]:
    """All pairs that show the same or nearly the same, as far as any of 32 hash bands agrees."""
    found = []
    for a, b in sorted(set(_find_candidates(fingerprints))):
        likeness = compare(a, b, fingerprints[a], fingerprints[b])
        if likeness is not None:
            found.append(likeness)
    return found


def compare(a: int, b: int, first: Fingerprint, second: Fingerprint) -> Likeness | None:
    """How alike two videos are, or None where they are not."""
    one, two = first.pictures.astype(np.float32), second.pictures.astype(np.float32)
    if min(first.contrast, second.contrast) < 1.0:
        return None  # plain colour looks like any other; it is reported for itself
    picture = _correlate(one - one.mean(), two - two.mean())
    if picture < NEAR_PICTURE:
        return None
    still = first.motion < _STILL, second.motion < _STILL
    if all(still):
        return Likeness(a, b, picture, None, same=True) if picture >= SAME_STILL else None
    if any(still):
        return None
    motion = _correlate(one - one.mean(axis=0), two - two.mean(axis=0))
    if motion < NEAR_MOTION:
        return None
    return Likeness(a, b, picture, motion, picture >= SAME_PICTURE and motion >= SAME_MOTION)


def _correlate(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((a * b).sum() / max(1e-9, float(np.linalg.norm(a)) * float(np.linalg.norm(b))))


def _find_candidates(fingerprints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Pairs that agree in 16 neighbouring bits of one frame's hash.

    Videos are sorted by these bits, then by all others, so that equal ones stand near each other; each is
    paired with the next 64 of its key at most. That bounds the work where thousands share a background.
    """
    if len(fingerprints) < 2:
        return
    hashes = np.stack([fingerprint.hashes for fingerprint in fingerprints])
    bands = hashes.view(np.uint16)  # N x 32
    rank = np.empty(len(bands), dtype=np.int64)
    rank[np.lexsort(hashes.T)] = np.arange(len(bands))
    for keys in bands.T:
        order = np.lexsort((rank, keys))
        ordered = keys[order]
        for shift in range(1, min(_WINDOW, len(order) - 1) + 1):
            places = np.flatnonzero(ordered[shift:] == ordered[:-shift])
            if not len(places):
                break
            pairs = np.sort(np.stack([order[places], order[places + shift]], axis=1), axis=1)
            yield from map(tuple, pairs.tolist())
