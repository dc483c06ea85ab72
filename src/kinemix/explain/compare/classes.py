"""The accuracy of every class under several networks, legible up to hundreds of classes."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinemix.evaluate.metrics import ClassAccuracy
from kinemix.explain.axes import clean_axes_, shorten_names
from kinemix.explain.palette import OTHERS, pick_styles

_ROWS, _MOST_COLUMNS = 44, 5
_ROW_INCHES, _COLUMN_INCHES = 0.2, 3.5
_NAME_LETTERS, _NETWORK_LETTERS = 36, 40


def plot_class_accuracies(networks: Mapping[str, Sequence[ClassAccuracy]]) -> Figure:
    """A row a class, a mark a network; the classes that the last network answers best stand above.

    Args:
        networks: name -> accuracies by class, of the same classes; those without samples are left out.
    """
    tables = {name: {c.name: c.accuracy for c in classes} for name, classes in networks.items()}
    last = list(tables.values())[-1]
    names = sorted(
        (n for n, accuracy in last.items() if accuracy is not None), key=lambda n: (-_of(last, n), n)
    )
    columns = min(_MOST_COLUMNS, -(-len(names) // _ROWS))
    rows = -(-len(names) // columns)
    figure = Figure(
        figsize=(max(7.0, _COLUMN_INCHES * columns + 0.3), _ROW_INCHES * rows + 1.2), layout="constrained"
    )
    panels = figure.subplots(1, columns, squeeze=False)[0]
    labels = shorten_names(names, _NAME_LETTERS)
    told = {short: tables[network] for network, short in shorten_names(tables, _NETWORK_LETTERS).items()}
    for number, axes in enumerate(panels):
        _draw(axes, told, {n: labels[n] for n in names[number * rows : (number + 1) * rows]}, rows)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=9
    )
    return figure


def _draw(
    axes: Axes, tables: Mapping[str, Mapping[str, float | None]], names: Mapping[str, str], rows: int
) -> None:
    lowest = [min(_of(table, name) for table in tables.values()) for name in names]
    highest = [max(_of(table, name) for table in tables.values()) for name in names]
    axes.hlines(range(len(names)), lowest, highest, color=OTHERS, linewidth=2, zorder=1)
    # Later networks are drawn smaller, so that equal ones show as rings.
    sizes = [6.5 - 2.2 * place / max(1, len(tables) - 1) for place in range(len(tables))]
    for (network, table), style, size in zip(tables.items(), pick_styles(len(tables)), sizes, strict=True):
        axes.plot(
            [_of(table, name) for name in names], range(len(names)), style.marker,
            color=style.color, markersize=size, label=network, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), list(names.values()))
    axes.set(xlim=(0, 100), ylim=(rows - 0.4, -0.6), xlabel="right, %")
    clean_axes_(axes)
    axes.tick_params(axis="y", labelsize=7, length=0, pad=6)


def _of(table: Mapping[str, float | None], name: str) -> float:
    return 100 * (table.get(name) or 0.0)
