"""Pictures of a run: every function returns a matplotlib figure and shows nothing by itself."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kinemix.explain.axes import shorten_names
from kinemix.explain.palette import COLORS, SHARES

_MAX_NAMED_BELOW, _MAX_NAMED = 40, 400
"""Classes up to which a matrix has their names below and beside it; with more they stand beside it alone, numbered
like the columns; with still more there are numbers alone."""

_NAME_LETTERS = 36
_FEW_POINTS = 15


def plot_curves(runs: Mapping[str, Sequence[Mapping[str, float]]], *, chance: float | None = None) -> Figure:
    """Loss and validation accuracy by epoch, one colour a run.

    Args:
        runs: name of the run -> one record an epoch with ``epoch``, ``train_loss`` and, where the epoch was
            validated, ``val_top1`` (shares, 0..1).
        chance: accuracy to draw as a dotted line (what an orderless network can reach, say).
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for color, (name, records) in zip(COLORS, runs.items(), strict=False):
        epochs = [record["epoch"] for record in records]
        loss_axes.plot(epochs, [record["train_loss"] for record in records], color=color, label=name)
        validated = [record for record in records if "val_top1" in record]
        accuracy_axes.plot(
            [record["epoch"] for record in validated],
            [100 * record["val_top1"] for record in validated],
            marker="o" if len(validated) < _FEW_POINTS else None,  # of a single point there is no line
            markersize=4,
            color=color,
            label=name,
        )
    if chance is not None:
        accuracy_axes.axhline(100 * chance, color="0.4", linestyle=":", linewidth=1)
        accuracy_axes.annotate(
            "best without order", (0.99, 100 * chance), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=8, color="0.3",
        )  # fmt: skip
    loss_axes.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    accuracy_axes.set(xlabel="epoch", ylabel="validation accuracy, %", ylim=(0, 102))
    for axes in (loss_axes, accuracy_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    loss_axes.legend(frameon=False, fontsize=8)
    return figure


def plot_confusion(
    matrix: np.ndarray, class_names: Sequence[str], *, order: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """A confusion matrix, each row in per cent of its class.

    Args:
        matrix: counts ``K x K``; rows are true classes, columns answers.
        class_names: K names.
        order: the names in the order to draw them in, so that classes that are often confused stand together.
        title: what is shown.
    """
    matrix = np.asarray(matrix, dtype=float)
    if order is not None:
        places = [list(class_names).index(name) for name in order]
        matrix, class_names = matrix[np.ix_(places, places)], order
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    num_classes = len(class_names)
    side = 2.2 + 0.3 * num_classes
    width, height = (side, side) if num_classes <= 20 else (9.0, 9.0)
    if num_classes > _MAX_NAMED_BELOW:  # each class has the height of a small letter
        height = max(height, 1.2 + 0.092 * min(num_classes, _MAX_NAMED))
        width = height + 2.2
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap=SHARES, vmin=0, vmax=100)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="answer", ylabel="true class", anchor="E")  # room that is left over goes to the names
    names = list(shorten_names(class_names, _NAME_LETTERS).values())
    if num_classes > _MAX_NAMED:
        return figure
    if num_classes > _MAX_NAMED_BELOW:
        axes.set_yticks(range(num_classes), [f"{name}  {n}" for n, name in enumerate(names, 1)], fontsize=5.5)
        numbers = range(5, num_classes + 1, 5)
        axes.set_xticks([n - 1 for n in numbers], [str(n) for n in numbers], rotation=90, fontsize=5.5)
        return figure
    axes.set_xticks(range(num_classes), names, rotation=90, fontsize=8)
    axes.set_yticks(range(num_classes), names, fontsize=8)
    if num_classes <= 20:
        for row, column in np.argwhere(shares >= 0.5):
            share = shares[row, column]
            color = "black" if share > 60 else "white"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=color)
    return figure
