"""Files for other programs: the CSV is results.json in lines, and the LaTeX compiles whatever a run is called."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_runs import make_system, write_config

from asrsparse.reports.exports import escape, to_csv, to_json, to_latex
from asrsparse.reports.rows import gather
from asrsparse.reports.run_selection import select_runs


@pytest.fixture
def gathered(tmp_path):
    for name, wrong in (("full-dense", 6), ("50%_masks & [more], of $x^2$", 2)):
        for split in ("test-clean", "test-other"):
            make_system(tmp_path / "mini_1", name, wrong, split=split)
        write_config(tmp_path / "mini_1" / name)
    make_system(tmp_path / "mini_1", "third", 1, split="test-clean")
    return gather(select_runs([tmp_path / "mini_1"]))


def test_the_csv_has_the_rows_of_the_json_to_the_last_digit(gathered):
    rows = to_json(gathered)["rows"]
    lines = list(csv.DictReader(io.StringIO(to_csv(gathered))))
    assert len(lines) == len(rows) == 5
    for line, row in zip(lines, rows, strict=True):
        assert line == {
            key: "" if value is None else str(value)
            for key, value in row.items()
            if key not in ("environment", "budget")
        }


def test_latex_has_a_row_for_each_run_and_a_column_for_each_test_set(gathered):
    text = to_latex(gathered)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == text.count(r"\bottomrule") == 2
    first = gathered.sections[0].rows[0]
    rate = rf"{100 * first.wer:.2f} {{\scriptsize [{100 * first.ci_low:.2f}, {100 * first.ci_high:.2f}]}}"
    assert rf"full-dense$^{{\star}}$ & 5.25 & 100 & 1.000 & {rate} & {rate} \\" in text
    assert r"50\%\_masks \& {[}more{]}, of \$x\textasciicircum{}2\$ & 5.25" in text
    assert re.search(r"^third & .* & -- \\\\$", text, re.MULTILINE)
    assert r"WER (\%) of mini\_1 with 95 \% intervals (bootstrap over utterances, 200 resamples)" in text
    assert r"System & Hours heard & Training s & Density & test-clean & test-other \\" in text


def test_latex_compiles_by_construction(gathered):
    for table in to_latex(gathered).split(r"\begin{table}")[1:]:
        columns = len(re.search(r"\\begin{tabular}{(l?r+)}", table)[1])
        lines = [line for line in table.splitlines() if line.endswith(r" \\")]
        assert len(lines) == 4
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert_balanced(to_latex(gathered))


@given(st.text())
def test_escaped_text_holds_nothing_that_latex_obeys(text):
    escaped = escape(text)
    assert escaped.isascii()
    assert_balanced(escaped)
    bare = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]|\{[\[\]*`]\}|-\{\}", "", escaped)
    assert not set(bare) & set('\\{}&%$#_^~[]*`"<>|\n')
    assert "--" not in escaped
    assert not re.match(r"[\[*]", escaped)


def assert_balanced(text):
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_token_rates_have_a_table_where_they_are_recorded(tmp_path):
    make_system(tmp_path / "mini", "a", 2, further={"ter": 0.125, "ter_ci_low": 0.1, "ter_ci_high": 0.15})
    make_system(tmp_path / "mini", "b", 2)
    text = to_latex(gather(select_runs([tmp_path / "mini"])))
    assert text.count(r"\begin{table}") == 3
    assert r"12.50 {\scriptsize [10.00, 15.00]}" in text.split("TER")[1]


def test_different_methods_and_modalities_have_columns(tmp_path):
    for name, modality in (("a", "audio"), ("a-video", "video")):
        make_system(tmp_path / "mini", name, 2)
        make_system(tmp_path / "mini", name, 2, method="joint")
        write_config(tmp_path / "mini" / name, modality)
    text = to_latex(gather(select_runs([tmp_path / "mini"])))
    assert r"System & Modality & Hours heard & Training s & Density & test, greedy & test, joint \\" in text
    assert "a-video & video & " in text
    assert "decoding greedy, joint" in text
