"""What a run did, for a person to read: report.md, report.html and report.json beside the run's stages.

It reads what the stages left (run.yaml, manifests, metric logs, samples) and nothing else: no model is loaded, and a
stage that is missing, failed or unfinished is said to be so.
"""

from __future__ import annotations

from openr1.report.build import build_report
from openr1.report.console import terminal

__all__ = ["build_report", "terminal"]
