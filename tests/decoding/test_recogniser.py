"""Hypotheses of cuts in batches and processes: the same, in the order of the cuts, as one after another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import make_recognition

from asrsparse.data.batch import BatchDataset
from asrsparse.decoding.decoders import GreedyCTC, JointBeamSearch
from asrsparse.decoding.recogniser import Recogniser, batches_by_length, recognise


@pytest.fixture(scope="module")
def trained(tiny_corpus):
    return make_recognition(tiny_corpus)


@given(st.lists(st.floats(0.1, 20.0), min_size=1, max_size=30), st.floats(0.1, 60.0))
def test_batches_hold_every_utterance_once_and_no_more_seconds_than_asked_for(durations, batch_seconds):
    batches = batches_by_length(durations, batch_seconds)
    assert sorted(row for batch in batches for row in batch) == list(range(len(durations)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(durations[row] for row in batch) <= batch_seconds
    longest = [max(durations[row] for row in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [GreedyCTC(), JointBeamSearch(beam_size=2, ctc_weight=0.9)])
def test_hypotheses_come_in_the_cuts_order_and_do_not_depend_on_batches_or_processes(trained, decoder):
    tokenizer, cuts, model = trained
    recogniser = Recogniser(model, decoder, BatchDataset(tokenizer.encode))
    few = sorted(cuts, key=lambda cut: cut.duration)[:: max(1, len(cuts) // 5)]
    assert len({cut.duration for cut in few}) > 1
    alone = [recogniser([cut])[0] for cut in few]
    for batch_seconds, num_jobs in [(0.1, 1), (1000.0, 1), (7.0, 2)]:
        found = recognise(recogniser, few, batch_seconds, num_jobs)
        assert [[h.tokens for h in each] for each in found] == [[h.tokens for h in each] for each in alone]
        for one, other in zip(found, alone, strict=True):
            assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-3)


def test_a_batch_that_does_not_fit_is_decoded_one_by_one(trained, caplog, monkeypatch):
    tokenizer, cuts, model = trained
    recogniser = Recogniser(model, GreedyCTC(), BatchDataset(tokenizer.encode))
    expected, encode = recogniser(cuts[:3]), model.encode

    def out_of_memory(batch):
        if len(batch.ids) > 1:
            raise torch.OutOfMemoryError
        return encode(batch)

    monkeypatch.setattr(model, "encode", out_of_memory)
    assert [[h.tokens for h in each] for each in recogniser(cuts[:3])] == [[h.tokens for h in e] for e in expected]
    assert "3 utterances do not fit into the GPU's memory: lower decode.batch_seconds" in caplog.text
