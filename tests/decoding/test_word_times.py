import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.data.tokenizer import CharTokenizer
from asrsparse.decoding.word_times import TimedWord, word_times, words_of

TOKENIZER = CharTokenizer.train(["at bin"])


def peaks(frames):
    """Log probabilities (E, V) of a model that is nearly certain of a token in each frame, of 0 for a dot."""
    ids = [0 if unit == "." else TOKENIZER.encode(unit)[0] if unit != " " else 2 for unit in frames]
    return (30.0 * torch.nn.functional.one_hot(torch.tensor(ids), TOKENIZER.vocab_size)).log_softmax(dim=-1)


def test_words_begin_and_end_where_ctc_has_their_first_and_last_token():
    found = word_times(peaks("..bbi.n. a.tt."), TOKENIZER.encode("bin at"), TOKENIZER)
    assert found == [TimedWord("bin", 0.08, 0.28), TimedWord("at", 0.36, 0.52)]


def test_no_tokens_are_no_words_and_too_many_cannot_be_aligned():
    assert word_times(peaks("..."), [], TOKENIZER) == []
    assert word_times(peaks("..."), TOKENIZER.encode("bin at"), TOKENIZER) is None
    assert word_times(peaks("..."), TOKENIZER.encode("tt"), TOKENIZER) is not None


@given(st.text("abint ", max_size=20), st.integers(0, 10), st.integers(0, 1000))
def test_there_is_a_time_for_each_word_and_they_are_in_order(text, spare, seed):
    tokens = TOKENIZER.encode(text)
    logits = torch.randn(
        2 * len(tokens) + spare + 1, TOKENIZER.vocab_size, generator=torch.Generator().manual_seed(seed)
    )
    words = word_times(logits.log_softmax(dim=-1), tokens, TOKENIZER)
    assert [word.word for word in words] == text.split()
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(word.end > word.start for word in words)
    assert not times or times[-1] <= 0.04 * len(logits) + 1e-6


@pytest.mark.parametrize(
    ("units", "words"),
    [([], []), (["<space>"], []), (["▁"], [[0]]), (["▁", "bin", "▁at"], [[0, 1], [2]]), (["in", "▁at"], [[0], [1]])],
)
def test_units_are_grouped_to_words(units, words):
    assert words_of(units) == words
