import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.pruning import BlankTable, LeastBlankChunks, LoudestChunks, RandomChunks, ScoreTable, SegmentPruner
from asrsparse.pruning.segment import motion

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


def test_the_quietest_chunks_of_a_waveform_go_first():
    wave = torch.zeros(1, 16000)
    wave[0, 4000:8000] = 0.5 * torch.sin(torch.arange(4000.0))
    wave[0, 12000:16000] = 0.1 * torch.sin(torch.arange(4000.0))
    pruner = SegmentPruner(0.5, 0.25, LoudestChunks())
    assert pruner.choose(wave, torch.tensor([16000]), 16000).tolist() == [[False, True, False, True]]


def test_the_choice_by_energy_does_not_depend_on_who_shares_the_batch():
    torch.manual_seed(0)
    values, lens = torch.randn(3, 90, 8), torch.tensor([90, 41, 70])
    values *= (torch.arange(90) < lens[:, None]).unsqueeze(-1)
    pruner = SegmentPruner(0.6, 0.1)
    together = pruner.choose(values, lens, 100)
    for number, length in enumerate(lens):
        alone = pruner.choose(values[number : number + 1, :length], lens[number : number + 1], 100)
        assert torch.equal(together[number, : alone.size(1)], alone[0])


def test_random_chunks_follow_torchs_seed():
    values, lens = numbered([100])
    pruner = SegmentPruner(0.5, 0.1, RandomChunks())
    choices = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        choices.append(pruner.choose(values, lens, 100).tolist())
    assert choices[0] == choices[1] != choices[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_ratio": 0.0}, r"segments.keep_ratio: got 0.0, allowed is \(0, 1\].*segments=none"),
        ({"keep_ratio": 1.2}, r"segments.keep_ratio: got 1.2"),
        ({"chunk_seconds": 0.0}, "segments.chunk_seconds: got 0.0, allowed is above 0"),
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
    with pytest.raises(ValueError, match=r"segments.final_epochs: got 1 of None epochs.*with num_epochs"):
        SegmentPruner(final_epochs=1)


def test_a_policy_that_needs_blanks_is_refused_without_them():
    with pytest.raises(ValueError, match=r"LeastBlankChunks needs a table of blanks: give blanks=BlankTable"):
        SegmentPruner(0.5, 0.2, LeastBlankChunks())


def test_chunks_that_are_no_number_of_encoder_frames_are_refused_for_blanks():
    blanks = BlankTable(ScoreTable(["a"], [1.0]))
    with pytest.raises(ValueError, match=r"chunk_seconds: got 0.1, allowed are multiples of 0.04 s"):
        SegmentPruner(0.5, 0.1, LeastBlankChunks(), blanks)


def test_the_surest_blanks_of_the_last_visit_go_first():
    blanks = BlankTable(ScoreTable(["a"], [0.24]), warmup_visits=1)
    pruner = SegmentPruner(0.67, 0.08, LeastBlankChunks(context_seconds=0.0), blanks)
    features, lens = torch.zeros(1, 24, 2), torch.tensor([24])
    first = pruner.choose(features, lens, 100, ids=["a"])
    assert first.tolist() == [[True, True, True]]
    pruner.observe(["a"], first, torch.tensor([[0.1, 0.2, 0.9, 0.9, 0.3, 0.1]]).log())
    assert pruner.choose(features, lens, 100, ids=["a"]).tolist() == first.tolist()  # from the next epoch on
    pruner.end_epoch()
    assert pruner.choose(features, lens, 100, ids=["a"]).tolist() == [[True, False, True]]


def test_long_stretches_of_blanks_go_before_those_between_the_labels_of_a_word():
    blanks = BlankTable(ScoreTable(["a"], [1.6]), warmup_visits=1)
    pruner = SegmentPruner(0.6, 0.08, LeastBlankChunks(context_seconds=0.2), blanks)
    features, lens = torch.zeros(1, 160, 2), torch.tensor([160])
    first = pruner.choose(features, lens, 100, ids=["a"])
    spikes = torch.tensor([12, 15, 18, 21, 24, 27])  # a word from 0.48 s to 1.08 s, and pauses before and behind
    blank = torch.full((1, 40), 0.99).index_fill(1, spikes, 0.01)
    pruner.observe(["a"], first, blank.log())
    pruner.end_epoch()
    kept = pruner.choose(features, lens, 100, ids=["a"])[0].nonzero().flatten().tolist()
    assert kept == list(range(kept[0], kept[0] + 12))
    assert kept[0] <= 6
    assert kept[-1] >= 13


def test_a_chunk_that_is_no_number_of_rows_is_refused():
    with pytest.raises(ValueError, match=r"chunk_seconds: got 0.03, allowed are multiples of 0.04 s"):
        SegmentPruner(0.5, 0.03).choose(torch.zeros(1, 50), torch.tensor([50]), 25)


def test_motion_is_the_difference_to_the_frame_before():
    video = torch.zeros(2, 5, 4, 4, dtype=torch.uint8)
    video[0, 2] = 200
    video[1, 3:] = 100
    moved = motion(video, torch.tensor([5, 3])).squeeze(-1)
    assert moved.tolist() == [[0, 0, 200, 200, 0], [0, 0, 0, 0, 0]]
    assert motion(video[:, :1], torch.tensor([1, 1])).tolist() == [[[0.0]], [[0.0]]]


def test_the_loudest_chunks_of_video_are_those_in_which_most_moves():
    generator = torch.Generator().manual_seed(0)
    video, lens = (
        torch.randint(0, 256, (3, 23, 8, 8), generator=generator, dtype=torch.uint8),
        torch.tensor([23, 17, 4]),
    )
    for row, length in zip(video, lens, strict=True):
        row[length:] = 0
    pruner = SegmentPruner(0.5, 0.2, LoudestChunks())
    kept = pruner.choose(video, lens, rows_per_second=25)
    assert torch.equal(kept, pruner.choose(motion(video, lens), lens, rows_per_second=25))
    assert 0 < kept.sum() < 10
