from pathlib import Path

import numpy as np
import pytest
from lrs_trees import Spoken, landmarks_dir, write_clip

from asrsparse.corpora.lrs2 import find_splits, prepare_lrs2, read_list
from asrsparse.corpora.manifests import SPLITS, read_split

SPOKEN = Spoken(np.zeros(16_000, np.float32), [("SO", 0.1, 0.4), ("WHAT", 0.6, 0.9)])
LISTS = {
    "pretrain": "5535/00001\n",
    "train": "5535/00001\n5535/00002\n",
    "val": "6330/00001\n",
    "test": "6331/00001 NF\n",
}


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "lrs2"
    write_clip(folder / "mvlrs_v1/pretrain/5535/00001", SPOKEN)
    for name in ("5535/00001", "5535/00002", "6330/00001", "6331/00001", "6331/00002"):
        write_clip(folder / f"mvlrs_v1/main/{name}", SPOKEN, with_times=False)
    for name, lines in LISTS.items():
        (folder / f"{name}.txt").write_text(lines)
    return folder


def prepare(corpus: Path, **arguments) -> dict[str, list[str]]:
    """Prepares, and returns the ids of each split."""
    output = corpus.parent / "prepared"
    prepare_lrs2(
        corpus, output, num_jobs=1, **{"max_left_out": 0.0, "landmarks_dir": landmarks_dir(corpus), **arguments}
    )
    return {split: [segment.id for segment in read_split(output / "manifests", split)[1]] for split in SPLITS}


def test_splits_are_those_of_the_lists_and_subsets_share_names(corpus):
    assert prepare(corpus) == {
        "train": ["pretrain-5535-00001", "main-5535-00001", "main-5535-00002"],
        "dev": ["main-6330-00001"],
        "test": ["main-6331-00001"],  # 00002 is in no list
    }
    for key in ("main/5535/00001", "pretrain/5535/00001"):
        assert (corpus.parent / "prepared" / "audio" / f"{key}.flac").is_file()


def test_lists_may_be_in_mvlrs_v1_and_pretrain_may_be_left_out(corpus):
    for name in ("train", "val", "test"):
        (corpus / f"{name}.txt").rename(corpus / "mvlrs_v1" / f"{name}.txt")
    (corpus / "pretrain.txt").unlink()
    with pytest.raises(ValueError, match=r"holds no list pretrain\.txt\. .*corpus\.pretrain=false"):
        prepare(corpus)
    assert prepare(corpus, pretrain=False)["train"] == ["main-5535-00001", "main-5535-00002"]


def test_a_missing_clip_that_a_list_names_is_left_out(corpus):
    (corpus / "test.txt").write_text("6331/00001 NF\n6331/00007 NF\n")
    assert prepare(corpus, max_left_out=0.2)["test"] == ["main-6331-00001"]
    name, reason, _ = (corpus.parent / "prepared" / "left_out.tsv").read_text().split("\t")
    assert (name, reason) == ("main-6331-00007", f"no video: {corpus / 'mvlrs_v1/main/6331/00007.mp4'}")


def test_another_folder_names_layout_and_the_form_of_the_bbc(tmp_path):
    with pytest.raises(ValueError, match=r"is not LRS2\. Expected are mvlrs_v1/main/.*BBC gives LRS2 .*form: https"):
        find_splits(tmp_path)


@pytest.mark.parametrize("line", ["../../etc/00001", "/etc/00001", "6331", "6331/one"])
def test_a_line_that_leads_elsewhere_is_refused(tmp_path, line):
    (tmp_path / "test.txt").write_text(f"6331/00001 NF\n{line}\n")
    with pytest.raises(ValueError, match=r"test\.txt:2: got .*, expected PROGRAMME/NUMBER"):
        read_list(tmp_path / "test.txt")


def test_a_name_that_is_listed_twice_is_used_once(tmp_path):
    (tmp_path / "test.txt").write_text("6331/00001 NF\n\n6331/00001 NF\r\n6331/00002\n")
    assert read_list(tmp_path / "test.txt") == ["6331/00001", "6331/00002"]
