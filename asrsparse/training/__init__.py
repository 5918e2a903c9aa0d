"""Cuts to a trained, averaged model: the loop around it, its log, its checkpoints."""
