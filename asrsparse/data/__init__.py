"""Prepared manifests to batches: cuts and their index, tokenizers, samplers, noise."""
