"""The site of docs/: built without a warning, and complete in itself. And the tour's commands, on a tiny corpus."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from docs_commands import shell_commands
from micro import MICRO

from asrsparse.cli import main

ROOT = Path(__file__).parents[2]
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Loaded(HTMLParser):
    """Collects the addresses that a page loads by itself; links to follow are none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in LOADING and (address := dict(attrs).get(LOADING[tag])):
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        assert [address for address in loaded.addresses if re.match("(https?:)?//", address)] == []
    for sheet in site.rglob("*.css"):
        assert re.findall(r"url\([\"']?https?:[^)]*|@import[^;]*", sheet.read_text(encoding="utf-8")) == []


@pytest.mark.slow
def test_the_reference_has_what_the_subjects_export(site):
    from asrsparse import masks, pruning

    for subject in (masks, pruning):
        page = (site / "reference" / f"{subject.__name__.split('.')[1]}.html").read_text(encoding="utf-8")
        assert [n for n in subject.__all__ if not re.search(rf'id="{subject.__name__}[\w.]*\.{n}"', page)] == []


@pytest.mark.slow
def test_the_tour_runs(tiny_corpus, tmp_path, monkeypatch, capsys):
    short = ["trainer.num_epochs=2", "pruning.plan.warmup_epochs=1", "pruning.plan.final_epochs=0"]
    here = [*MICRO, *short, "trainer.accelerator=cpu", f"data_dir={tiny_corpus}"]
    monkeypatch.chdir(tmp_path)
    for program, *words in shell_commands(ROOT / "docs" / "tour.md"):
        if program == "asrsparse" and words[0] != "prepare":
            main([*words, *([] if words[1] in ("pruning", "masks") else here)])
    assert "name=easy2hard-seed1" in capsys.readouterr().out
    for made in ("RESULTS.md", "pruning.html", "masks.html", "random-half/model.safetensors"):
        assert (tmp_path / "exp" / "mini" / made).is_file()
