import pytest
import torch
from transformers import TrainingArguments

from asrsparse.integrations.huggingface import PruningTrainer
from asrsparse.pruning import DynamicPruner, PruningPlan, Random


def make_trainer(folder, num_epochs):
    pruner = DynamicPruner(["a", "b"], [1.0, 1.0], plan=PruningPlan(num_epochs=3))
    options = TrainingArguments(str(folder), num_train_epochs=num_epochs, use_cpu=True, report_to="none")
    return PruningTrainer(model=torch.nn.Linear(1, 1), args=options, train_dataset=[{}, {}], pruner=pruner)


def test_other_epochs_than_the_plans_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"num_train_epochs: got 2, and 3 in the pruner's plan; both must be the same"):
        make_trainer(tmp_path, num_epochs=2)


def test_each_epoch_is_as_long_as_its_kept_set_also_where_it_grows(tmp_path):
    """Random prunes from the first epoch, whose length Trainer would take for that of all."""
    ids = [str(number) for number in range(40)]
    plan = PruningPlan(num_epochs=3, final_epochs=1, num_strata=1)
    pruner = DynamicPruner(ids, [1.0] * 40, Random(0.5), plan)

    class Squares(PruningTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            losses = model(inputs["x"]).squeeze(1).square()
            return self.pruner.observe([str(int(row)) for row in inputs["row"]], losses)

    data = [{"row": row, "x": torch.ones(1)} for row in range(40)]
    options = TrainingArguments(
        str(tmp_path), num_train_epochs=3, per_device_train_batch_size=10, use_cpu=True, report_to="none"
    )
    trainer = Squares(model=torch.nn.Linear(1, 1), args=options, train_dataset=data, pruner=pruner)
    trainer.train()
    assert trainer.state.global_step == 2 + 2 + 4
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.0)
    assert pruner.audit.is_clean
    assert (pruner.table.last_seen == 2).all()


def test_going_on_from_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"resume_from_checkpoint: got True, allowed is None"):
        make_trainer(tmp_path, num_epochs=3).train(resume_from_checkpoint=True)
