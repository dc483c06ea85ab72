"""``kinemix doctor``: what is wrong with a collection of videos, before a training run finds out.

::

    members      who is listed, as training would read it
    examine      one video -> its facts (a record); fingerprint: its content in 2 kB
    findings     facts -> findings with severity, value and cure
    collection   labels, balance, copies, leaks between the splits
    cost         time to read a clip of each kind of file, and of an epoch
    checkup      all of it, many videos at once (kinemix.data.bulk): examine_collection
"""

from kinemix.data.doctor.checkup import Examination, examine_collection
from kinemix.data.doctor.cost import Cost, FormatCost
from kinemix.data.doctor.findings import SEVERITIES, Finding, Severity
from kinemix.data.doctor.record import VideoRecord

__all__ = [
    "SEVERITIES",
    "Cost",
    "Examination",
    "Finding",
    "FormatCost",
    "Severity",
    "VideoRecord",
    "examine_collection",
]
