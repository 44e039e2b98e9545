"""Verdicts to numbers that can be believed: accuracy with intervals, pass@k, cons@k."""

from openr1.evaluate.statistics import Counts, Interval, clustered, pass_at_k, resampling_only, wilson
from openr1.evaluate.summary import SAMPLES_SCHEMA, sample_rows, summarise

__all__ = [
    "SAMPLES_SCHEMA",
    "Counts",
    "Interval",
    "clustered",
    "pass_at_k",
    "resampling_only",
    "sample_rows",
    "summarise",
    "wilson",
]
