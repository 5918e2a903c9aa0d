import torch

from asrsparse.pruning import BlankTable, LeastBlankChunks, LoudestChunks, ScoreTable, SegmentPruner
from asrsparse.pruning.chunk_policies import motion


def test_the_quietest_chunks_of_a_waveform_go_first():
    wave = torch.zeros(1, 16000)
    wave[0, 4000:8000] = 0.5 * torch.sin(torch.arange(4000.0))
    wave[0, 12000:16000] = 0.1 * torch.sin(torch.arange(4000.0))
    pruner = SegmentPruner(0.5, 0.25, LoudestChunks())
    assert pruner.choose(wave, torch.tensor([16000]), 16000).tolist() == [[False, True, False, True]]


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
