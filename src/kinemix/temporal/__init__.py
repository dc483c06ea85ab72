"""Temporal modules: each takes a clip ``B T C H W`` and gives one of the same shape.

This package needs torch alone. A new module is one new file here with a subclass of :class:`TemporalModule`
that has a ``name``; the shelf finds it.
"""

from kinemix.registry import Shelf
from kinemix.temporal.base import Insertion, Site, TemporalModule
from kinemix.temporal.conv1d import TemporalConv1d
from kinemix.temporal.ctm import CollaborativeTemporal
from kinemix.temporal.depthwise import DepthwiseTemporalConv
from kinemix.temporal.gsm import GateShift
from kinemix.temporal.mixtconv import MixedTemporalConv
from kinemix.temporal.mtconv import MultiTemporalConv
from kinemix.temporal.tsm import TemporalShift
from kinemix.temporal.tsn import NoTemporal

shelf: Shelf[TemporalModule] = Shelf("kinemix.temporal", "temporal module", TemporalModule)
"""Every temporal module, by name."""

__all__ = [
    "CollaborativeTemporal",
    "DepthwiseTemporalConv",
    "GateShift",
    "Insertion",
    "MixedTemporalConv",
    "MultiTemporalConv",
    "NoTemporal",
    "Site",
    "TemporalConv1d",
    "TemporalModule",
    "TemporalShift",
    "shelf",
]
