"""The recipes for LRS2 and LRS3 on small trees in their layouts; in this process, which saves imports."""

import json
from pathlib import Path

import pytest
from lhotse import CutSet
from lrs_trees import landmarks_dir, write_lrs2, write_lrs3
from micro import MICRO

from asrsparse.cli import main as run
from asrsparse.data.cuts import read_cuts


def mini_cuts(tiny_corpus: Path) -> dict[str, CutSet]:
    """A few utterances of the mini corpus."""
    counts = {"train": 14, "test": 3}
    return {split: CutSet.from_cuts(list(read_cuts(tiny_corpus / "cuts", split))[:n]) for split, n in counts.items()}


SMALL = ["corpus.cuts.vocab_size=40", "corpus.max_seconds=6", "trainer.accumulate=1", "trainer.num_workers=0"]
SMALL += ["decode=ctc_greedy", "model=tiny"]
ONE_EPOCH = ["trainer.num_epochs=1", "trainer.accelerator=cpu", "system=full-dense"]


def corpus_in(folder: Path) -> list[str]:
    """Where a tree and its landmarks lie."""
    return [f"corpus.corpus_dir={folder}", f"corpus.landmarks_dir={landmarks_dir(folder)}"]


def test_lrs3_and_its_curriculum_from_a_tree_in_its_layout(tiny_corpus, tmp_path):
    write_lrs3(tmp_path / "lrs3", mini_cuts(tiny_corpus))
    folders = [f"data_dir={tmp_path / 'data'}", f"exp_dir={tmp_path / 'exp'}"]
    overrides = ["recipe=lrs3", *SMALL, *MICRO, *ONE_EPOCH, *folders]
    run(["prepare", *overrides, *corpus_in(tmp_path / "lrs3")])
    cuts = list(read_cuts(tmp_path / "data" / "cuts", "train"))
    assert sum(cut.id.startswith("pretrain-0d6iSvF1UmA-00001-") for cut in cuts) >= 2
    assert all(len(cut.load_custom("video")) == pytest.approx(25 * cut.duration, abs=0.51) for cut in cuts)

    run(["train", *overrides, "name=short", "trainer.max_seconds=3.5"])
    weights = tmp_path / "exp" / "short" / "model.safetensors"
    run(["train", *overrides, f"init_from={weights}"])
    short, full = (
        json.loads((tmp_path / "exp" / name / "train.json").read_text()) for name in ("short", "full-dense-video")
    )
    assert (short["init_from"], full["init_from"]) == (None, str(weights))
    assert short["hours_heard"] < full["hours_heard"]
    run(["decode", *overrides])
    run(["score", *overrides])
    score = json.loads((tmp_path / "exp/full-dense-video/decode_test_ctc_greedy/score.json").read_text())
    assert score["utterances"] == 3


def test_lrs2_from_a_tree_in_its_layout(tiny_corpus, tmp_path):
    write_lrs2(tmp_path / "lrs2", mini_cuts(tiny_corpus))
    folders = [f"data_dir={tmp_path / 'data'}", f"exp_dir={tmp_path / 'exp'}"]
    overrides = ["recipe=lrs2", "modality=audiovisual", *SMALL, *MICRO, *ONE_EPOCH, *folders]
    run(["prepare", *overrides, *corpus_in(tmp_path / "lrs2")])
    for stage in ("train", "decode", "score"):
        run([stage, *overrides])
    score = json.loads((tmp_path / "exp/full-dense-audiovisual/decode_test_ctc_greedy/score.json").read_text())
    assert score["utterances"] == 3
