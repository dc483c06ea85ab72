"""A comparison on disk: every picture as PNG, all of them on one page, and the numbers as JSON."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from matplotlib.figure import Figure

from kinemix.atomic import write_atomically
from kinemix.config import Protocol
from kinemix.engine.tested_run import TestedVideos
from kinemix.evaluate.confusion import order_by_confusion
from kinemix.evaluate.papers.points import list_points
from kinemix.explain.compare.agreement import plot_agreement
from kinemix.explain.compare.calibration import plot_calibration
from kinemix.explain.compare.changes import plot_changed_clips, plot_changes
from kinemix.explain.compare.classes import plot_class_accuracies
from kinemix.explain.compare.comparison import Comparison
from kinemix.explain.compare.order import plot_order
from kinemix.explain.compare.trade_off import TradeOff, plot_trade_off
from kinemix.explain.page import Page, render_png
from kinemix.explain.plots import plot_confusion

FigureName: TypeAlias = Literal[
    "changes", "clips", "order", "classes", "confusion", "calibration", "agreement", "macs", "latency"
]
FIGURES: tuple[FigureName, ...] = get_args(FigureName)

_TITLES: Mapping[FigureName, tuple[str, str]] = {
    "changes": (
        "What changed",
        "Classes that gained and lost most. The right-hand bars are samples that only the second network gets "
        "right, the left-hand ones those that only the first does.",
    ),
    "clips": (
        "Clips that changed sides",
        "One clip of each class that changed most: its class, then both answers.",
    ),
    "order": (
        "Who needs time",
        "Accuracy of each class forwards, with the frames reversed, shuffled, and with the middle frame alone. "
        "Beside each row: what most of its clips are answered with when they run backwards.",
    ),
    "classes": ("Every class", "Accuracy of each class."),
    "confusion": (
        "Who is taken for whom",
        "Per cent of each class. Classes that are taken for each other stand together, in the order of the first "
        "network.",
    ),
    "calibration": (
        "Confidence",
        "How often answers are right, by how sure they are; a network that knows how sure it may be stays on the "
        "diagonal.",
    ),
    "agreement": ("Agreement", "Whether two networks are right, and wrong, about the same videos."),
    "macs": (
        "Accuracy and multiply-adds",
        "For a whole video, all views. The area of a bubble is the number of parameters.",
    ),
    "latency": ("Accuracy and time", "Median time of one view, forward."),
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture with its place on the page."""

    name: str
    figure: FigureName
    picture: Figure


def write_comparison(
    comparison: Comparison,
    out: Path,
    *,
    videos: TestedVideos | None = None,
    figures: Sequence[FigureName] = FIGURES,
    published: str | None = None,
    same_dataset: bool = False,
) -> list[Path]:
    """Write the pictures, ``index.html`` and ``comparison.json``.

    Args:
        comparison: of :func:`kinemix.explain.compare.compare_runs`.
        out: folder; made if missing.
        videos: of the test; without them no clips are shown.
        figures: which pictures.
        published: dataset whose published points are drawn beside the networks'.
        same_dataset: the networks were tested on it too.

    Returns:
        The files.
    """
    out.mkdir(parents=True, exist_ok=True)
    page = Page(" and ".join(comparison.scores) if len(comparison.scores) < 4 else "Comparison of networks")
    add_summary_(page, comparison)
    written = []
    section: FigureName | None = None
    for drawing in _draw(comparison, videos, figures, published, same_dataset):
        png = render_png(drawing.picture)
        path = out / f"{drawing.name}.png"
        path.write_bytes(png)
        written.append(path)
        title, about = _TITLES[drawing.figure]
        if section != drawing.figure:
            page.add_heading(title)
            section = drawing.figure
        page.add_figures((png, about))
        if drawing.figure == "order" and (remark := describe_single_frames(comparison)):
            page.add_text(remark)
    if set(figures) == set(
        FIGURES
    ):  # of an earlier comparison nothing is left that would pass for this one's
        for path in set(out.glob("*.png")) - set(written):
            if path.stem.partition("-")[0] in FIGURES:
                path.unlink()
    text = json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False) + "\n"
    numbers = out / "comparison.json"
    write_atomically(numbers, lambda partial: partial.write_text(text, encoding="utf-8"), durable=False)
    page.write(out / "index.html")
    return [*written, numbers, out / "index.html"]


def describe_single_frames(comparison: Comparison) -> str | None:
    """What the accuracy of a single frame does not mean where the network takes the clip's own still away."""
    blind = [name for name, scores in comparison.scores.items() if _is_grey(scores.protocol)]
    if not blind or not comparison.order:
        return None
    return (
        f"Single frames of {', '.join(blind)} say nothing: their protocol takes the clip's own still away "
        "(difference), and of one frame that leaves grey, which all have the same answer."
    )


def _is_grey(protocol: Protocol | None) -> bool:
    return protocol is not None and protocol.difference != "none"


def _draw(
    comparison: Comparison,
    videos: TestedVideos | None,
    figures: Sequence[FigureName],
    published: str | None,
    same_dataset: bool,
) -> Iterator[Drawing]:
    painters: Mapping[FigureName, Callable[[], Iterator[tuple[str, Figure]]]] = {
        "changes": lambda: _draw_changes(comparison),
        "clips": lambda: _draw_clips(comparison, videos),
        "order": lambda: _draw_all("order", plot_order, comparison.order),
        "classes": lambda: _draw_all(
            "classes", plot_class_accuracies, {name: m.per_class for name, m in comparison.metrics.items()}
        ),
        "confusion": lambda: _draw_confusion(comparison),
        "calibration": lambda: _draw_all("calibration", plot_calibration, comparison.calibration),
        "agreement": lambda: _draw_all("agreement", plot_agreement, comparison.agreement),
        "macs": lambda: _draw_macs(comparison, published, same_dataset),
        "latency": lambda: _draw_latency(comparison),
    }
    for name in FIGURES:
        if name in figures:
            for file, picture in painters[name]():
                yield Drawing(name=file, figure=name, picture=picture)


def _draw_all(name: str, plot: Callable[..., Figure], values: Mapping) -> Iterator[tuple[str, Figure]]:
    if values:
        yield name, plot(values)


def _draw_changes(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    for name, changes in comparison.changes.items():
        yield (
            _name_file("changes", name, comparison),
            plot_changes(changes, first=comparison.first, second=name),
        )


def _draw_clips(comparison: Comparison, videos: TestedVideos | None) -> Iterator[tuple[str, Figure]]:
    if videos is None:
        return
    for name, changes in comparison.changes.items():
        first, second = comparison.scores[comparison.first], comparison.scores[name]
        names = (comparison.first, name)
        figure = plot_changed_clips(changes, first, second, videos, names=names)
        if figure is not None:
            yield _name_file("clips", name, comparison), figure


def _draw_confusion(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    names = comparison.scores[comparison.first].class_names
    order = [names[k] for k in order_by_confusion(comparison.metrics[comparison.first].confusion)]
    for number, (name, metrics) in enumerate(comparison.metrics.items(), start=1):
        figure = plot_confusion(metrics.confusion, names, order=order, title=name)
        yield f"confusion-{number}", figure


def _draw_macs(comparison: Comparison, published: str | None, same: bool) -> Iterator[tuple[str, Figure]]:
    networks = [
        TradeOff(
            name=name,
            accuracy=comparison.metrics[name].top1,
            cost=cost.macs * cost.views / 1e9,
            parameters=cost.parameters,
        )
        for name, cost in comparison.costs.items()
    ]
    if networks:
        points = list_points(published) if published else []
        label = "multiply-adds of a video, 10⁹"
        yield (
            "macs",
            plot_trade_off(
                networks, cost_label=label, published=points, dataset=published or "", same_dataset=same
            ),
        )


def _draw_latency(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    timed = {name: cost for name, cost in comparison.costs.items() if cost.latency is not None}
    networks = [
        TradeOff(
            name=name,
            accuracy=comparison.metrics[name].top1,
            cost=1000 * (cost.latency or 0.0),
            parameters=cost.parameters,
        )
        for name, cost in timed.items()
    ]
    if networks:
        device = next(iter(timed.values())).device
        yield "latency", plot_trade_off(networks, cost_label=f"milliseconds a view, {device}")


def _name_file(figure: str, name: str, comparison: Comparison) -> str:
    """One file a network where there are several beside the first."""
    if len(comparison.changes) == 1:
        return figure
    return f"{figure}-{list(comparison.changes).index(name) + 2}"


def add_summary_(page: Page, comparison: Comparison) -> None:
    """The table of all networks, and how each was tested."""
    rows = []
    for name, figures in comparison.figures.items():
        cost, paired = comparison.costs.get(name), comparison.paired.get(name)
        order = comparison.order.get(name)
        rows.append(
            (
                name,
                f"{figures.top1.value:.1%} ({figures.top1.low:.1%} to {figures.top1.high:.1%})",
                f"{figures.mean_class.value:.1%}",
                "" if order is None else f"{order.accuracy['reverse']:.1%}",
                f"{comparison.calibration[name].error:.1%}",
                "" if cost is None else f"{cost.parameters / 1e6:.2f} M",
                "" if cost is None else f"{cost.macs * cost.views / 1e9:.3g} G",
                "" if cost is None or cost.latency is None else f"{1000 * cost.latency:.1f} ms",
                ""
                if paired is None
                else f"{100 * paired.difference.value:+.1f} points, p = {paired.p_value:.1g}",
            )
        )
    header = (
        *("network", "top-1 (95 %)", "mean class", "reversed", "calibration error", "parameters"),
        *("multiply-adds a video", "time a view", f"against {comparison.first}"),
    )
    page.add_table(header, rows)
    for name, scores in comparison.scores.items():
        page.add_text(f"{name}: {scores.describe_protocol()}, {len(scores.ids)} videos")
    for notice in comparison.notices:
        page.add_text(notice)
