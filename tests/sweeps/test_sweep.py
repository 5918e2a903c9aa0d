"""Sweeps: what is not finished runs, a failure stops no other run, and mistakes are named before anything runs."""

import pytest
from swept_runs import finish

from asrsparse.cli import main
from asrsparse.sweeps.combinations import combine
from asrsparse.sweeps.sweep import execute, sweep


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


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr("asrsparse.sweeps.sweep.build", lambda config: made)
    monkeypatch.setattr("asrsparse.sweeps.sweep.tabulate", lambda *arguments: None)
    return made


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


def test_what_is_finished_is_not_run_again(tmp_path, recorder, capsys):
    words = ["seed=0,1,2", f"exp_dir={tmp_path}"]
    finish(combine(words).runs[1])
    assert sweep(words) == {}
    assert [work.log.parent.name for work in recorder.works] == ["seed0", "seed2"]
    assert f"3 runs in {tmp_path}: 1 finished, 2 to do, 1 at a time.\n" in capsys.readouterr().out


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
