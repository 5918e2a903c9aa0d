import json

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet
from micro import MICRO
from omegaconf import OmegaConf
from video_files import RATE, squares, write_video_file

import asrsparse.decoding.transcribe
from asrsparse.cli import main
from asrsparse.config import compose_config
from asrsparse.data.batch import BatchDataset
from asrsparse.data.cuts import read_cuts
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.decoding.recogniser import Recogniser
from asrsparse.decoding.runs import open_run
from asrsparse.decoding.transcribe import Options, parse, quiet_places, transcribe
from asrsparse.files import write_text
from asrsparse.models.builders import build_model
from asrsparse.models.weight_files import save_weights
from asrsparse.video.mouth_regions import MouthRegion


@pytest.fixture(scope="module")
def runs(tiny_corpus, tmp_path_factory):
    """Finished runs, untrained but for their initial weights: the folder of each modality."""
    folders = {}
    for modality in ("audio", "video", "audiovisual"):
        exp_dir = tmp_path_factory.mktemp("exp")
        words = [f"modality={modality}", f"data_dir={tiny_corpus}", f"exp_dir={exp_dir}", "trainer.accelerator=cpu"]
        config = compose_config([*MICRO, *words])
        folders[modality] = exp_dir / config.name
        write_text(folders[modality] / "config.yaml", OmegaConf.to_yaml(config))
        torch.manual_seed(0)
        model = build_model(config, load_tokenizer(tiny_corpus / "cuts").vocab_size)
        save_weights(folders[modality] / "model.safetensors", model.state_dict())
        write_text(folders[modality] / "train.json", "{}")
    return folders


@pytest.fixture
def cut(tiny_corpus):
    return next(iter(read_cuts(tiny_corpus / "cuts", "test")))


def as_file(cut, path):
    soundfile.write(path, cut.load_audio()[0], RATE)
    return str(path)


def run_words(capsys, *words):
    """Exit status, lines and messages."""
    status = transcribe([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err


def test_a_file_is_transcribed_as_decoding_does_it(runs, cut, tmp_path, capsys):
    run = open_run(runs["audio"])
    (expected,) = Recogniser(run.model, run.decoder, BatchDataset(run.tokenizer.encode))([cut])
    for name in ("a.wav", "a.flac"):
        status, lines, _ = run_words(capsys, runs["audio"], as_file(cut, tmp_path / name))
        assert (status, lines) == (0, [run.tokenizer.decode(expected[0].tokens)])


def test_json_holds_segments_times_of_words_and_hypotheses(runs, cut, tmp_path, capsys):
    words = ["method=joint", "json=true", "times=true", "nbest=2"]
    status, (line,), _ = run_words(capsys, runs["audio"], as_file(cut, tmp_path / "a.wav"), *words)
    found = json.loads(line)
    assert status == 0
    assert found["file"].endswith("a.wav")
    assert found["seconds"] == pytest.approx(cut.duration, abs=0.01)
    (segment,) = found["segments"]
    assert (segment["start"], segment["end"]) == (0.0, pytest.approx(cut.duration, abs=0.01))
    assert segment["text"] == found["text"] == segment["nbest"][0]["text"]
    assert len(segment["nbest"]) == 2
    assert segment["nbest"][0]["score"] >= segment["nbest"][1]["score"]
    assert segment["words"] is None or [word["word"] for word in segment["words"]] == found["text"].split()


def test_files_that_cannot_be_transcribed_are_named_and_the_others_go_on(runs, cut, tmp_path, capsys):
    good = as_file(cut, tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "short.wav", np.zeros(800), RATE)
    silent = write_video_file(tmp_path / "silent.mp4", squares([(60, 50)] * 10))
    bad = [
        tmp_path / "none.wav",
        tmp_path / "text.wav",
        tmp_path / "empty.wav",
        tmp_path / "short.wav",
        silent,
        tmp_path,
    ]
    reasons = ["no such file", "does not decode", "no samples", "too short", "no audio track", "no such file"]
    status, lines, messages = run_words(capsys, runs["audio"], *bad, good, "json=true")
    assert status == 1
    records = [json.loads(line) for line in lines]
    assert [record["file"] for record in records] == [*map(str, bad), good]
    for record, reason in zip(records[:-1], reasons, strict=True):
        assert reason in record["error"]
        assert f"asrsparse: error: {record['error']}" in messages
    assert "text" in records[-1]
    status, lines, _ = run_words(capsys, runs["audio"], bad[0], good)
    assert (status, lines[0], len(lines)) == (1, "", 2)


@pytest.mark.parametrize("modality", ["video", "audiovisual"])
def test_a_model_with_video_needs_a_video_with_a_face(runs, cut, tmp_path, capsys, modality):
    audio = as_file(cut, tmp_path / "a.wav")
    film = write_video_file(tmp_path / "a.mkv", squares([(60, 50)] * 50), samples=np.zeros(2 * RATE, np.int16))
    status, lines, messages = run_words(capsys, runs[modality], audio, film)
    assert (status, lines) == (1, ["", ""])
    assert f"no video track: {audio}" in messages
    assert f"no face: {film}" in messages


@pytest.mark.parametrize("modality", ["video", "audiovisual"])
def test_a_video_is_transcribed_from_its_mouth_region(runs, tmp_path, capsys, modality, monkeypatch):
    noise = np.random.default_rng(0).integers(-3000, 3000, 2 * RATE).astype(np.int16)
    film = write_video_file(tmp_path / "a.mkv", squares([(60, 50)] * 50), samples=noise)
    mouths = np.random.default_rng(0).integers(0, 256, (50, 96, 96)).astype(np.uint8)
    monkeypatch.setattr(asrsparse.decoding.transcribe, "crop_mouth_region", lambda path: MouthRegion(mouths, 50, 50))
    status, (line,), _ = run_words(capsys, runs[modality], film, "json=true", "max_seconds=1")
    assert status == 0
    segments = json.loads(line)["segments"]
    assert [segments[0]["start"], segments[-1]["end"]] == [0.0, 2.0]
    assert len(segments) in (2, 3)


def test_long_audio_is_cut_where_it_is_quiet(runs, tiny_corpus, tmp_path, capsys):
    cuts = CutSet.from_cuts(list(read_cuts(tiny_corpus / "cuts", "test"))[:3])
    spoken = [cut.load_audio()[0] for cut in cuts]
    gap = np.zeros(RATE // 2, np.float32)
    soundfile.write(tmp_path / "long.wav", np.concatenate([x for y in spoken for x in (y, gap)]), RATE)
    limit = max(len(samples) for samples in spoken) / RATE + 0.5
    words = [tmp_path / "long.wav", "json=true", "times=true", f"max_seconds={limit}"]
    status, (line,), messages = run_words(capsys, runs["audio"], *words)
    found = json.loads(line)
    assert status == 0
    assert len(found["segments"]) > 1
    assert f"{found['seconds']:.1f} s are cut at {len(found['segments']) - 1} quiet places" in messages
    for one, other in zip(found["segments"], found["segments"][1:], strict=False):
        assert one["end"] == other["start"]
    for segment in found["segments"]:
        assert all(segment["start"] <= word["start"] < word["end"] for word in segment["words"] or [])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(25, 100))
def test_parts_are_not_longer_than_allowed_and_not_shorter_than_half(activity, limit):
    begins = quiet_places(np.array(activity), limit)
    sizes = np.diff([*begins, len(activity)])
    assert begins[0] == 0
    assert sizes.sum() == len(activity)
    assert sizes.max() <= limit
    assert len(begins) == 1 or sizes.min() >= limit // 2


def test_words_are_files_unless_they_are_options(tmp_path):
    odd = tmp_path / "a=b.wav"
    odd.touch()
    run_dir, files, options = parse(["exp/x", str(odd), "b.wav", "method=joint", "nbest=2", "json=true"])
    assert (str(run_dir), files[0], len(files)) == ("exp/x", odd, 2)
    assert options == Options(method="joint", json=True, nbest=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exp/x"], r"transcribe: got no file, allowed is RUN_DIR FILE"),
        (["exp/x", "a.wav", "jsn=true"], r"transcribe: got jsn=true, allowed are method=, json=, .* and files"),
        (["exp/x", "a.wav", "json=yes"], r"json: got 'yes', allowed are true and false"),
        (["exp/x", "a.wav", "nbest=many"], r"nbest: got 'many', allowed are numbers"),
        (["exp/x", "a.wav", "times=true"], r"not shown in plain text\. Add json=true"),
        (["exp/x", "a.wav", "max_seconds=0.1"], r"max_seconds: got 0.1, allowed is at least 1 s"),
    ],
)
def test_wrong_words_are_named(words, message):
    with pytest.raises(ValueError, match=message):
        parse(words)


def test_the_command_ends_with_status_1_where_a_file_failed_and_2_where_the_run_is_none(runs, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["transcribe", str(runs["audio"]), str(tmp_path / "none.wav")])
    assert stopped.value.code == 1
    with pytest.raises(SystemExit) as stopped:
        main(["transcribe", str(tmp_path / "run"), "a.wav"])
    assert stopped.value.code == 2
    assert "is no finished run" in capsys.readouterr().err
