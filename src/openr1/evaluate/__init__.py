"""Verdicts to numbers that can be believed: accuracy with intervals, pass@k, cons@k."""
