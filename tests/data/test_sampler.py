import pickle
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler
from lhotse.testing.dummies import dummy_cut

from asrsparse.data.sampler import EpochSampler, duration_bins
from asrsparse.pruning import KeptSet, ScoreTable

BATCH_SECONDS = 12.0


def kept_of(durations, keep=None):
    keep = np.ones(len(durations), dtype=np.bool_) if keep is None else np.asarray(keep, dtype=np.bool_)
    return KeptSet(ScoreTable([f"u{number}" for number in range(len(durations))], durations), keep)


def make_sampler(durations, keep=None, *, num_buckets=4, seed=0, epoch=0, batch_seconds=BATCH_SECONDS, **more):
    kept = kept_of(durations, keep)
    bins = duration_bins(kept.table.durations, num_buckets)
    return EpochSampler(kept, batch_seconds, bins, seed, epoch, **more)


def batches(durations, keep=None, **more):
    return list(make_sampler(durations, keep, **more))


DURATIONS = [round(d, 2) for d in np.random.default_rng(0).uniform(0.5, 6.0, size=60).tolist()]
KEEP = [number % 3 != 0 for number in range(60)]

utterances = st.lists(st.tuples(st.integers(10, 600).map(lambda n: n / 100), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None)
@given(utterances, st.integers(0, 3), st.integers(0, 5), st.integers(1, 6))
def test_each_kept_utterance_comes_once_and_no_other(drawn, seed, epoch, num_buckets):
    durations, keep = zip(*drawn, strict=True)
    seen = [row for batch in batches(durations, keep, seed=seed, epoch=epoch, num_buckets=num_buckets) for row in batch]
    assert sorted(seen) == [row for row, kept in enumerate(keep) if kept]


@settings(max_examples=200, deadline=None)
@given(utterances, st.integers(1, 5), st.sampled_from([2.0, 6.0, 12.0]))
def test_ranks_make_equally_many_steps_and_part_the_utterances_among_them(drawn, num_ranks, batch_seconds):
    durations, keep = zip(*drawn, strict=True)
    if 0 < sum(keep) < num_ranks:
        return
    of_ranks = [
        batches(durations, keep, batch_seconds=batch_seconds, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]
    assert len({len(of_rank) for of_rank in of_ranks}) == 1
    assert all(batch for of_rank in of_ranks for batch in of_rank)
    seen = [row for of_rank in of_ranks for batch in of_rank for row in batch]
    assert sorted(seen) == [row for row, kept in enumerate(keep) if kept]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 12))
def test_a_run_goes_on_with_another_number_of_ranks_without_losing_or_doubling_any(before, after, steps):
    """Stopped after some steps, not behind the last full round: there the epoch is over."""
    steps = min(steps, len(batches(DURATIONS, KEEP)) // before - 1)
    first = [batches(DURATIONS, KEEP, rank=rank, num_ranks=before)[:steps] for rank in range(before)]
    position = steps * before
    rest = [batches(DURATIONS, KEEP, rank=rank, num_ranks=after, first_batch=position) for rank in range(after)]
    seen = [row for of_rank in first + rest for batch in of_rank for row in batch]
    assert sorted(seen) == np.flatnonzero(KEEP).tolist()


def test_a_batch_fits_into_the_budget_padding_counted():
    durations = np.array(DURATIONS)
    for rows in batches(DURATIONS):
        assert len(rows) * durations[rows].max() <= BATCH_SECONDS


def test_an_utterance_longer_than_the_budget_is_a_batch_alone():
    assert [1] in batches([1.0, 30.0, 1.0, 1.0], num_buckets=1)
    assert [1] in batches([1.0, 30.0, 1.0, 1.0])


def test_batches_are_about_as_full_as_those_of_lhotse():
    """Its dynamic sampler lets the last cut exceed the budget; ours does not."""
    durations = np.random.default_rng(0).gamma(4.0, 1.0, 600).round(2)
    kept = kept_of(durations)
    bins = duration_bins(kept.table.durations, 6)
    ours = EpochSampler(kept, 30.0, bins, seed=0, epoch=0).num_batches
    cuts = CutSet.from_cuts(dummy_cut(number, duration=float(seconds)) for number, seconds in enumerate(durations))
    theirs = DynamicBucketingSampler(cuts, max_duration=30.0, num_buckets=None, duration_bins=bins, shuffle=True)
    assert ours <= 1.05 * sum(1 for _ in theirs)


def test_utterances_of_a_batch_are_of_one_bucket():
    durations = kept_of(DURATIONS).table.durations
    bins = duration_bins(durations, 4)
    for rows in batches(DURATIONS):
        assert len(set(np.searchsorted(bins, durations[rows]))) == 1


def test_the_order_is_a_function_of_seed_and_epoch():
    first = batches(DURATIONS, KEEP, seed=1, epoch=2)
    assert batches(DURATIONS, KEEP, seed=1, epoch=2) == first
    assert batches(DURATIONS, KEEP, seed=1, epoch=3) != first
    assert batches(DURATIONS, KEEP, seed=2, epoch=2) != first


def test_the_order_does_not_move_the_global_generators():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    batches(DURATIONS)
    assert np.array_equal(np.random.get_state()[1], before)


def test_from_any_position_on_comes_exactly_the_tail():
    whole = batches(DURATIONS, KEEP)
    assert len(whole) > 8
    for position in range(len(whole) + 2):
        assert batches(DURATIONS, KEEP, first_batch=position) == whole[position:]


def test_a_sampler_can_be_asked_again_and_sent_to_a_worker():
    sampler = make_sampler(DURATIONS, KEEP)
    sent = pickle.loads(pickle.dumps(sampler))
    first = list(islice(sampler, 3))
    assert list(islice(sampler, 3)) == first
    assert list(islice(sent, 3)) == first


def test_bounds_are_ascending_and_part_the_speech_equally():
    bins = duration_bins(np.array(DURATIONS), 4)
    assert bins == sorted(set(bins))
    assert len(bins) == 3
    parts = np.split(np.sort(DURATIONS), np.searchsorted(np.sort(DURATIONS), bins))
    assert all(abs(part.sum() - sum(DURATIONS) / 4) <= 2 * max(DURATIONS) for part in parts)


def test_equal_durations_need_no_distinct_bounds():
    assert len(duration_bins(np.full(40, 3.0), 8)) <= 1
    assert {len(batch) for batch in batches([3.0] * 40, num_buckets=8)} == {4}


def test_one_bucket_has_no_bounds():
    assert duration_bins(np.array(DURATIONS), 1) == []


def test_more_buckets_than_utterances_are_no_mistake():
    assert sorted(row for batch in batches([1.0, 2.0], num_buckets=8) for row in batch) == [0, 1]


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_batch_of_no_seconds_is_refused(seconds):
    with pytest.raises(ValueError, match=rf"batch_seconds: got {seconds}, allowed is more than 0"):
        make_sampler([1.0], batch_seconds=seconds)


def test_fewer_kept_utterances_than_ranks_are_refused():
    message = r"2 utterances are left in this epoch for 3 ranks; each needs one at least\. Raise the keep ratio"
    with pytest.raises(ValueError, match=message):
        make_sampler([1.0, 1.0, 1.0, 1.0], [True, True, False, False], rank=0, num_ranks=3)
