import shutil
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from asrsparse.data.batch import BatchDataset
from asrsparse.data.cuts import read_cuts
from asrsparse.decoding.runs import open_run
from asrsparse.export.hub_folder import export_huggingface, load_exported
from asrsparse.export.kinds import export
from asrsparse.files import read_json, write_json
from asrsparse.models.asr import best_path
from asrsparse.scoring.trn_files import read_decoded


class FakeApi:
    """Stands in for the hub: remembers what is asked of it."""

    calls: list[tuple[str, dict]]

    def create_repo(self, repo_id, **more):
        self.calls.append(("create_repo", {"repo_id": repo_id, **more}))

    def upload_folder(self, **more):
        self.calls.append(("upload_folder", more))


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    """The calls that reach the hub."""
    FakeApi.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    return FakeApi.calls


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """An exported folder that has moved."""
    out, elsewhere = tmp_path_factory.mktemp("hub") / "out", tmp_path_factory.mktemp("elsewhere") / "moved"
    export_huggingface(run, out, language="en", license="apache-2.0")
    shutil.move(out, elsewhere)
    return elsewhere


@torch.inference_mode()
def test_the_folder_alone_gives_the_same_hypotheses(folder, run_dir, tiny_corpus):
    model, tokenizer = load_exported(folder)
    assert not model.training
    dataset, cuts = BatchDataset(tokenizer.encode), read_cuts(tiny_corpus / "cuts", "test").to_eager()
    found = {}
    for cut in cuts:
        encoded, _ = model.encode(dataset[cuts.subset(cut_ids=[cut.id])])
        found[cut.id] = tokenizer.decode(best_path(model.ctc_log_probs(encoded)[0]))
    ours = {each.id: each.hypothesis for each in read_decoded(run_dir / "decode_test_ctc_greedy")}
    assert {key: text.split() for key, text in found.items()} == {key: text.split() for key, text in ours.items()}


def test_a_compacted_model_keeps_its_smaller_layers(run, compacted, tmp_path):
    export_huggingface(replace(run, model=compacted), tmp_path / "out")
    loaded, _ = load_exported(tmp_path / "out")
    assert all(torch.equal(value, compacted.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_card_holds_what_the_hub_reads_and_the_table(folder, run_dir):
    card = ModelCard.load(folder / "README.md")
    assert (card.data.language, card.data.license, card.data.library_name) == ("en", "apache-2.0", "asrsparse")
    assert card.data.pipeline_tag == "automatic-speech-recognition"
    results = {(each.metric_type, each.metric_name): each for each in card.data.eval_results}
    train = read_json(run_dir / "train.json")
    for method in ("ctc_greedy", "joint"):
        score = read_json(run_dir / f"decode_test_{method}" / "score.json")
        assert results["wer", f"WER % ({method})"].metric_value == round(100 * score["wer"], 2)
        assert results["cer", f"CER % ({method})"].dataset_split == "test"
        wer = f"{100 * score['wer']:.2f} [{100 * score['ci_low']:.2f}, {100 * score['ci_high']:.2f}]"
        assert f"| test | clean | {method} | {wer} |" in card.text
        assert f"`asrsparse decode decode={method}` |" in card.text
    assert f"| {train['hours_heard']:.2f} | " in card.text


def test_no_path_of_this_machine_stands_in_what_is_handed_over(folder, tiny_corpus):
    for name in ("README.md", "config.json", "config.yaml"):
        assert str(tiny_corpus.parent) not in (folder / name).read_text()


def test_a_run_that_was_not_scored_says_so(run, run_dir, tmp_path):
    for name in ("config.yaml", "train.json", "model.safetensors"):
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(run_dir / name, tmp_path / "run" / name)
    export_huggingface(open_run(tmp_path / "run"), tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert "Nothing was decoded and scored before this export." in card.text
    assert card.data.eval_results is None
    assert card.data.language is None


def test_nothing_is_uploaded_unless_asked(run_dir, tmp_path, hub):
    export("huggingface", run_dir, tmp_path / "out", {})
    assert hub == []


def test_an_upload_sends_the_folder_to_a_private_repository(run_dir, tmp_path, hub):
    export("huggingface", run_dir, tmp_path / "out", {"push": "me/mine"})
    create, (name, sent) = hub
    assert create == ("create_repo", {"repo_id": "me/mine", "private": True, "exist_ok": True})
    assert (name, sent["repo_id"], sent["folder_path"]) == ("upload_folder", "me/mine", tmp_path / "out")
    assert (tmp_path / "out" / "README.md").is_file()


def test_a_bad_name_of_a_repository_is_refused_before_anything_is_written(run_dir, tmp_path, hub):
    with pytest.raises(ValueError, match=r"push: got 'mine', allowed is OWNER/NAME"):
        export("huggingface", run_dir, tmp_path / "out", {"push": "mine"})
    assert hub == []
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "asrsparse.models.asr.torch.hub.load",
        "asrsparse.models.frontends.torch.nn.Linear",
        "asrsparse.models.asr.no_such_class",
        "asrsparse.models.asr.Losses",
        ["os", "system"],
    ],
)
def test_a_folder_from_elsewhere_can_name_layers_and_nothing_else(folder, tmp_path, target):
    shutil.copytree(folder, tmp_path / "out")
    settings = read_json(tmp_path / "out" / "config.json")
    settings["model"]["encoder"]["_target_"] = target
    write_json(tmp_path / "out" / "config.json", settings)
    with pytest.raises(
        ValueError, match=r"model.encoder._target_ is .*; allowed are modules of torch that asrsparse.models defines"
    ):
        load_exported(tmp_path / "out")


def test_a_folder_that_is_not_whole_says_what_is_wrong(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no config.json; allowed is a folder that `asrsparse export huggingface`"):
        load_exported(tmp_path)
    shutil.copytree(folder, tmp_path / "out")
    settings = read_json(folder / "config.json")
    settings["model"]["encoder"]["output_size"] = 64
    write_json(tmp_path / "out" / "config.json", settings)
    with pytest.raises(ValueError, match=r"model.safetensors is of another model than config.json describes"):
        load_exported(tmp_path / "out")
    write_json(tmp_path / "out" / "config.json", {"model": {"vocab_size": 3}})
    with pytest.raises(ValueError, match=r"is not the configuration of a model with \d+ tokens. Export again"):
        load_exported(tmp_path / "out")
    (tmp_path / "out" / "tokens.txt").unlink()
    with pytest.raises(ValueError, match=r"No tokenizer in .*tokens.txt is missing"):
        load_exported(tmp_path / "out")
