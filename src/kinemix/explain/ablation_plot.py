"""A picture of an ablation table: the paper's figures and ours, row by row, each on its own scale."""

from collections.abc import Sequence
from statistics import mean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinemix.engine.ablation import Ablation
from kinemix.explain.palette import COLORS


def plot_ablation(ablation: Ablation) -> Figure:
    """Two panels with the same rows: the paper's accuracies, and ours with every seed and the deviation.

    Scales are each panel's own: the datasets are not the same, so orders and gaps can be compared, not values.
    """
    rows = [row for row in ablation.rows if row.printed is not None or row.forward]
    figure = Figure(figsize=(9.5, 1.4 + 0.34 * len(rows)), layout="constrained")
    paper, ours = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        if row.printed is not None:
            paper.plot(row.printed, place, "o", color=COLORS[0] if row.network else "0.6")
        _draw_seeds(ours, row.forward, place, COLORS[1], label="forward")
        _draw_seeds(ours, row.reversed, place + 0.25, COLORS[2], label="reversed")
    paper.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    paper.set_ylim(len(rows) - 0.5, -0.5)
    paper.set(xlabel="accuracy, %", title=f"paper: {ablation.dataset}")
    ours.set(xlabel="accuracy, %", title=f"here, seeds {', '.join(map(str, ablation.seeds))}")
    handles, names = ours.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    if "reversed" in unique:
        ours.legend(unique.values(), unique.keys(), frameon=False, fontsize=8)
    for axes in (paper, ours):
        axes.title.set_fontsize(10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def _draw_seeds(axes: Axes, values: Sequence[float], place: float, color: str, *, label: str) -> None:
    if not values:
        return
    axes.plot(values, [place] * len(values), "|", color=color, alpha=0.6)
    spread = stdev(values) if len(values) > 1 else 0.0
    axes.errorbar(mean(values), place, xerr=spread, fmt="o", color=color, capsize=3, label=label)
