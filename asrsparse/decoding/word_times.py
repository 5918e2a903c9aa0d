"""The times of words, by the likeliest alignment of CTC with the tokens that were found.

Shape legend: E encoder frames of 40 ms, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torchaudio.functional as F
from torch import Tensor, tensor

from asrsparse.data.tokenizer import SPACE, WORD_START, Tokenizer
from asrsparse.models.asr import BLANK
from asrsparse.rates import SECONDS_PER_FRAME, ctc_frames


@dataclass(frozen=True)
class TimedWord:
    """A word and its time; CTC finds tokens somewhere within their audio, and not where it begins and ends.

    Attributes:
        word: The word.
        start: The time of its first token, in seconds.
        end: The end of its last token, in seconds.
    """

    word: str
    start: float
    end: float


def word_times(log_probs: Tensor, tokens: Sequence[int], tokenizer: Tokenizer) -> list[TimedWord] | None:
    """Returns the times of the words of an utterance.

    Args:
        log_probs: The log probabilities of CTC's tokens in each encoder frame (E, V).
        tokens: The token ids that were found.
        tokenizer: The tokenizer of the model.

    Returns:
        The words in their order; None if there are more tokens than CTC can align with the frames.
    """
    if not tokens:
        return []
    if ctc_frames(tokens) > len(log_probs):
        return None
    path, scores = F.forced_align(log_probs[None], tensor([list(tokens)], device=log_probs.device), blank=BLANK)
    spans = F.merge_tokens(path[0], scores[0], blank=BLANK)
    return [
        TimedWord(
            tokenizer.decode(tokens[number] for number in word),
            round(SECONDS_PER_FRAME * spans[word[0]].start, 2),
            round(SECONDS_PER_FRAME * spans[word[-1]].end, 2),
        )
        for word in words_of([tokenizer.tokens[token] for token in tokens])
    ]


def words_of(units: Sequence[str]) -> list[list[int]]:
    """Returns the indices of the tokens of each word, without those of spaces.

    Example:
        >>> words_of(["b", "i", "n", "<space>", "a", "t"])
        [[0, 1, 2], [4, 5]]
        >>> words_of(["▁bin", "▁b", "lue"])
        [[0], [1, 2]]
    """
    words: list[list[int]] = [[]]
    for number, unit in enumerate(units):
        if unit == SPACE or unit.startswith(WORD_START):
            words.append([])
        if unit != SPACE:
            words[-1].append(number)
    return [word for word in words if word]
