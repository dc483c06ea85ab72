"""Every row of every table of the papers whose networks are built here, as data: one file a paper.

Rows of networks that are not built here are kept too, without a model name, so that tables print whole.
"""

from collections.abc import Callable, Iterator, Mapping

from kinemix.errors import ConfigError, did_you_mean
from kinemix.evaluate.papers import ctm, gsm, mixtconv, mtnet, x3d
from kinemix.evaluate.papers.row import NUM_CLASSES, Row

TITLES = {
    "mixtconv": "MixTConv: Mixed Temporal Convolutional Kernels for Efficient Action Recognition",
    "gsm": "Gate-Shift Networks for Video Action Recognition",
    "ctm": "CTM: Collaborative Temporal Modeling for Action Recognition",
    "mtnet": "Multi-Temporal Convolutions for Human Action Recognition in Videos",
    "x3d": "X3D: Expanding Architectures for Efficient Video Recognition",
}
"""The papers: the four whose every row is here, and the one of MTNet's backbones."""

ABLATIONS = {
    "mixtconv": ("2", "3"),
    "gsm": ("1", "2", "text of 4.3"),
    "ctm": ("1", "2", "3"),
    "mtnet": ("II", "VIa", "VIb", "VIc"),
}
"""The tables whose rows differ in one thing each, all else being equal."""

_LISTS: Mapping[str, Callable[[], Iterator[Row]]] = {
    "mixtconv": mixtconv.list_rows,
    "gsm": gsm.list_rows,
    "ctm": ctm.list_rows,
    "mtnet": mtnet.list_rows,
    "x3d": x3d.list_rows,
}


def list_rows(paper: str | None = None) -> list[Row]:
    """All rows, or those of one paper, in the order of its tables.

    Raises:
        ConfigError: no such paper.
    """
    if paper is not None and paper not in _LISTS:
        raise ConfigError(f"unknown paper {paper!r}: {did_you_mean(paper, _LISTS)}")
    return [row for name in _LISTS if paper in (None, name) for row in _LISTS[name]()]


def list_ablation(paper: str, table: str) -> list[Row]:
    """The rows of one of the papers' ablation tables, those of networks of others too.

    Args:
        paper: of :data:`ABLATIONS`.
        table: as the paper numbers it; ``4.3`` is the text of GSM's section 4.3 (tanh against sigmoid).

    Raises:
        ConfigError: no such table.
    """
    if paper not in ABLATIONS:
        raise ConfigError(f"unknown paper {paper!r}: {did_you_mean(paper, ABLATIONS)}")
    names = {name.removeprefix("text of ").casefold(): name for name in ABLATIONS[paper]}
    asked = table.removeprefix("text of ").casefold()
    if asked not in names:
        raise ConfigError(
            f"{paper} has no ablation table {table!r}: it has "
            f"{', '.join(name.removeprefix('text of ') for name in ABLATIONS[paper])}"
        )
    return [row for row in list_rows(paper) if row.table == names[asked]]


__all__ = ["ABLATIONS", "NUM_CLASSES", "TITLES", "Row", "list_ablation", "list_rows"]
