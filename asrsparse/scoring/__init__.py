"""Hypotheses to error rates with intervals, and systems compared."""
