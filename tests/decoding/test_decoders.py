"""Decoders: greedy against the definition of CTC, the beam search against greedy, scores and lists of hypotheses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import MICRO

from asrsparse.config import compose_config
from asrsparse.decoding.decoders import GreedyCTC, JointBeamSearch
from asrsparse.models.asr import BLANK
from asrsparse.models.builders import build_model

VOCABULARY = 7


class Peaky:
    """Stands in for a model: gives each frame's token nearly all of the probability."""

    def __init__(self, frames):
        self.frames = frames

    def ctc_log_probs(self, encoded):
        logits = torch.full((1, len(self.frames), VOCABULARY), -20.0)
        logits[0, torch.arange(len(self.frames)), torch.tensor(self.frames)] = 20.0
        return logits.log_softmax(dim=-1)


def tokens_of(decoder, model, encoded):
    """The tokens of the best hypothesis for the encoder frames (E, H) of one utterance."""
    ((best, *_),) = decoder(model, encoded[None], torch.tensor([len(encoded)]))
    return best.tokens


def greedy(frames):
    return tokens_of(GreedyCTC(), Peaky(frames), torch.zeros(len(frames), 1))


def collapse(frames):
    """B of Graves et al. 2006, section 3.1: joins repeats, then drops blanks."""
    joined = [token for n, token in enumerate(frames) if n == 0 or token != frames[n - 1]]
    return [token for token in joined if token != BLANK]


def make_model(*overrides):
    torch.manual_seed(0)
    return build_model(compose_config([*MICRO, *overrides]), VOCABULARY).eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def peaky():
    """A model whose CTC layer takes encoder frames for its logits."""
    model = make_model()
    model.ctc.ctc_lo = torch.nn.Identity()
    return model


def logits_of(frames):
    """Encoder frames (E, V) on which CTC is nearly certain of the given token."""
    return 30.0 * torch.nn.functional.one_hot(torch.tensor(frames), VOCABULARY).float()


def test_repeats_are_merged_unless_a_blank_separates_them():
    assert greedy([3, 3, BLANK, 3, 5, 5, BLANK, BLANK, 2]) == [3, 3, 5, 2]
    assert greedy([BLANK, BLANK]) == []
    assert greedy([4]) == [4]


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30))
def test_greedy_is_the_collapse_of_the_likeliest_path(frames):
    assert greedy(frames) == collapse(frames)


@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("frames", [[3, 3, 0, 3, 5, 0, 2, 2], [0, 1, 0, 0, 4, 4], [2, 3, 2, 3]])
def test_a_beam_over_ctc_alone_finds_what_greedy_finds_where_ctc_is_certain(peaky, frames, beam_size):
    encoded = logits_of(frames)
    search = JointBeamSearch(beam_size=beam_size, ctc_weight=1.0)
    with torch.inference_mode():
        assert tokens_of(search, peaky, encoded) == tokens_of(GreedyCTC(), peaky, encoded) == collapse(frames)


def test_the_beam_sums_over_paths_where_greedy_takes_one(peaky):
    # Frames: blank 0.6, token 0.4, twice. The likeliest path is empty (0.36), the likeliest labelling is 2 (0.64).
    probabilities = torch.full((2, VOCABULARY), 1e-9)
    probabilities[:, BLANK], probabilities[:, 2] = 0.6, 0.4
    encoded = probabilities.log()
    with torch.inference_mode():
        assert tokens_of(GreedyCTC(), peaky, encoded) == []
        assert tokens_of(JointBeamSearch(beam_size=3, ctc_weight=1.0), peaky, encoded) == [2]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_a_search_with_the_decoder_gives_tokens_and_the_same_ones_again(model, ctc_weight):
    search = JointBeamSearch(beam_size=2, ctc_weight=ctc_weight)
    encoded = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = tokens_of(search, model, encoded)
        assert tokens_of(search, model, encoded) == found
    assert all(0 < token < VOCABULARY - 1 for token in found)


def test_a_search_used_for_another_model_scores_with_that_one(model):
    other = make_model("model.decoder.num_blocks=2")
    search, encoded = (
        JointBeamSearch(beam_size=2, ctc_weight=0.3),
        torch.randn(9, 32, generator=torch.Generator().manual_seed(0)),
    )
    with torch.inference_mode():
        tokens_of(search, model, encoded)
        assert tokens_of(search, other, encoded) == tokens_of(
            JointBeamSearch(beam_size=2, ctc_weight=0.3), other, encoded
        )


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^beam_size: got 0, allowed is at least 1"):
        JointBeamSearch(beam_size=0, ctc_weight=0.3)
    with pytest.raises(ValueError, match=r"^ctc_weight: got 1.5, allowed is \[0, 1\]"):
        JointBeamSearch(beam_size=2, ctc_weight=1.5)


def test_a_model_without_a_decoder_is_decoded_by_ctc():
    model = make_model("model.decoder=null", "model.ctc_weight=1.0")
    with pytest.raises(ValueError, match=r"no attention decoder: decode it by CTC \(decode=ctc_greedy\)"):
        tokens_of(JointBeamSearch(beam_size=2, ctc_weight=0.3), model, torch.zeros(4, 32))


def test_a_list_of_hypotheses_is_sorted_and_has_none_twice(model):
    encoded, lens = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([9, 7])
    with torch.inference_mode():
        for ctc_weight in (0.0, 0.5, 1.0):
            for found in JointBeamSearch(beam_size=4, ctc_weight=ctc_weight)(model, encoded, lens):
                scores = [hypothesis.score for hypothesis in found]
                assert scores == sorted(scores, reverse=True)
                assert 1 <= len({tuple(hypothesis.tokens) for hypothesis in found}) == len(found) <= 4


def test_a_greedy_score_is_the_log_probability_of_the_path(peaky):
    log_probs = torch.randn(2, 6, VOCABULARY, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    found = GreedyCTC()(peaky, log_probs, torch.tensor([6, 4]))
    for (best,), frames, length in zip(found, log_probs, [6, 4], strict=True):
        assert best.score == pytest.approx(float(frames[:length].max(dim=-1).values.sum()), abs=1e-4)
