"""Decoding: folders of hypotheses, one for each test set and ratio of noise, written once."""

import pytest
import torch
from lhotse import CutSet
from micro import MICRO, make_recognition

from asrsparse.config import compose_config
from asrsparse.data.batch import BatchDataset
from asrsparse.data.cuts import read_cuts
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.decoding.decode import decode, noise_of
from asrsparse.files import read_json
from asrsparse.models.builders import build_model
from asrsparse.models.weight_files import save_weights
from asrsparse.scoring.decodings import condition_of


@pytest.fixture(scope="module")
def trained(tiny_corpus):
    return make_recognition(tiny_corpus)


def test_noise_is_the_same_in_any_batch(tiny_corpus, trained):
    tokenizer, cuts, _ = trained
    dataset = BatchDataset(tokenizer.encode, noise=noise_of(tiny_corpus / "cuts", condition_of(2.5)))
    batch = dataset[CutSet.from_cuts(cuts)]
    for cut, mixed, length in zip(cuts, batch.audio, batch.audio_lens, strict=True):
        assert torch.equal(dataset[CutSet.from_cuts([cut])].audio[0], mixed[:length])
        assert not mixed[length:].any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["decode.nbest=2"], r"decode.nbest: got 2, allowed are 1 to 1, .* GreedyCTC keeps.* decode=joint"),
        (["decode=joint", "decode.nbest=11"], r"decode.nbest: got 11, allowed are 1 to 10"),
        (["decode.batch_seconds=0"], r"decode.batch_seconds: got 0, allowed is more than 0 s"),
        (["decode.num_jobs=0"], r"decode.num_jobs: got 0, allowed are 1 and more"),
    ],
)
def test_settings_outside_their_range_are_refused(words, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        decode(compose_config([f"exp_dir={tmp_path}", *words]), "asrsparse decode")


def test_lists_of_hypotheses_are_written_as_espnet_does(tiny_corpus, trained, tmp_path):
    tokenizer, cuts, model = trained
    words = ["decode=joint", "decode.nbest=2", "decode.decoder.beam_size=2", "decode.num_jobs=1"]
    config = compose_config([*MICRO, f"data_dir={tiny_corpus}", f"exp_dir={tmp_path}", *words])
    save_weights(tmp_path / config.name / "model.safetensors", model.state_dict())
    decode(config, "asrsparse decode")
    folder = tmp_path / config.name / "decode_test_joint"
    best = {}
    for number in (1, 2):
        files = {name: folder / f"{number}best_recog" / name for name in ("text", "token", "token_int", "score")}
        lines = {name: [line.split(" ", 1) for line in path.read_text().splitlines()] for name, path in files.items()}
        assert all([key for key, _ in rows] == sorted(cut.id for cut in cuts) for rows in lines.values())
        for (_, text), (_, tokens), (_, ids) in zip(lines["text"], lines["token"], lines["token_int"], strict=True):
            assert [tokenizer.tokens[int(i)] for i in ids.split()] == tokens.split()
            assert tokenizer.decode(map(int, ids.split())) == text
        best[number] = {key: float(score) for key, score in lines["score"]}
    assert all(best[1][key] >= best[2][key] for key in best[1])
    record = read_json(folder / "decode.json")
    assert (record["nbest"], record["num_jobs"], record["decoder"]["beam_size"]) == (2, 1, 2)
    assert record["times_real_time"] == pytest.approx(3600 * record["audio_hours"] / record["seconds"])


def test_decoding_needs_a_trained_model(tiny_corpus, tmp_path):
    config = compose_config([*MICRO, f"data_dir={tiny_corpus}", f"exp_dir={tmp_path}"])
    with pytest.raises(ValueError, match=r"No model .*model.safetensors\. Run `asrsparse train` first"):
        decode(config, "asrsparse decode")


def test_decoding_writes_every_utterance_once_and_is_not_repeated(tiny_corpus, tmp_path):
    config = compose_config([*MICRO, f"data_dir={tiny_corpus}", f"exp_dir={tmp_path}"])
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    torch.manual_seed(0)
    save_weights(tmp_path / config.name / "model.safetensors", build_model(config, tokenizer.vocab_size).state_dict())
    decode(config, "asrsparse decode")
    folder = tmp_path / config.name / "decode_test_ctc_greedy"
    ids = list(read_cuts(tiny_corpus / "cuts", "test").ids)
    record = read_json(folder / "decode.json")
    for name in ("ref.trn", "hyp.trn"):
        assert len((folder / name).read_text().splitlines()) == len(ids) == record["utterances"]
    durations = [float(line.split()[1]) for line in (folder / "utt2dur").read_text().splitlines()]
    assert sum(durations) == pytest.approx(3600 * record["audio_hours"], abs=1e-3 * len(ids))
    (tmp_path / config.name / "model.safetensors").unlink()
    decode(config, "asrsparse decode")
    assert read_json(folder / "decode.json") == record


def test_noise_is_mixed_in_at_each_ratio_and_clean_stays_clean(tiny_corpus, tmp_path):
    config = compose_config([*MICRO, f"data_dir={tiny_corpus}", f"exp_dir={tmp_path}", "decode.snrs=[clean,0,-20.5]"])
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    torch.manual_seed(0)
    save_weights(tmp_path / config.name / "model.safetensors", build_model(config, tokenizer.vocab_size).state_dict())
    decode(config, "asrsparse decode")
    names = {"decode_test_ctc_greedy": "clean"}
    names |= {"decode_test_ctc_greedy_babble0dB": 0, "decode_test_ctc_greedy_babble-20.5dB": -20.5}
    assert {path.name for path in (tmp_path / config.name).glob("decode_*")} == {*names}
    mixed = {}
    for name, snr in names.items():
        assert read_json(tmp_path / config.name / name / "decode.json")["snr"] == snr
        mixed[snr] = (tmp_path / config.name / name / "hyp.trn").read_text()
    assert len({*mixed.values()}) == 3
