import logging

import pytest

from asrsparse.corpora.left_out import LeftOut


def test_nothing_is_logged_if_nothing_is_left_out(caplog):
    LeftOut("train cuts").close(10)
    assert caplog.records == []


def test_each_utterance_is_named_counted_and_stated_in_hours(tmp_path, caplog):
    left_out = LeftOut("train cuts", max_share=0.5)
    with caplog.at_level(logging.WARNING):
        left_out.add("u1", "no words", 1800.0)
        left_out.add("u2", "audio does not decode: lost sync")
        left_out.add("u3", "audio does not decode: no such file", 900.0)
        left_out.close(10, tmp_path / "left_out.tsv")
    assert left_out.hours == 0.75
    expected = "train cuts: left out 3 utterances (0.750 h): 2 x audio does not decode, 1 x no words"
    assert left_out.summary() == expected
    assert expected in caplog.text
    assert "train cuts: left out u2: audio does not decode: lost sync" in caplog.text
    lines = (tmp_path / "left_out.tsv").read_text().splitlines()
    assert [line.split("\t") for line in lines] == [
        ["u1", "no words", "1800.00"],
        ["u2", "audio does not decode: lost sync", "0.00"],
        ["u3", "audio does not decode: no such file", "900.00"],
    ]


def test_the_list_is_written_also_when_it_is_empty(tmp_path):
    (tmp_path / "left_out.tsv").write_text("of a run before\n")
    LeftOut("train cuts").close(10, tmp_path / "left_out.tsv")
    assert (tmp_path / "left_out.tsv").read_text() == ""


def test_too_many_stop_the_run_with_the_first_ones_and_a_remedy(tmp_path):
    left_out = LeftOut("dev cuts", max_share=0.1)
    for number in range(11):
        left_out.add(f"u{number}", "no words", 1.0)
    with pytest.raises(
        ValueError, match=r"11 of 100; allowed is a share of 0.1\. First ones: u0: no words;.*corpus.max_left_out"
    ):
        left_out.close(100, tmp_path / "left_out.tsv")
    assert len((tmp_path / "left_out.tsv").read_text().splitlines()) == 11


def test_the_largest_share_itself_is_allowed():
    left_out = LeftOut("dev cuts", max_share=0.1)
    left_out.add("u0", "no words")
    left_out.close(10)
    assert len(left_out.utterances) == 1


def test_all_utterances_left_out_stop_the_run_whatever_the_share():
    left_out = LeftOut("dev cuts", max_share=1.0)
    left_out.add("u0", "no words")
    with pytest.raises(ValueError, match="1 of 1"):
        left_out.close(1)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(
        ValueError, match=rf"corpus\.max_left_out: got {share} for dev cuts, allowed are shares in \[0, 1\]"
    ):
        LeftOut("dev cuts", max_share=share)
