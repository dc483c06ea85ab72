"""Checkpoints of other projects: recognised by their layout, checked tensor by tensor, read without their code.

One file a layout says what its names and shapes prove (:class:`~.layout.Finding`); :mod:`.convert` asks the
user for the rest, builds the network, and :mod:`.report` tells what became of every tensor.
"""

from kinemix.models.foreign.convert import Conversion, convert_checkpoint, read_foreign_weights
from kinemix.models.foreign.files import ForeignFile, read_foreign
from kinemix.models.foreign.report import Report, Row, report_to_dict

__all__ = [
    "Conversion",
    "ForeignFile",
    "Report",
    "Row",
    "convert_checkpoint",
    "read_foreign",
    "read_foreign_weights",
    "report_to_dict",
]
