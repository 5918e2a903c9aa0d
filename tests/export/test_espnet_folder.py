"""ESPnet's own program opens what was exported, in a process of its own, and finds the same texts."""

import copy
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from micro import make_model

from asrsparse.data.cuts import read_cuts
from asrsparse.data.tokenizer import SentencePieceTokenizer
from asrsparse.export.espnet_folder import espnet_config, espnet_weights, export_espnet
from asrsparse.models.builders import build_model
from asrsparse.models.weight_files import load_weights
from asrsparse.scoring.trn_files import read_decoded

ROOT = Path(__file__).resolve().parents[2]

# ESPnet's task imports packages that a recogniser never calls: the benchmark has modules in their place.
STAND_INS = runpy.run_path(str(ROOT / "benchmarks" / "train_step.py"))["ESPNET_STAND_INS"]
SPEECH_TO_TEXT = """
import json
import soundfile
from espnet2.bin.asr_inference import Speech2Text

settings = json.load(sys.stdin)
speech2text = Speech2Text(**settings["options"])
found = {}
for name, path in settings["audio"].items():
    text, tokens, *_ = speech2text(soundfile.read(path)[0])[0]
    found[name] = {"text": text, "tokens": tokens}
print()
json.dump(found, sys.stdout)
"""


def speech_to_text(folder, audio, **options):
    """What ESPnet finds, with the two files that its documentation names."""
    files = {"asr_train_config": str(folder / "config.yaml"), "asr_model_file": str(folder / "model.pth")}
    given = json.dumps({"options": files | options, "audio": audio})
    command = [sys.executable, "-W", "ignore", "-c", STAND_INS + SPEECH_TO_TEXT]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=600, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])  # behind what ESPnet prints while it is imported


@pytest.fixture(scope="module")
def audio(tiny_corpus, tmp_path_factory):
    """A file for each test utterance."""
    folder, files = tmp_path_factory.mktemp("audio"), {}
    for cut in read_cuts(tiny_corpus / "cuts", "test"):
        files[cut.id] = str(folder / f"{cut.id}.wav")
        cut.save_audio(files[cut.id])
    return files


@pytest.mark.slow
def test_speech2text_finds_the_same_text_for_every_test_utterance(run, run_dir, audio, tmp_path):
    export_espnet(run, tmp_path / "out")
    found = speech_to_text(tmp_path / "out", audio, beam_size=3, ctc_weight=run.model.ctc_weight, penalty=0.0)
    ours = {utterance.id: utterance.hypothesis for utterance in read_decoded(run_dir / "decode_test_joint")}
    assert {name: each["text"].split() for name, each in found.items()} == {k: v.split() for k, v in ours.items()}
    assert len(found) == len(audio)
    assert len({*ours.values()}) > 1  # it did learn something


def test_weights_keep_their_names_but_for_the_front_end(run):
    ours, theirs = run.model.state_dict(), espnet_weights(run)
    assert {name for name in ours if name not in theirs} == {"frontend.logmel.logmel.melmat"}
    assert {name for name in theirs if name not in ours} == {"frontend.logmel.melmat"}
    assert all(torch.equal(ours[name], value) for name, value in theirs.items() if name in ours)


def test_a_compacted_model_gets_its_full_size_again(run, compacted, tmp_path):
    export_espnet(replace(run, model=compacted), tmp_path / "out")  # which checks that both encode the same
    weights = torch.load(tmp_path / "out" / "model.pth", weights_only=True)
    full = run.model.state_dict()
    name = "encoder.encoders.0.feed_forward.w_2.weight"
    assert compacted.state_dict()[name].shape[1] < full[name].shape[1] == weights[name].shape[1]


def test_layer_scale_goes_into_the_weights(run, tmp_path):
    config = run.config.copy()
    config.model.layer_scale = 0.3
    scaled = build_model(config, run.tokenizer.vocab_size).eval()
    export_espnet(replace(run, config=config, model=scaled), tmp_path / "out")
    weights = torch.load(tmp_path / "out" / "model.pth", weights_only=True)
    assert not [name for name in weights if "layer_scale" in name]


@pytest.mark.parametrize(("ctc_weight", "absent"), [(0.0, "ctc."), (1.0, "decoder.")])
def test_a_layer_that_no_loss_trained_is_left_out_as_in_espnet(run, tmp_path, ctc_weight, absent):
    config, model = run.config.copy(), copy.deepcopy(run.model)
    config.model.ctc_weight = model.ctc_weight = ctc_weight
    export_espnet(replace(run, config=config, model=model), tmp_path / "out")
    weights = torch.load(tmp_path / "out" / "model.pth", weights_only=True)
    assert not [name for name in weights if name.startswith(absent)]
    written = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (written["decoder"] is None) == (ctc_weight == 1.0)


def test_a_model_of_sentencepiece_names_its_file_as_it_lies_in_the_folder(run, tmp_path):
    texts = ["bin blue at f two now", "lay red by k nine soon", "set white in z zero please", "place green with u one"]
    bpe = SentencePieceTokenizer.train(texts, vocab_size=run.tokenizer.vocab_size)
    export_espnet(replace(run, tokenizer=bpe), tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (config["token_type"], config["bpemodel"]) == ("bpe", "bpe.model")
    assert (tmp_path / "out" / config["bpemodel"]).is_file()
    assert 'bpemodel="bpe.model"' in (tmp_path / "out" / "README.md").read_text()
    assert config["token_list"] == bpe.tokens


@pytest.mark.parametrize(
    ("overrides", "reads"),
    [
        (["modality=video"], "video by SmallVisualFrontend"),
        (["modality=audiovisual"], "audio and video by LogMelFrontend"),
        (["stream/audio=waveform", "model.frontend.output_size=64"], "audio by ResNet1d"),
    ],
)
def test_what_espnet_has_no_front_end_for_is_refused(run, tmp_path, overrides, reads):
    with pytest.raises(ValueError, match=f"got a model that reads {reads}, allowed is one that reads log-mel"):
        export_espnet(replace(run, model=make_model(*overrides)), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_part_of_another_kind_is_refused(run):
    config = run.config.copy()
    config.model.encoder._target_ = "espnet2.asr.encoder.rnn_encoder.RNNEncoder"
    with pytest.raises(ValueError, match=r"got the encoder espnet2.*RNNEncoder, allowed are ESPnet's ConformerEnc"):
        espnet_config(replace(run, config=config))


def test_a_model_that_espnet_would_encode_otherwise_is_not_written(run, tmp_path):
    config = run.config.copy()
    config.model.encoder.activation_type = "relu"
    with pytest.raises(
        ValueError, match=r"frames of ESPnet's model that differ from this one's by .*; allowed is 0.0001"
    ):
        export_espnet(replace(run, config=config), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_the_run_itself_is_left_alone(run, run_dir, tmp_path):
    before = load_weights(run_dir / "model.safetensors")
    export_espnet(run, tmp_path / "out")
    assert all(torch.equal(before[name], value) for name, value in run.model.state_dict().items())
