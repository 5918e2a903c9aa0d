from itertools import groupby

import pytest
import torch
import torch.nn.functional as F
from micro import make_batch, make_model

from asrsparse.config import compose_config
from asrsparse.data.batch import Batch
from asrsparse.models.asr import BLANK
from asrsparse.models.residual import residual_branches


def alone(batch, row):
    """The batch of one utterance of a batch."""
    return Batch(
        ids=[batch.ids[row]],
        audio=batch.audio[row : row + 1, : batch.audio_lens[row]],
        audio_lens=batch.audio_lens[row : row + 1],
        tokens=batch.tokens[row : row + 1, : batch.token_lens[row]],
        token_lens=batch.token_lens[row : row + 1],
        seconds=batch.seconds / len(batch.ids),
    )


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


def test_a_loss_is_the_same_in_any_batch(model):
    batch = make_batch([5, 2, 7])
    batch.audio_lens = torch.tensor([9000, 12000, 7003])
    batch.audio[torch.arange(12000) >= batch.audio_lens[:, None]] = 0.0
    together = model(batch)
    for row in range(3):
        single = model(alone(batch, row))
        for name in ("total", "ctc", "attention"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(single, name)[0], rtol=1e-4, atol=1e-4)


def test_a_ctc_loss_is_torchs_mean_of_the_utterance_alone(model):
    batch = make_batch([5, 2, 7])
    losses = model(batch).ctc
    for row in range(3):
        one = alone(batch, row)
        encoded, lens = model.encode(one)
        log_probs = model.ctc.ctc_lo(encoded).log_softmax(dim=-1).transpose(0, 1)
        reference = F.ctc_loss(log_probs, one.tokens, lens, one.token_lens, blank=BLANK, reduction="mean")
        torch.testing.assert_close(losses[row], reference, rtol=1e-4, atol=1e-4)


def test_an_attention_loss_is_the_mean_cross_entropy_over_tokens_and_the_end(model):
    batch = make_batch([4])
    encoded, lens = model.encode(batch)
    end = torch.tensor([[model.vocab_size - 1]])
    logits, _ = model.decoder(encoded, lens, torch.cat([end, batch.tokens], dim=1), batch.token_lens + 1)
    targets = torch.cat([batch.tokens, end], dim=1)
    reference = F.cross_entropy(logits[0], targets[0], label_smoothing=model.label_smoothing)
    torch.testing.assert_close(model(batch).attention[0], reference, rtol=1e-4, atol=1e-4)


def test_the_total_mixes_both_losses_by_the_ctc_weight():
    losses = make_model("model.ctc_weight=0.3").eval()(make_batch([5, 2]))
    torch.testing.assert_close(losses.total, 0.3 * losses.ctc + 0.7 * losses.attention)
    assert torch.all(losses.attention > 0)


def test_without_a_decoder_the_loss_is_ctcs():
    model = make_model("model.decoder=null", "model.ctc_weight=1.0").eval()
    losses = model(make_batch([5, 2]))
    assert torch.equal(losses.total, losses.ctc)
    assert losses.attention.tolist() == [0.0, 0.0]
    assert not [name for name, _ in model.named_parameters() if name.startswith("decoder")]


def test_without_a_decoder_only_ctc_can_be_trained():
    with pytest.raises(ValueError, match=r"ctc_weight: got 0.3 without a decoder; allowed is 1"):
        make_model("model.decoder=null", "model.ctc_weight=0.3")


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_a_ctc_weight_outside_its_range_is_refused(weight):
    with pytest.raises(ValueError, match=rf"ctc_weight: got {weight}, allowed is \[0, 1\]"):
        make_model(f"model.ctc_weight={weight}")


def test_specaug_changes_features_in_training_only():
    model = make_model("model.encoder.dropout_rate=0", "model.encoder.positional_dropout_rate=0")
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = make_batch([3])
    features, _ = model.frontend(batch.audio, batch.audio_lens)
    for training in (True, False):
        model.train(training)
        model.encode(batch)
    assert not torch.equal(seen[0], features)
    assert torch.equal(seen[1], features)


def test_without_specaug_training_reads_the_features_unchanged():
    model = make_model("model.specaug=null").train()
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = make_batch([3])
    model.encode(batch)
    assert torch.equal(seen[0], model.frontend(batch.audio, batch.audio_lens)[0])


def test_an_utterance_that_ctc_cannot_align_does_not_spoil_the_batch():
    model = make_model("model.decoder=null", "model.ctc_weight=1.0").train()
    losses = model(make_batch([60, 3])).total
    losses.mean().backward()
    assert losses[0] == 0
    assert losses[1] > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_every_weight_gets_a_gradient():
    model = make_model().train()
    model(make_batch([5, 2])).total.mean().backward()
    without = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.requires_grad)


def test_log_probs_are_float32_distributions_also_under_autocast(model):
    batch = make_batch([3])
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        encoded, _ = model.encode(batch)
        log_probs = model.ctc_log_probs(encoded)
        losses = model(batch)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(log_probs.shape[:2]))
    assert losses.total.dtype == torch.float32


def test_encoder_frames_come_every_40_ms(model):
    _, lens = model.encode(make_batch([3], samples=48000))
    assert lens.tolist() == [74]


def test_the_residual_stream_is_float32_under_autocast(model):
    seen = []
    model.encoder.encoders[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(make_batch([3]))
    assert seen == [torch.float32]


def test_without_options_residual_branches_are_espnets_own():
    plain, scaled, zeroed = make_model(), make_model("model.layer_scale=0.1"), make_model("model.residual_scale=0")
    assert not [name for name in plain.state_dict() if "layer_scale" in name]
    assert not any(branch.module._forward_hooks for branch in residual_branches(plain))
    changed = {name for name, value in zeroed.state_dict().items() if not torch.equal(value, plain.state_dict()[name])}
    assert changed == {f"{branch.name}.{last_name(branch)}.weight" for branch in residual_branches(plain)}
    assert all(torch.equal(scaled.state_dict()[name], value) for name, value in plain.state_dict().items())


def last_name(branch):
    return next(name for name, module in branch.module.named_modules() if module is branch.last)


def test_scaling_residual_branches_draws_no_random_numbers():
    states = []
    for overrides in ([], ["model.layer_scale=0.1"], ["model.residual_scale=0.1"]):
        make_model(*overrides)
        states.append(torch.get_rng_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_every_model_names_the_options_of_its_residual_branches(size):
    model = compose_config([f"model={size}", "model.layer_scale=0.1", "model.residual_scale=0.5"]).model
    assert (model.layer_scale, model.residual_scale) == (0.1, 0.5)
    default = compose_config([f"model={size}"]).model
    assert (default.layer_scale, default.residual_scale) == (None, 1.0)


def test_scales_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"layer_scale: got 0, allowed is a positive number.*residual_scale=0\."):
        make_model("model.layer_scale=0")
    with pytest.raises(ValueError, match=r"residual_scale: got -1, allowed are 0 and more"):
        make_model("model.residual_scale=-1")


def test_validating_gives_the_losses_and_what_ctc_finds_in_each_utterance(model):
    batch = make_batch([5, 2, 7])
    batch.audio_lens = torch.tensor([12000, 7000, 9000])
    losses, found = model.validate(batch)
    for name in ("total", "ctc", "attention"):
        torch.testing.assert_close(getattr(losses, name), getattr(model(batch), name))
    encoded, lens = model.encode(batch)
    best = model.ctc_log_probs(encoded).argmax(dim=-1)
    assert found == [
        [token for token, _ in groupby(row[:length].tolist()) if token != BLANK]
        for row, length in zip(best, lens, strict=True)
    ]
    assert any(found)
