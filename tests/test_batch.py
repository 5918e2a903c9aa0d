import pickle
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from asrsparse.batch import PADDING_TOKEN, BatchDataset
from asrsparse.cuts import read_cuts
from asrsparse.tokenizer import load_tokenizer

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
