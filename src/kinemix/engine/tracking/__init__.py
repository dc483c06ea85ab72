"""Where a run's curves go besides its log: one file here is one tracker.

``log.jsonl`` is the truth, and trackers follow it (:mod:`kinemix.engine.tracking.following`): whatever happens to
one of them is no matter of the training, and what it has missed is sent when the run is resumed. A new tracker is one
new file with a subclass of :class:`Tracker` that has a ``name``.
"""

from kinemix.engine.tracking.base import Opening, Outcome, Tracker
from kinemix.registry import Shelf

shelf: Shelf[Tracker] = Shelf("kinemix.engine.tracking", "tracker", Tracker)
"""Every tracker, by name."""

__all__ = ["Opening", "Outcome", "Tracker", "shelf"]
