"""RESULTS.md and the terminal show what the rows hold, and what they lack."""

import io

import pytest
from rich.console import Console
from scored_runs import ENVIRONMENT, make_system

from asrsparse.reports.rows import gather
from asrsparse.reports.run_selection import select_runs, select_systems
from asrsparse.reports.tables import to_markdown, to_tables


@pytest.fixture
def exp_dir(tmp_path):
    make_system(tmp_path / "mini", "full-dense", 6)
    make_system(tmp_path / "mini", "masks", 2, train={"density": 0.42, "train_seconds": 50.0, "masks": "learned"})
    return tmp_path / "mini"


def gather_systems(exp_dir, *names):
    return gather(select_systems(exp_dir, names, "greedy", ["test"]))


def test_markdown_shows_what_the_rows_hold(exp_dir):
    gathered = gather_systems(exp_dir, "full-dense", "masks")
    first, second = gathered.rows
    text = to_markdown(gathered)
    assert text.startswith("# Results of mini\n")
    assert "## test\n\nSplit test, decoding greedy, 10 utterances, 50 words." in text
    interval = f"{100 * first.wer:.2f} [{100 * first.ci_low:.2f}, {100 * first.ci_high:.2f}]"
    assert f"| full-dense | 10 | 50 | 88.0 | 12.0 | 0.0 | 0.0 | {interval} | 60.0 | baseline | - |" in text
    assert f"| 4.00 [{100 * second.ci_low:.2f}" in text
    assert f"| -8.00 [{100 * second.delta_ci_low:+.2f}" in text
    characters = f"{first.cer:.2%}"[:-1] + f" [{100 * first.cer_ci_low:.2f}"
    assert f"| full-dense | 10 | {first.characters} | " in text
    assert characters in text
    assert "| masks | 5.25 | 50 | 2.00 | 10 | 700 | 0.420 | 2.60 M | 1.50 | 4.5 | 3 |" in text
    assert "asrsparse train recipe=mini system=masks\nasrsparse decode recipe=mini system=masks\n```" in text
    assert "bootstrap over utterances, 200 resamples, seed 0" in text
    assert "Normaliser of both texts: none, version 1" in text
    assert "- date: `2026-11-20 10:00 UTC`\n- python: `3.11.2`" in text
    assert "rows differ" not in text
    assert "### TER" not in text


def test_every_table_line_has_the_same_number_of_cells(exp_dir):
    make_system(exp_dir, "a|b", 2, further={"ter": 0.125, "ter_ci_low": 0.1, "ter_ci_high": 0.15})
    text = to_markdown(gather_systems(exp_dir, "full-dense", "a|b"))
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    assert "### TER\n\n| system | Err [95 %] |\n| --- | ---: |\n| full-dense | - |" in text
    assert "| 12.50 [10.00, 15.00] |" in text
    assert "only systems that share a tokenizer" in text


def test_what_is_missing_is_said_beside_the_numbers(exp_dir):
    make_system(exp_dir, "masks", 3, split="other")
    (exp_dir / "idle").mkdir()
    (exp_dir / "idle" / "config.yaml").touch()
    text = to_markdown(gather(select_runs([exp_dir])))
    assert "# Results of mini\n\n**Left out: idle: its training has not finished.**" in text
    assert "10 utterances, 50 words.\n\n**Without a score on this test set: full-dense.**\n\n### WER" in text
    assert "| decoding s, other | decoding s, test |" in text
    assert "| - | 4.5 |" in text


def test_simulated_sparsity_is_named_where_there_are_masks(exp_dir):
    assert "simulated sparsity" not in to_markdown(gather_systems(exp_dir, "full-dense"))
    assert "simulated sparsity" in to_markdown(gather_systems(exp_dir, "full-dense", "masks"))
    make_system(exp_dir, "masks-to-dense", 2, train={"masks": "learned"})
    assert "simulated sparsity" in to_markdown(gather_systems(exp_dir, "masks-to-dense"))


def test_different_environments_are_shown(exp_dir):
    other = {"environment": ENVIRONMENT | {"date": "2026-11-21 09:00 UTC", "threads": "8", "gpu": "none"}}
    make_system(exp_dir, "elsewhere", 3, train=other)
    text = to_markdown(gather_systems(exp_dir, "full-dense", "elsewhere"))
    assert "**The rows differ in threads, gpu**" in text
    assert "- threads of full-dense: `2`\n- threads of elsewhere: `8`" in text
    assert "- gpu of full-dense: `not recorded`" in text
    assert "- date: `2026-11-20 10:00 UTC to 2026-11-21 09:00 UTC`" in text


def test_a_run_without_records_says_so(exp_dir):
    make_system(exp_dir, "bare", 3, train={"environment": {}, "train_seconds": 0.0})
    text = to_markdown(gather_systems(exp_dir, "bare"))
    assert "Not recorded." in text
    assert "| bare | 5.25 | 0 | - |" in text


def test_terminal_table(exp_dir):
    make_system(exp_dir, "a-name-that-takes-more-than-half-of-the-line", 2)
    console = Console(width=80, record=True, file=io.StringIO())
    names = ("full-dense", "masks", "a-name-that-takes-more-than-half-of-the-line")
    (table,) = to_tables(gather_systems(exp_dir, *names))
    console.print(table)
    text = console.export_text()
    shown = ("full-dense", "12.00", "[6.00, 18.00]", "-8.00", "0.420", "a-name-that")
    assert [word for word in shown if word not in text] == []
    assert "…" not in text


def test_times_less_and_budgets_are_said(exp_dir):
    same = {"same_time_as": "masks", "rate_of": "full-dense", "hours": 2.625, "of_seconds": 50.0}
    make_system(exp_dir, "full-dense-as-masks", 4, train={"train_seconds": 40.0, "budget": same})
    make_system(exp_dir, "short", 4, train={"budget": {"seconds": 60.0}})
    make_system(exp_dir, "few-hours", 4, train={"budget": {"hours": 3}})
    gathered = gather_systems(exp_dir, "full-dense", "masks", "full-dense-as-masks", "short", "few-hours")
    text = to_markdown(gathered)
    assert "| masks | 5.25 | 50 | 2.00 |" in text
    assert "| full-dense-as-masks | 5.25 | 40 | 2.50 |" in text
    assert "stopped at the same time as masks, with its schedules: the 50 s of that system are 2.62 h of speech" in text
    assert "short: its budget was 60 s of training, where its schedules ended." in text
    assert "few-hours: its budget was 3 hours of speech, where its schedules ended." in text
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*to_tables(gathered))
    assert "[2.50]" in console.export_text()


def test_other_folders_are_explained(exp_dir):
    make_system(exp_dir, "far", 2, train={"command": "asrsparse train corpus.dir=/data/grid"})
    text = to_markdown(gather_systems(exp_dir, "far"))
    assert "/data/grid" not in text
    assert "`/path/to/` in a command" in text
