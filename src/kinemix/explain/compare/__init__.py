"""Pictures of several networks on the same videos, and the page that shows them together."""

from kinemix.explain.compare.agreement import plot_agreement
from kinemix.explain.compare.calibration import plot_calibration
from kinemix.explain.compare.changes import plot_changed_clips, plot_changes
from kinemix.explain.compare.classes import plot_class_accuracies
from kinemix.explain.compare.comparison import Comparison, Cost, compare_runs, measure_cost
from kinemix.explain.compare.order import plot_order
from kinemix.explain.compare.page import FIGURES, write_comparison
from kinemix.explain.compare.trade_off import TradeOff, plot_trade_off

__all__ = [
    "FIGURES",
    "Comparison",
    "Cost",
    "TradeOff",
    "compare_runs",
    "measure_cost",
    "plot_agreement",
    "plot_calibration",
    "plot_changed_clips",
    "plot_changes",
    "plot_class_accuracies",
    "plot_order",
    "plot_trade_off",
    "write_comparison",
]
