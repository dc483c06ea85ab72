"""How good a network is, and how it was measured.

The protocol says how a video becomes a number; every figure is printed beside it.
"""

from kinemix.evaluate.complexity import Complexity, measure_complexity, plan
from kinemix.evaluate.evaluator import evaluate, score_views
from kinemix.evaluate.metrics import Metrics, compute_metrics, opposite_share, topk_accuracy
from kinemix.evaluate.protocol import build_protocol, describe_protocol, override_views
from kinemix.evaluate.scores import Scores, merge_scores, read_scores, write_scores

__all__ = [
    "Complexity",
    "Metrics",
    "Scores",
    "build_protocol",
    "compute_metrics",
    "describe_protocol",
    "evaluate",
    "measure_complexity",
    "merge_scores",
    "opposite_share",
    "override_views",
    "plan",
    "read_scores",
    "score_views",
    "topk_accuracy",
    "write_scores",
]
