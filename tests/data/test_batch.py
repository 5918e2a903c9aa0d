import pickle
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from asrsparse.data.batch import PADDING_TOKEN, BatchDataset
from asrsparse.data.cuts import read_cuts
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.video.io import read_video, video_array, write_video

RATE = 16000
LETTERS = {letter: number for number, letter in enumerate(" abc", start=2)}


def encode(text):
    return [LETTERS[letter] for letter in text]


@pytest.fixture
def cuts(tmp_path):
    """Three utterances of 0.1, 0.3 and 0.2 s with the texts a, ab c and cb."""
    made = []
    for number, (seconds, text) in enumerate([(0.1, "a"), (0.3, "ab c"), (0.2, "cb")]):
        path = tmp_path / f"u{number}.flac"
        soundfile.write(path, np.full(round(seconds * RATE), 0.25 * (number + 1)), RATE)
        recording = Recording.from_file(path)
        segment = SupervisionSegment(f"u{number}", f"u{number}", 0.0, seconds, text=text)
        made.append(MonoCut(f"u{number}", 0.0, seconds, 0, recording=recording, supervisions=[segment]))
    return CutSet.from_cuts(made)


def test_a_batch_holds_every_utterance_whole_and_pads_behind_it(cuts):
    batch = BatchDataset(encode)[cuts]
    assert batch.audio.shape == (3, round(0.3 * RATE))
    assert batch.audio_lens.tolist() == [1600, 4800, 3200]
    assert batch.tokens.tolist() == [[3, *[PADDING_TOKEN] * 3], [3, 4, 2, 5], [5, 4, *[PADDING_TOKEN] * 2]]
    assert batch.token_lens.tolist() == [1, 4, 2]
    assert batch.seconds == pytest.approx(0.6)
    for number, length in enumerate(batch.audio_lens):
        assert torch.all((batch.audio[number, :length] - 0.25 * (number + 1)).abs() < 1e-3)
        assert torch.all(batch.audio[number, length:] == 0)


def test_rows_ids_and_lengths_belong_together_in_any_order(cuts):
    rows = {i: row for row, i in enumerate(BatchDataset(encode)[cuts].ids)}
    assert set(rows) == {"u0", "u1", "u2"}
    shuffled = BatchDataset(encode)[CutSet.from_cuts([cuts["u2"], cuts["u0"]])]
    lengths = dict(zip(shuffled.ids, shuffled.audio_lens.tolist(), strict=True))
    assert lengths == {"u2": 3200, "u0": 1600}
    assert dict(zip(shuffled.ids, shuffled.token_lens.tolist(), strict=True)) == {"u2": 2, "u0": 1}


def test_a_cut_that_lhotse_repeats_for_a_rank_without_any_keeps_its_utterances_id(cuts):
    assert BatchDataset(encode)[cuts.modify_ids(lambda i: f"{i}_dup0")].ids == BatchDataset(encode)[cuts].ids


def test_types_are_those_that_losses_take(cuts):
    batch = BatchDataset(encode)[cuts]
    assert batch.audio.dtype == torch.float32
    assert {batch.tokens.dtype, batch.audio_lens.dtype, batch.token_lens.dtype} == {torch.int64}


def test_a_prepared_corpus_makes_a_batch_that_a_worker_could_send(tiny_corpus):
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    cuts = read_cuts(tiny_corpus / "cuts", "dev")
    dataset = pickle.loads(pickle.dumps(BatchDataset(tokenizer.encode)))
    batch = dataset[cuts]
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    assert sorted(batch.ids) == sorted(texts)
    for row, utterance_id in enumerate(batch.ids):
        assert tokenizer.decode(batch.tokens[row, : batch.token_lens[row]].tolist()) == texts[utterance_id]


def test_audio_that_went_missing_is_named_with_what_to_do(cuts, tmp_path):
    (tmp_path / "u1.flac").unlink()
    with pytest.raises(ValueError, match=r"(?s)u0, u1, u2.*u1\.flac.*run `asrsparse prepare` again"):
        BatchDataset(encode)[cuts]


def test_audio_that_was_damaged_is_named_with_what_to_do(cuts, tmp_path):
    (tmp_path / "u1.flac").write_bytes(b"not audio")
    alone = CutSet.from_cuts([replace(cuts["u1"])])
    with pytest.raises(ValueError, match=r"(?s)audio of a batch cannot be read \(u1\).*run `asrsparse prepare` again"):
        BatchDataset(encode)[alone]


# ---- video

BOTH = ("audio", "video")


def with_video(cut, folder, num_frames):
    """A cut with a video beside its audio, whose frames are told by their brightness."""
    frames = np.full((num_frames, 96, 96), 20, np.uint8) + 10 * np.arange(num_frames, dtype=np.uint8)[:, None, None]
    write_video(folder / f"{cut.id}.mp4", frames)
    return replace(cut, custom={"video": video_array(folder, f"{cut.id}.mp4", frames.shape)})


@pytest.fixture
def seen_cuts(cuts, tmp_path):
    """Those of 0.1, 0.3 and 0.2 s, with 3, 8 and 4 video frames: within two of 2.5, 7.5 and 5."""
    lens = {"u0": 3, "u1": 8, "u2": 4}
    return CutSet.from_cuts([with_video(cut, tmp_path, lens[cut.id]) for cut in cuts])


def test_a_batch_without_video_is_what_it_was(seen_cuts, cuts):
    with_video, without = BatchDataset(encode)[seen_cuts], BatchDataset(encode)[cuts]
    assert with_video.video is with_video.video_lens is without.video is None
    assert torch.equal(with_video.audio, without.audio)


def test_video_is_loaded_whole_and_zero_behind_its_end(seen_cuts, tmp_path):
    batch = BatchDataset(encode, BOTH)[seen_cuts]
    # A video may be half a frame longer than its audio, which then ends the cut.
    assert batch.video_lens.tolist() == [3, 8, 4]
    assert batch.video.shape == (3, 8, 96, 96)
    assert batch.video.dtype == torch.uint8
    for row, (name, length) in enumerate(zip(batch.ids, batch.video_lens.tolist(), strict=True)):
        np.testing.assert_array_equal(batch.video[row, :length].numpy(), read_video(tmp_path / f"{name}.mp4")[:length])
        assert not batch.video[row, length:].any()
    assert batch.audio_lens.tolist() == [1600, 4800, 3200]


def test_video_alone_reads_no_audio(seen_cuts, tmp_path):
    for cut in seen_cuts:
        (tmp_path / f"{cut.id}.flac").unlink()
    batch = BatchDataset(encode, ("video",))[seen_cuts]
    assert batch.audio is batch.audio_lens is None
    assert batch.video_lens.tolist() == [3, 8, 4]
    assert batch.seconds == pytest.approx(0.6)


def test_a_cut_within_a_recording_has_its_part_of_the_video(seen_cuts):
    whole = BatchDataset(encode, BOTH)[CutSet.from_cuts([seen_cuts["u1"]])]
    part = seen_cuts["u1"].truncate(offset=0.12, duration=0.08, preserve_id=True)
    batch = BatchDataset(encode, BOTH)[CutSet.from_cuts([part])]
    assert torch.equal(batch.video[0], whole.video[0, 3:5])
    assert batch.audio_lens.tolist() == [1280]


def test_a_cut_at_the_end_of_a_recording_makes_do_with_the_frames_that_are_there(cuts, tmp_path):
    part = with_video(cuts["u1"], tmp_path, 6).truncate(offset=0.12, duration=0.18, preserve_id=True)
    assert BatchDataset(encode, BOTH)[CutSet.from_cuts([part])].video_lens.tolist() == [3]


def test_a_cut_without_video_names_the_remedy(cuts):
    message = (
        r"u0 has no video, but the model reads video\. .*\(corpus\.video=true\), or train on audio \(modality=audio\)"
    )
    with pytest.raises(ValueError, match=message):
        BatchDataset(encode, BOTH)[cuts]


@pytest.mark.parametrize("num_frames", [1, 4, 12])
def test_a_video_longer_or_shorter_than_its_audio_is_refused(cuts, tmp_path, num_frames):
    alone = CutSet.from_cuts([with_video(cuts["u1"], tmp_path, num_frames)])
    message = (
        rf"u1: its recording has {num_frames} video frames beside 0\.30 s of audio; allowed are 8, and 2 more or less"
        r"\. Prepare its video again, or leave the utterance out"
    )
    with pytest.raises(ValueError, match=message):
        BatchDataset(encode, BOTH)[alone]


@pytest.mark.parametrize("content", [None, b"", b"no video at all"])
def test_a_missing_or_damaged_video_is_named_with_what_to_do(seen_cuts, tmp_path, content):
    (tmp_path / "u1.mp4").unlink()
    if content is not None:
        (tmp_path / "u1.mp4").write_bytes(content)
    message = r"(?s)video of a batch cannot be read \(u1\): .*u1\.mp4.*run `asrsparse prepare` again"
    with pytest.raises(ValueError, match=message):
        BatchDataset(encode, ("video",))[seen_cuts]


def test_a_video_with_fewer_frames_than_its_manifest_says_is_named(seen_cuts, tmp_path):
    write_video(tmp_path / "u1.mp4", np.zeros((5, 96, 96), np.uint8))
    with pytest.raises(ValueError, match=r"cannot be read \(u1\): video is too short: .*has 5 frames"):
        BatchDataset(encode, BOTH)[seen_cuts]


def test_a_batch_with_video_can_be_sent_by_a_worker(seen_cuts):
    dataset = pickle.loads(pickle.dumps(BatchDataset(encode, BOTH)))
    assert torch.equal(dataset[seen_cuts].video, BatchDataset(encode, BOTH)[seen_cuts].video)


class Louder:
    """Adds the number of the epoch to every sample of an utterance."""

    def add_to(self, audio, audio_lens, ids, epoch=0):
        self.ids = ids
        for row, length in zip(audio, audio_lens, strict=True):
            row[:length] += epoch


def test_noise_is_mixed_into_audio_with_ids_and_the_epoch(cuts):
    noise = Louder()
    quiet, noisy = BatchDataset(encode)[cuts], BatchDataset(encode, noise=noise, epoch=3)[cuts]
    assert noise.ids == quiet.ids
    for number, length in enumerate(quiet.audio_lens):
        torch.testing.assert_close(noisy.audio[number, :length], quiet.audio[number, :length] + 3)
        assert torch.all(noisy.audio[number, length:] == 0)
