"""Work in processes: all of it or up to what fails, never twice at the same time, and stopped when asked to."""

import os
import signal
import sys
import time

import pytest

from asrsparse.sweeps.launchers import Local, Submitit, Work

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def say(*words, status=0):
    return [sys.executable, "-c", f"print({' '.join(words)!r}); raise SystemExit({status})"]


def wait_for(log, text="up\n"):
    for _ in range(600):
        if log.is_file() and text in log.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {text!r} in {log}")


def errors(started, poll_seconds=0.05):
    for work in started:
        while not work.done():
            time.sleep(poll_seconds)
    return [work.exception() for work in started]


def test_commands_run_in_order_and_what_they_print_is_kept(tmp_path):
    work = Work([say("one"), say("two")], tmp_path / "new" / "log")
    work()
    work()
    assert [line for line in work.log.read_text().splitlines() if line[0] != "+"] == ["one", "two"] * 2


def test_a_command_that_fails_is_the_last(tmp_path):
    with pytest.raises(RuntimeError, match="ended with status 3"):
        Work([say("one", status=3), say("two")], tmp_path / "log")()
    assert "two\n" not in (tmp_path / "log").read_text()


def test_nobody_works_beside_what_still_runs(tmp_path):
    first = Work([SLEEP], tmp_path / "log")
    started = Local(jobs=1, gpus=None).start([first])
    wait_for(first.log)
    with pytest.raises(RuntimeError, match="another process runs the same commands"):
        Work([say("two")], tmp_path / "log")()
    first.stop()
    assert str(started[0].exception()) == "stopped"
    Work([say("two")], tmp_path / "log")()


def test_local_runs_all_and_gives_each_the_reason_of_its_own(tmp_path):
    works = [Work([say(str(n), status=n)], tmp_path / str(n) / "log") for n in range(3)]
    found = errors(Local(jobs=2, gpus=None).start(works))
    assert [str(error) for error in found] == ["None", "ended with status 1", "ended with status 2"]


def test_each_run_has_a_gpu_for_itself(tmp_path):
    show = [sys.executable, "-c", "import os; print('gpu', os.environ['CUDA_VISIBLE_DEVICES'])"]
    works = [Work([show], tmp_path / str(n)) for n in range(4)]
    assert errors(Local(jobs=2, gpus=[3, 5]).start(works)) == [None] * 4
    assert {work.log.read_text().splitlines()[-1] for work in works} <= {"gpu 3", "gpu 5"}


def test_stopping_ends_what_runs_and_starts_nothing_more(tmp_path):
    works = [Work([SLEEP, say("next")], tmp_path / str(n)) for n in range(3)]
    launcher = Local(jobs=1, gpus=None)
    started = launcher.start(works)
    wait_for(works[0].log)
    launcher.stop()
    assert str(started[0].exception()) == "stopped"
    assert "next\n" not in works[0].log.read_text()
    assert all(work.cancelled() for work in started[1:])
    assert not any(work.log.exists() for work in works[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": 0, "gpus": None}, r"^jobs: got 0, allowed are 1 and more"),
        ({"jobs": 2, "gpus": [0]}, r"^gpus: got 1 of them for jobs=2, allowed is one for each"),
    ],
)
def test_local_refuses_what_could_not_run(arguments, message):
    with pytest.raises(ValueError, match=message):
        Local(**arguments)


def test_submitit_runs_the_same_work(tmp_path):
    pytest.importorskip("submitit")
    works = [Work([say("in", "a", "job"), say("two", status=n)], tmp_path / str(n) / "log") for n in range(2)]
    launcher = Submitit(tmp_path / "jobs", cluster="local", jobs=2, timeout_min=5)
    found = errors(launcher.start(works))
    assert found[0] is None
    assert "ended with status 1" in str(found[1])
    assert all("in a job\n" in work.log.read_text() for work in works)


def test_a_job_that_must_leave_stops_its_command_and_is_queued_as_it_was(tmp_path):
    pytest.importorskip("submitit")
    work = Work([SLEEP], tmp_path / "log")
    started = Local(jobs=1, gpus=None).start([work])
    wait_for(work.log)
    again = work.checkpoint()
    assert str(started[0].exception()) == "stopped"
    assert work._process.returncode == -signal.SIGTERM
    assert (again.function.commands, again.function.log) == (work.commands, work.log)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"cluster": "local", "timeout_min": "long"},
            'sweep.launcher: submitit refuses it: Parameter "timeout_min" expected',
        ),
        ({"cluster": "local", "slurm_speed": 3}, "Unknown argument 'speed' for executor 'slurm'"),
        ({"cluster": "slurm"}, 'Could not detect "srun"'),
        ({"cluster": "cloud"}, "doesn't know any executor named cloud"),
    ],
)
def test_what_submitit_refuses_is_the_users_mistake(tmp_path, monkeypatch, arguments, message):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ValueError, match=message):
        Submitit(tmp_path, jobs=1, **arguments)


def test_a_missing_submitit_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"needs the package submitit\. Run: pip install 'asrsparse\[recipes\]'"):
        Submitit(tmp_path, cluster="slurm", jobs=1)
