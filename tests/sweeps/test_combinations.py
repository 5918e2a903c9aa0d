"""Combinations: each of them once, under a name of its own, with the commands that one would type."""

import itertools
import sys

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from swept_runs import finish

from asrsparse.sweeps.combinations import combine, names, split

GRID = ["recipe=grid", "pruning=random,easy2hard", "pruning.keep_ratio=0.5,0.7", "seed=0,1"]
keys = st.sampled_from(
    ["seed", "pruning", "pruning.keep_ratio", "masks", "masks.method.density", "other.density", "+a"]
)
values = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True)


@pytest.mark.parametrize(
    "words",
    [
        GRID,
        ["seed=range(0,3)", "pruning=choice(random,easy)", "trainer.num_epochs=4"],
        ["trainer.betas=[0.9,0.98],[0.8,0.9]", "name='a,b'", "+x='a b','c,d'", "y=range(0.5,0.8,0.1)"],
    ],
)
def test_combinations_are_those_of_hydras_own_sweeper(words):
    fixed, swept = split([word for word in words if not word.startswith("name=a")])
    ours = [
        sorted([*fixed, *(f"{key}={value}" for key, value in zip(swept, chosen, strict=True))])
        for chosen in itertools.product(*swept.values())
    ]
    theirs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)[0]
    assert ours == [sorted(chosen) for chosen in theirs]


def test_a_glob_knows_the_choices_and_not_their_parts():
    swept = split(["pruning=glob(e*)", "masks=glob(*)"])[1]
    assert swept["pruning"] == ["easy", "easy2hard", "epsilon_greedy"]
    assert "_common" not in swept["masks"]
    assert "set" in swept["masks"]


@given(st.dictionaries(keys, values, min_size=1, max_size=3))
def test_no_two_combinations_have_the_same_name_and_all_can_be_folders(swept):
    made = names(swept)
    assert len(made) == len(set(made)) == len(list(itertools.product(*swept.values())))
    for name in made:
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\ '\",=~$")


def test_names_say_what_differs():
    assert names({"pruning": ["random"], "pruning.keep_ratio": ["0.5"], "seed": ["0"]}) == [
        "random-keep_ratio0.5-seed0"
    ]
    assert names({"a.density": ["1"], "b.density": ["2"]}) == ["a.density1-b.density2"]
    assert names({"stream/audio": ["waveform", "logmel"]}) == ["waveform", "logmel"]
    assert names({"optim.betas": ["[0.9,0.98]", "[0.9_0.98]"]}) == ["betas_0.9_0.98_", "betas_0.9_0.98_+2"]


def test_the_commands_are_those_that_one_would_type():
    runs = combine([*GRID, "sweep.jobs=2"]).runs
    assert len(runs) == 8
    words = ["recipe=grid", "exp_dir=exp/grid-sweep", "pruning=easy2hard", "pruning.keep_ratio=0.5", "seed=1"]
    assert runs[5].commands() == [
        [sys.executable, "-m", "asrsparse", stage, *words, "name=easy2hard-keep_ratio0.5-seed1"]
        for stage in ("train", "decode", "score")
    ]
    assert runs[5].group == runs[4].group == "easy2hard-keep_ratio0.5"
    assert str(runs[5].folder) == runs[5].config.run_dir == "exp/grid-sweep/easy2hard-keep_ratio0.5-seed1"
    assert (runs[5].config.pruning.keep_ratio, runs[5].config.seed) == (0.5, 1)


def test_a_folder_can_be_named_and_seeds_alone_are_runs_of_the_system():
    combined = combine(["recipe=grid", "system=masks", "seed=0,1", "exp_dir=exp/mine"])
    assert [str(run.folder) for run in combined.runs] == ["exp/mine/seed0", "exp/mine/seed1"]
    assert {run.group for run in combined.runs} == {"masks"}


def test_scores_that_are_missing_or_made_otherwise_do_not_count(tmp_path):
    run = combine(["seed=0,1", f"exp_dir={tmp_path}"]).runs[0]
    finish(run)
    assert run.is_finished()
    run.config.score.normaliser = "lower_no_punctuation"
    assert not run.is_finished()
    run.config.score.normaliser = "none"
    (run.folder / "decode_test_ctc_greedy" / "score.json").unlink()
    assert not run.is_finished()
