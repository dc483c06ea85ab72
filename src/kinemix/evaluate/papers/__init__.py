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


__all__ = ["NUM_CLASSES", "TITLES", "Row", "list_rows"]
