"""The report: one self-contained HTML file made from a run directory."""

from jobs.report.from_run import write_report
from jobs.report.from_training import write_training_report

__all__ = ["write_report", "write_training_report"]
