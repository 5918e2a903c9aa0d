"""The recipes for LibriSpeech and for Kaldi data directories on small corpora; in this process, which saves imports."""

import json
from pathlib import Path

import pytest
from librispeech_tree import write_librispeech
from micro import MICRO

from asrsparse.cli import main
from asrsparse.data.cuts import read_cuts
from asrsparse.export.kaldi_dirs import export_kaldi

COUNTS = {"train": 10, "dev": 4, "test": 4}
SMALL = ["trainer.accumulate=1", "trainer.num_workers=0", "trainer.num_epochs=1", "trainer.accelerator=cpu"]
SMALL += ["decode=ctc_greedy", "model=tiny", "system=full-dense", "systems=[full-dense]"]


def run_through(folder: Path, corpus_dir: Path, *overrides: str) -> None:
    """All stages; what stands in the table is what was asked for."""
    common = [*overrides, *SMALL, *MICRO, f"data_dir={folder / 'data'}", f"exp_dir={folder / 'exp'}"]
    main(["prepare", *common, f"corpus.corpus_dir={corpus_dir}"])
    for stage in ("train", "decode", "score", "report"):
        main([stage, *common])
    assert json.loads((folder / "exp" / "results.json").read_text())["rows"][0]["name"] == "full-dense"
    assert (folder / "exp" / "RESULTS.md").is_file()


def scored(folder: Path, split: str) -> int:
    path = folder / "exp" / "full-dense" / f"decode_{split}_ctc_greedy" / "score.json"
    return int(json.loads(path.read_text())["utterances"])


def test_librispeech_from_a_tree_in_its_layout(tiny_corpus, tmp_path):
    cuts = {split: list(read_cuts(tiny_corpus / "cuts", split))[:number] for split, number in COUNTS.items()}
    write_librispeech(tmp_path / "LibriSpeech", cuts)
    run_through(tmp_path, tmp_path, "recipe=librispeech_100", "corpus.cuts.vocab_size=50")
    train = [cut.id for cut in read_cuts(tmp_path / "data" / "cuts", "train")]
    assert len(train) == 3 * COUNTS["train"]
    assert json.loads((tmp_path / "exp" / "full-dense" / "train.json").read_text())["hours_heard"] == pytest.approx(
        sum(cut.duration for cut in read_cuts(tmp_path / "data" / "cuts", "train")) / 3600
    )
    for split in ("dev-clean", "dev-other", "test-clean", "test-other"):
        assert scored(tmp_path, split) == 2


def test_a_kaldi_data_directory(tiny_corpus, tmp_path):
    export_kaldi(tiny_corpus, tmp_path / "kaldi")
    (tmp_path / "kaldi" / "test").rename(tmp_path / "kaldi" / "test_dev93")
    run_through(
        tmp_path, tmp_path / "kaldi", "recipe=kaldi", "corpus.cuts.vocab_size=50", "corpus.test_splits=[test_dev93]"
    )
    assert scored(tmp_path, "test_dev93") == len(list(read_cuts(tiny_corpus / "cuts", "test")))
