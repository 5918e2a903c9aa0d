"""The mini corpus's synthetic speakers: their voices and their drawn mouths."""
