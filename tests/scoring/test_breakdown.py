"""`asrsparse breakdown`: groups hold every utterance once, and noise stands beside noise."""

import io
import json

import pytest
from decoded import decoded
from rich.console import Console

from asrsparse.files import read_json
from asrsparse.scoring.alignment import Utterance, pooled
from asrsparse.scoring.bootstrap import Bootstrap
from asrsparse.scoring.breakdown import break_down, to_json, to_table
from asrsparse.scoring.decodings import CLEAN, condition_of
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

FEW = Bootstrap(resamples=300)


def make(folder, utterances, bootstrap=FEW):
    write_decoded(folder, utterances)
    score(folder, bootstrap)
    return folder


def test_groups_hold_every_utterance_once(tmp_path):
    (made,) = break_down([make(tmp_path / "run" / "decode_test_greedy", decoded(0.2))])
    by = {kind: [group for group in made.groups if group.by == kind] for kind in ("all", "duration", "speaker")}
    assert [group.name for group in by["speaker"]] == ["s0", "s1", "s2", "s3"]
    assert [group.utterances for group in by["duration"]] == [30] * 4
    words = sum(len(u.reference.split()) for u in decoded(0.2))
    for groups in by.values():
        assert sum(group.utterances for group in groups) == 120
        assert sum(group.words for group in groups) == words


def test_rates_and_intervals_are_those_of_the_group(tmp_path):
    (made,) = break_down([make(tmp_path / "run" / "decode_test_greedy", decoded(0.2))])
    whole, scores = made.groups[0].rates[CLEAN], read_json(tmp_path / "run" / "decode_test_greedy" / "score.json")
    assert (whole.wer, whole.ci_low, whole.ci_high) == (scores["wer"], scores["ci_low"], scores["ci_high"])
    for group in (group for group in made.groups if group.by == "speaker"):
        rate, members = group.rates[CLEAN], [u for u in decoded(0.2) if u.speaker == group.name]
        assert rate.wer == pooled(u.word_errors for u in members).rate
        assert rate.ci_low <= rate.wer <= rate.ci_high
        assert rate.ci_high - rate.ci_low > whole.ci_high - whole.ci_low


def test_durations_go_from_short_to_long_and_equal_ones_stay_together(tmp_path):
    seconds = [2.0] * 5 + [1.0] * 3 + [3.0, 4.0]
    utterances = [Utterance(f"u{i}", "s", "a", "a", duration) for i, duration in enumerate(seconds)]
    (made,) = break_down([make(tmp_path / "decode_test", utterances)])
    groups = [(g.name, g.utterances) for g in made.groups if g.by == "duration"]
    assert groups == [("1.00-1.00 s", 3), ("2.00-2.00 s", 5), ("3.00-4.00 s", 2)]


def test_unknown_durations_are_said_to_be(tmp_path):
    utterances = [Utterance("a", "s", "a b", "a"), Utterance("b", "s", "a b", "a b")]
    (made,) = break_down([make(tmp_path / "decode_test", utterances)])
    assert not [group for group in made.groups if group.by == "duration"]
    assert "durations are not known" in show(made)


def show(made):
    output = io.StringIO()
    Console(file=output, width=120).print(to_table(made))
    return " ".join(output.getvalue().split())


def test_ratios_of_noise_stand_side_by_side_from_quiet_to_loud(tmp_path):
    run = tmp_path / "run"
    make(run / "decode_test_greedy_babble-2.5dB", decoded(0.5))
    make(run / "decode_test_greedy_babble12.5dB", decoded(0.2))
    make(run / "decode_test_greedy", decoded(0.1))
    make(run / "decode_dev_greedy", decoded(0.1))
    made = {one.decoding: one for one in break_down([run])}
    assert {name: [condition.snr for condition in one.conditions] for name, one in made.items()} == {
        "decode_dev_greedy": ["clean"],
        "decode_test_greedy": ["clean", 12.5, -2.5],
    }
    assert break_down([run / "decode_dev_greedy"]) == [made["decode_dev_greedy"]]
    whole = made["decode_test_greedy"].groups[0]
    assert whole.rates[CLEAN].wer < whole.rates[condition_of(12.5)].wer < whole.rates[condition_of(-2.5)].wer
    text = show(made["decode_test_greedy"])
    assert "clean 12.5 dB -2.5 dB" in text
    assert f"{100 * whole.rates[condition_of(-2.5)].wer:.1f} [" in text
    (kept,) = [
        one for one in json.loads(json.dumps(to_json(list(made.values())))) if one["decoding"] == "decode_test_greedy"
    ]
    assert list(kept) == ["run", "decoding", "snrs", "groups"]
    assert kept["snrs"] == ["clean", 12.5, -2.5]
    assert list(kept["groups"][0]) == ["by", "name", "utterances", "words", "rates"]
    assert kept["groups"][0]["rates"]["-2.5"]["wer"] == whole.rates[condition_of(-2.5)].wer


def test_speakers_have_intervals_even_where_speakers_are_drawn(tmp_path):
    (made,) = break_down([make(tmp_path / "decode_test", decoded(0.2), Bootstrap(300, unit="speaker"))])
    assert all(group.rates[CLEAN].ci_low < group.rates[CLEAN].ci_high for group in made.groups)


def test_noise_on_other_utterances_is_refused(tmp_path):
    make(tmp_path / "decode_test_greedy", decoded(0.1))
    make(tmp_path / "decode_test_greedy_babble0dB", decoded(0.1)[1:])
    with pytest.raises(ValueError, match=r"greedy and decode_test_greedy_babble0dB cannot be compared.*1 only in"):
        break_down([tmp_path])
    make(tmp_path / "decode_test_greedy_babble0dB", decoded(0.1), Bootstrap(300, seed=4))
    with pytest.raises(ValueError, match=r"babble0dB was scored with bootstrap"):
        break_down([tmp_path])


def test_nothing_and_folders_without_decodings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="breakdown: got nothing, allowed are folders of decodings or of runs"):
        break_down([])
    with pytest.raises(ValueError, match="holds no decoding"):
        break_down([tmp_path])
