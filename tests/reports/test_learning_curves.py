"""Learning curves are those that the training logged, by epoch."""

import pytest
from matplotlib.figure import Figure
from scored_runs import write_curves

from asrsparse.reports.learning_curves import over_seconds, plot_over_seconds, read_curves


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


def test_curves_over_seconds_are_of_the_runs_that_logged_seconds_and_the_others_are_named(tmp_path):
    write_curves(tmp_path / "new", {"dev_wer": [1.0, 0.5], "dev_loss": [2.0, 1.0], "train_seconds": [10.0, 20.0]})
    write_curves(tmp_path / "old", {"dev_wer": [0.9, 0.4], "dev_loss": [2.0, 1.0]})
    curves = {name: read_curves(tmp_path / name) for name in ("old", "new")}
    wer, loss = Figure().subplots(1, 2)
    plot_over_seconds([wer, loss], curves)
    for axes, values in ((wer, [100.0, 50.0]), (loss, [2.0, 1.0])):
        (line,) = axes.lines
        assert (list(line.get_xdata()), list(line.get_ydata())) == ([10.0, 20.0], values)
        assert (line.get_label(), line.get_color()) == ("new", "C1")
    picture, sentence = over_seconds(curves)
    assert picture.startswith("<h3>WER and loss on dev over seconds of training</h3>")
    assert sentence == "<p>Not over seconds: old. An older version trained them, and logged none in an epoch.</p>"


def test_without_any_seconds_there_is_a_sentence_alone():
    assert len(over_seconds({"<b>": {"dev_wer": {1: 0.5}}})) == 1
    assert "&lt;b&gt;" in over_seconds({"<b>": {}})[0]
    assert over_seconds({}) == []
