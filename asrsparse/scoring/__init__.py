"""Computes error rates of hypotheses with intervals, and compares systems."""
