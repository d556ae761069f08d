"""The report: one self-contained HTML file made from a run directory."""

from jobs.report.from_run import write_report

__all__ = ["write_report"]
