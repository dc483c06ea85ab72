"""The clips that a network knows best and worst, as films that are one small picture each."""

import html
import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from kinemix.evaluate.compare import is_right
from kinemix.evaluate.ensemble import to_probabilities
from kinemix.evaluate.scores import Scores
from kinemix.types import Video

_HEIGHT, _QUALITY = 112, 60
_ANSWERS = 3


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One tested sample: its row in the scores, and the probability of its label."""

    row: int
    probability: float


def choose_clips(scores: Scores, *, worst: int, best: int) -> tuple[list[Clip], list[Clip]]:
    """The samples whose label got the least probability, and those that got the most; at most one in four a class.

    Among the best there is none that is answered wrong, and among the worst none that is answered right.
    """
    probability = to_probabilities(scores)[np.arange(len(scores.labels)), scores.labels]
    right = is_right(scores)
    ranked = np.argsort(probability, kind="stable").tolist()
    picks = (
        _spread([row for row in ranked if not right[row]], scores, worst),
        _spread([row for row in reversed(ranked) if right[row]], scores, best),
    )
    worst_clips, best_clips = (
        [Clip(row=row, probability=float(probability[row])) for row in rows] for rows in picks
    )
    return worst_clips, best_clips


def _spread(rows: Sequence[int], scores: Scores, most: int) -> list[int]:
    """The first so many rows, such that no class fills more than a quarter while there are others."""
    limit = max(1, most // 4)
    taken: list[int] = []
    counts: dict[int, int] = {}
    for row in rows:
        label = int(scores.labels[row])
        if counts.get(label, 0) < limit and len(taken) < most:
            taken.append(row)
            counts[label] = counts.get(label, 0) + 1
    left = [row for row in rows if row not in set(taken)]
    return sorted(taken + left[: most - len(taken)], key=rows.index)


def encode_strip(*films: Video) -> bytes:
    """Films of equal length below each other, their frames side by side, as one WebP picture.

    Args:
        films: ``T 3 H W``, uint8; of one size.
    """
    rows = [torch.cat(list(_shrink(film)), dim=2) for film in films]
    pixels = torch.cat(rows, dim=1).permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()


def _shrink(film: Video) -> Tensor:
    height, width = film.shape[2:]
    if height <= _HEIGHT:
        return film
    return F.resize(film, [_HEIGHT, round(width * _HEIGHT / height)], antialias=True)


def render_clip(scores: Scores, clip: Clip, strip: bytes, *, num_frames: int) -> str:
    """A film with its answers, as HTML: it plays without a script, and prints as a strip.

    Args:
        scores: of the test.
        clip: of it.
        strip: of :func:`encode_strip`.
        num_frames: side by side in it.
    """
    probabilities = to_probabilities(scores)[clip.row]
    label = int(scores.labels[clip.row])
    name = html.escape(scores.class_names[label])
    ranked = np.argsort(-probabilities, kind="stable")[:_ANSWERS].tolist()
    answers = "".join(
        f'<li class="{"right" if k == label else "wrong"}">{html.escape(scores.class_names[k])} '
        f"{probabilities[k]:.1%}{' &#10003;' if k == label else ''}</li>"
        for k in ranked
    )
    source = f"data:image/webp;base64,{b64encode(strip).decode('ascii')}"
    path = html.escape(Path(scores.ids[clip.row]).name)
    return (
        f'<figure class="clip"><div class="film" style="--frames:{num_frames}"><img loading="lazy" decoding="async" '
        f'alt="{num_frames} frames of a clip of {name}" src="{source}"></div><figcaption><b>{name}</b> '
        f'{clip.probability:.1%}<ol>{answers}</ol><span class="path">{path}</span></figcaption></figure>'
    )
