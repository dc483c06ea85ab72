"""Published accuracies and what they cost, as points to draw beside one's own."""

from collections.abc import Iterator
from dataclasses import dataclass

from kinemix.evaluate.papers import Row, list_rows

_COLUMNS = {
    ("Something-Something v1", "Something-Something v1 and v2"): "v1 top-1",
    ("Something-Something v2", "Something-Something v1 and v2"): "v2 top-1",
}
"""Dataset, and what a table with two of them calls both -> the column of the first."""

_OURS = {"mixtconv": ("Ours", "MSTNet", "MST"), "gsm": ("GSM",), "mtnet": ("MTNet",), "ctm": ("CTM",)}


@dataclass(frozen=True)
class Point:
    """One published row.

    Attributes:
        paper: whose table it stands in.
        label: its name there, with the other printed cells that tell it from its neighbours.
        accuracy: top-1 as a share.
        macs: for a whole video: all clips and crops that are printed.
        parameters: ``None`` where they are not printed.
        own: whether it is the paper's own network, rather than one that it compares with.
    """

    paper: str
    label: str
    accuracy: float
    macs: float
    parameters: float | None
    own: bool


def list_points(dataset: str) -> list[Point]:
    """Every network with published top-1 and multiply-adds on a dataset, the cheapest first.

    A network that stands in several tables with equal figures is one point. Rows whose FLOPs are not known to be
    multiply-adds, or twice that, are left out.

    Args:
        dataset: as the tables call it (:data:`kinemix.evaluate.papers.NUM_CLASSES`).
    """
    points: dict[tuple[float, int], Point] = {}
    for row in list_rows():
        for point in _make_points(row, dataset):
            key = (point.accuracy, round(point.macs / 1e8))
            known = points.get(key)
            if known is None or known.parameters is None:
                points[key] = point
    return sorted(points.values(), key=lambda point: (point.macs, point.accuracy))


def _make_points(row: Row, dataset: str) -> Iterator[Point]:
    column = "top-1" if row.dataset == dataset else _COLUMNS.get((dataset, row.dataset), "")
    top1 = row.results.get(column)
    if top1 is None or row.flops is None or row.unit == "unclear" or row.over is not None:
        return
    factor = 0.5 if row.unit == "2 x MACs" else 1.0
    views = int(row.views) if row.views.isdecimal() else 1
    yield Point(
        paper=row.paper,
        label=f"{row.label} ({row.about})" if row.about else row.label,
        accuracy=top1 / 100,
        macs=float(row.flops) * 1e9 * factor * views,
        parameters=None if row.parameters is None else float(row.parameters) * 1e6,
        own=row.label.startswith(_OURS.get(row.paper, ())),
    )
