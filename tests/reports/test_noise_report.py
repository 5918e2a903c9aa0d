"""The noise table: numbers of the decodings, the same noise for all, one rate for a model of video alone."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from asrsparse.files import read_json, write_text
from asrsparse.reports.noise_report import report_noise, to_table
from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap
from asrsparse.scoring.decodings import BABBLE, CLEAN, condition_of, decoding_name
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

FEW = Bootstrap(resamples=200)


def make_run(exp_dir, name, modality, num_wrong, noise=BABBLE):
    """A run that gets so many of ten utterances wrong at each ratio."""
    write_text(exp_dir / name / "config.yaml", f"modality:\n  name: {modality}\n")
    for snr, wrong in num_wrong.items():
        folder = exp_dir / name / decoding_name("test", "ctc_greedy", condition_of(snr, noise))
        texts = [f"bin blue at {letter} now" for letter in "abcdefghij"]
        hypotheses = [text.replace("blue", "red") if i < wrong else text for i, text in enumerate(texts)]
        pairs = enumerate(zip(texts, hypotheses, strict=True))
        write_decoded(folder, [Utterance(f"u{i}", "s1", text, hypothesis) for i, (text, hypothesis) in pairs])
        score(folder, FEW)
    return exp_dir / name


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path, "full-dense", "audio", {"clean": 1, 12.5: 2, -2.5: 8}),
        make_run(tmp_path, "full-dense-video", "video", {"clean": 4}),
        make_run(tmp_path, "full-dense-audiovisual", "audiovisual", {"clean": 1, -2.5: 3}),
    ]


def test_rates_stand_by_ratio_from_quiet_to_loud(runs):
    _, conditions, rows = report_noise(runs)
    assert conditions == [CLEAN, condition_of(12.5), condition_of(-2.5)]
    assert [row.modality for row in rows] == ["audio", "video", "audiovisual"]
    rates = [[row.cells[one].wer if one in row.cells else None for one in conditions] for row in rows]
    assert rates == [[0.02, 0.04, 0.16], [0.08, 0.08, 0.08], [0.02, None, 0.06]]


def test_differences_are_paired_with_the_first_run_at_the_same_ratio(runs):
    _, _, (first, video, both) = report_noise(runs)
    assert all(cell.versus_first is None for cell in first.cells.values())
    assert video.cells[condition_of(-2.5)].versus_first.delta_wer == pytest.approx(-0.08)
    assert both.cells[CLEAN].versus_first.delta_wer == 0.0
    versus = both.cells[condition_of(-2.5)].versus_first
    assert versus.delta_wer == pytest.approx(-0.1)
    assert versus.delta_ci_low <= versus.delta_wer <= versus.delta_ci_high < 0


def test_the_files_hold_what_the_table_shows(runs):
    path, conditions, rows = report_noise(runs)
    assert path == runs[0].parent / "NOISE.md"
    text = path.read_text()
    assert "| system | modality | clean | 12.5 dB | -2.5 dB |" in text
    assert "| full-dense-video | video | 8.0 [" in text
    assert "WER minus that of full-dense, paired" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6}
    kept = read_json(path.with_name("noise.json"))
    assert kept["rows"][2]["cells"]["-2.5"]["wer"] == rows[2].cells[condition_of(-2.5)].wer
    output = io.StringIO()
    Console(file=output, width=100).print(to_table(conditions, rows))
    assert "full-dense-audiovisual" in output.getvalue()
    assert "6.0" in output.getvalue()


def test_seven_ratios_fit_a_narrow_terminal(runs):
    _, _, rows = report_noise(runs)
    conditions = [condition_of(snr) for snr in ("clean", 12.5, 7.5, 2.5, 0.0, -2.5, -7.5)]
    cell = rows[0].cells[CLEAN]
    wide = [replace(row, cells=dict.fromkeys(conditions, cell)) for row in rows]
    output = io.StringIO()
    Console(file=output, width=80).print(to_table(conditions, wide))
    shown = output.getvalue()
    assert "…" not in shown
    assert shown.count(f"{100 * cell.ci_high:.1f}]") == len(conditions) * len(rows)
    assert max(map(len, shown.splitlines())) <= 80


def test_other_noise_is_named(runs):
    music = make_run(runs[0].parent, "full-dense", "audio", {-2.5: 3}, noise="music")
    path, conditions, (row,) = report_noise([music])
    assert [condition.title for condition in conditions] == ["clean", "12.5 dB", "-2.5 dB", "music -2.5 dB"]
    assert row.cells[condition_of(-2.5, "music")].wer == 0.06
    assert path.read_text().startswith("# Word error rates in babble and music\n")
    assert "| clean | 12.5 dB | -2.5 dB | music -2.5 dB |" in path.read_text()
    assert list(read_json(path.with_name("noise.json"))["rows"][0]["cells"])[2:] == ["-2.5", "music -2.5"]


def test_other_utterances_are_refused_with_the_line(runs):
    decoding = runs[2] / "decode_test_ctc_greedy"
    write_decoded(decoding, [Utterance("u0", "s1", "another text", "another text")])
    score(decoding, FEW)
    with pytest.raises(ValueError, match=r"9 only in .*full-dense/.*\(u1, .*\), at .*ref\.trn:2: 'bin blue at b now'"):
        report_noise(runs)


def test_one_run_needs_no_comparison(runs):
    path, _, _ = report_noise(runs[:1])
    assert "minus" not in path.read_text()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"report noise: .* is no folder of a run\. Name folders such as exp/grid/full"
    ):
        report_noise([tmp_path])


def test_runs_that_were_never_scored_are_named(tmp_path):
    run = make_run(tmp_path, "full-dense", "audio", {})
    with pytest.raises(ValueError, match=r"full-dense has no scored decode_test_ctc_greedy\. Run `asrsparse decode`"):
        report_noise([run])


def test_runs_that_were_decoded_clean_alone_are_refused(runs):
    with pytest.raises(ValueError, match=r"got full-dense-video, which were decoded clean alone.*decode\.snrs="):
        report_noise(runs[1:2])
