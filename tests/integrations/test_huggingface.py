import pytest
import torch
from transformers import TrainingArguments

from asrsparse.integrations.huggingface import PruningTrainer
from asrsparse.pruning import DynamicPruner, PruningPlan


def make_trainer(folder, num_epochs):
    pruner = DynamicPruner(["a", "b"], [1.0, 1.0], plan=PruningPlan(num_epochs=3))
    options = TrainingArguments(str(folder), num_train_epochs=num_epochs, use_cpu=True, report_to="none")
    return PruningTrainer(model=torch.nn.Linear(1, 1), args=options, train_dataset=[{}, {}], pruner=pruner)


def test_other_epochs_than_the_plans_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"num_train_epochs: got 2, and 3 in the pruner's plan; both must be the same"):
        make_trainer(tmp_path, num_epochs=2)


def test_going_on_from_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"resume_from_checkpoint: got True, allowed is None"):
        make_trainer(tmp_path, num_epochs=3).train(resume_from_checkpoint=True)
