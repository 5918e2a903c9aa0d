"""run.sh and its set-up: options, the commands that they become, and a .venv that is whole or made again.

Nothing is trained or installed: the scripts run in a copy of the repository (with a space in its path) in which the
environment, and in the tests of the set-up `uv`, are stand-ins that write down how they were called.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = ["mini", "grid", "lrs2", "lrs3", "librispeech", "librispeech_100", "kaldi"]
SYSTEMS = ["full-dense", "easy2hard", "masks", "easy2hard-masks"]
TOOLS = [
    "awk",
    "bash",
    "basename",
    "cat",
    "cut",
    "df",
    "dirname",
    "find",
    "flock",
    "head",
    "mkdir",
    "mv",
    "nproc",
    "rm",
    "sleep",
    "xargs",
]
TOOLS += ["sha256sum", "touch", "ln", "python3"]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # in `bin/` it may be a link: to be replaced, not the system's tool written through it
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)
    return path


def call(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(command, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the scripts whose commands only write down their arguments, one line a call, into calls.txt."""
    root = tmp_path / "a clone"
    for name in ["run.sh", *(f"recipes/{recipe}/run.sh" for recipe in RECIPES)]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for name in SYSTEMS:
        (root / "asrsparse/conf/system").mkdir(parents=True, exist_ok=True)
        (root / f"asrsparse/conf/system/{name}.yaml").touch()
    script(root / "tools/setup_env.sh", "echo set-up >> calls.txt")
    for name in ["asrsparse", "ruff", "mypy", "pytest"]:
        script(root / f".venv/bin/{name}", f'echo "{name} $*" >> calls.txt')
    return root


def calls(clone: Path) -> list[str]:
    path = clone / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_no_argument_runs_every_stage_of_the_mini_recipe_for_every_system(clone: Path) -> None:
    assert call("./run.sh", "--jobs", "1", cwd=clone).returncode == 0
    per_system = [
        f"asrsparse {command} recipe=mini system={name}" for command in ["train", "decode", "score"] for name in SYSTEMS
    ]
    expected = ["set-up", "asrsparse prepare recipe=mini system=full-dense", *per_system]
    expected.append(f"asrsparse report recipe=mini system=full-dense systems=[{','.join(SYSTEMS)}]")
    assert [line.removesuffix(" ") for line in calls(clone)] == expected


@pytest.mark.parametrize("stop", [["--stop-stage", "3"], ["--stop_stage", "3"], ["--stop-stage=3"], ["--stop_stage=3"]])
def test_stages_systems_and_overrides(clone: Path, stop: list[str]) -> None:
    done = call(
        "./run.sh", "--stage", "2", *stop, "--systems", "masks easy2hard", "--jobs=1", "model=tiny", "seed=1", cwd=clone
    )
    assert done.returncode == 0, done.stderr
    expected = [
        f"asrsparse {c} recipe=mini system={s} model=tiny seed=1"
        for c in ["train", "decode"]
        for s in ["masks", "easy2hard"]
    ]
    assert calls(clone) == ["set-up", *expected]


def test_the_corpus_folder_is_made_absolute_and_quoted_for_hydra(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "my corpora, all" / "s1").mkdir(parents=True)
    done = call(clone / "recipes/grid/run.sh", "--corpus-dir", "my corpora, all", "--stop-stage=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        calls(clone)[1]
        == f"asrsparse prepare recipe=grid system=full-dense corpus.corpus_dir='{tmp_path}/my corpora, all'"
    )


def test_grid_that_is_prepared_needs_no_corpus_folder(clone: Path) -> None:
    (clone / "data/grid/cuts").mkdir(parents=True)
    (clone / "data/grid/cuts/.completed").touch()
    done = call("./run.sh", "--recipe", "grid", "--systems", "masks", "--stop-stage", "2", "--jobs=1", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "data/grid is prepared already" in done.stderr
    assert calls(clone)[1] == "asrsparse train recipe=grid system=masks"


@pytest.mark.parametrize("path", ["run.sh", *(f"recipes/{name}/run.sh" for name in RECIPES)])
def test_help_explains_stages_options_and_examples_without_set_up(clone: Path, path: str) -> None:
    done = call(clone / path, "--help", cwd=clone.parent)
    assert done.returncode == 0
    for word in ["Stages", "prepare", "report", "--corpus-dir", "--systems", "--stop-stage", "test", "Examples"]:
        assert word in done.stdout
    assert "--all runs the slow tests" in done.stdout
    assert calls(clone) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stopstage", "3"], "unknown option '--stopstage'; did you mean --stop-stage? Known: --recipe"),
        (["--system", "masks"], "unknown option '--system'; did you mean --systems?"),
        (["tset"], "unknown word 'tset'; did you mean test?"),
        (
            ["--recipe", "gird"],
            "unknown recipe 'gird'; did you mean grid? Known: grid kaldi librispeech librispeech_100 lrs2 lrs3 mini.",
        ),
        (["--systems", "full-dense mask"], "unknown system 'mask'; did you mean masks? Known: easy2hard"),
        (["--stage"], "--stage needs a value"),
        (["--jobs", "0"], "--jobs got '0'; allowed are 1 to 99."),
        (["--stage", "6"], "--stage got '6'; a stage is one of 1 prepare"),
        (["--stage", "3", "--stop-stage", "2"], "--stage 3 comes after --stop-stage 2"),
        (["--recipe", "grid"], "needs its corpus: add --corpus-dir DIR"),
        (["--recipe", "lrs3"], "needs its corpus: add --corpus-dir DIR, the folder that holds pretrain/, trainval/"),
        (["--recipe", "lrs2"], "needs its corpus: add --corpus-dir DIR, the folder that holds mvlrs_v1/ and its"),
        (["--recipe", "librispeech"], "the folder that holds train-clean-100/, dev-clean/ and so on"),
        (["--recipe", "kaldi"], "the folder that holds the data directories train/, dev/ and test/"),
        (["--recipe", "grid", "--corpus-dir", "nowhere"], "--corpus-dir got 'nowhere', which is no folder"),
        (["--recipe", "grid", "--corpus-dir", "empty"], "--corpus-dir got 'empty', which is empty"),
        (["--corpus-dir", "empty"], "mini is synthesised and needs none"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(clone: Path, arguments: list[str], message: str) -> None:
    (clone / "empty").mkdir()
    done = call("./run.sh", *arguments, cwd=clone)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert calls(clone) == []


def test_a_failing_stage_stops_the_recipe_with_its_status(clone: Path) -> None:
    script(clone / ".venv/bin/asrsparse", 'echo "asrsparse $1" >> calls.txt; [ "$1" != train ] || exit 3')
    assert call("./run.sh", "--jobs", "1", cwd=clone).returncode == 3
    assert calls(clone) == ["set-up", "asrsparse prepare", "asrsparse train"]


def test_systems_are_trained_side_by_side_and_every_one_before_the_next_stage(clone: Path) -> None:
    # A training that waits, ten seconds at most, until another has begun: it ends well only if two run at once.
    meet = 'touch "here.$3"; for i in {1..100}; do [ "$(ls here.* | wc -l)" -lt 2 ] || exit 0; sleep 0.1; done; exit 1'
    script(clone / ".venv/bin/asrsparse", f'echo "asrsparse $*" >> calls.txt; [ "$1" != train ] || ({meet})')
    words = ["--jobs", "2", "--stage", "2", "--stop-stage", "3", "exp_dir=my runs", "corpus.cuts={a: 1}"]
    done = call("./run.sh", *words, cwd=clone)
    assert done.returncode == 0, done.stderr
    made = [line for line in calls(clone) if line != "set-up"]
    extra = "exp_dir=my runs corpus.cuts={a: 1}"
    assert sorted(made[:4]) == sorted(f"asrsparse train recipe=mini system={name} {extra}" for name in SYSTEMS)
    assert made[4:] == [f"asrsparse decode recipe=mini system={name} {extra}" for name in SYSTEMS]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_system_that_stops_at_the_time_of_another_is_trained_last_and_shown_where_it_was_named(
    clone: Path, jobs: str
) -> None:
    same = "full-dense-as-easy2hard"
    shutil.copy(ROOT / f"asrsparse/conf/system/{same}.yaml", clone / f"asrsparse/conf/system/{same}.yaml")
    words = ["--systems", f"{same} full-dense easy2hard", "--jobs", jobs, "--stage", "2", "--stop-stage", "3"]
    assert call("./run.sh", *words, cwd=clone).returncode == 0
    made = [line.split()[1:4:2] for line in calls(clone) if line != "set-up"]
    assert sorted(made[:2]) == [["train", "system=easy2hard"], ["train", "system=full-dense"]]
    assert made[2] == ["train", f"system={same}"]
    assert made[3:] == [["decode", f"system={name}"] for name in (same, "full-dense", "easy2hard")]


def test_a_training_that_fails_beside_others_is_shown_and_stops_the_recipe(clone: Path) -> None:
    fail_one = '[ "$3" != system=masks ] || { echo "no more disk" >&2; exit 2; }'
    script(clone / ".venv/bin/asrsparse", f'echo "asrsparse $1 $3" >> calls.txt; {fail_one}')
    done = call("./run.sh", "--jobs", "2", cwd=clone)
    assert done.returncode == 2
    assert "no more disk" in done.stderr
    assert "a training did not reach its end; its last lines above say why. The same command resumes it." in done.stderr
    assert sorted(line for line in calls(clone) if " train " in line) == sorted(
        f"asrsparse train system={name}" for name in SYSTEMS
    )
    assert not [line for line in calls(clone) if "decode" in line]


def test_the_test_command_checks_style_and_types_before_the_tests(clone: Path) -> None:
    assert call("./run.sh", "test", "-k", "pruning", cwd=clone).returncode == 0
    checks = ["set-up", "ruff check .", "ruff format --check .", "mypy "]
    assert calls(clone) == [*checks, "pytest -n 2 --dist worksteal -m not slow -k pruning"]


def test_the_test_command_leaves_out_no_test_when_asked_for_all(clone: Path) -> None:
    for words in (["--all", "-k", "pruning"], ["-k", "pruning", "--all"]):
        assert call("./run.sh", "test", *words, cwd=clone).returncode == 0
        assert calls(clone)[-1] == "pytest -n 2 --dist worksteal --hypothesis-profile=thorough -k pruning"


# ---- tools/setup_env.sh


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A copy of the set-up, beside a `bin/` for PATH with a few tools, this Python and a `uv` that takes notes."""
    root = tmp_path / "a clone"
    (root / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup_env.sh", root / "tools/setup_env.sh")
    (root / "constraints.txt").write_text("numpy==2.2.6\n")
    (root / "pyproject.toml").write_text("[project]\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = sys.executable if name == "python3" else shutil.which(name)
        assert found, f"{name} is missing here"
        (tools / name).symlink_to(found)
    script(tools / "uv", UV)
    return root


UV = f"""
[ "$1" != --version ] || exit 0
echo "$*" >> calls.txt
case "$1 $2" in
  "venv --quiet") mkdir -p .venv/bin; ln -sf "{sys.executable}" .venv/bin/python ;;
  "pip install") sleep "${{UV_SECONDS:-0}}"; touch .venv/installed; exit "${{UV_STATUS:-0}}" ;;
esac
"""


def set_up(bare: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return call("tools/setup_env.sh", cwd=bare, PATH=str(bare.parent / "bin"), **env)


def installations(bare: Path) -> int:
    return sum("-r constraints.txt" in line for line in calls(bare))


def test_the_environment_is_made_once_and_brought_up_to_date_when_the_pins_change(bare: Path) -> None:
    assert "done in" in set_up(bare).stderr
    assert set_up(bare).stderr == ""
    assert installations(bare) == 1
    (bare / "constraints.txt").write_text("numpy==2.2.7\n")
    assert "bringing .venv up to date" in set_up(bare).stderr
    assert (installations(bare), set_up(bare).stderr) == (2, "")


def test_an_interrupted_installation_is_made_again_from_scratch(bare: Path) -> None:
    assert set_up(bare, UV_STATUS="1").returncode == 1
    (bare / ".venv/half").touch()
    assert set_up(bare).returncode == 0
    assert not (bare / ".venv/half").exists()
    assert (bare / ".venv/setup.stamp").exists()


def test_a_moved_repository_gets_a_new_environment(bare: Path) -> None:
    set_up(bare)
    moved = bare.rename(bare.with_name("moved"))
    assert "making .venv" in set_up(moved).stderr
    assert str(moved) in (moved / ".venv/setup.stamp").read_text()


def test_of_two_calls_at_once_one_makes_the_environment_and_one_waits(bare: Path) -> None:
    env = os.environ | {"PATH": str(bare.parent / "bin"), "UV_SECONDS": "1"}
    both = [
        subprocess.Popen(["tools/setup_env.sh"], cwd=bare, env=env, stderr=subprocess.PIPE, text=True) for _ in "12"
    ]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert installations(bare) == 1
    assert sum("waiting for another call" in text for text in said) == 1


def test_an_environment_of_another_maker_is_left_alone(bare: Path) -> None:
    (bare / ".venv").mkdir()
    (bare / ".venv/pyvenv.cfg").touch()
    done = set_up(bare)
    assert done.returncode == 1
    assert "this script did not make it. Move it away" in done.stderr
    assert list((bare / ".venv").iterdir()) == [bare / ".venv/pyvenv.cfg"]


def test_too_little_disk_is_said_first(bare: Path) -> None:
    script(bare.parent / "bin/df", "echo header; echo /dev/sda 100 98 2097152 98% /")
    done = set_up(bare)
    assert done.returncode == 1
    assert "2 GB are free" in done.stderr
    assert "about 7 GB" in done.stderr
    assert calls(bare) == []


def test_an_interpreter_that_does_not_run_is_passed_over(bare: Path) -> None:
    script(bare.parent / "bin/python3.13", "echo 'shim: python3.13: command not found' >&2; exit 127")
    assert set_up(bare).returncode == 0


def test_no_allowed_python_names_what_was_found_what_is_allowed_and_the_remedy(bare: Path) -> None:
    script(bare.parent / "bin/python3", "echo 3.14")
    done = set_up(bare)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "found 3.14 (python3); allowed are Python 3.10, 3.11, 3.12 and 3.13. Install one" in done.stderr


def test_a_named_python_that_is_too_old_is_refused(bare: Path) -> None:
    old = script(bare.parent / "old/python", "echo 3.9")
    done = set_up(bare, PYTHON=str(old))
    assert f"found 3.9 ({old}); allowed are" in done.stderr


def test_without_uv_a_python_without_venv_names_the_package_to_install(bare: Path) -> None:
    (bare.parent / "bin/uv").unlink()
    script(bare.parent / "bin/python3", "case $2 in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac")
    done = set_up(bare)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.12 is here without its venv module" in done.stderr
    assert "sudo apt-get install python3-venv" in done.stderr
