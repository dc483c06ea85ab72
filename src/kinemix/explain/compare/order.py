"""How much each class needs time: its accuracy forwards, reversed, shuffled and from one frame."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinemix.evaluate.order_sensitivity import ClassOrder, OrderSensitivity
from kinemix.explain.axes import clean_axes_, shorten_names
from kinemix.explain.palette import COLORS, MARKERS, SOFT_INK

_STYLES = {
    "forward": ("forward", COLORS[0], MARKERS[0]),
    "reverse": ("reversed", COLORS[1], MARKERS[1]),
    "shuffle": ("shuffled", COLORS[2], MARKERS[2]),
    "single": ("single frame", COLORS[3], MARKERS[3]),
}
_MOST, _LEAST = 18, 6
_ALL = 30
"""Classes up to which all are shown; beyond, those that need time most and least."""

_ROW_INCHES, _PANEL_INCHES = 0.4, 3.9
_NAME_LETTERS, _ANSWER_LETTERS, _NETWORK_LETTERS = 34, 26, 40


def plot_order(networks: Mapping[str, OrderSensitivity]) -> Figure:
    """One panel a network, one row a class; the classes that need time most stand above.

    Beside each row stands what most of the class's clips are answered with when they run backwards.

    Args:
        networks: name -> what was measured.
    """
    shown, gap = choose_classes(networks)
    height = _ROW_INCHES * (len(shown) + (0.7 if gap else 0)) + 1.5
    figure = Figure(figsize=(2.1 + _PANEL_INCHES * len(networks), height), layout="constrained")
    panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    titles = shorten_names(networks, _NETWORK_LETTERS)
    for axes, (name, order) in zip(panels, networks.items(), strict=True):
        _draw(axes, titles[name], order, shown, gap)
    places = [_place(row, gap) for row in range(len(shown))]
    names = shorten_names((c.name for order in networks.values() for c in order.classes), _NAME_LETTERS)
    panels[0].set_yticks(places, [names[name] for name in shown], fontsize=8)
    panels[0].set_ylim(places[-1] + 0.55, -0.55)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def choose_classes(networks: Mapping[str, OrderSensitivity]) -> tuple[list[str], int | None]:
    """Classes to show, those that need time most first, by the network that uses it most.

    Returns:
        Their names, and the row before which classes were left out, if any were.
    """
    needs: dict[str, float] = {}
    for order in networks.values():
        for c in order.classes:
            needs[c.name] = max(c.need, needs.get(c.name, -1.0))
    ranked = sorted(needs, key=lambda name: (-needs[name], name))
    if len(ranked) <= _ALL:
        return ranked, None
    return ranked[:_MOST] + ranked[-_LEAST:], _MOST


def _place(row: int, gap: int | None) -> float:
    return row + (0.7 if gap is not None and row >= gap else 0.0)


def _draw(axes: Axes, name: str, order: OrderSensitivity, shown: Sequence[str], gap: int | None) -> None:
    classes = {c.name: c for c in order.classes}
    rows = [(_place(row, gap), classes[one]) for row, one in enumerate(shown) if one in classes]
    for place, _ in rows[::2]:
        axes.axhspan(place - 0.5, place + 0.5, color="0.955", linewidth=0, zorder=0)
    kinds = [kind for kind in _STYLES if kind in order.accuracy]
    for lane, kind in enumerate(kinds):
        label, color, marker = _STYLES[kind]
        # Each order has a lane of its own in the row: where they agree all can still be seen.
        offset = 0.21 * (lane - (len(kinds) - 1) / 2)
        axes.plot(
            [100 * c.accuracy[kind] for _, c in rows],
            [place + offset for place, _ in rows],
            marker, color=color, markersize=4.5, label=label, clip_on=False, zorder=3,
        )  # fmt: skip
    answers = shorten_names((c.reversed_answer for c in order.classes), _ANSWER_LETTERS)
    for place, c in rows:
        axes.annotate(
            _tell_answer(c, answers[c.reversed_answer]), (1.02, place), xycoords=("axes fraction", "data"),
            va="center", fontsize=7, color="0.1" if c.reversed_answer != c.name else SOFT_INK,
            annotation_clip=False,
        )  # fmt: skip
    if gap is not None:
        axes.axhline(gap - 0.15, color="0.6", linestyle=(0, (1, 3)), linewidth=1)
    axes.set(xlim=(-2, 102), xlabel="right, %")
    axes.set_title(_tell_network(name, order), fontsize=9, loc="left")
    clean_axes_(axes, grid="x")
    axes.tick_params(axis="y", length=0)


def _tell_answer(c: ClassOrder, answer: str) -> str:
    return f"reversed: {c.reversed_share:.0%}\n{'itself' if c.reversed_answer == c.name else answer}"


def _tell_network(name: str, order: OrderSensitivity) -> str:
    kinds = [kind for kind in _STYLES if kind in order.accuracy]
    told = [f"{_STYLES[kind][0]} {order.accuracy[kind]:.0%}" for kind in kinds]
    figures = "\n".join(", ".join(told[first : first + 2]) for first in range(0, len(told), 2))
    unchanged = f"{order.unchanged['reverse']:.0%} of the answers stay when reversed"
    return f"{name}\n{figures}\n{unchanged}"
