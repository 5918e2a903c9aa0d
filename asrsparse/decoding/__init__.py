"""Decoding: trained models -> texts of test sets, and of audio or video files."""
