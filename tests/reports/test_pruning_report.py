import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from micro import MICRO
from omegaconf import OmegaConf

from asrsparse.cli import main
from asrsparse.config import compose_config
from asrsparse.reports.pruning_report import read_pruned_run, report_pruning
from asrsparse.training.train import train

EARLY = ["segments.final_epochs=0", "segments.keep_ratio=0.6"]


@pytest.fixture(scope="module")
def recipe_dir(tmp_path_factory, tiny_corpus):
    """Two runs of three epochs."""
    folder = tmp_path_factory.mktemp("recipe")
    for name, words in {
        "easy": ["pruning=easy2hard", "pruning.plan.warmup_epochs=1", "pruning.plan.final_epochs=0", "segments=none"],
        "blank": ["pruning=random", "segments=blank", "segments.blanks.warmup_visits=1", *EARLY],
    }.items():
        common = [f"data_dir={tiny_corpus}", f"exp_dir={folder}", "trainer.num_epochs=3", f"name={name}"]
        train(compose_config([*MICRO, *common, *words]), "test")
    return folder


def test_a_run_is_read_as_it_was_trained(recipe_dir):
    run = read_pruned_run(recipe_dir / "easy")
    whole = run.durations.sum() / 3600
    assert run.kept_hours[0] == pytest.approx(whole)
    assert run.kept_hours[1:] == [pytest.approx(0.7 * whole, rel=0.1)] * 2
    assert run.hours_heard[-1] == pytest.approx(sum(run.kept_hours), rel=1e-4)
    assert np.dot(run.times_seen, run.durations) / 3600 == pytest.approx(sum(run.kept_hours), rel=1e-4)
    assert all(audit.endswith("was seen once") for audit in run.audits)
    assert all((np.diff(quantiles) >= 0).all() for quantiles in run.scores)
    assert 0.4 <= run.overlap[1] <= 1.0


def test_what_segments_leave_out_is_not_heard(recipe_dir):
    run = read_pruned_run(recipe_dir / "blank")
    heard = np.diff(run.hours_heard, prepend=0.0)
    assert heard[0] == pytest.approx(run.kept_hours[0], rel=1e-4)  # the first visit is whole
    assert heard[2] < 0.95 * run.kept_hours[2]


def test_the_page_shows_all_runs_and_needs_no_other_file(recipe_dir, capsys):
    main(["report", "pruning", str(recipe_dir)])
    assert capsys.readouterr().out.strip() == str(recipe_dir / "pruning.html")
    page = (recipe_dir / "pruning.html").read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == ["All runs", "blank", "easy"]
    assert page.count('<img alt="') == page.count("data:image/png;base64,iVBOR") == 3 + 2 * 3
    assert page.count("was seen once") == 6
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_one_utterance_can_be_chosen(recipe_dir):
    ids = pq.read_table(recipe_dir / "easy" / "pruning" / "epoch_000.parquet")["id"].to_pylist()
    assert report_pruning([recipe_dir / "easy"], ids[3])[0] == recipe_dir / "easy" / "pruning.html"
    with pytest.raises(ValueError, match=r"ids are not in the score table.*the first is 'nobody'"):
        report_pruning([recipe_dir / "easy"], "nobody")


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"No pruning/epoch_\*.parquet in .* Name the folder of a run"):
        report_pruning([tmp_path])
    with pytest.raises(SystemExit):
        main(["report", "pruning"])
    assert (
        "report pruning: got no folder, allowed are folders that exist, utterance=VALUE, reference=VALUE."
        in capsys.readouterr().err
    )


def test_a_damaged_file_is_named(recipe_dir, tmp_path):
    (tmp_path / "run" / "pruning").mkdir(parents=True)
    (tmp_path / "run" / "pruning" / "epoch_000.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"epoch_000.parquet is no file that `asrsparse train` wrote"):
        read_pruned_run(tmp_path / "run")


def test_a_file_of_an_older_version_is_named(tmp_path):
    (tmp_path / "run" / "pruning").mkdir(parents=True)
    table = pa.table({"duration": [1.0], "kept": [True], "score": [0.0], "last_seen": [0]})
    pq.write_table(table, tmp_path / "run" / "pruning" / "epoch_000.parquet")
    with pytest.raises(ValueError, match=r"epoch_000.parquet has no column times_seen: an older version wrote it"):
        read_pruned_run(tmp_path / "run")


@pytest.mark.parametrize("key", ["segments.pruner", "model.frontend", "model.frontend.inner"])
def test_a_run_from_elsewhere_calls_nothing_but_layers_and_segments(recipe_dir, tmp_path, key):
    shutil.copytree(recipe_dir / "easy", tmp_path / "run")
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    OmegaConf.update(config, key, {"_target_": "os.mkdir", "path": str(tmp_path / "made")}, merge=False, force_add=True)
    OmegaConf.save(config, tmp_path / "run" / "config.yaml")
    with pytest.raises(ValueError, match=r"run/config.yaml: .*_target_ is 'os.mkdir'; allowed are"):
        report_pruning([tmp_path / "run"])
    assert not (tmp_path / "made").exists()
