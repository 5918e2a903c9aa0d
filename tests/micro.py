"""Overrides that make any recipe's model one that trains in seconds."""

MICRO = [
    "model.encoder.num_blocks=2",
    "model.encoder.output_size=32",
    "model.encoder.attention_heads=2",
    "model.encoder.linear_units=64",
    "model.decoder.num_blocks=1",
    "model.decoder.attention_heads=2",
    "model.decoder.linear_units=64",
    "trainer.precision=32-true",
    "trainer.batch_seconds=15",
]
