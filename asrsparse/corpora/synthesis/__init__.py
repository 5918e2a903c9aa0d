"""The synthetic speakers of the mini corpus: their voices and their drawn mouths."""
