import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrsparse.models.fusion import Fusion

SIZE = 6


def make(p_audio=0.25, p_video=0.25):
    torch.manual_seed(0)
    return Fusion(SIZE, 12, p_audio, p_video)


def frames(lens, seed):
    lens = torch.tensor(lens)
    return torch.randn(len(lens), int(lens.max()), SIZE, generator=torch.Generator().manual_seed(seed)), lens


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-1, 1)), min_size=1, max_size=4), st.booleans())
@settings(max_examples=50)
def test_the_shorter_of_both_ends_an_utterance(utterances, training):
    audio_lens = [length for length, _ in utterances]
    video_lens = [max(1, length + more) for length, more in utterances]
    fused, lens = make().train(training)(frames(audio_lens, 1), frames(video_lens, 2))
    assert lens.tolist() == [min(pair) for pair in zip(audio_lens, video_lens, strict=True)]
    assert fused.shape == (len(utterances), min(max(audio_lens), max(video_lens)), SIZE)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=100)
def test_no_utterance_ever_loses_both(p_audio, share, seed):
    fusion = make(p_audio, share * (1 - p_audio)).train()
    torch.manual_seed(seed)
    keeps_audio, keeps_video = fusion._kept(200, torch.device("cpu"))
    assert ((keeps_audio + keeps_video) >= 1).all()
    assert set(keeps_audio.unique().tolist()) | set(keeps_video.unique().tolist()) <= {0.0, 1.0}


def test_modalities_are_dropped_as_often_as_asked_for():
    torch.manual_seed(0)
    keeps_audio, keeps_video = make(0.1, 0.4).train()._kept(20_000, torch.device("cpu"))
    assert keeps_audio.mean().item() == pytest.approx(0.9, abs=0.01)
    assert keeps_video.mean().item() == pytest.approx(0.6, abs=0.015)


@pytest.mark.parametrize(
    ("p_audio", "p_video", "uses_audio", "uses_video"), [(1.0, 0.0, False, True), (0.0, 1.0, True, False)]
)
def test_a_dropped_modality_has_no_effect_and_the_other_one_has(p_audio, p_video, uses_audio, uses_video):
    fusion, (audio, lens), (video, _) = make(p_audio, p_video).train(), frames([5], 1), frames([5], 2)
    audio.requires_grad_()
    video.requires_grad_()
    fusion((audio, lens), (video, lens))[0].square().sum().backward()
    assert (bool(audio.grad.any()), bool(video.grad.any())) == (uses_audio, uses_video)


def test_evaluation_drops_nothing_and_draws_no_random_number():
    fusion, audio, video = make(0.5, 0.5).eval(), frames([5], 1), frames([5], 2)
    before = torch.get_rng_state()
    first, _ = fusion(audio, video)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, fusion(audio, video)[0])
    assert not torch.equal(first, fusion(audio, frames([5], 3))[0])


def test_an_utterance_is_fused_as_if_alone():
    fusion, (audio, lens), (video, _) = make().eval(), frames([5, 3], 1), frames([5, 3], 2)
    together, _ = fusion((audio, lens), (video, lens))
    single, _ = fusion((audio[1:, :3], lens[1:]), (video[1:, :3], lens[1:]))
    torch.testing.assert_close(together[1:, :3], single)


@pytest.mark.parametrize(("p_audio", "p_video"), [(-0.1, 0.2), (0.6, 0.5)])
def test_shares_that_leave_no_utterance_are_refused(p_audio, p_video):
    message = rf"p_audio and p_video: got {p_audio} and {p_video}, .*loses one of them, never both"
    with pytest.raises(ValueError, match=message):
        make(p_audio, p_video)
