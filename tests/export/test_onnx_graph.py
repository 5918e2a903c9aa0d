from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from micro import make_model

from asrsparse.data.cuts import read_cuts
from asrsparse.export.onnx_graph import EncoderAndCTC, LogMelByProducts, check_graph, export_onnx, write_graph
from asrsparse.files import read_json
from asrsparse.models.frontends import LogMelFrontend


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("onnx") / "out"
    export_onnx(run, out)
    return out


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_log_mel_features_by_products_are_espnets(rate):
    logmel = LogMelFrontend(rate).logmel
    audio, lens = 0.1 * torch.randn(2, 9001, generator=torch.Generator().manual_seed(0)), torch.tensor([9001, 9001])
    (ours, our_lens), (theirs, their_lens) = LogMelByProducts(logmel)(audio, lens), logmel(audio, lens)
    assert torch.equal(our_lens, their_lens)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_onnxruntime_gives_what_pytorch_gives_for_every_test_utterance(run, folder, tiny_corpus):
    session, recogniser = onnxruntime.InferenceSession(str(folder / "model.onnx")), EncoderAndCTC(run.model)
    for cut in read_cuts(tiny_corpus / "cuts", "test"):
        audio = torch.from_numpy(cut.load_audio())
        lens = torch.tensor([audio.size(1)])
        found, frames = session.run(None, {"audio": audio.numpy(), "audio_lens": lens.numpy()})
        expected, expected_frames = recogniser(audio, lens)
        assert frames.tolist() == expected_frames.tolist()
        np.testing.assert_allclose(np.exp(found), expected.exp().numpy(), atol=1e-4)


def test_what_was_checked_is_written_down(run, folder):
    record, graph = read_json(folder / "onnx.json"), onnx.load(folder / "model.onnx")
    assert {(each["utterances"], each["seconds"]) for each in record["checked"]} == {(1, 0.4), (1, 2), (3, 1.3), (4, 5)}
    assert all(each["difference"] <= record["tolerance"] == 1e-4 for each in record["checked"])
    assert record["bytes"] == (folder / "model.onnx").stat().st_size
    assert record["opset"] == graph.opset_import[0].version == 18
    assert record["longest_seconds"] == 200
    assert {each.name for each in graph.graph.input} == record["inputs"].keys() == {"audio", "audio_lens"}
    assert {each.key: each.value for each in graph.metadata_props}["sampling_rate"] == "16000"
    assert (folder / "tokens.txt").read_text().splitlines() == run.tokenizer.tokens


def test_the_readmes_lines_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec((folder / "README.md").read_text().split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out.startswith("[")


@pytest.mark.parametrize("modality", ["video", "audiovisual"])
def test_a_model_with_video_is_exported_too(run, tmp_path, modality):
    export_onnx(replace(run, model=make_model(f"modality={modality}").eval()), tmp_path / "out")
    record = read_json(tmp_path / "out" / "onnx.json")
    assert record["inputs"]["video"]["shape"] == ["utterances", "video frames", 96, 96]


def test_a_compacted_model_is_exported_too(run, compacted, folder, tmp_path):
    export_onnx(replace(run, model=compacted), tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").stat().st_size < (folder / "model.onnx").stat().st_size


def test_an_export_that_gives_something_else_fails_and_leaves_nothing(run, tmp_path, monkeypatch):
    other = make_model("model.encoder.num_blocks=1").eval()
    write_graph(other, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"onnxruntime and PyTorch differ by .* in a log probability, on 1 utterances"):
        check_graph(make_model().eval(), tmp_path / "other.onnx")
    monkeypatch.setattr("asrsparse.export.onnx_graph.write_graph", lambda model, path: write_graph(other, path))
    with pytest.raises(ValueError, match=r"allowed is 0.0001. The graph is not written"):
        export_onnx(replace(run, model=make_model().eval()), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["other.onnx"]


def test_what_the_exporter_cannot_write_is_refused(run, tmp_path):
    model = make_model("stream/audio=waveform", "model.frontend.output_size=64")
    with pytest.raises(
        ValueError, match=r"got the front-end ResNet1d, allowed are log-mel features and visual front-ends"
    ):
        export_onnx(replace(run, model=model), tmp_path / "out")
    assert not any(tmp_path.iterdir())
