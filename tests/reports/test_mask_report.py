import io
import json
import logging
import re

import pytest
from mask_logs import DENSE, SPARSE, write_run
from rich.console import Console
from scored_runs import write_curves

from asrsparse.cli import main
from asrsparse.config import CONF_DIR, build, compose_config
from asrsparse.files import write_json
from asrsparse.reports.mask_report import regime_of, report_masks, to_table
from asrsparse.reports.masked_run import read_masked_run
from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

pytestmark = pytest.mark.integration  # its fixtures train

TRAINED = {"command": "asrsparse train", "hours_heard": 2.0, "train_seconds": 99.6, "density": 1.0, "parameters": 500}


@pytest.fixture
def recipe_dir(tmp_path):
    """A dense run that is scored, and a sparse one that is still training."""
    folder = tmp_path / "recipe"
    write_run(folder / "baseline", DENSE)
    write_run(folder / "masked", SPARSE, regime="dense-to-sparse during training, unstructured")
    write_json(folder / "baseline" / "train.json", TRAINED)
    decoded = folder / "baseline" / "decode_test_greedy"
    write_decoded(decoded, [Utterance(f"u{n}", "s", "bin blue", "bin red" if n < 3 else "bin blue") for n in range(10)])
    score(decoded, Bootstrap(resamples=200))
    return folder


def test_rows_hold_what_the_run_and_its_stages_left(recipe_dir):
    page, (baseline, masked) = report_masks([recipe_dir])
    assert page == recipe_dir / "masks.html"
    assert (baseline.name, baseline.regime, baseline.seed) == ("baseline", "dense", 3)
    assert (baseline.density_all_end, baseline.density_all_mean) == (1.0, 1.0)
    assert baseline.density_masked_end is baseline.density_masked_mean is None
    assert (baseline.train_seconds, masked.train_seconds) == (99.6, None)
    assert masked.density_masked_end == 0.5
    assert masked.density_masked_mean == pytest.approx((1.0 + 0.6 + 0.5 + 0.5) / 4)
    assert masked.density_all_end == pytest.approx(1 - 0.5 * 300 / 500)
    assert masked.flops_effective == pytest.approx(read_masked_run(recipe_dir / "masked").flops_effective)
    written = json.loads((recipe_dir / "baseline" / "decode_test_greedy" / "score.json").read_text())
    kept = {key: written[key] for key in ("wer", "ci_low", "ci_high")}
    assert baseline.scores == [{"decoding": "test_greedy", **kept}]
    assert kept["wer"] == 0.15
    assert masked.scores == []


def test_json_page_and_terminal_have_the_same_numbers(recipe_dir):
    page, rows = report_masks([recipe_dir])
    written = json.loads(page.with_suffix(".json").read_text())
    assert [row["name"] for row in written["rows"]] == ["baseline", "masked"]
    assert [row["flops_effective"] for row in written["rows"]] == [row.flops_effective for row in rows]
    terminal = Console(file=io.StringIO(), width=80)
    terminal.print(to_table(rows))
    for text in (page.read_text(), terminal.file.getvalue()):
        for shown in (
            "baseline",
            "masked",
            "0.700",
            "(0.790)",
            "0.500",
            "(0.650)",
            "7.2e+05",
            "6.12e+05",
            "100",
            "15.00",
        ):
            assert shown in text, shown
        assert "simulated" in text
        assert "nothing gets faster" in re.sub(r"\s+", " ", text)


def test_the_page_shows_all_runs_and_needs_no_other_file(recipe_dir):
    page = report_masks([recipe_dir])[0].read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == ["All runs", "baseline", "masked"]
    assert page.count('<img alt="') == page.count("data:image/png;base64,iVBOR") == 5 + 2 * 2
    assert "Not over seconds: baseline, masked." in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_page_shows_error_rates_over_seconds_of_dense_and_masked_runs(recipe_dir):
    for name in ("baseline", "masked"):
        curves = {"dev_wer": [1.0, 0.5], "dev_loss": [2.0, 1.0], "train_seconds": [10.0, 20.0]}
        write_curves(recipe_dir / name, curves)
    page = report_masks([recipe_dir])[0].read_text()
    assert "<h3>WER and loss on dev over seconds of training</h3>" in page
    assert "Not over seconds" not in page


def test_dense_runs_alone_can_be_shown(recipe_dir):
    page, rows = report_masks([recipe_dir / "baseline"])
    assert page == recipe_dir / "baseline" / "masks.html"
    assert [row.name for row in rows] == ["baseline"]


def test_an_old_run_without_a_log_is_named_and_left_out(recipe_dir, caplog):
    write_json(recipe_dir / "old" / "train.json", TRAINED)
    with caplog.at_level(logging.WARNING):
        assert len(report_masks([recipe_dir])[1]) == 2
    assert re.search(r"old has no masks/epoch_\*.parquet: an older version trained it. It is left out", caplog.text)
    with pytest.raises(ValueError, match=r"No masks/epoch_\*.parquet in .*old .*Runs of older versions lack some logs"):
        report_masks([recipe_dir / "old"])


def test_the_command_prints_the_table_and_the_page(recipe_dir, capsys):
    main(["report", "masks", str(recipe_dir / "masked"), str(recipe_dir / "baseline")])
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(recipe_dir / "masks.html")
    assert printed.index(" masked ") < printed.index(" baseline ")


@pytest.mark.parametrize(("words", "got"), [([], "no folder"), (["utterance=u1"], "utterance=u1")])
def test_the_command_takes_folders_only(words, got, capsys):
    with pytest.raises(SystemExit):
        main(["report", "masks", *words])
    assert f"report masks: got {got}, allowed are folders that exist." in capsys.readouterr().err


def test_the_help_names_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "report masks EXP ..." in capsys.readouterr().out


@pytest.mark.parametrize("choice", sorted(path.stem for path in (CONF_DIR / "masks").glob("[!_]*.yaml")))
def test_every_choice_of_masks_names_its_regime_and_is_a_method(choice):
    config = compose_config([f"masks={choice}"])
    build(config.masks.method)
    regime = regime_of(config)
    kind = {"sr_ste": "N:M", "decaying": "N:M"}.get(choice, "unstructured")
    kind = "structured" if choice.startswith("structured") else kind
    assert regime == "dense" if choice == "dense" else regime.endswith(f"; {kind}")


def test_the_regime_of_learned_masks_names_their_exit():
    config = compose_config(["masks=learned", "masks.method.exit=sparse"])
    assert regime_of(config) == "dense-to-sparse during training, then sparse; unstructured"
