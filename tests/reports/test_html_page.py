import base64
import re

import pytest

from asrsparse.reports.html_page import figure, write_page
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


def test_a_figure_has_as_many_panels_as_asked_for_and_is_in_the_page(tmp_path):
    drawn = []
    picture = figure("a < b", lambda *axes: drawn.extend(axes), panels=3)
    assert len(drawn) == 3
    assert base64.b64decode(re.search(r"base64,([^\"]*)", picture)[1]).startswith(b"\x89PNG")
    write_page(tmp_path / "page.html", "What & why", [picture, "{braces}"])
    page = (tmp_path / "page.html").read_text()
    assert "<h1>What &amp; why</h1>" in page
    assert "<h3>a &lt; b</h3>" in page
    assert "{braces}" in page
    assert "img { max-width: 100% }" in page
