"""Whether networks are right, and wrong, about the same videos."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kinemix.evaluate.compare import Agreement
from kinemix.explain.axes import shorten_names
from kinemix.explain.palette import COLORS, OTHERS

_NETWORK_LETTERS = 28
_PARTS = (
    ("both_right", "both right", COLORS[0], "white"),
    ("only_first", "only the first", COLORS[5], "black"),
    ("only_second", "only the second", COLORS[4], "black"),
    ("same_mistake", "both wrong, same answer", COLORS[1], "white"),
    ("other_mistake", "both wrong, two answers", OTHERS, "black"),
)


def plot_agreement(pairs: Mapping[tuple[str, str], Agreement]) -> Figure:
    """A bar for each pair of networks: who is right, and whether mistakes are the same.

    Args:
        pairs: names of the two -> how their answers go together.
    """
    figure = Figure(figsize=(8.6, 0.62 * len(pairs) + 1.3), layout="constrained")
    axes = figure.subplots()
    for place, agreement in enumerate(pairs.values()):
        total = sum(getattr(agreement, part) for part, *_ in _PARTS)
        left = 0.0
        for part, _, color, ink in _PARTS:
            share = 100 * getattr(agreement, part) / total
            axes.barh(place, share, 0.7, left=left, color=color, edgecolor="white")
            if share >= 4:
                axes.text(
                    left + share / 2, place, f"{share:.0f}", ha="center", va="center", fontsize=8, color=ink
                )
            left += share
        axes.annotate(
            f"{agreement.share:.0%} alike", (1.01, place), xycoords=("axes fraction", "data"),
            va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip
    names = shorten_names((name for pair in pairs for name in pair), _NETWORK_LETTERS)
    labels = [f"{names[first]}\n{names[second]}" for first, second in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.set(xlim=(0, 100), xlabel="samples, %")
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    swatches = [Patch(color=color) for _, _, color, _ in _PARTS]
    figure.legend(
        swatches, [label for _, label, *_ in _PARTS], loc="outside upper center", ncols=3,
        frameon=False, fontsize=8,
    )  # fmt: skip
    return figure
