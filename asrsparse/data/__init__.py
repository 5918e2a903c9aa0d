"""Data: cuts of prepared manifests and their index, tokenizers, samplers, noise, and batches."""
