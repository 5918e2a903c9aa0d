"""Prepares corpora: turns each from the layout of its publisher into validated lhotse recordings and supervisions."""
