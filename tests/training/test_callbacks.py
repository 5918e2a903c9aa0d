import math
from types import SimpleNamespace

import pytest
from toy import NUM_STEPS, attach, build, train

from asrsparse.masks import MEST, NM, SET, SRSTE, DecayingMask, LearnedMask, RigL
from asrsparse.masks.semi_structured import is_two_of_four
from asrsparse.training.callbacks import Snapshots
from asrsparse.training.checkpoints import BestEpochs, LastEpochs, average, read_snapshots

STEPS_PER_EPOCH = 20
LATE = {"every": 0.05, "density": 0.3}
METHODS = {
    "set": SET(**LATE),
    "mest": MEST(**LATE),
    "rigl": RigL(**LATE),
    "sr_ste": SRSTE(),
    "decaying": DecayingMask(),
    "continuous sparsification": LearnedMask(
        until=1.0, target_density=None, penalty_weight=5.0, penalty_on="mask", logit=0.05, logit_lr=0.02, exit="sparse"
    ),
    "learned, then sparse": LearnedMask(until=0.5, exit="sparse"),
    "learned to the end, then sparse": LearnedMask(until=1.0, reach_by=1.0, exit="sparse"),
    "late 2:4": LearnedMask(start=0.3, until=0.7, allocation=NM(2, 4), exit="sparse"),
}


def train_with_snapshots(folder, method, choice):
    """Trains the toy model for five epochs with snapshots after each."""
    model = build()
    masks, optimizer = attach(model, method)
    module = SimpleNamespace(masks=masks, position=SimpleNamespace(epoch=0))
    trainer = SimpleNamespace(is_global_zero=True, callback_metrics={"dev_loss": math.nan})
    snapshots = Snapshots(folder, choice)
    snapshots.on_train_batch_start(trainer, module, None, 0)
    for step in train(model, masks, optimizer):
        if step % STEPS_PER_EPOCH == 0:
            trainer.callback_metrics["dev_loss"] = float(module.position.epoch)  # it gets worse
            snapshots.on_train_epoch_end(trainer, module)
            module.position.epoch += 1
        snapshots.on_train_batch_start(trainer, module, None, 0)
    assert module.position.epoch == NUM_STEPS / STEPS_PER_EPOCH
    return masks, read_snapshots(folder)


@pytest.mark.parametrize("name", METHODS)
def test_the_average_has_the_density_of_the_masks_at_their_exit(name, tmp_path):
    masks, snapshots = train_with_snapshots(tmp_path, METHODS[name], LastEpochs(4))
    averaged = average(snapshots, masks.weight_masks())
    assert masks.phase == "sparse"
    assert 0.0 < masks.exit_summary["density"] < 0.9
    assert masks.density_of(averaged) == masks.exit_summary["density"] == masks.density
    assert masks.overall_density_of(averaged) == masks.overall_density
    assert all((averaged[weight][~keep] == 0).all() for weight, keep in masks.weight_masks().items())
    if name in ("sr_ste", "decaying", "late 2:4"):
        inputs_last = [averaged[weight].movedim(1, -1) for weight in masks.weight_masks()]
        assert all(is_two_of_four(weight.reshape(-1, weight.shape[-1])) for weight in inputs_last)


@pytest.mark.parametrize("name", METHODS)
def test_an_average_of_earlier_epochs_obeys_the_last_masks(name, tmp_path):
    masks, snapshots = train_with_snapshots(tmp_path, METHODS[name], BestEpochs(2))
    averaged = average(snapshots, masks.weight_masks())
    assert all((averaged[weight][~keep] == 0).all() for weight, keep in masks.weight_masks().items())
    assert masks.density_of(averaged) <= masks.density


def test_masks_that_stay_until_the_end_are_averaged_over_several_epochs(tmp_path):
    _, snapshots = train_with_snapshots(tmp_path, SRSTE(), LastEpochs(3))
    assert [s.epoch for s in snapshots] == [2, 3, 4]
    assert [s.phase for s in snapshots] == ["following", "following", "sparse after the exit"]


@pytest.mark.parametrize(("until", "epochs"), [(0.5, [2, 3, 4]), (0.4, [1, 2, 3, 4]), (1.0, [4])])
def test_an_average_does_not_go_back_before_a_dense_exit(until, epochs, tmp_path):
    method = LearnedMask(until=until, reach_by=1.0, stable_share=0.0, exit="dense")
    masks, snapshots = train_with_snapshots(tmp_path, method, LastEpochs(4))
    assert [s.epoch for s in snapshots] == epochs
    at_the_end = masks.exit_summary["density"] if until == 1.0 else 1.0
    assert masks.density_of(average(snapshots, masks.weight_masks())) == at_the_end


def test_the_best_epochs_are_those_after_the_exit(tmp_path):
    _, snapshots = train_with_snapshots(tmp_path, LearnedMask(until=0.5, reach_by=1.0, stable_share=0.0), BestEpochs(2))
    assert [s.epoch for s in snapshots] == [2, 3]


def test_other_ranks_write_no_snapshots(tmp_path):
    Snapshots(tmp_path, LastEpochs(1)).on_train_epoch_end(SimpleNamespace(is_global_zero=False), None)
    assert not list(tmp_path.iterdir())
