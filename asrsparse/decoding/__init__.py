"""Finished models to text: test sets of a corpus, and audio or video files of any kind."""
