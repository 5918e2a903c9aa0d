"""The examples run as they stand, and are as short as the README says."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lhotse import CutSet
from lhotse.audio import AudioSource

from asrsparse.data.cuts import read_cuts
from asrsparse.pruning import PruningPlan, Random, StreamPruner

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(path: Path, folder: Path, *arguments: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, path, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_at_most_thirty_lines(path):
    assert len(path.read_text().splitlines()) <= 30


def test_the_plain_loop_prunes_learns_and_saves_what_a_resume_needs(tmp_path):
    printed = run(ROOT / "examples" / "plain_pytorch.py", tmp_path)
    kept = [int(share) for share in re.findall(r"kept (\d+)%", printed)]
    scores = [float(score) for score in re.findall(r"mean score ([\d.]+)", printed)]
    assert kept == [100, *[70] * 8, 100]
    assert scores[-1] < 0.6 * scores[0]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert len(saved["pruner"]["table"]["scores"]) == 1000


def test_lightnings_checkpoint_of_the_callback_example_holds_the_pruner(tmp_path):
    run(ROOT / "examples" / "lightning_callback.py", tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 20 + 4 * 14  # 1000 utterances, then 700, in batches of 50
    assert saved["callbacks"]["PruningCallback"]["epoch"] == 4


def test_the_lhotse_loop_prunes_real_cuts(tmp_path, tiny_corpus):
    cuts = tiny_corpus / "cuts" / "train_cuts.jsonl"
    printed = run(ROOT / "examples" / "lhotse_loop.py", tmp_path, cuts)
    kept = [int(share) for share in re.findall(r"kept (\d+)%", printed)]
    assert kept[0] == 100
    assert kept[1:] == [pytest.approx(70, abs=5)] * 3


ESPNET_CONFIG = """\
encoder: conformer
encoder_conf: {output_size: 32, attention_heads: 2, linear_units: 64, num_blocks: 1, input_layer: conv2d,
  rel_pos_type: latest, pos_enc_layer_type: rel_pos, selfattention_layer_type: rel_selfattn}
model_conf: {ctc_weight: 1.0, report_cer: false, report_wer: false}
optim: adamw
frontend_conf: {n_fft: 512, win_length: 400, hop_length: 160, fs: 16000, n_mels: 80}
"""

# ESPnet's task imports text-to-speech packages that a recogniser never calls: the benchmark has modules in their place.
STAND_INS = runpy.run_path(str(ROOT / "benchmarks" / "train_step.py"))["ESPNET_STAND_INS"]
RUN_FILE = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def write_dump(tiny_corpus: Path, folder: Path) -> None:
    """A Kaldi-style dump of the tiny corpus: wav.scp, text and speech_shape of train and dev, and the tokens."""
    for split in ("train", "dev"):
        cuts = list(read_cuts(tiny_corpus / "cuts", split))
        (folder / split).mkdir()
        files = {
            "wav.scp": [cut.recording.sources[0].source for cut in cuts],
            "text": [cut.supervisions[0].text for cut in cuts],
            "speech_shape": [str(cut.num_samples) for cut in cuts],
        }
        for name, values in files.items():
            lines = [f"{cut.id} {value}\n" for cut, value in zip(cuts, values, strict=True)]
            (folder / split / name).write_text("".join(lines))
    (folder / "train.yaml").write_text(ESPNET_CONFIG)


def train_espnet(folder: Path, tokens: Path, *more: str) -> str:
    words = [
        "--config",
        "train.yaml",
        "--token_list",
        str(tokens),
        "--token_type",
        "char",
        "--use_preprocessor",
        "true",
    ]
    words += ["--ngpu", "0", "--batch_type", "unsorted", "--batch_size", "8", "--num_workers", "0", *more]
    words += ["--num_att_plot", "0", "--use_matplotlib", "false", "--output_dir", "exp"]
    for split, flag in (("train", "train"), ("dev", "valid")):
        data = f"--{flag}_data_path_and_name_and_type"
        words += [data, f"{split}/wav.scp,speech,sound", data, f"{split}/text,text,text"]
        words += [f"--{flag}_shape_file", f"{split}/speech_shape"]
    command = [sys.executable, "-c", STAND_INS + RUN_FILE, str(ROOT / "examples" / "espnet2_task.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_espnets_own_trainer_prunes_and_goes_on(tmp_path, tiny_corpus):
    write_dump(tiny_corpus, tmp_path)
    tokens = tiny_corpus / "cuts" / "tokens.txt"
    num_train = len((tmp_path / "train" / "text").read_text().splitlines())
    printed = train_espnet(tmp_path, tokens, "--max_epoch", "4", "--keep_nbest_models", "2")
    shares = [int(share) for share in re.findall(r"epoch \d keeps \d+ utterances \((\d+) %\)", printed)]
    assert shares == [100, pytest.approx(70, abs=4), pytest.approx(70, abs=4), 100]
    assert len(re.findall(r"epoch \d: each of \d+ kept utterances .* was seen once", printed)) == 4
    state = torch.load(tmp_path / "exp" / "pruner" / "after_epoch_004.pt", weights_only=True)
    assert state["table"]["last_seen"].tolist() == [3] * num_train
    again = train_espnet(tmp_path, tokens, "--max_epoch", "5", "--resume", "true")
    assert re.findall(r"epoch (\d) keeps", again) == ["5"]
    state = torch.load(tmp_path / "exp" / "pruner" / "after_epoch_005.pt", weights_only=True)
    assert set(state["table"]["last_seen"].tolist()) == {4}


def test_hugging_faces_trainer_prunes_and_its_learning_rate_ends_at_its_end(tmp_path):
    printed = run(ROOT / "examples" / "huggingface_trainer.py", tmp_path)
    assert "76 steps, final lr 0; each of 700 kept utterances" in printed  # 1000 utterances, then 4 x 700, by 50


def test_a_stream_is_read_whole_and_decoded_in_part(tmp_path, tiny_corpus):
    cuts = read_cuts(tiny_corpus / "cuts", "train").to_eager()
    (tmp_path / "shar").mkdir()
    cuts.to_shar(tmp_path / "shar", fields={"recording": "flac"}, shard_size=8)
    printed = run(ROOT / "examples" / "lhotse_shar.py", tmp_path, tmp_path / "shar")
    seconds = [int(value) for value in re.findall(r"decoded (\d+) s", printed)]
    total = sum(cut.duration for cut in cuts)
    assert seconds[0] == pytest.approx(total, abs=1)
    assert seconds[1:] == [pytest.approx(0.7 * total, rel=0.06)] * 3


def test_what_a_stream_drops_is_not_decoded(tmp_path, tiny_corpus, monkeypatch):
    cuts = read_cuts(tiny_corpus / "cuts", "train").to_eager()
    cuts.to_shar(tmp_path, fields={"recording": "flac"}, shard_size=8)
    decoded = []
    load_audio = AudioSource.load_audio
    monkeypatch.setattr(AudioSource, "load_audio", lambda *a, **k: decoded.append(1) or load_audio(*a, **k))
    pruner = StreamPruner(Random(0.5), PruningPlan(num_epochs=3, final_epochs=0, num_strata=1))
    pruner.observe(list(cuts.ids), torch.ones(len(cuts)), [cut.duration for cut in cuts])
    kept = pruner.start_epoch(1)
    for cut in CutSet.from_shar(in_dir=tmp_path).filter(lambda cut: cut.id in kept):
        cut.load_audio()
    assert len(decoded) == sum(cut.id in kept for cut in cuts) < len(cuts)


def test_the_sparse_loop_moves_its_masks_learns_and_saves_what_a_resume_needs(tmp_path):
    printed = run(ROOT / "examples" / "sparse_masks.py", tmp_path)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    changed = [float(share) for share in re.findall(r"changed ([\d.]+)%", printed)]
    assert re.findall(r"density ([\d.]+)%", printed) == ["10.0"] * 5
    assert losses[-1] < losses[0]
    assert changed[0] > 0.5
    assert changed[-1] < changed[0]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (saved["model"]["0.weight"] != 0).sum() == saved["masks"]["unit_masks"]["0.weight"].sum()


def test_structured_masks_make_a_layer_smaller(tmp_path):
    printed = run(ROOT / "examples" / "structured_masks.py", tmp_path)
    assert "units={'linear2': (64, 256)}" in printed
    assert float(re.findall(r"at most ([\d.e+-]+)", printed)[0]) < 1e-5
