"""The corpus that recipes/README.md adds is one: its files are taken out of the page and run."""

import re
import sys
from pathlib import Path

import pytest
from kaldi_dirs import write_tone

from asrsparse.config import CONF_DIR, build, compose_config
from asrsparse.corpora.manifests import SPLITS
from asrsparse.data.cuts import read_cuts

PAGE = Path(__file__).parents[1] / "recipes" / "README.md"
DIGITS = ["three", "seven", "one"]


@pytest.fixture
def blocks() -> dict[str, str]:
    """The blocks of code by the file that stands before them in bold."""
    found = re.findall(r"\*\*\d\. `([^`]+)`\*\*.*?```\w+\n(.*?)```", PAGE.read_text(), re.S)
    return dict(found)


def test_the_page_shows_three_files(blocks):
    assert list(blocks) == [
        "asrsparse/corpora/digits.py",
        "asrsparse/conf/corpus/digits.yaml",
        "asrsparse/conf/recipe/digits.yaml",
    ]


def test_its_corpus_is_prepared(blocks, tmp_path, monkeypatch):
    conf_dir = tmp_path / "conf"
    for path in CONF_DIR.rglob("*.yaml"):
        target = conf_dir / path.relative_to(CONF_DIR)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    for name in ("corpus", "recipe"):
        (conf_dir / name / "digits.yaml").write_text(blocks[f"asrsparse/conf/{name}/digits.yaml"])
    (tmp_path / "digits.py").write_text(blocks["asrsparse/corpora/digits.py"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "asrsparse.corpora.digits", __import__("digits"))
    for split in SPLITS:
        for word in DIGITS:
            write_tone(tmp_path / "corpus" / split / f"anna_{word}.wav")
    overrides = [f"corpus.corpus_dir={tmp_path / 'corpus'}", f"data_dir={tmp_path / 'data'}"]
    config = compose_config(["recipe=digits", *overrides], conf_dir)
    build(config.corpus.prepare)
    build(config.corpus.cuts, num_jobs=1)
    cuts = list(read_cuts(tmp_path / "data" / "cuts", "test"))
    assert sorted(cut.supervisions[0].text for cut in cuts) == sorted(DIGITS)
    assert (config.recipe_name, config.trainer.num_epochs) == ("digits", 20)


def test_the_table_names_all_recipes():
    known = sorted(path.parent.name for path in PAGE.parent.glob("*/run.sh"))
    first_column = "".join(line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    assert sorted(re.findall(r"`(\w+)`", first_column)) == known
