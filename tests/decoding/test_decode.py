import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet
from micro import MICRO

from asrsparse.config import compose_config
from asrsparse.data.batch import BatchDataset
from asrsparse.data.cuts import read_cuts
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.decoding.decode import decode, noise_of
from asrsparse.decoding.decoders import GreedyCTC, JointBeamSearch
from asrsparse.decoding.recogniser import Recogniser, batches_by_length, recognise
from asrsparse.files import read_json
from asrsparse.models.asr import BLANK
from asrsparse.models.builders import build_model
from asrsparse.models.weights import save_weights

VOCABULARY = 7


class Peaky:
    """Stands in for a model: gives each frame's token nearly all of the probability."""

    def __init__(self, frames):
        self.frames = frames

    def ctc_log_probs(self, encoded):
        logits = torch.full((1, len(self.frames), VOCABULARY), -20.0)
        logits[0, torch.arange(len(self.frames)), torch.tensor(self.frames)] = 20.0
        return logits.log_softmax(dim=-1)


def tokens_of(decoder, model, encoded):
    """The tokens of the best hypothesis for the encoder frames (E, H) of one utterance."""
    ((best, *_),) = decoder(model, encoded[None], torch.tensor([len(encoded)]))
    return best.tokens


def greedy(frames):
    return tokens_of(GreedyCTC(), Peaky(frames), torch.zeros(len(frames), 1))


def collapse(frames):
    """B of Graves et al. 2006, section 3.1: joins repeats, then drops blanks."""
    joined = [token for n, token in enumerate(frames) if n == 0 or token != frames[n - 1]]
    return [token for token in joined if token != BLANK]


def make_model(*overrides):
    torch.manual_seed(0)
    return build_model(compose_config([*MICRO, *overrides]), VOCABULARY).eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def peaky():
    """A model whose CTC layer takes encoder frames for its logits."""
    model = make_model()
    model.ctc.ctc_lo = torch.nn.Identity()
    return model


def logits_of(frames):
    """Encoder frames (E, V) on which CTC is nearly certain of the given token."""
    return 30.0 * torch.nn.functional.one_hot(torch.tensor(frames), VOCABULARY).float()


def test_repeats_are_joined_unless_a_blank_parts_them():
    assert greedy([3, 3, BLANK, 3, 5, 5, BLANK, BLANK, 2]) == [3, 3, 5, 2]
    assert greedy([BLANK, BLANK]) == []
    assert greedy([4]) == [4]


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30))
def test_greedy_is_the_collapse_of_the_likeliest_path(frames):
    assert greedy(frames) == collapse(frames)


@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("frames", [[3, 3, 0, 3, 5, 0, 2, 2], [0, 1, 0, 0, 4, 4], [2, 3, 2, 3]])
def test_a_beam_over_ctc_alone_finds_what_greedy_finds_where_ctc_is_certain(peaky, frames, beam_size):
    encoded = logits_of(frames)
    search = JointBeamSearch(beam_size=beam_size, ctc_weight=1.0)
    with torch.inference_mode():
        assert tokens_of(search, peaky, encoded) == tokens_of(GreedyCTC(), peaky, encoded) == collapse(frames)


def test_the_beam_sums_over_paths_where_greedy_takes_one(peaky):
    # Frames: blank 0.6, token 0.4, twice. The likeliest path is empty (0.36), the likeliest labelling is 2 (0.64).
    probabilities = torch.full((2, VOCABULARY), 1e-9)
    probabilities[:, BLANK], probabilities[:, 2] = 0.6, 0.4
    encoded = probabilities.log()
    with torch.inference_mode():
        assert tokens_of(GreedyCTC(), peaky, encoded) == []
        assert tokens_of(JointBeamSearch(beam_size=3, ctc_weight=1.0), peaky, encoded) == [2]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_a_search_with_the_decoder_gives_tokens_and_the_same_ones_again(model, ctc_weight):
    search = JointBeamSearch(beam_size=2, ctc_weight=ctc_weight)
    encoded = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = tokens_of(search, model, encoded)
        assert tokens_of(search, model, encoded) == found
    assert all(0 < token < VOCABULARY - 1 for token in found)


def test_a_search_used_for_another_model_scores_with_that_one(model):
    other = make_model("model.decoder.num_blocks=2")
    search, encoded = JointBeamSearch(beam_size=2), torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens_of(search, model, encoded)
        assert tokens_of(search, other, encoded) == tokens_of(JointBeamSearch(beam_size=2), other, encoded)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"decode.decoder.beam_size: got 0, allowed is at least 1"):
        JointBeamSearch(beam_size=0)
    with pytest.raises(ValueError, match=r"decode.decoder.ctc_weight: got 1.5, allowed is \[0, 1\]"):
        JointBeamSearch(ctc_weight=1.5)


def test_a_model_without_a_decoder_is_decoded_by_ctc():
    model = make_model("model.decoder=null", "model.ctc_weight=1.0")
    with pytest.raises(ValueError, match=r"no attention decoder: decode it by CTC \(decode=ctc_greedy\)"):
        tokens_of(JointBeamSearch(), model, torch.zeros(4, 32))


def test_a_list_of_hypotheses_is_sorted_and_has_none_twice(model):
    encoded, lens = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([9, 7])
    with torch.inference_mode():
        for ctc_weight in (0.0, 0.5, 1.0):
            for found in JointBeamSearch(beam_size=4, ctc_weight=ctc_weight)(model, encoded, lens):
                scores = [hypothesis.score for hypothesis in found]
                assert scores == sorted(scores, reverse=True)
                assert 1 <= len({tuple(hypothesis.tokens) for hypothesis in found}) == len(found) <= 4


def test_a_greedy_score_is_the_log_probability_of_the_path(peaky):
    log_probs = torch.randn(2, 6, VOCABULARY, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    found = GreedyCTC()(peaky, log_probs, torch.tensor([6, 4]))
    for (best,), frames, length in zip(found, log_probs, [6, 4], strict=True):
        assert best.score == pytest.approx(float(frames[:length].max(dim=-1).values.sum()), abs=1e-4)


@given(st.lists(st.floats(0.1, 20.0), min_size=1, max_size=30), st.floats(0.1, 60.0))
def test_batches_hold_every_utterance_once_and_no_more_seconds_than_asked_for(durations, batch_seconds):
    batches = batches_by_length(durations, batch_seconds)
    assert sorted(row for batch in batches for row in batch) == list(range(len(durations)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(durations[row] for row in batch) <= batch_seconds
    longest = [max(durations[row] for row in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@pytest.fixture(scope="module")
def trained(tiny_corpus):
    """A tokenizer, cuts of different lengths, and a model that finds something in them."""
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    torch.manual_seed(0)
    model = build_model(compose_config(MICRO), tokenizer.vocab_size).eval()
    return tokenizer, list(read_cuts(tiny_corpus / "cuts", "test")), model


@pytest.mark.parametrize("decoder", [GreedyCTC(), JointBeamSearch(beam_size=2, ctc_weight=0.9)])
def test_hypotheses_come_in_the_cuts_order_and_do_not_depend_on_batches_or_processes(trained, decoder):
    tokenizer, cuts, model = trained
    recogniser = Recogniser(model, decoder, BatchDataset(tokenizer.encode))
    few = sorted(cuts, key=lambda cut: cut.duration)[:: max(1, len(cuts) // 5)]
    assert len({cut.duration for cut in few}) > 1
    alone = [recogniser([cut])[0] for cut in few]
    for batch_seconds, num_jobs in [(0.1, 1), (1000.0, 1), (7.0, 2)]:
        found = recognise(recogniser, few, batch_seconds, num_jobs)
        assert [[h.tokens for h in each] for each in found] == [[h.tokens for h in each] for each in alone]
        for one, other in zip(found, alone, strict=True):
            assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-3)


def test_a_batch_that_does_not_fit_is_decoded_one_by_one(trained, caplog, monkeypatch):
    tokenizer, cuts, model = trained
    recogniser = Recogniser(model, GreedyCTC(), BatchDataset(tokenizer.encode))
    expected, encode = recogniser(cuts[:3]), model.encode

    def out_of_memory(batch):
        if len(batch.ids) > 1:
            raise torch.OutOfMemoryError
        return encode(batch)

    monkeypatch.setattr(model, "encode", out_of_memory)
    assert [[h.tokens for h in each] for each in recogniser(cuts[:3])] == [[h.tokens for h in e] for e in expected]
    assert "3 utterances do not fit into the GPU's memory: lower decode.batch_seconds" in caplog.text


def test_noise_is_the_same_in_any_batch(tiny_corpus, trained):
    tokenizer, cuts, _ = trained
    dataset = BatchDataset(tokenizer.encode, noise=noise_of(tiny_corpus / "cuts", 2.5))
    batch = dataset[CutSet.from_cuts(cuts)]
    for cut, heard, length in zip(cuts, batch.audio, batch.audio_lens, strict=True):
        assert torch.equal(dataset[CutSet.from_cuts([cut])].audio[0], heard[:length])
        assert not heard[length:].any()


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
    heard = {}
    for name, snr in names.items():
        assert read_json(tmp_path / config.name / name / "decode.json")["snr"] == snr
        heard[snr] = (tmp_path / config.name / name / "hyp.trn").read_text()
    assert len({*heard.values()}) == 3
