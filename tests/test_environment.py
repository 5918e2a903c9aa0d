"""What is told about a machine, and what is not."""

import platform
import subprocess

import pytest

from asrsparse.environment import _code_state, environment, portable_command


def test_environment_names_versions_but_neither_host_nor_folders():
    values = environment()
    assert {
        "date",
        "python",
        "torch",
        "asrsparse",
        "git hash",
        "commit date",
        "cpu",
        "threads",
        "gpu",
        "os",
    } <= values.keys()
    assert all(values.values())
    assert values["python"] == platform.python_version()
    assert platform.node() not in values.values()
    assert not any(value.startswith("/") for value in values.values())


def test_state_of_the_code(tmp_path):
    def git(*arguments):
        settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *settings, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    assert _code_state(tmp_path)["git hash"] == "not a git checkout"
    git("init")
    (tmp_path / "__init__.py").write_text("")
    assert _code_state(tmp_path)["git hash"] == "not a git checkout"  # somebody's repository, which does not hold it
    git("add", "__init__.py")
    git("commit", "-m", "first")
    state = _code_state(tmp_path)
    assert state["git hash"] == git("rev-parse", "HEAD").stdout.strip()
    assert state["working tree"] == "as committed"
    (tmp_path / "new.py").write_text("")
    assert _code_state(tmp_path)["working tree"] == "changed since that commit"


@pytest.mark.parametrize(
    "command", ["asrsparse train a=1/3 b=../c d=~/e f=${g}/h i=$J/k l=exp/m n=https://o/p", "a --b"]
)
def test_other_slashes_stay(command):
    assert portable_command(command) == command
