"""Hypotheses, and lists of the best ones on disk, as ESPnet writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrsparse.data.tokenizer import Tokenizer
from asrsparse.files import write_text


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of the tokens of an utterance.

    Attributes:
        tokens: The token ids.
        score: The logarithm of the probability by the decoder that found it: the higher the better.
    """

    tokens: list[int]
    score: float


def write_nbest(folder: Path, found: Mapping[str, Sequence[Hypothesis]], tokenizer: Tokenizer) -> None:
    """Writes `1best_recog/`, `2best_recog/` and so on, each with `text`, `token`, `token_int` and `score`.

    Each line is for one utterance: its id, a space, the value; lines are sorted by id. An utterance with fewer
    hypotheses has no lines in the last folders.

    Args:
        folder: The folder of the decoding.
        found: The hypotheses by utterance id, the best one first.
        tokenizer: The tokenizer of the model.
    """
    for number in range(max(map(len, found.values()))):
        place = folder / f"{number + 1}best_recog"
        at_place = {key: found[key][number] for key in sorted(found) if number < len(found[key])}
        columns = {
            "text": {key: tokenizer.decode(each.tokens) for key, each in at_place.items()},
            "token": {key: " ".join(tokenizer.tokens[i] for i in each.tokens) for key, each in at_place.items()},
            "token_int": {key: " ".join(map(str, each.tokens)) for key, each in at_place.items()},
            "score": {key: f"{each.score:.6f}" for key, each in at_place.items()},
        }
        for name, values in columns.items():
            write_text(place / name, "".join(f"{key} {value}\n" for key, value in values.items()))
