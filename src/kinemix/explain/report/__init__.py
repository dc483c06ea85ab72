"""One page that tells everything about a run, or several: it opens from disk and needs no network."""

from kinemix.explain.report.page import ReportOptions, add_report_, write_report

__all__ = ["ReportOptions", "add_report_", "write_report"]
