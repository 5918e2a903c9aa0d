"""Streams of one recogniser: each reads its modality, and both lose the same time."""

from dataclasses import replace

import pytest
import torch
from drawn_videos import SAMPLES_PER_FRAME, alone, make_audiovisual_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import UTTERANCES, make_model

from asrsparse.models.asr import BLANK
from asrsparse.models.frontends import LogMelFrontend
from asrsparse.models.streams import encode_stream
from asrsparse.models.time_pruning import SEGMENT_LEVELS, TimePruning
from asrsparse.pruning import BlankTable, LeastBlankChunks, LoudestChunks, RandomChunks, SegmentPruner
from asrsparse.training.flops import count_flops

WITH_VIDEO = ["video", "audiovisual"]
MODALITIES = {"audio": ("audio",), "video": ("video",), "audiovisual": ("audio", "video")}


@pytest.fixture(scope="module", params=WITH_VIDEO)
def video_model(request):
    return make_model(f"modality={request.param}")


@pytest.fixture(scope="module")
def batch():
    return make_audiovisual_batch([4, 2], [30, 30])


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_model_reads_its_modalities_and_no_others(modality, batch):
    model = make_model(f"modality={modality}")
    assert model.modalities == MODALITIES[modality]
    unread = {"audio": None, "audio_lens": None} if modality == "video" else {}
    unread |= {"video": None, "video_lens": None} if modality == "audio" else {}
    losses = model.train()(replace(batch, **unread)).total
    assert torch.isfinite(losses).all()
    assert (losses > 0).all()


@pytest.mark.parametrize("modality", WITH_VIDEO)
def test_every_weight_gets_a_gradient(modality, batch):
    overrides = ["model.video.fusion.p_audio=0", "model.video.fusion.p_video=0"] if modality == "audiovisual" else []
    model = make_model(f"modality={modality}", *overrides).train()
    model(batch).total.mean().backward()
    without = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.requires_grad)
    assert all(p.grad.any() for name, p in model.named_parameters() if "frontend.stem" in name)


def test_a_loss_in_evaluation_is_the_same_in_any_batch(video_model, batch):
    together = video_model.eval()(batch)
    for row in range(2):
        single = video_model(alone(batch, row))
        torch.testing.assert_close(together.total[row], single.total[0], rtol=1e-4, atol=1e-4)


def test_encoder_frames_come_every_40_ms(batch):
    for modality, frames in (("audio", 29), ("video", 30), ("audiovisual", 29)):
        encoded, lens = make_model(f"modality={modality}").eval().encode(batch)
        assert lens.tolist() == [frames, frames]
        assert encoded.shape[1] == frames


def test_the_residual_stream_is_float32_under_autocast(video_model, batch):
    seen = []
    encoders = [video_model.encoder] + ([video_model.video.encoder] if video_model.video is not None else [])
    hooks = [
        encoder.encoders[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].dtype))
        for encoder in encoders
    ]
    with torch.autocast("cpu", torch.bfloat16):
        losses = video_model.eval()(batch)
    for hook in hooks:
        hook.remove()
    assert seen == [torch.float32] * len(encoders)
    assert losses.total.dtype == torch.float32


def test_rows_are_masked_in_training_only(batch):
    model = make_model("modality=video", "model.specaug.time_mask_width_range=[9,10]")
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for training in (True, False):
        model.train(training)
        model.encode(batch)
    assert (seen[0] == 0).all(dim=2).sum(dim=1).min() >= 9
    assert not (seen[1] == 0).all(dim=2).any()


def test_a_subsampling_behind_25_rows_a_second_is_refused():
    got = "encoder: got the input layer Conv2dSubsampling behind SmallVisualFrontend"
    message = rf"{got}, which gives 25 rows a second; .*input_layer=linear"
    for modality, key in (("video", "model"), ("audiovisual", "model.video")):
        with pytest.raises(ValueError, match=message):
            make_model(f"modality={modality}", f"{key}.encoder.input_layer=conv2d")


def test_residual_options_reach_both_streams():
    model = make_model("modality=audiovisual", "model.layer_scale=0.1")
    names = [name for name in model.state_dict() if name.endswith("layer_scale")]
    assert sum(name.startswith("video.encoder.") for name in names) == sum(n.startswith("encoder.") for n in names) > 0


@pytest.mark.parametrize("modality", ["audio", "audiovisual"])
def test_an_audio_front_end_on_waveforms_takes_the_place_of_log_mel_features(modality, batch):
    model = make_model(f"modality={modality}", "stream/audio=waveform", "model.frontend.output_size=16")
    assert model.modalities == MODALITIES[modality]
    _, lens = model.train().encode(batch)
    assert lens.tolist() == [30, 30]
    losses = model(batch).total
    losses.mean().backward()
    assert torch.isfinite(losses).all()
    assert model.frontend.stem.weight.grad.any()


@pytest.mark.parametrize("modality", WITH_VIDEO)
def test_flops_are_counted_in_every_layer(modality, batch):
    model = make_model(f"modality={modality}").train()
    states = {name: value.clone() for name, value in model.state_dict().items()}
    flops = count_flops(model, lambda: model(batch).total.mean(), batch.seconds)
    stem = next(name for name in flops.layers if name.endswith("frontend.stem.0.weight"))
    weight = model.get_parameter(stem)
    per_second = 2 * 22 * 22 * weight.numel() * 25  # pictures of 44 x 44, halved
    assert flops.layers[stem] == 2 * per_second  # forward, and the gradient of the weight
    assert all(count > 0 for name, count in flops.layers.items() if "linear_pos" not in name)
    assert all(torch.equal(value, states[name]) for name, value in model.state_dict().items())


# ---- time pruning keeps audio and video in step


class Brightness(torch.nn.Module):
    """A front-end whose rows say how bright video frames are."""

    reads, learned, input_rate, output_rate = "video", True, 25, 25

    def forward(self, video, lens):
        return video.float().mean(dim=(2, 3)).unsqueeze(-1), lens


class Loudness(torch.nn.Module):
    """A front-end whose rows, every 10 ms, hold the largest sample around their middle."""

    reads, learned, input_rate, output_rate = "audio", False, 16000, 100

    def forward(self, audio, lens):
        windows = torch.nn.functional.pad(audio.abs(), (80, 80)).unfold(1, 160, 160)
        return windows.amax(dim=2, keepdim=True), 1 + lens // 160


class Fours(torch.nn.Module):
    """Stands in for a subsampling: the mean of four rows, over all bins."""

    def forward(self, features, is_row):
        num_frames = features.size(1) // 4
        frames = features[:, : 4 * num_frames].unflatten(1, (num_frames, 4)).mean(dim=(2, 3)).unsqueeze(-1)
        return (frames, torch.zeros(1, 2 * num_frames - 1, 1)), is_row[:, :, : 4 * num_frames : 4]


class Transparent(torch.nn.Module):
    """An encoder that gives what its blocks would get."""

    def __init__(self, embed):
        super().__init__()
        self.embed = embed

    def forward(self, features, lens):
        if isinstance(self.embed, torch.nn.Sequential):
            return features, lens, None
        is_row = (torch.arange(features.size(1)) < lens[:, None])[:, None, :]
        (frames, _), is_frame = self.embed(features, is_row)
        return frames, is_frame.squeeze(1).sum(dim=1), None


class AudioOnly(torch.nn.Module):
    def __init__(self, frontend):
        super().__init__()
        self.frontend, self.specaug, self.encoder = frontend, None, Transparent(Fours())


class VideoOnly(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.frontend, self.specaug = Brightness(), None
        self.encoder = Transparent(torch.nn.Sequential(torch.nn.Identity()))


def clicks(places, lens):
    """Quiet audio with a click, and dark video with a white frame, at the same time."""
    batch = make_audiovisual_batch([1] * len(lens), lens, size=4)
    batch.audio *= 1e-3
    batch.video //= 16
    for row, place in enumerate(places):
        batch.audio[row, place * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2] = 1.0
        batch.video[row, place] = 255
    return batch


@given(
    st.lists(st.tuples(st.integers(8, 70), st.floats(0, 0.999)), min_size=1, max_size=3),
    st.sampled_from(SEGMENT_LEVELS),
    st.sampled_from([LoudestChunks(), RandomChunks(), LeastBlankChunks()]),
    st.sampled_from([0.04, 0.12, 0.2, 0.4]),
    st.floats(0.1, 1.0),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=150)
def test_a_click_is_in_the_same_frame_of_both_streams(
    utterances, level, policy, chunk_seconds, keep_ratio, with_audio, seed
):
    torch.manual_seed(seed)
    lens = [length for length, _ in utterances]
    batch = clicks([int(share * (length - 1)) for length, share in utterances], lens)
    segments = SegmentPruner(keep_ratio, chunk_seconds, policy, BlankTable(UTTERANCES, warmup_visits=1))
    for _ in range(2):  # blanks are known at the second visit
        pruning = TimePruning(segments, level, batch.ids)
        audio, audio_lens = encode_stream(AudioOnly(Loudness()), batch, pruning) if with_audio else (None, None)
        video, video_lens = encode_stream(VideoOnly(), batch, pruning)
        for row in range(len(lens)):
            picture = video[row, : video_lens[row], 0]
            is_kept = len(picture) > 0 and picture.max() == 255
            if with_audio:
                assert abs(int(audio_lens[row]) - int(video_lens[row])) <= 1
                loudness = audio[row, : audio_lens[row], 0]
                assert (len(loudness) > 0 and loudness.max() > 0.1) == is_kept
                assert is_kept or not isinstance(policy, LoudestChunks)
                assert not is_kept or loudness.argmax() == picture.argmax()
        pruning.observe(torch.rand(video.shape[:2]).log())
        segments.end_epoch()


@pytest.mark.parametrize("level", SEGMENT_LEVELS)
def test_a_click_is_in_step_behind_log_mel_features(level):
    batch = clicks([5, 31, 58], [60, 60, 60])
    pruning = TimePruning(SegmentPruner(0.5, 0.12, LoudestChunks()), level, batch.ids)
    audio, _ = encode_stream(AudioOnly(LogMelFrontend()), batch, pruning)
    video, _ = encode_stream(VideoOnly(), batch, pruning)
    assert video.size(1) == 30
    assert torch.equal(audio.argmax(dim=1), video.argmax(dim=1))


@pytest.mark.integration
@pytest.mark.parametrize("level", SEGMENT_LEVELS)
@pytest.mark.parametrize("choice", ["energy", "random", "blank"])
@pytest.mark.parametrize("modality", WITH_VIDEO)
def test_segments_shorten_the_input_of_the_encoders_in_training_only(modality, choice, level):
    overrides = [f"segments.level={level}", "segments.keep_ratio=0.5", "segments.chunk_seconds=0.12"]
    model = make_model(f"modality={modality}", f"segments={choice}", *overrides).train()
    batch = make_audiovisual_batch([3, 2], [75, 60])
    for _ in range(2):
        model(batch)
        model.segments.end_epoch()
    pictures, frames = [], []
    visual = model.frontend if model.video is None else model.video.frontend
    visual.stem.register_forward_hook(lambda *args: pictures.append(len(args[2])))
    for encoder in [model.encoder] + ([] if model.video is None else [model.video.encoder]):
        encoder.encoders[0].register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0][0].size(1)))
    for training in (True, False):
        model.train(training)
        losses = model(batch)
        assert losses.kept_share == (pytest.approx(0.5, abs=0.06) if training else 1.0)
        assert torch.isfinite(losses.total).all()
    assert pictures == [pytest.approx(135 if level == "frontend" else 68, abs=7), 135]
    half = len(frames) // 2
    assert frames[:half] == [pytest.approx(38, abs=3)] * half
    assert frames[half:] == [pytest.approx(75, abs=1)] * half


@pytest.mark.parametrize("level", SEGMENT_LEVELS)
@pytest.mark.parametrize("modality", WITH_VIDEO)
def test_segments_that_keep_everything_change_nothing(modality, level):
    batch, losses = make_audiovisual_batch([3, 2], [30, 22]), []
    pruned = ["segments=energy", "segments.keep_ratio=1.0", "segments.chunk_seconds=0.2", f"segments.level={level}"]
    for overrides in ([], pruned):
        model = make_model(f"modality={modality}", *overrides).train()
        torch.manual_seed(1)
        losses.append(model(batch).total)
    assert torch.equal(*losses)


@pytest.mark.parametrize("modality", WITH_VIDEO)
def test_chunks_that_are_no_whole_video_frames_are_refused(modality):
    message = r"chunk_seconds: got 0.1, allowed are multiples of 0.04 s"
    with pytest.raises(ValueError, match=message):
        make_model(f"modality={modality}", "segments=energy", "segments.chunk_seconds=0.1")
    make_model("modality=audio", "segments=energy", "segments.chunk_seconds=0.1")


def test_the_model_lets_the_pruner_know_how_sure_it_is_of_blanks():
    model = make_model("modality=audiovisual", "segments=blank", "segments.blanks.warmup_visits=1").train()
    seen = []
    model.ctc.ctc_lo.register_forward_hook(lambda *args: seen.append(args[2].log_softmax(-1)[..., BLANK].exp()))
    model(make_audiovisual_batch([2, 3], [75, 75]))
    model.segments.end_epoch()
    blank = torch.sigmoid(model.segments.blanks.log_odds(["u0", "u1"], num_slots=74))
    torch.testing.assert_close(blank, seen[0], atol=0.02, rtol=0.0)
