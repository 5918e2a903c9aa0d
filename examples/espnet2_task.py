"""Dynamic data pruning in ESPnet2's own trainer: `espnet2.bin.asr_train` with a task that prunes, and all its options.

python espnet2_task.py --config train.yaml --train_shape_file dump/train/speech_shape ... --output_dir exp/pruned
"""

from asrsparse.integrations.espnet2 import PrunedASRTask
from asrsparse.pruning import DynamicPruner, EasyToHard, PruningPlan


class Task(PrunedASRTask):
    @classmethod
    def build_pruner(cls, args, ids, lengths):
        plan = PruningPlan(num_epochs=args.max_epoch, warmup_epochs=1, final_epochs=1)
        return DynamicPruner(ids, lengths, EasyToHard(keep_ratio=0.7), plan, seed=args.seed)


if __name__ == "__main__":
    Task.main()
