"""Sweeps: every combination once, under a name of its own, with the commands that one would type."""

import itertools
import sys

import pytest
from decoded import decoded
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from asrsparse.cli import main
from asrsparse.files import write_json, write_text
from asrsparse.scoring.score import score, score_settings
from asrsparse.scoring.trn_files import write_decoded
from asrsparse.sweeps.combinations import combine, names, split
from asrsparse.sweeps.sweep import execute, sweep

GRID = ["recipe=grid", "pruning=random,easy2hard", "pruning.keep_ratio=0.5,0.7", "seed=0,1"]
keys = st.sampled_from(
    ["seed", "pruning", "pruning.keep_ratio", "masks", "masks.method.density", "other.density", "+a"]
)
values = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True)


class Recorder:
    """A launcher that runs nothing; what it was told to fail fails."""

    poll_seconds = 0.0

    def __init__(self, fail=(), interrupt=False):
        self.fail, self.interrupt = fail, interrupt
        self.works, self.stopped = [], False

    def start(self, works):
        self.works += works
        return [Ended(RuntimeError("ended\nbadly") if w.log.parent.name in self.fail else None, self) for w in works]

    def stop(self):
        self.stopped = True


class Ended:
    def __init__(self, error, launcher):
        self.error, self.launcher = error, launcher

    def done(self):
        if self.launcher.interrupt:
            raise KeyboardInterrupt
        return True

    def exception(self):
        return self.error


def finish(run):
    """Leaves what the stages leave."""
    write_text(run.folder / "config.yaml", OmegaConf.to_yaml(run.config))
    write_json(run.folder / "train.json", {})
    write_text(run.folder / "model.safetensors", "")
    write_decoded(run.folder / "decode_test_ctc_greedy", decoded(0.2))
    score(run.folder / "decode_test_ctc_greedy", *score_settings(run.config))


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr("asrsparse.sweeps.sweep.build", lambda config: made)
    monkeypatch.setattr("asrsparse.sweeps.table.tabulate", lambda *arguments: None)
    return made


# -------------------------------------------------------------------------------------------------------- combinations


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recipe=grid", "seed=0"], "Nothing to sweep: got recipe=grid seed=0, allowed is a list: seed=0,1,2"),
        ([], "Nothing to sweep: got no word"),
        (["seed"], "Got 'seed', allowed are overrides as key=value"),
        (["seed=0,1", "name=x"], "name: got one name for 2 runs, allowed is none"),
        (["seed=0,1", "name=x,y"], "name: got several values, allowed is one"),
        (["recipe=mini,grid"], "recipe: got several values, allowed is one, since a table compares"),
        (["decode.decoder.beam_size=1,2", "decode=joint"], "decode.decoder.beam_size: got several values"),
        (["sweep.jobs=1,2"], "sweep.jobs: got several values"),
        (["seed=0,1", "seed=2"], "Contradictory: got seed more than once, allowed is once"),
        (["seed=0,1,0"], "seed: got 0 more than once"),
        (["seed=range(0,0)"], "seed: got no value"),
        (["pruning.keep_ratio=interval(0.5,0.7)"], "got an interval, allowed are lists of values"),
        (["seed=0,1", "pruning=[random"], "Hydra cannot read 'seed=0,1 pruning=.random'"),
        (["seed=0,1", "pruning=randm"], "Unknown pruning: got 'randm'.*Did you mean 'random'"),
        (["pruning=random,randm"], "Unknown pruning: got 'randm'.*Did you mean 'random'"),
        (["pruning.keep_rate=0.5,0.7"], "Unknown option: got 'pruning.keep_rate'. Did you mean 'pruning.keep_ratio'"),
        (["seed=0,1", "sweep.job=2"], "Unknown option: got 'sweep.job'. Did you mean 'sweep.jobs'"),
        (["seed=range(0,65)"], "Got 65 combinations, allowed are 64. To allow it: sweep.most_runs=65"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(words, message, recorder):
    with pytest.raises(ValueError, match=message):
        sweep(words)
    assert recorder.works == []


def test_a_folder_of_another_run_is_not_taken(tmp_path, recorder):
    finish(combine(["seed=0,1", "pruning=easy", f"exp_dir={tmp_path}"]).runs[1])
    with pytest.raises(ValueError, match=r"seed1 holds a run with another configuration \(.*exp_dir=DIR"):
        sweep(["seed=0,1", "pruning=hard", f"exp_dir={tmp_path}"])
    assert recorder.works == []


# ----------------------------------------------------------------------------------------------------------- execution


def test_what_is_finished_is_not_run_again(tmp_path, recorder, capsys):
    words = ["seed=0,1,2", f"exp_dir={tmp_path}"]
    finish(combine(words).runs[1])
    assert sweep(words) == {}
    assert [work.log.parent.name for work in recorder.works] == ["seed0", "seed2"]
    assert f"3 runs in {tmp_path}: 1 finished, 2 to do, 1 at a time.\n" in capsys.readouterr().out


def test_scores_that_are_missing_or_made_otherwise_do_not_count(tmp_path):
    run = combine(["seed=0,1", f"exp_dir={tmp_path}"]).runs[0]
    finish(run)
    assert run.is_finished()
    run.config.score.normaliser = "lower_no_punctuation"
    assert not run.is_finished()
    run.config.score.normaliser = "none"
    (run.folder / "decode_test_ctc_greedy" / "score.json").unlink()
    assert not run.is_finished()


def test_one_that_fails_stops_no_other_and_is_named(recorder):
    recorder.fail = ("seed0",)
    assert sweep(["seed=0,1", "exp_dir=nowhere"]) == {"seed0": "ended"}
    assert len(recorder.works) == 2


def test_a_dry_run_prints_the_commands_and_runs_none(recorder, capsys):
    assert sweep(["seed=0,1", "sweep.dry_run=true", "exp_dir=exp/a b"]) == {}
    assert recorder.works == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "asrsparse train 'exp_dir=exp/a b' seed=0 name=seed0"
    assert len(lines) == 6


def test_an_interrupt_stops_what_runs(tmp_path):
    launcher = Recorder(interrupt=True)
    with pytest.raises(KeyboardInterrupt):
        execute(combine(["seed=0,1", f"exp_dir={tmp_path}"]).runs, launcher)
    assert launcher.stopped


@pytest.mark.parametrize(("raised", "status"), [(None, 1), (KeyboardInterrupt, 130)])
def test_the_command_says_how_it_ended(raised, status, recorder):
    recorder.fail, recorder.interrupt = ("seed1",), raised is not None
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "seed=0,1", "exp_dir=nowhere"])
    assert ended.value.code == status
