import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import make_batch, make_model

from asrsparse.config import compose_config
from asrsparse.models.asr import BLANK
from asrsparse.models.consistency import consistency_losses, in_views, mean_of_views

STILL = [
    "model.specaug=null",
    "model.encoder.dropout_rate=0",
    "model.encoder.positional_dropout_rate=0",
    "model.decoder.dropout_rate=0",
    "model.decoder.positional_dropout_rate=0",
]
"""Overrides that leave nothing by which two views could differ."""


def random_views(frames, lens, requires_grad=False):
    logits = torch.randn(2 * len(lens), frames, 5, generator=torch.Generator().manual_seed(frames))
    return logits.requires_grad_(requires_grad), torch.tensor(lens).repeat(2)


def divergence(p, q):
    return float((p.exp() * (p - q)).sum())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_the_loss_is_half_the_sum_of_both_divergences_over_the_frames_of_an_utterance(lens):
    logits, both_lens = random_views(max(lens), lens)
    log_probs = logits.log_softmax(dim=-1)
    losses = consistency_losses(log_probs, both_lens)
    for row, length in enumerate(lens):
        first, second = log_probs[row, :length], log_probs[len(lens) + row, :length]
        expected = (divergence(first, second) + divergence(second, first)) / 2
        assert float(losses[row]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_padding_has_neither_a_loss_nor_a_gradient():
    logits, lens = random_views(6, [6, 2], requires_grad=True)
    losses = consistency_losses(logits.log_softmax(dim=-1), lens)
    losses.sum().backward()
    assert torch.equal(logits.grad[[1, 3], 2:], torch.zeros(2, 4, 5))
    alone = consistency_losses(logits[[1, 3], :2].log_softmax(dim=-1), lens[[1, 3]])
    torch.testing.assert_close(losses[1:], alone)


def test_a_view_is_drawn_to_the_other_which_gets_no_gradient_from_that():
    """The gradient of a Kullback-Leibler divergence from a fixed target is the difference of the probabilities."""
    logits, lens = random_views(3, [3], requires_grad=True)
    consistency_losses(logits.log_softmax(dim=-1), lens).sum().backward()
    first, second = logits.detach().softmax(dim=-1)
    torch.testing.assert_close(logits.grad, torch.stack([first - second, second - first]) / 2)


def test_equal_views_are_not_apart():
    logits, _ = random_views(4, [4])
    same = logits[:1].repeat(2, 1, 1).log_softmax(dim=-1)
    assert consistency_losses(same, torch.tensor([4, 4])).tolist() == [0.0]


@given(st.integers(1, 4), st.integers(1, 3))
def test_the_mean_of_views_undoes_their_making(num_utterances, num_views):
    rows = torch.randn(num_utterances, 2)
    torch.testing.assert_close(mean_of_views(in_views(rows, num_views), num_views), rows)


def test_views_that_cannot_differ_train_as_one_view_does():
    one, two = (make_model(*STILL, f"consistency={choice}").train() for choice in ("none", "cr_ctc"))
    batch = make_batch([5, 2, 7])
    expected, losses = one(batch), two(batch)
    for name in ("total", "ctc", "attention"):
        torch.testing.assert_close(getattr(losses, name), getattr(expected, name), rtol=1e-4, atol=1e-4)
    expected.total.mean().backward()
    losses.total.mean().backward()
    for before, after in zip(one.parameters(), two.parameters(), strict=True):
        if before.grad is not None:
            torch.testing.assert_close(after.grad, before.grad, rtol=1e-3, atol=1e-4)


def test_the_total_has_the_consistency_loss_beside_the_ctc_loss():
    """Per token, and with CTC's share of the total, as in the public code."""
    model = make_model("consistency=cr_ctc", "consistency.alpha=0.5", "model.ctc_weight=0.4").train()
    seen = []
    model.ctc.ctc_lo.register_forward_hook(lambda *call: seen.append(call[-1].detach()))
    batch = make_batch([5, 2])
    losses = model(batch)
    log_probs = seen[0].log_softmax(dim=-1)
    apart = consistency_losses(log_probs, torch.full((4,), log_probs.size(1))) / batch.token_lens
    assert (apart > 0).all()
    torch.testing.assert_close(losses.total, 0.4 * (losses.ctc + 0.5 * apart) + 0.6 * losses.attention)
    assert losses.total.shape == (2,)


def test_each_view_has_masks_of_its_own():
    model = make_model("consistency=cr_ctc", "model.encoder.dropout_rate=0").train()
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(make_batch([3, 3]))
    first, second = seen[0].chunk(2)
    both_kept = (first != 0) & (second != 0)
    assert not torch.equal(first, second)
    assert torch.equal(first[both_kept], second[both_kept])


@pytest.mark.parametrize("modality", ["video", "audiovisual"])
def test_video_is_seen_in_two_views_as_well(modality):
    model = make_model(f"modality={modality}", "consistency=cr_ctc").train()
    batch = make_batch([3, 2], samples=32000)
    batch.video = torch.randint(0, 256, (2, 50, 96, 96), dtype=torch.uint8)
    batch.video_lens = torch.tensor([50, 50])
    losses = model(batch).total
    losses.mean().backward()
    assert losses.shape == (2,)
    assert torch.isfinite(losses).all()


def test_decoding_and_dev_see_one_view():
    one, two = (make_model(f"consistency={choice}").eval() for choice in ("none", "cr_ctc"))
    batch = make_batch([5, 2])
    assert torch.equal(one(batch).total, two(batch).total)
    assert one.validate(batch)[1] == two.validate(batch)[1]
    assert torch.equal(one.train().encode(batch)[1], two.train().encode(batch)[1])


@pytest.mark.parametrize("level", ["waveform", "feature", "frontend"])
@pytest.mark.parametrize("choice", ["energy", "random", "blank"])
def test_both_views_lose_the_same_chunks(level, choice):
    overrides = [f"segments.level={level}", "segments.keep_ratio=0.5", "segments.chunk_seconds=0.12"]
    model = make_model(*STILL, f"segments={choice}", *overrides, "consistency=cr_ctc").train()
    seen = []
    model.ctc.ctc_lo.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    for _ in range(3):
        losses = model(make_batch([2] * 8, samples=48000))
        model.segments.end_epoch()
    first, second = seen[-1].chunk(2)
    torch.testing.assert_close(first, second)
    assert losses.kept_share == pytest.approx(0.5, abs=0.06)


def test_the_loss_is_in_float32_under_autocast():
    model = make_model("consistency=cr_ctc").train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = model(make_batch([5, 2])).total
    total.mean().backward()
    assert total.dtype == torch.float32
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


def test_cr_ctc_has_the_published_weight_and_masks_and_can_be_set():
    published = compose_config(["consistency=cr_ctc"]).model
    assert published.consistency == 0.2
    assert published.specaug.num_time_mask == 2.5 * compose_config([]).model.specaug.num_time_mask
    assert compose_config([]).model.consistency is None
    assert compose_config(["consistency=cr_ctc", "consistency.alpha=0.1"]).model.consistency == 0.1


@pytest.mark.parametrize("alpha", [-0.1, float("inf"), float("nan")])
def test_a_weight_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=rf"consistency: got {alpha}, allowed are 0 and more"):
        make_model("consistency=cr_ctc", f"consistency.alpha={alpha}")


def test_views_that_would_be_warped_in_time_are_refused():
    with pytest.raises(ValueError, match=r"specaug.apply_time_warp: got true with two views \(consistency\)"):
        make_model("consistency=cr_ctc", "model.specaug.apply_time_warp=true")
    assert make_model("model.specaug.apply_time_warp=true").num_views == 1


def test_the_blanks_of_both_views_are_observed():
    model = make_model("consistency=cr_ctc", "segments=blank").train()
    seen = []
    model.segments.observe = lambda ids, kept, blank: seen.append((ids, blank))
    log_probs = []
    model.ctc.ctc_lo.register_forward_hook(lambda *call: log_probs.append(call[-1].detach().log_softmax(dim=-1)))
    batch = make_batch([5, 2])
    model(batch)
    first, second = log_probs[0][..., BLANK].chunk(2)
    assert seen[0][0] == batch.ids
    torch.testing.assert_close(seen[0][1].detach(), (first + second) / 2)
