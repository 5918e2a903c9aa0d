"""The README is short, and its tree is the tree of the repository."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MOST_LINES = 200


def shown_entries(text: str) -> list[str]:
    """The paths of a tree: one line per entry, `name`, spaces, comment; two spaces of indentation are one level."""
    entries: list[str] = []
    folder = ""
    for line in text.splitlines():
        indentation, name, comment = re.fullmatch(r"((?:  )?)(\S+) {2,}(\S.*)", line).groups()
        assert comment
        if not indentation:
            folder = name
        entries.append(folder + name if indentation else name)
    return entries


def tracked_entries(files: list[str]) -> set[str]:
    """The entries of the top level and of `asrsparse/`; folders end in a slash, hidden entries are left out."""
    entries = set()
    for file in files:
        top, *below = file.split("/")
        entries.add(f"{top}/" if below else top)
        if top == "asrsparse":
            entries.add(f"asrsparse/{below[0]}/" if below[1:] else f"asrsparse/{below[0]}")
    return {entry for entry in entries if not entry.startswith(".")}


def test_it_is_a_front_door():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_its_tree_is_the_repositorys():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    block = re.search(r"## Where things are\n\n```text\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    shown = shown_entries(block[1])
    assert sorted(shown) == sorted(tracked_entries(listed.stdout.splitlines()))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md"])
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_a_tree_is_parsed_by_indentation():
    text = "run.sh     the commands\nasrsparse/   the package\n  cli.py  the command line\n  masks/   masks\n"
    assert shown_entries(text) == ["run.sh", "asrsparse/", "asrsparse/cli.py", "asrsparse/masks/"]
    files = [".gitignore", "run.sh", "asrsparse/cli.py", "asrsparse/masks/binary.py", "asrsparse/masks/a/b.py"]
    assert tracked_entries(files) == set(shown_entries(text))
