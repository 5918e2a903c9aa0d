"""A recogniser that trains in seconds, and batches for it."""

from pathlib import Path

import torch
from lhotse.cut import Cut

from asrsparse.config import compose_config
from asrsparse.data.batch import PADDING_TOKEN, Batch
from asrsparse.data.cuts import read_cuts
from asrsparse.data.tokenizer import Tokenizer, load_tokenizer
from asrsparse.models.asr import ASRModel
from asrsparse.models.builders import build_model, build_segments
from asrsparse.pruning import ScoreTable
from asrsparse.rates import SAMPLING_RATE

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
"""Overrides that make any recipe's model one that trains in seconds."""

VOCABULARY = 12
SAMPLES = 12000
UTTERANCES = ScoreTable([f"u{number}" for number in range(8)], [10.0] * 8)
"""The utterances of the batches of `make_batch`, where they may be shorter."""


def make_model(*overrides: str) -> ASRModel:
    """Returns the recogniser of `MICRO` and more overrides, with fixed initial weights."""
    torch.manual_seed(0)
    config = compose_config([*MICRO, *overrides])
    return build_model(config, VOCABULARY, build_segments(config, UTTERANCES))


def make_batch(token_lens: list[int], samples: int = SAMPLES, seed: int = 0) -> Batch:
    """Returns a batch of noise, with `token_lens` random labels."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, VOCABULARY - 1, (len(token_lens), max(token_lens)), generator=generator)
    lens = torch.tensor(token_lens)
    tokens[torch.arange(max(token_lens)) >= lens[:, None]] = PADDING_TOKEN
    return Batch(
        ids=[f"u{number}" for number in range(len(token_lens))],
        audio=0.1 * torch.randn(len(token_lens), samples, generator=generator),
        audio_lens=torch.full((len(token_lens),), samples),
        tokens=tokens,
        token_lens=lens,
        seconds=len(token_lens) * samples / SAMPLING_RATE,
    )


def make_recognition(corpus: Path) -> tuple[Tokenizer, list[Cut], ASRModel]:
    """Returns the tokenizer of a prepared corpus, the cuts of its test set, and a model that finds tokens in them."""
    tokenizer = load_tokenizer(corpus / "cuts")
    torch.manual_seed(0)
    model = build_model(compose_config(MICRO), tokenizer.vocab_size).eval()
    return tokenizer, list(read_cuts(corpus / "cuts", "test")), model
