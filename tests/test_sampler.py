import pickle
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut, Recording
from lhotse.audio import AudioSource

from asrsparse.pruning import KeptSet, ScoreTable
from asrsparse.sampler import EpochSampler, duration_bins

BATCH_SECONDS = 12.0

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using DynamicBucketingSampler with an eagerly"),
    pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered"),  # no cut is kept
]


def make_cuts(durations):
    """Cuts whose audio does not exist: reading it would raise."""
    cuts = []
    for number, seconds in enumerate(durations):
        source = AudioSource("file", [0], f"no/such/folder/u{number}.flac")
        recording = Recording(f"u{number}", [source], 100, round(seconds * 100), seconds)
        cuts.append(MonoCut(f"u{number}", 0.0, seconds, 0, recording=recording))
    return CutSet.from_cuts(cuts)


def kept_of(cuts, keep):
    table = ScoreTable([cut.id for cut in cuts], [cut.duration for cut in cuts])
    return KeptSet(table, np.asarray(keep, dtype=np.bool_))


def batches(cuts, keep=None, seed=0, epoch=0, first_batch=0, num_buckets=4):
    keep = [True] * len(cuts) if keep is None else keep
    bins = duration_bins(cuts, num_buckets)
    sampler = EpochSampler(cuts, BATCH_SECONDS, bins, kept_of(cuts, keep), seed, epoch, first_batch)
    return [list(batch.ids) for batch in sampler]


DURATIONS = [round(d, 2) for d in np.random.default_rng(0).uniform(0.5, 6.0, size=60).tolist()]
KEEP = [number % 3 != 0 for number in range(60)]

utterances = st.lists(st.tuples(st.integers(10, 600).map(lambda n: n / 100), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None)
@given(utterances, st.integers(0, 3), st.integers(0, 5), st.integers(1, 6))
def test_each_kept_cut_comes_once_and_no_other(drawn, seed, epoch, num_buckets):
    durations, keep = zip(*drawn, strict=True)
    cuts = make_cuts(durations)
    seen = [i for batch in batches(cuts, keep, seed, epoch, num_buckets=num_buckets) for i in batch]
    assert sorted(seen) == sorted(f"u{number}" for number, kept in enumerate(keep) if kept)


def test_a_batch_fits_into_the_budget_but_for_a_last_cut_that_is_longer():
    cuts = make_cuts(DURATIONS)
    for ids in batches(cuts):
        *before, _last = (cuts[i].duration for i in ids)
        assert len(ids) * max(before, default=0.0) <= BATCH_SECONDS


def test_the_order_is_a_function_of_seed_and_epoch():
    cuts = make_cuts(DURATIONS)
    first = batches(cuts, KEEP, seed=1, epoch=2)
    assert batches(cuts, KEEP, seed=1, epoch=2) == first
    assert batches(cuts, KEEP, seed=1, epoch=3) != first
    assert batches(cuts, KEEP, seed=2, epoch=2) != first


def test_the_order_does_not_move_the_global_generators():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    batches(make_cuts(DURATIONS))
    assert np.array_equal(np.random.get_state()[1], before)


def test_from_any_position_on_comes_exactly_the_tail_without_reading_audio():
    cuts = make_cuts(DURATIONS)
    whole = batches(cuts, KEEP)
    assert len(whole) > 8
    for position in range(len(whole) + 2):
        assert batches(cuts, KEEP, first_batch=position) == whole[position:]


def test_a_lazily_read_manifest_gives_the_same_batches(tmp_path):
    cuts = make_cuts(DURATIONS)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    lazy = CutSet.from_jsonl_lazy(tmp_path / "cuts.jsonl.gz")
    assert duration_bins(lazy, 4) == duration_bins(cuts, 4)
    sampler = EpochSampler(lazy, BATCH_SECONDS, duration_bins(lazy, 4), kept_of(cuts, KEEP), seed=0, epoch=0)
    assert [list(batch.ids) for batch in sampler] == batches(cuts, KEEP)


def test_a_sampler_can_be_asked_again_and_sent_to_a_worker():
    cuts = make_cuts(DURATIONS)
    sampler = EpochSampler(cuts, BATCH_SECONDS, duration_bins(cuts, 4), kept_of(cuts, KEEP), seed=0, epoch=0)
    sent = pickle.loads(pickle.dumps(sampler))
    first = [list(batch.ids) for batch in islice(sampler, 3)]
    assert [list(batch.ids) for batch in islice(sampler, 3)] == first
    assert [list(batch.ids) for batch in islice(sent, 3)] == first


def test_bounds_are_ascending_and_part_the_speech_equally():
    cuts = make_cuts(DURATIONS)
    bins = duration_bins(cuts, 4)
    assert bins == sorted(set(bins))
    assert len(bins) == 3
    parts = np.split(np.sort(DURATIONS), np.searchsorted(np.sort(DURATIONS), bins))
    assert all(abs(part.sum() - sum(DURATIONS) / 4) <= 2 * max(DURATIONS) for part in parts)


def test_equal_durations_need_no_distinct_bounds():
    cuts = make_cuts([3.0] * 40)
    assert len(duration_bins(cuts, 8)) <= 1
    seen = [i for batch in batches(cuts, num_buckets=8) for i in batch]
    assert sorted(seen) == sorted(cuts.ids)
    assert {len(batch) for batch in batches(cuts, num_buckets=8)} == {4}


def test_one_bucket_has_no_bounds():
    assert duration_bins(make_cuts(DURATIONS), 1) == []


def test_more_buckets_than_utterances_are_no_mistake():
    cuts = make_cuts([1.0, 2.0])
    assert sorted(i for batch in batches(cuts, num_buckets=8) for i in batch) == ["u0", "u1"]


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_batch_of_no_seconds_is_refused(seconds):
    cuts = make_cuts([1.0])
    with pytest.raises(ValueError, match=rf"batch_seconds: got {seconds}, allowed is more than 0"):
        EpochSampler(cuts, seconds, [], kept_of(cuts, [True]), seed=0, epoch=0)
