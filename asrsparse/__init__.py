"""Train speech recognisers on less data (dynamic data pruning) and with fewer weights (sparse masks)."""

__version__ = "0.1.0"
