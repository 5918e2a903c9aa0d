"""Corpora: a folder as its publisher lays it out, turned into validated lhotse recordings and supervisions."""
