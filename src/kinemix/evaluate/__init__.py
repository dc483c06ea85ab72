"""How good a network is, and how it was measured.

The protocol says how a video becomes a number; every figure is printed beside it.
"""

from kinemix.evaluate.calibration import Calibration, measure_calibration
from kinemix.evaluate.class_changes import ClassChange, compare_classes
from kinemix.evaluate.compare import compare_scores, measure_agreement, measure_scores
from kinemix.evaluate.complexity import Complexity, measure_complexity, plan
from kinemix.evaluate.ensemble import align_scores, average_scores, search_weights
from kinemix.evaluate.evaluator import evaluate, score_views
from kinemix.evaluate.fidelity import Comparison, compare_row, compare_rows
from kinemix.evaluate.foreign_scores import read_any_scores
from kinemix.evaluate.latency import Latency, measure_latency
from kinemix.evaluate.memory import PeakMemory, measure_memory
from kinemix.evaluate.metrics import (
    Metrics,
    compute_metrics,
    compute_multilabel_metrics,
    opposite_share,
    topk_accuracy,
)
from kinemix.evaluate.named_protocols import NamedProtocol, apply_protocol, list_protocols
from kinemix.evaluate.order_sensitivity import OrderSensitivity, measure_order
from kinemix.evaluate.papers import Row, list_rows
from kinemix.evaluate.protocol import build_protocol, describe_protocol, override_views
from kinemix.evaluate.scores import Scores, merge_scores, read_scores, write_scores
from kinemix.evaluate.support import Support, check_support

__all__ = [
    "Calibration",
    "ClassChange",
    "Comparison",
    "Complexity",
    "Latency",
    "Metrics",
    "NamedProtocol",
    "OrderSensitivity",
    "PeakMemory",
    "Row",
    "Scores",
    "Support",
    "align_scores",
    "apply_protocol",
    "average_scores",
    "build_protocol",
    "check_support",
    "compare_classes",
    "compare_row",
    "compare_rows",
    "compare_scores",
    "compute_metrics",
    "compute_multilabel_metrics",
    "describe_protocol",
    "evaluate",
    "list_protocols",
    "list_rows",
    "measure_agreement",
    "measure_calibration",
    "measure_complexity",
    "measure_latency",
    "measure_memory",
    "measure_order",
    "measure_scores",
    "merge_scores",
    "opposite_share",
    "override_views",
    "plan",
    "read_any_scores",
    "read_scores",
    "score_views",
    "search_weights",
    "topk_accuracy",
    "write_scores",
]
