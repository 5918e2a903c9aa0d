import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import MICRO

from asrsparse.batch import BatchDataset
from asrsparse.checkpoints import save_weights
from asrsparse.config import compose_config
from asrsparse.cuts import read_cuts
from asrsparse.decode import GreedyCTC, JointBeamSearch, decode, transcribe
from asrsparse.files import read_json
from asrsparse.models.asr import BLANK
from asrsparse.tokenizer import load_tokenizer
from asrsparse.train import build_model

VOCABULARY = 7


class Peaky:
    """Stands in for a model: gives each frame's token nearly all of the probability."""

    def __init__(self, frames):
        self.frames = frames

    def ctc_log_probs(self, encoded):
        logits = torch.full((1, len(self.frames), VOCABULARY), -20.0)
        logits[0, torch.arange(len(self.frames)), torch.tensor(self.frames)] = 20.0
        return logits.log_softmax(dim=-1)


def greedy(frames):
    return GreedyCTC()(Peaky(frames), torch.zeros(len(frames), 1))


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
        assert search(peaky, encoded) == GreedyCTC()(peaky, encoded) == collapse(frames)


def test_the_beam_sums_over_paths_where_greedy_takes_one(peaky):
    # Frames: blank 0.6, token 0.4, twice. The likeliest path is empty (0.36), the likeliest labelling is 2 (0.64).
    probabilities = torch.full((2, VOCABULARY), 1e-9)
    probabilities[:, BLANK], probabilities[:, 2] = 0.6, 0.4
    encoded = probabilities.log()
    with torch.inference_mode():
        assert GreedyCTC()(peaky, encoded) == []
        assert JointBeamSearch(beam_size=3, ctc_weight=1.0)(peaky, encoded) == [2]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_a_search_with_the_decoder_gives_tokens_and_the_same_ones_again(model, ctc_weight):
    search = JointBeamSearch(beam_size=2, ctc_weight=ctc_weight)
    encoded = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = search(model, encoded)
        assert search(model, encoded) == found
    assert all(0 < token < VOCABULARY - 1 for token in found)


def test_a_search_used_for_another_model_scores_with_that_one(model):
    other = make_model("model.decoder.num_blocks=2")
    search, encoded = JointBeamSearch(beam_size=2), torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        search(model, encoded)
        assert search(other, encoded) == JointBeamSearch(beam_size=2)(other, encoded)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"decode.decoder.beam_size: got 0, allowed is at least 1"):
        JointBeamSearch(beam_size=0)
    with pytest.raises(ValueError, match=r"decode.decoder.ctc_weight: got 1.5, allowed is \[0, 1\]"):
        JointBeamSearch(ctc_weight=1.5)


def test_a_model_without_a_decoder_is_decoded_by_ctc():
    model = make_model("model.decoder=null", "model.ctc_weight=1.0")
    with pytest.raises(ValueError, match=r"no attention decoder: decode it by CTC \(decode=ctc_greedy\)"):
        JointBeamSearch()(model, torch.zeros(4, 32))


def test_every_cut_is_transcribed_in_order_and_as_if_alone(tiny_corpus):
    tokenizer = load_tokenizer(tiny_corpus / "cuts")
    torch.manual_seed(0)
    model = build_model(compose_config(MICRO), tokenizer.vocab_size).eval()
    dataset, cuts = BatchDataset(tokenizer.encode), read_cuts(tiny_corpus / "cuts", "test").to_eager()
    few = cuts.subset(first=3)
    whole = transcribe(model, GreedyCTC(), few, dataset)
    assert len(whole) == 3
    assert whole == [transcribe(model, GreedyCTC(), few.subset(cut_ids=[i]), dataset)[0] for i in few.ids]


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
