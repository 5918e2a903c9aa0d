import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mask_logs import DENSE, HOURS, PARAMETERS, SPARSE, write_run

from asrsparse.reports.masked_run import read_masked_run

SECONDS = 3600 * HOURS


@pytest.fixture
def sparse(tmp_path):
    write_run(tmp_path / "sparse", SPARSE)
    return tmp_path / "sparse"


@pytest.fixture
def dense(tmp_path):
    write_run(tmp_path / "dense", DENSE)
    return tmp_path / "dense"


def test_a_log_is_read_as_it_was_written(sparse):
    run = read_masked_run(sparse)
    assert run.steps.tolist() == [1, 11, 21, 31]
    assert run.progress.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert run.phases == ["learning", "learning", "sparse", "sparse"]
    assert run.density.tolist() == [[1.0, 1.0], [0.6, 1.0], [0.5, 1.0], [0.5, 1.0]]
    assert run.masked.tolist() == [True, False]
    assert np.isnan(run.values["changed"][0]).all()
    assert run.hours_heard == HOURS
    assert [histogram["zeros"] for histogram in run.histograms] == [[0, 0], [150, 50]]


def test_density_is_over_the_masked_weights_or_over_all_parameters(sparse, dense):
    run = read_masked_run(sparse)
    assert run.over_masked("density").tolist() == [1.0, 0.6, 0.5, 0.5]
    kept = PARAMETERS - 300 * np.array([0.0, 0.4, 0.5, 0.5])
    assert run.overall_density == pytest.approx(kept / PARAMETERS)
    assert read_masked_run(dense).overall_density.tolist() == [1.0] * 4
    assert np.isnan(read_masked_run(dense).over_masked("density")).all()


def test_a_measurement_stands_for_the_speech_since_the_one_before_it(sparse):
    run = read_masked_run(sparse)
    run.progress[:] = [0.01, 0.1, 0.5, 1.0]
    assert run.time_average(run.density).tolist() == [pytest.approx(0.01 + 0.09 * 0.6 + 0.9 * 0.5), 1.0]


def test_effective_flops_scale_masked_layers_once_their_masks_are_binary(sparse, dense):
    run, baseline = read_masked_run(sparse), read_masked_run(dense)
    assert run.flops_dense == baseline.flops_dense == baseline.flops_effective == 100.0 * SECONDS
    assert run.flops_effective == pytest.approx((60.0 * (0.5 * 1.0 + 0.5 * 0.5) + 30.0 + 10.0) * SECONDS)


def test_a_damaged_file_is_named(sparse):
    (sparse / "masks" / "epoch_001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"epoch_001.parquet is no file that `asrsparse train` wrote"):
        read_masked_run(sparse)


def test_a_file_of_an_older_version_is_named(sparse):
    pq.write_table(pa.table({"step": [1]}), sparse / "masks" / "epoch_001.parquet")
    with pytest.raises(ValueError, match=r"epoch_001.parquet has no column changed: an older version wrote it"):
        read_masked_run(sparse)


def test_epochs_of_different_models_are_refused(sparse):
    path = sparse / "masks" / "epoch_001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ValueError, match=r"masks/ holds epochs of different models. Train the run again"):
        read_masked_run(sparse)


def test_a_missing_count_of_flops_is_named(sparse):
    (sparse / "masks" / "flops.json").unlink()
    with pytest.raises(ValueError, match=r"No .*flops.json, which `asrsparse train` writes on the first batch"):
        read_masked_run(sparse)
