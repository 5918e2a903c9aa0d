"""The table of a sweep: means over seeds that are those of the runs, and what failed."""

import json
import re

import pytest
from scored_runs import make_system

from asrsparse.reports.report import report
from asrsparse.sweeps.combinations import combine
from asrsparse.sweeps.table import means, tabulate

WRONG = {"random-seed0": 6, "random-seed1": 4, "easy-seed0": 3}


@pytest.fixture
def exp_dir(tmp_path):
    for name, num_wrong in WRONG.items():
        make_system(tmp_path, name, num_wrong)
    return tmp_path


@pytest.fixture
def runs(exp_dir):
    words = ["pruning=random,easy", "seed=0,1", f"exp_dir={exp_dir}"]
    combined = combine(words).runs
    for run in combined:
        run.config.decode.method = "greedy"
    return combined


def test_a_mean_is_that_of_the_runs_which_differ_in_their_seed(exp_dir):
    rows = report(exp_dir, list(WRONG), method="greedy").rows
    random, easy = means(rows, {name: name.split("-")[0] for name in WRONG})
    assert (random.name, random.seeds, easy.name, easy.seeds) == ("random", 2, "easy", 1)
    assert random.wer == pytest.approx((rows[0].wer + rows[1].wer) / 2)
    assert (random.lowest, random.highest) == (rows[1].wer, rows[0].wer)
    assert (random.minus_first, easy.minus_first) == (0, pytest.approx(rows[2].wer - random.wer))


def test_files_and_table_have_all_runs_that_ended_and_name_those_that_failed(exp_dir, runs, capsys):
    tabulate(exp_dir, runs, {"easy-seed1": "ended with status 2"})
    printed = capsys.readouterr().out
    log = exp_dir / "easy-seed1" / "sweep.log"
    assert f"easy-seed1 failed: ended with status 2; {log}\n" in printed
    assert re.search(r"random +10\.00 +8\.00 to .*\+0\.00", printed)
    markdown = (exp_dir / "SWEEP.md").read_text()
    assert "| random | 10.00 | 8.00 to 12.00 | +0.00 | 5.25 | 100 | 1.000 | 2 |" in markdown
    assert "| easy | 6.00 | - | -4.00 | 5.25 | 100 | 1.000 | 1 |" in markdown
    assert "- `easy-seed1`, failed: ended with status 2, see " in markdown
    written = json.loads((exp_dir / "sweep.json").read_text())
    assert [run["state"] for run in written["runs"]] == ["finished"] * 3 + ["ended with status 2"]
    assert [row["name"] for row in written["means"]["test"]] == ["random", "easy"]
    assert [row["name"] for row in json.loads((exp_dir / "results.json").read_text())["rows"]] == list(WRONG)


def test_a_sweep_of_failures_has_no_table(exp_dir, runs):
    tabulate(exp_dir, runs, dict.fromkeys((run.name for run in runs), "ended with status 2"))
    assert json.loads((exp_dir / "sweep.json").read_text())["means"] == {}
    assert not (exp_dir / "RESULTS.md").exists()
