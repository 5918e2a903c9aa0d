import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import asrsparse.pruning
from asrsparse.pruning import (
    BlankTable,
    KeepAllTime,
    LeastBlankChunks,
    LoudestChunks,
    RandomChunks,
    ScoreTable,
    SegmentPruner,
)

POLICIES = [RandomChunks(), LoudestChunks()]
lengths = st.lists(st.integers(1, 120), min_size=1, max_size=5)
pruners = st.builds(
    SegmentPruner,
    keep_ratio=st.floats(0.05, 1.0),
    chunk_seconds=st.sampled_from([0.01, 0.04, 0.1, 0.2]),
    policy=st.sampled_from(POLICIES),
)


def numbered(lens):
    """Values that say in which row they stand, from 1, and 0 behind the ends (B, R, 2)."""
    lens = torch.tensor(lens)
    rows = torch.arange(1, int(lens.max()) + 1).float()
    return (rows * (rows <= lens[:, None])).unsqueeze(-1).repeat(1, 1, 2), lens


@given(lengths, pruners)
@settings(deadline=None)
def test_what_is_kept_is_rows_of_the_utterance_in_their_order_and_zero_behind(lens, pruner):
    values, lens = numbered(lens)
    shorter, shorter_lens = pruner.apply(pruner.choose(values, lens, 100), values, lens, 100)
    assert shorter.size(1) == shorter_lens.max()
    for row, length, old in zip(shorter, shorter_lens, lens, strict=True):
        kept = row[:length, 0].tolist()
        assert kept == sorted(set(kept))
        assert all(1 <= value <= old for value in kept)
        assert not row[length:].any()


@given(lengths, pruners, st.floats(0, 2.0))
@settings(deadline=None)
def test_an_utterance_keeps_its_share_and_never_less_than_it_needs(lens, pruner, min_seconds):
    values, lens = numbered(lens)
    _, shorter = pruner.apply(pruner.choose(values, lens, 100, min_seconds), values, lens, 100)
    chunk = round(pruner.chunk_seconds * 100)
    assert (shorter >= torch.minimum(lens, torch.tensor(min_seconds * 100))).all()
    assert (shorter >= pruner.keep_ratio * lens - 1.5 * chunk).all()
    assert (shorter <= torch.clamp(pruner.keep_ratio * lens, min=min_seconds * 100) + 3 * chunk).all()


@given(lengths, st.sampled_from([0.01, 0.04, 0.2]), st.sampled_from(POLICIES))
@settings(deadline=None)
def test_a_keep_ratio_of_one_changes_nothing(lens, chunk_seconds, policy):
    pruner = SegmentPruner(1.0, chunk_seconds, policy)
    values, lens = numbered(lens)
    same, same_lens = pruner.apply(pruner.choose(values, lens, 100), values, lens, 100)
    assert torch.equal(same, values)
    assert torch.equal(same_lens, lens)


@given(lengths, st.floats(0.1, 1.0), st.sampled_from([0.04, 0.2]), st.sampled_from(POLICIES))
@settings(deadline=None)
def test_modalities_stay_in_step(lens, keep_ratio, chunk_seconds, policy):
    pruner = SegmentPruner(keep_ratio, chunk_seconds, policy)
    lens = [4 * n for n in lens]  # feature rows; one video frame is four of them
    audio, audio_lens = numbered(lens)
    video, video_lens = numbered([n // 4 for n in lens])
    kept = pruner.choose(audio, audio_lens, 100)
    audio, audio_lens = pruner.apply(kept, audio, audio_lens, 100)
    video, video_lens = pruner.apply(kept, video, video_lens, 25)
    assert torch.equal(audio_lens, 4 * video_lens)
    for number, length in enumerate(audio_lens):
        assert torch.equal((audio[number, :length:4, 0] + 3) / 4, video[number, : length // 4, 0])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.floats(0.1, 1.0), st.sampled_from([0.04, 0.2]))
@settings(deadline=None)
def test_times_move_with_the_rows_in_which_they_lie(lens, keep_ratio, chunk_seconds):
    pruner = SegmentPruner(keep_ratio, chunk_seconds, RandomChunks())
    values, lens = numbered([4 * n for n in lens])
    kept = pruner.choose(values, lens, 100)
    shorter, shorter_lens = pruner.apply(kept, values, lens, 100)
    middles = (torch.arange(values.size(1)) + 0.5).expand(len(lens), -1) / 100
    moved = pruner.times(kept, middles)
    for number, length in enumerate(shorter_lens):
        old_rows = shorter[number, :length, 0].long() - 1
        assert torch.allclose(100 * moved[number, old_rows], torch.arange(length) + 0.5, atol=1e-3)
        assert (moved[number].diff() >= -1e-6).all()


def test_the_choice_by_energy_does_not_depend_on_who_shares_the_batch():
    torch.manual_seed(0)
    values, lens = torch.randn(3, 90, 8), torch.tensor([90, 41, 70])
    values *= (torch.arange(90) < lens[:, None]).unsqueeze(-1)
    pruner = SegmentPruner(0.6, 0.1)
    together = pruner.choose(values, lens, 100)
    for number, length in enumerate(lens):
        alone = pruner.choose(values[number : number + 1, :length], lens[number : number + 1], 100)
        assert torch.equal(together[number, : alone.size(1)], alone[0])


def chosen(ids, lens, *, seed=0, epoch=None, pruner=None):
    """What a random choice keeps of utterances, by id."""
    pruner = SegmentPruner(0.5, 0.1, RandomChunks(), seed=seed) if pruner is None else pruner
    if epoch is not None:
        pruner.start_epoch(epoch)
    values, lens = numbered(lens)
    kept = pruner.choose(values, lens, 100, ids=ids)
    return {i: row[: -(-int(n) // 10)].tolist() for i, row, n in zip(ids or range(len(lens)), kept, lens, strict=True)}


@given(st.permutations(["a", "b", "c", "d"]), st.integers(1, 4), st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None)
def test_a_random_choice_depends_on_seed_epoch_and_id_and_not_on_the_batch(ids, size, seed, epoch):
    lens = {"a": 200, "b": 90, "c": 155, "d": 310}
    together = chosen(list(lens), list(lens.values()), seed=seed, epoch=epoch)
    batch = ids[:size]
    assert chosen(batch, [lens[i] for i in batch], seed=seed, epoch=epoch) == {i: together[i] for i in batch}


def test_random_choices_of_other_seeds_epochs_and_ids_differ():
    choices = [
        chosen(ids, [400], seed=seed, epoch=epoch)[ids[0]]
        for seed, epoch, ids in ((0, 0, ["a"]), (1, 0, ["a"]), (0, 1, ["a"]), (0, 0, ["b"]))
    ]
    assert len(set(map(tuple, choices))) == 4


@pytest.mark.parametrize(("ids", "epoch"), [(["a"], 0), ((), 0), (["a"], None)])
def test_a_random_choice_neither_reads_nor_moves_the_global_generators(ids, epoch):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = chosen(ids, [400], epoch=epoch)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(2)
    np.random.seed(2)
    assert chosen(ids, [400], epoch=epoch) == first


@pytest.mark.parametrize("epoch", [0, None])
def test_without_ids_or_epochs_random_choices_differ_and_a_resumed_run_makes_the_same(epoch, tmp_path):
    ids = () if epoch == 0 else ["a", "b"]
    pruner = SegmentPruner(0.5, 0.1, RandomChunks())
    first = chosen(ids, [400, 400], epoch=epoch, pruner=pruner)
    torch.save(pruner.state_dict(), tmp_path / "state")
    resumed = SegmentPruner(0.5, 0.1, RandomChunks())
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    second = chosen(ids, [400, 400], epoch=epoch, pruner=pruner)
    assert len(set(map(tuple, [*first.values(), *second.values()]))) == 4
    assert chosen(ids, [400, 400], epoch=epoch, pruner=resumed) == second


def test_a_state_of_the_last_release_loads():
    SegmentPruner().load_state_dict({})


def test_the_old_name_of_the_baseline_works_and_says_so():
    with pytest.warns(DeprecationWarning, match=r"asrsparse.pruning.AllTime is called KeepAllTime now"):
        assert asrsparse.pruning.AllTime is KeepAllTime
    with pytest.raises(AttributeError, match="has no attribute 'NoSuchName'"):
        _ = asrsparse.pruning.NoSuchName


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_ratio": 0.0}, r"^keep_ratio: got 0.0, allowed is \(0, 1\].*segments=none"),
        ({"keep_ratio": 1.2}, r"^keep_ratio: got 1.2"),
        ({"chunk_seconds": 0.0}, "^chunk_seconds: got 0.0, allowed is above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SegmentPruner(**arguments)


def test_the_last_epochs_hear_all_time():
    pruner = SegmentPruner(0.5, 0.1, RandomChunks(), num_epochs=3, final_epochs=1)
    values, lens = numbered([40])
    heard = []
    for epoch in range(3):
        pruner.start_epoch(epoch)
        heard.append(int(pruner.apply(pruner.choose(values, lens, 100), values, lens, 100)[1]))
    assert heard == [20, 20, 40]


def test_final_epochs_of_an_unknown_number_are_refused():
    with pytest.raises(ValueError, match=r"^final_epochs: got 1 of None epochs.*with num_epochs"):
        SegmentPruner(final_epochs=1)


def test_a_policy_that_needs_blanks_is_refused_without_them():
    with pytest.raises(
        ValueError, match=r"^blanks: got None, and LeastBlankChunks needs a table of blanks: give blanks=BlankTable"
    ):
        SegmentPruner(0.5, 0.2, LeastBlankChunks())


def test_chunks_that_are_no_number_of_encoder_frames_are_refused_for_blanks():
    blanks = BlankTable(ScoreTable(["a"], [1.0]))
    with pytest.raises(ValueError, match=r"chunk_seconds: got 0.1, allowed are multiples of 0.04 s"):
        SegmentPruner(0.5, 0.1, LeastBlankChunks(), blanks)


def test_a_chunk_that_is_no_number_of_rows_is_refused():
    with pytest.raises(ValueError, match=r"chunk_seconds: got 0.03, allowed are multiples of 0.04 s"):
        SegmentPruner(0.5, 0.03).choose(torch.zeros(1, 50), torch.tensor([50]), 25)
