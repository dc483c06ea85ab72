"""Temporal modules: each takes a clip ``B T C H W`` and gives one of the same shape.

This package needs torch alone. A new module is one new file here with a subclass of :class:`TemporalModule`
that has a ``name``; the shelf finds it.
"""

from kinemix.registry import Shelf
from kinemix.temporal.base import Insertion, Site, TemporalModule
from kinemix.temporal.conv1d import TemporalConv1d
from kinemix.temporal.depthwise import DepthwiseTemporalConv
from kinemix.temporal.mixtconv import MixedTemporalConv
from kinemix.temporal.tsm import TemporalShift
from kinemix.temporal.tsn import NoTemporal

shelf: Shelf[TemporalModule] = Shelf("kinemix.temporal", "temporal module", TemporalModule)
"""Every temporal module, by name."""

__all__ = [
    "DepthwiseTemporalConv",
    "Insertion",
    "MixedTemporalConv",
    "NoTemporal",
    "Site",
    "TemporalConv1d",
    "TemporalModule",
    "TemporalShift",
    "shelf",
]
