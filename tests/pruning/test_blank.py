import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.pruning import BlankTable, ScoreTable

durations = st.lists(st.floats(0.01, 3.0), min_size=1, max_size=6)


def make_table(durations, **options):
    return BlankTable(ScoreTable([f"u{number}" for number in range(len(durations))], durations), **options)


def visit(table, number, log_probs, slots=None):
    """Records one utterance, heard whole unless its slots are named."""
    slots = torch.arange(len(log_probs)) if slots is None else slots
    table.record([f"u{number}"], slots[None], torch.tensor([len(slots)]), log_probs[None])


@given(durations, st.integers(0, 2**31))
@settings(deadline=None)
def test_what_was_recorded_of_an_utterance_is_found_again_and_the_others_stay(durations, seed):
    table = make_table(durations, warmup_visits=1)
    generator = torch.Generator().manual_seed(seed)
    probabilities = [0.01 + 0.98 * torch.rand(75, generator=generator) for _ in durations]
    for number in range(0, len(durations), 2):
        visit(table, number, probabilities[number].log())
    table.end_epoch()
    for number, seconds in enumerate(durations):
        slots = max(1, int(np.ceil(np.float32(seconds) * 25 - 1e-3)))
        found = table.log_odds([f"u{number}"], slots)[0]
        expected = torch.logit(probabilities[number][:slots])
        assert torch.isneginf(found).all() if number % 2 else torch.allclose(found, expected, atol=0.04)


def test_the_table_grows_with_hours_and_not_with_the_longest_utterance():
    table = make_table([1.0] * 1000 + [100.0])
    assert table.state_dict()["steps"].nbytes == 25 * 1100


def test_what_was_left_out_is_forgotten_step_by_step():
    table = make_table([0.08], warmup_visits=1, forgetting=1.0)
    visit(table, 0, torch.tensor([0.9, 0.9]).log())
    table.end_epoch()
    first = table.log_odds(["u0"], 2)[0]
    visit(table, 0, torch.tensor([0.9]).log(), slots=torch.tensor([0]))
    table.end_epoch()
    assert table.log_odds(["u0"], 2)[0].tolist() == [first[0], first[1] - 1.0]


def test_certainty_is_kept_in_bounds():
    table = make_table([0.12], warmup_visits=1)
    visit(table, 0, torch.tensor([0.0, -200.0, -1e-9]))
    table.end_epoch()
    assert table.log_odds(["u0"], 3).tolist() == [[127 / 16, -8.0, 127 / 16]]


def test_an_utterance_counts_once_it_was_heard_often_enough():
    table = make_table([0.04], warmup_visits=2)
    for expected in (True, False):
        visit(table, 0, torch.tensor([0.5]).log())
        table.end_epoch()
        assert bool(torch.isneginf(table.log_odds(["u0"], 1)).all()) == expected


@given(durations, st.integers(0, 6))
@settings(deadline=None)
def test_a_table_saved_in_mid_epoch_goes_on_as_if_it_had_not_been(durations, num_recorded):
    whole, saved = make_table(durations), make_table(durations)
    for epoch in range(2):
        for table in (whole, saved):
            for number in range(min(num_recorded, len(durations))):
                visit(table, number, torch.linspace(-3, -0.1, 75) / (1 + epoch))
        restored = make_table(durations)
        restored.load_state_dict(saved.state_dict())
        saved = restored
        for table in (whole, saved):
            table.end_epoch()
    for name, value in whole.state_dict().items():
        assert np.array_equal(np.asarray(value), np.asarray(saved.state_dict()[name])), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_visits": 0}, "^warmup_visits: got 0, allowed is at least 1 visit"),
        ({"forgetting": -0.1}, "^forgetting: got -0.1, allowed is at least 0 nats"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_table([1.0], **options)


def test_a_table_of_another_corpus_is_refused():
    with pytest.raises(ValueError, match=r"table of blanks is of another corpus: 2 utterances.*here are 1"):
        make_table([1.0]).load_state_dict(make_table([1.0, 1.0]).state_dict())
