"""Runs are found by their logs, and the folder that holds them all."""

import pytest

from asrsparse.reports.run_logs import common_folder, find_runs

LOG = "logs/epoch_*.txt"


def make_run(run_dir, log=True):
    (run_dir / "logs").mkdir(parents=True)
    if log:
        (run_dir / "logs" / "epoch_000.txt").touch()
    return run_dir


def test_a_folder_is_a_run_or_holds_runs(tmp_path):
    one, other = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    make_run(tmp_path / "c", log=False)
    assert find_runs(tmp_path, LOG) == [one, other]
    assert find_runs(one, LOG) == [one]
    with pytest.raises(ValueError, match=r"No logs/epoch_\*.txt in .*c or the folders in it. Name the folder of a run"):
        find_runs(tmp_path / "c", LOG)


def test_the_page_of_one_run_is_in_its_folder_and_that_of_several_above_them(tmp_path):
    one, other = make_run(tmp_path / "x" / "a"), make_run(tmp_path / "y" / "b")
    assert common_folder([one]) == one
    assert common_folder([one, other]) == tmp_path
