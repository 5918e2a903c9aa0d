import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import UTTERANCES, make_batch, make_model

from asrsparse.data.batch import Batch
from asrsparse.models.asr import BLANK
from asrsparse.models.time_pruning import SEGMENT_LEVELS, TimePruning
from asrsparse.pruning import BlankTable, KeepAllTime, LeastBlankChunks, LoudestChunks, RandomChunks, SegmentPruner
from asrsparse.rates import ctc_frames

CHOICES = ["energy", "random", "blank"]


def visit_all(model):
    """Trains on all utterances so often that the model's own blanks count."""
    for _ in range(2):
        model(make_batch([2] * 8, samples=48000))
        model.segments.end_epoch()


@pytest.mark.parametrize("level", SEGMENT_LEVELS)
@pytest.mark.parametrize("choice", CHOICES)
def test_segments_shorten_the_input_of_the_encoder_in_training_only(level, choice):
    overrides = [f"segments.level={level}", "segments.keep_ratio=0.5", "segments.chunk_seconds=0.12"]
    model = make_model(f"segments={choice}", *overrides).train()
    visit_all(model)
    seen = []
    model.encoder.encoders[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].size(1)))
    batch = make_batch([3, 2], samples=48000)
    for training in (True, False):
        model.train(training)
        losses = model(batch)
        assert losses.kept_share == (pytest.approx(0.5, abs=0.06) if training else 1.0)
        assert torch.isfinite(losses.total).all()
    assert seen[0] == pytest.approx(0.5 * seen[1], abs=3)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=40), st.floats(0, 0.6)), min_size=1, max_size=4
    ),
    st.sampled_from(SEGMENT_LEVELS),
    st.sampled_from([LoudestChunks(), RandomChunks(), LeastBlankChunks()]),
    st.sampled_from([0.04, 0.12, 0.2, 0.4]),
    st.floats(0.02, 1.0),
)
@settings(deadline=None, max_examples=150)
def test_segments_leave_what_ctc_needs_for_any_lengths_and_labels(utterances, level, policy, chunk_seconds, keep_ratio):
    """Each utterance is as long as its labels need, and then some; the encoder's subsampling is imitated."""
    labels = [torch.tensor(labels) for labels, _ in utterances]
    needed = [ctc_frames(label.tolist()) for label in labels]
    frames = [int(n * (1 + more)) + 1 for n, (_, more) in zip(needed, utterances, strict=True)]
    rows = torch.tensor([4 * n + 3 for n in frames])
    tokens = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-1)
    ids = [f"u{number}" for number in range(len(labels))]
    audio_lens = 160 * (rows - 1)
    audio = torch.randn(len(labels), int(audio_lens.max()))
    batch = Batch(ids, audio, audio_lens, tokens, torch.tensor([len(label) for label in labels]), 1.0)
    segments = SegmentPruner(keep_ratio, chunk_seconds, policy, BlankTable(UTTERANCES, warmup_visits=1))
    for _ in range(2):
        pruning = TimePruning.of(batch, segments, level)
        _, lens = pruning.cut("waveform", audio, audio_lens, 16000)
        lens = 1 + lens // 160
        features = torch.randn(len(labels), int(lens.max()), 4)
        _, lens = pruning.cut("feature", features, lens, 100)
        lens = (((lens - 1) // 2 - 1) // 2).clamp(min=0)
        _, lens = pruning.cut("frontend", torch.randn(len(labels), int(lens.max()), 4), lens, 25)
        assert (lens >= torch.tensor(needed)).all()
        pruning.observe(torch.rand(len(labels), int(lens.max())).log())
        segments.end_epoch()


def test_segments_leave_the_model_labels_that_it_can_align():
    model = make_model("segments=random", "segments.keep_ratio=0.1", "model.ctc_weight=1.0", "model.decoder=null")
    losses = model.train()(make_batch([30, 40, 1], samples=48000)).total
    assert torch.isfinite(losses).all()
    assert (losses > 0).all()  # an utterance that CTC cannot align would have a loss of 0


@pytest.mark.parametrize("level", SEGMENT_LEVELS)
def test_segments_that_keep_everything_change_nothing(level):
    batch, losses = make_batch([3, 2]), []
    pruned = ["segments=energy", "segments.keep_ratio=1.0", "segments.chunk_seconds=0.2", f"segments.level={level}"]
    for overrides in ([], pruned):
        model = make_model(*overrides).train()
        torch.manual_seed(1)
        losses.append(model(batch).total)
    assert torch.equal(*losses)


def test_frames_cut_behind_the_subsampling_have_the_positions_of_an_utterance_as_short():
    model = make_model("segments=random", "segments.level=frontend", "segments.chunk_seconds=0.2").train()
    seen = []
    model.encoder.encoders[0].register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0][0], inputs[0][1])))
    model.encoder.embed.out[-1].dropout.p = 0.0
    model(make_batch([3, 2], samples=48000))
    frames, positions = seen[0]
    _, expected = model.encoder.embed.out[-1](torch.zeros_like(frames))
    assert torch.equal(positions, expected)


def test_the_model_lets_the_pruner_know_how_sure_it_is_of_blanks():
    model = make_model("segments=blank", "segments.blanks.warmup_visits=1").train()
    seen = []
    model.ctc.ctc_lo.register_forward_hook(lambda *args: seen.append(args[2].log_softmax(-1)[..., BLANK].exp()))
    model(make_batch([2, 3], samples=48000))
    model.segments.end_epoch()
    blank = torch.sigmoid(model.segments.blanks.log_odds(["u0", "u1"], num_slots=74))
    torch.testing.assert_close(blank, seen[0], atol=0.02, rtol=0.0)


def test_frames_that_were_cut_are_not_recorded():
    segments = SegmentPruner(0.5, 0.04, LeastBlankChunks(), BlankTable(UTTERANCES, warmup_visits=1, forgetting=0.0))
    for blank in (0.9, 0.1):
        pruning = TimePruning(segments, "frontend", ["u0"])
        features = torch.zeros(1, 100, 2)
        pruning.cut("feature", features, torch.tensor([100]), 100)
        frames, _ = pruning.cut("frontend", torch.zeros(1, 24, 2), torch.tensor([24]), 25)
        pruning.observe(torch.full(frames.shape[:2], blank).log())
        segments.end_epoch()
    known = torch.sigmoid(segments.blanks.log_odds(["u0"], num_slots=24))[0]
    assert sorted(set(known.round(decimals=1).tolist())) == pytest.approx([0.1, 0.9])
    assert (known < 0.5).sum() == frames.size(1)


def test_whole_utterances_pass_untouched():
    values, lens = torch.randn(2, 10, 3), torch.tensor([10, 4])
    everything = KeepAllTime()
    same, same_lens = everything.apply(everything.choose(values, lens, 100), values, lens, 100)
    assert same is values
    assert same_lens is lens


def test_an_unknown_level_of_segments_is_refused():
    message = r"segments.level: got 'frames', allowed are waveform, feature, frontend"
    with pytest.raises(ValueError, match=message):
        make_model("segments=energy", "segments.level=frames")
