"""Learning curves are those that the training logged, by epoch."""

import pytest
from scored_runs import write_curves

from asrsparse.reports.learning_curves import read_curves


def test_curves_are_by_epoch_and_only_those_that_are_there(tmp_path):
    write_curves(tmp_path, {"dev_loss": [2.0, 1.0], "loss": [3.0, 1.5], "lr": [0.1, 0.2]})
    assert read_curves(tmp_path) == {"dev_loss": {1: 2.0, 2: 1.0}, "loss": {1: 3.0, 2: 1.5}}
    write_curves(tmp_path / "newer", {"dev_wer": [1.0, 0.5]})
    assert read_curves(tmp_path / "newer") == {"dev_wer": {1: 1.0, 2: 0.5}}


def test_the_loss_of_an_epoch_is_the_mean_of_what_was_logged_in_it(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
        for step, (epoch, loss) in enumerate([(0, 4.0), (0, 2.0), (1, 1.0)]):
            writer.add_scalar("epoch", epoch, step)
            writer.add_scalar("loss", loss, step)
    assert read_curves(tmp_path)["loss"] == {1: pytest.approx(3.0), 2: pytest.approx(1.0)}


def test_a_run_without_files_has_no_curves(tmp_path):
    assert read_curves(tmp_path) == {}
    (tmp_path / "tensorboard").mkdir()
    assert read_curves(tmp_path) == {}
    (tmp_path / "tensorboard" / "events.out.tfevents.1.vm.1.0").write_bytes(b"cut short")
    assert read_curves(tmp_path) == {}
