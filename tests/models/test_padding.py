"""Padding: an utterance is encoded the same alone and in any batch, whatever its length and that of the others."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from drawn_videos import alone, make_audiovisual_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import make_model

from asrsparse.data.batch import Batch
from asrsparse.decoding.decoders import GreedyCTC, JointBeamSearch
from asrsparse.masks.compact import compact
from asrsparse.models.padding import hide_padding
from asrsparse.rates import encoder_frames

MODALITIES = ["audio", "video", "audiovisual"]


def shorter_audio(batch: Batch, missing: list[int]) -> Batch:
    """The batch with some samples missing from the ends of its audio, so that lengths are no whole video frames."""
    lens = batch.audio_lens - torch.tensor(missing)
    longest = int(lens.max())
    audio = batch.audio[:, :longest].masked_fill(torch.arange(longest) >= lens[:, None], 0.0)
    return replace(batch, audio=audio, audio_lens=lens)


LENGTHS = st.lists(st.tuples(st.integers(6, 40), st.integers(0, 639)), min_size=2, max_size=4)


@pytest.fixture(scope="module", params=[*MODALITIES, "waveform"])
def model(request):
    if request.param == "waveform":
        return make_model("stream/audio=waveform", "model.frontend.output_size=16").eval()
    return make_model(f"modality={request.param}").eval()


@pytest.mark.integration
@given(lengths=LENGTHS)
@settings(max_examples=15)
def test_an_utterance_is_encoded_and_decoded_the_same_alone_and_in_a_batch(model, lengths):
    frames, missing = zip(*lengths, strict=True)
    batch = shorter_audio(make_audiovisual_batch([2] * len(frames), list(frames)), list(missing))
    greedy, joint = GreedyCTC(), JointBeamSearch(beam_size=2, ctc_weight=0.5)
    with torch.inference_mode():
        encoded, lens = model.encode(batch)
        found = [decoder(model, encoded, lens) for decoder in (greedy, joint)]
        for row in range(len(frames)):
            single, single_lens = model.encode(alone(batch, row))
            assert lens[row] == single_lens[0] == single.size(1)
            torch.testing.assert_close(encoded[row, : lens[row]], single[0], rtol=0.0, atol=1e-4)
            for decoder, together in zip((greedy, joint), found, strict=True):
                assert [h.tokens for h in decoder(model, single, single_lens)[0]] == [h.tokens for h in together[row]]


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_loss_is_the_same_in_any_batch_in_training_too(modality):
    # Without what reads whole batches by nature, or draws: batch norms, dropout, masked features.
    off = ["dropout_rate", "positional_dropout_rate"]
    rates = [f"model.{part}.{name}=0" for part in ("encoder", "decoder") for name in off] + ["model.specaug=null"]
    if modality == "audiovisual":
        rates += [f"model.video.encoder.{name}=0" for name in off] + ["model.video.specaug=null"]
        rates += ["model.video.fusion.p_audio=0", "model.video.fusion.p_video=0"]
    model = make_model(f"modality={modality}", *rates).train()
    for module in model.modules():
        if "BatchNorm" in type(module).__name__ or type(module).__name__ == "CropAndFlip":
            module.eval()
    batch = shorter_audio(make_audiovisual_batch([3, 1, 4], [40, 21, 33]), [0, 333, 17])
    together = model(batch)
    for row in range(3):
        single = model(alone(batch, row))
        for name in ("total", "ctc", "attention"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(single, name)[0], rtol=1e-4, atol=1e-4)


def test_frames_are_as_many_as_cuts_are_checked_for():
    lens = torch.arange(2000, 2000 + 40 * 53, 53)
    batch = make_audiovisual_batch([1] * len(lens), [7] * len(lens))
    _, frames = make_model().eval().encode(replace(batch, audio=batch.audio[:, : int(lens.max())], audio_lens=lens))
    assert frames.tolist() == [encoder_frames(int(length) // 160 / 100) for length in lens]


def test_no_weight_is_added_and_no_state_stays():
    model = make_model().eval()
    names = set(model.state_dict())
    model.encode(make_audiovisual_batch([1, 1], [20, 9]))
    assert set(model.state_dict()) == names
    assert not any("is_frame" in vars(module) for module in model.modules())
    blocks = [hook.__self__ for layer in model.encoder.encoders for hook in layer._forward_pre_hooks.values()]
    assert len(blocks) == len(model.encoder.encoders)
    assert all(block.is_frame is None for block in blocks)


def test_a_copy_passes_its_padding_to_its_own_convolutions():
    layer = make_model().eval().encoder.encoders[0]
    for changed in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        convolution = changed.conv_module.depthwise_conv
        (found,), (zeroed,) = changed._forward_pre_hooks.values(), convolution._forward_pre_hooks.values()
        assert found.__self__ is zeroed.__self__
        assert found.__self__ is not next(iter(layer._forward_pre_hooks.values())).__self__


def test_copies_and_compacted_models_hide_padding_too():
    model = make_model().eval()
    with torch.no_grad():
        for layer in model.encoder.encoders:
            layer.conv_module.pointwise_conv2.weight[:, 5:] = 0.0
    batch = make_audiovisual_batch([1, 1], [30, 14])
    for changed in (copy.deepcopy(model), copy.deepcopy(model)):
        compact(changed)
        assert changed.encoder.encoders[0].conv_module.depthwise_conv.out_channels == 5
        encoded, lens = changed.encode(batch)
        single, _ = changed.encode(alone(batch, 1))
        torch.testing.assert_close(encoded[1, : lens[1]], single[0], rtol=0.0, atol=1e-4)


def test_padding_is_hidden_under_autocast_too():
    model, batch = make_model().eval(), make_audiovisual_batch([1, 1], [30, 14])
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        encoded, lens = model.encode(batch)
        single, _ = model.encode(alone(batch, 1))
    torch.testing.assert_close(encoded[1, : lens[1]], single[0], rtol=0.0, atol=0.1)


def test_a_compiled_block_hides_padding_too():
    torch.compiler.reset()  # which does not check hooks, and would take what it compiled for blocks of other tests
    block = make_model().eval().encoder.encoders[0]
    x, positions, is_frame = torch.randn(2, 9, 32), torch.randn(1, 17, 32), torch.ones(2, 1, 9, dtype=torch.bool)
    is_frame[1, :, 6:] = False
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    for _ in range(2):
        assert torch.equal(compiled((x, positions), is_frame)[0][0], block((x, positions), is_frame)[0][0])
    other = torch.where(is_frame.transpose(1, 2), x, 100.0)
    changed, _ = compiled((other, positions), is_frame)
    assert torch.equal(changed[0][1, :6], block((x, positions), is_frame)[0][0][1, :6])


def test_an_encoder_without_convolutions_needs_no_hooks_on_its_layers():
    model = make_model("model.encoder.use_cnn_module=false").eval()
    hide_padding(model.encoder)
    batch = make_audiovisual_batch([1, 1], [30, 14])
    encoded, lens = model.encode(batch)
    single, _ = model.encode(alone(batch, 1))
    torch.testing.assert_close(encoded[1, : lens[1]], single[0], rtol=0.0, atol=1e-4)
