"""The page: a real browser, without a network, shows the numbers of results.json."""

import json
import re

import pytest
from browser import look_at
from matplotlib.figure import Figure
from scored_runs import make_system, write_config, write_curves

from asrsparse.reports.report import report_runs
from asrsparse.reports.report_html import plot_curves, plot_wer, side_by_side

HOSTILE = "<script>ran = 1<|script><img src=x onerror='ran = 2'>".replace("|", "&")  # no slash in a folder's name
SPLITS = ("test-clean", "test-other")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of three runs on two test sets, one of which is not scored on one; and a page of another report beside it."""
    exp_dir = tmp_path_factory.mktemp("exp") / "mini"
    for number, name in enumerate(("full-dense", "masks", HOSTILE)):
        for split in SPLITS[: 1 if name == "masks" else 2]:
            train = {"hours_heard": 5.0 - number, "train_seconds": 100.0 + number, "density": 1 - 0.3 * number}
            make_system(exp_dir, name, 6 - number, train=train, split=split)
        write_config(exp_dir / name, splits=SPLITS)
    write_curves(exp_dir / "full-dense", {"dev_loss": [2.0, 1.0], "loss": [3.0, 1.5], "dev_wer": [1.0, 0.5]})
    write_config(exp_dir / "training")
    (exp_dir / "pruning.html").write_text("pruned")
    (exp_dir / "masks" / "masks.html").write_text("masked")
    report_runs([exp_dir])
    return exp_dir / "report.html"


def percent(row, rate, low, high):
    return f"{100 * row[rate]:.2f} [{100 * row[low]:.2f}, {100 * row[high]:.2f}]"


@pytest.mark.slow
def test_a_browser_shows_the_numbers_of_the_results(page, tmp_path):
    seen = look_at(page, tmp_path)
    results = json.loads(page.with_name("results.json").read_text())
    assert seen["title"] == "Results of mini"
    assert [h for h in seen["headings"] if h in SPLITS] == list(SPLITS)
    *by_test, costs = seen["tables"]
    assert len(by_test) == 2 * len(SPLITS)
    for split, words, characters in zip(SPLITS, by_test[::2], by_test[1::2], strict=True):
        rows = [row for row in results["rows"] if row["split"] == split]
        for row, shown, shown_characters in zip(rows, words[1:], characters[1:], strict=True):
            cells = dict(zip(words[0], shown, strict=True))
            assert cells["system"] == row["name"]
            assert (cells["Snt"], cells["Wrd"]) == (str(row["utterances"]), str(row["words"]))
            assert cells["Err [95 %]"] == percent(row, "wer", "ci_low", "ci_high")
            assert cells["Sub"] == f"{100 * row['substitutions'] / row['words']:.1f}"
            delta = "baseline" if row["delta_wer"] is None else f"{100 * row['delta_wer']:+.2f}"
            assert cells["Err minus full-dense [95 %]"].startswith(delta)
            assert percent(row, "cer", "cer_ci_low", "cer_ci_high") in shown_characters
    shown = {line[0]: dict(zip(costs[0], line, strict=True)) for line in costs[1:]}
    for row in results["rows"]:
        assert shown[row["name"]]["hours heard"] == f"{row['hours_heard']:.2f}"
        assert shown[row["name"]]["training s"] == f"{row['train_seconds']:.0f}"


@pytest.mark.slow
def test_in_a_browser_the_page_is_whole_and_needs_nothing_else(page, tmp_path):
    seen = look_at(page, tmp_path)
    assert [width for _, width in seen["images"]] == [880] * 3
    titles = [title for title, _ in seen["images"]]
    assert titles[:2] == [f"WER on {split} against cost" for split in SPLITS]
    assert titles[2] == "After each epoch: loss on dev, loss in training, WER on dev"
    assert seen["fetched"] == []
    assert seen["ran"] is None
    assert HOSTILE in seen["text"]
    assert seen["width"] <= 1200
    assert seen["links"] == ["pruning.html", "masks/masks.html"]
    assert "Left out: training: its training has not finished." in seen["text"]
    assert "Without a score on this test set: masks." in seen["text"]


def test_the_page_names_no_other_file(page):
    text = page.read_text()
    assert not re.search(r"(src|href|url)[=(]\W?(?!data:)[\w.:/]*//", text)
    assert "<script" not in text
    assert re.findall(r'href="([^"]*)"', text) == ["pruning.html", "masks/masks.html"]
    assert str(page.parent) not in text


def test_runs_without_curves_are_named(page):
    text = page.read_text()
    assert "Without TensorBoard files: masks, " in text


def test_points_stand_where_the_rows_are(tmp_path):
    make_system(tmp_path / "mini", "a", 6, train={"hours_heard": 5.0, "train_seconds": 100.0})
    make_system(tmp_path / "mini", "b", 2, train={"hours_heard": 5.0, "train_seconds": 50.0})
    rows = report_runs([tmp_path / "mini"]).rows
    hours, seconds = Figure().subplots(1, 2)
    plot_wer([hours, seconds], rows, ["a", "b"])
    for axes, places in ((hours, None), (seconds, [100.0, 50.0])):
        for number, (bar, row) in enumerate(zip(axes.containers, rows, strict=True)):
            point, _, (interval,) = bar
            assert point.get_ydata() == [pytest.approx(100 * row.wer)]
            ends = interval.get_segments()[0][:, 1]
            assert list(ends) == pytest.approx([100 * row.ci_low, 100 * row.ci_high])
            if places:
                assert point.get_xdata() == [places[number]]
    assert [label.get_text() for label in hours.get_xticklabels()] == ["5.00, all of them"]


def test_equal_places_are_moved_apart_and_others_stay():
    places = side_by_side([10.0, 20.0, 10.0, 10.0])
    assert places[1] == 20.0
    assert sorted(places)[:3] == pytest.approx([9.7, 10.0, 10.3])
    many = side_by_side([1.0] * 50 + [2.0])
    assert max(many[:50]) - min(many[:50]) <= 0.2


def test_curves_are_drawn_for_the_runs_that_have_them():
    loss, wer = Figure().subplots(1, 2)
    plot_curves([loss, wer], ["loss", "dev_wer"], {"old": {"loss": {1: 2.0, 2: 1.0}}, "new": {"dev_wer": {1: 0.5}}})
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0, 1.0], []]
    assert [list(line.get_ydata()) for line in wer.lines] == [[], [50.0]]
    assert [line.get_label() for line in loss.lines] == ["old", "new"]
