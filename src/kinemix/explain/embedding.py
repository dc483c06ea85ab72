"""Features of many videos in the plane: t-SNE or UMAP, coloured by class or group, models side by side.

As in the last figure of "MixTConv"'s slides and in Figures 5, 9 and 10 of "Gate-Shift Networks". Distances in such a
picture are not to be trusted: how well classes stand apart is measured in the features themselves
(:func:`measure_separation`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from kinemix.errors import ConfigError, KinemixError
from kinemix.explain.axes import shorten_names
from kinemix.explain.filmstrip import wrap_label
from kinemix.explain.groups import Groups
from kinemix.explain.palette import OTHERS, pick_styles

Way: TypeAlias = Literal["tsne", "opentsne", "umap", "pca"]
Matrix: TypeAlias = NDArray[np.float32]

PERPLEXITY = 30.0
_COMPONENTS = 50
"""Principal components that t-SNE starts from, as its authors advise."""

_NEIGHBOURS = 5
_NAME_LETTERS = 72


def project_features(
    vectors: Matrix, *, way: Way = "tsne", perplexity: float = PERPLEXITY, seed: int = 0
) -> Matrix:
    """Points ``N 2`` for vectors ``N F``.

    Args:
        vectors: of N videos.
        way: ``tsne`` (scikit-learn), ``opentsne`` (for many thousands of videos), ``umap``, or ``pca``, the first
            two principal components.
        perplexity: of t-SNE, about as many neighbours as a video is to have; at most a third of the others. UMAP
            takes it as its number of neighbours.
        seed: of what is drawn at random.

    Raises:
        ConfigError: fewer than 5 videos; an unknown way; a perplexity below 1.
        KinemixError: a library is not installed.
    """
    if way not in get_args(Way):
        raise ConfigError(f"unknown projection {way!r}: it must be one of {', '.join(get_args(Way))}")
    if len(vectors) < 5:
        raise ConfigError(f"{len(vectors)} videos are too few for a picture: give 5 or more")
    if perplexity < 1:
        raise ConfigError(f"perplexity is {perplexity:g}: give 1 or more")
    if way == "pca":
        return _reduce(vectors, 2, seed)
    perplexity = min(perplexity, (len(vectors) - 1) / 3)
    reduced = _reduce(vectors, _COMPONENTS, seed)
    if way == "tsne":
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    elif way == "opentsne":
        points = _import("openTSNE", "opentsne").TSNE(perplexity=perplexity, random_state=seed).fit(reduced)
    else:
        neighbours = max(2, min(round(perplexity), len(vectors) - 1))
        make = _import("umap", "umap").UMAP
        # One job, because a seed needs one.
        points = make(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(reduced)
    return np.asarray(points, np.float32)


def _reduce(vectors: Matrix, components: int, seed: int) -> Matrix:
    if vectors.shape[1] <= components and components > 2:
        return vectors
    components = min(components, *vectors.shape)
    points = PCA(components, random_state=seed).fit_transform(vectors)
    return np.asarray(np.pad(points, ((0, 0), (0, max(0, 2 - components)))), np.float32)


def _import(module: str, extra: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise KinemixError(
            f"{module} is not installed: pip install 'kinemix[{extra}]', or take --way tsne"
        ) from error


@dataclass(frozen=True)
class Separation:
    """How well groups stand apart in the features themselves.

    Attributes:
        neighbours: share of a video's nearest neighbours that are of its group, averaged over the videos that are
            not alone in theirs; five of them, or as many as there are others of the group.
        chance: the same if neighbours were drawn at random.
        silhouette: mean silhouette, -1 to 1: how much nearer the own group is than the next; ``None`` where
            fewer than two groups have a video.
    """

    neighbours: float
    chance: float
    silhouette: float | None


def measure_separation(vectors: Matrix, groups: Groups) -> Separation | None:
    """The separation of the grouped videos, by Euclidean distance; ``None`` where no two are of one group."""
    kept = groups.members >= 0
    vectors, members = vectors[kept], groups.members[kept]
    sizes = np.bincount(members)
    others = sizes[members] - 1
    if not others.any():
        return None
    count = min(_NEIGHBOURS, int(others.max()))
    # Without an argument, no video is its own neighbour, even if another has the same features.
    nearest = NearestNeighbors(n_neighbors=count).fit(vectors).kneighbors(return_distance=False)
    asked = np.minimum(others, count)
    alike = ((members[nearest] == members[:, None]) & (np.arange(count) < asked[:, None])).sum(axis=1)
    chance = float(others.sum() / ((len(members) - 1) * (others > 0).sum()))
    apart = 2 <= (sizes > 0).sum() < len(members)
    return Separation(
        float((alike[others > 0] / asked[others > 0]).mean()),
        chance,
        float(silhouette_score(vectors, members)) if apart else None,
    )


def plot_embedding(
    panels: Mapping[str, tuple[Matrix, Groups]],
    *,
    separations: Mapping[str, Separation | None] | None = None,
    title: str = "",
) -> Figure:
    """Points of one model or layer, or of several side by side, in the same colours.

    Args:
        panels: title -> points ``N 2`` and their groups; all panels have the same groups.
        separations: written below the titles.
        title: above all.
    """
    columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    rows = -(-len(panels) // columns)
    side = 4.6 if len(panels) <= 2 else 3.8
    figure = Figure(figsize=(side * columns + 2.6, side * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, (points, groups)) in zip(grid.flat, panels.items(), strict=False):
        _draw_points(axes, points, groups)
        separation = (separations or {}).get(name)
        below = "" if separation is None else "\n" + _describe(separation)
        axes.set_title(wrap_label(name, 40, 2) + below, fontsize=9)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    _add_legend(figure, next(iter(panels.values()))[1])
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw_points(axes: Axes, points: Matrix, groups: Groups) -> None:
    size = float(np.clip(9000 / len(points), 14, 36))
    others = groups.members < 0
    axes.scatter(points[others, 0], points[others, 1], s=0.35 * size, color=OTHERS, linewidths=0)
    # In random order, so that no group lies over all others.
    styles = pick_styles(len(groups.names))
    shuffled = np.random.default_rng(0).permutation(np.flatnonzero(~others))
    for part in np.array_split(shuffled, 8):
        for number, style in enumerate(styles):
            chosen = part[groups.members[part] == number]
            axes.scatter(
                points[chosen, 0], points[chosen, 1], s=size, color=style.color, marker=style.marker, alpha=0.85,
                linewidths=0.3, edgecolors="white",
            )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_color("0.8")


def _add_legend(figure: Figure, groups: Groups) -> None:
    look: dict[str, Any] = {
        "linestyle": "",
        "markersize": 6,
        "markeredgecolor": "white",
        "markeredgewidth": 0.3,
    }
    names = shorten_names(groups.names, _NAME_LETTERS)
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, label=wrap_label(names[name], 26), **look)
        for name, style in zip(groups.names, pick_styles(len(groups.names)), strict=True)
    ]
    if (groups.members < 0).any():
        handles.append(Line2D([], [], color=OTHERS, marker="o", label="others", **look))
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)


def _describe(separation: Separation) -> str:
    text = f"{separation.neighbours:.0%} of neighbours alike (chance {separation.chance:.0%})"
    return text if separation.silhouette is None else f"{text}, silhouette {separation.silhouette:.2f}"
