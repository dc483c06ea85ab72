"""A picture of a sweep: what was found when, and with which values."""

import json
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kinemix.engine.sweep import Sweep, SweepTrial
from kinemix.engine.sweep_space import Axis
from kinemix.explain.palette import COLORS, OTHERS


def plot_sweep(sweep: Sweep) -> Figure:
    """One panel with the figures in the order of trials and the best so far, and one for each option.

    Pruned trials are grey, at their last validation; failed ones are crosses at the foot of the first panel.
    """
    figure = Figure(figsize=(3.1 * (1 + len(sweep.axes)), 3.2), layout="constrained")
    first, *panels = figure.subplots(1, 1 + len(sweep.axes), sharey=True, squeeze=False)[0]
    _draw_history(first, sweep)
    for axes, axis in zip(panels, sweep.axes, strict=True):
        _draw_axis(axes, axis, sweep)
    for axes in (first, *panels):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def _draw_history(axes: Axes, sweep: Sweep) -> None:
    _scatter(axes, {trial.number: trial for trial in sweep.trials})
    complete = [trial for trial in sweep.trials if trial.state == "complete"]
    best = accumulate((100 * (trial.figure or 0) for trial in complete), max)
    axes.step([trial.number for trial in complete], list(best), where="post", color=COLORS[1], linewidth=1)
    failed = [trial.number for trial in sweep.trials if trial.state == "failed"]
    axes.plot(failed, [0.02] * len(failed), "x", color="0.3", transform=axes.get_xaxis_transform())
    axes.set(xlabel="trial", ylabel=f"{sweep.figure}, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_axis(axes: Axes, axis: Axis, sweep: Sweep) -> None:
    axes.set_xlabel(axis.name, fontsize=9)
    if axis.choices:
        names = [choice if isinstance(choice, str) else json.dumps(choice) for choice in axis.choices]
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=30, ha="right")
    elif axis.log:
        axes.set_xscale("log")
    for trial in sweep.trials:
        value = trial.values[axis.name]
        _scatter(axes, {axis.choices.index(value) if axis.choices else value: trial})


def _scatter(axes: Axes, trials: dict[float, SweepTrial]) -> None:
    for place, trial in trials.items():
        if trial.figure is not None:
            color = COLORS[0] if trial.state == "complete" else OTHERS
            axes.plot(place, 100 * trial.figure, "o", markersize=5, color=color)
