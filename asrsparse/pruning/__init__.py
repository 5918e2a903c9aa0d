"""Dynamic data pruning: which utterances the next epoch trains on. Needs torch and numpy alone."""

from asrsparse.pruning.policies import Easy, EasyToHard, Hard, KeepAll, Policy, Random
from asrsparse.pruning.scores import ScoreTable
from asrsparse.pruning.utterance import DynamicPruner, KeptSet, PruningPlan, select

__all__ = [
    "DynamicPruner",
    "Easy",
    "EasyToHard",
    "Hard",
    "KeepAll",
    "KeptSet",
    "Policy",
    "PruningPlan",
    "Random",
    "ScoreTable",
    "select",
]
