"""Dynamic data pruning: which utterances the next epoch trains on. Needs torch and numpy alone."""

from asrsparse.pruning.policies import (
    Candidates,
    Coverage,
    Easy,
    EasyToHard,
    EpsilonGreedy,
    Hard,
    InfoBatch,
    KeepAll,
    Longest,
    Middle,
    Policy,
    Random,
    Shortest,
    UpperConfidence,
    Window,
)
from asrsparse.pruning.scores import ScoreTable
from asrsparse.pruning.utterance import DynamicPruner, KeptSet, PruningPlan, select

__all__ = [
    "Candidates",
    "Coverage",
    "DynamicPruner",
    "Easy",
    "EasyToHard",
    "EpsilonGreedy",
    "Hard",
    "InfoBatch",
    "KeepAll",
    "KeptSet",
    "Longest",
    "Middle",
    "Policy",
    "PruningPlan",
    "Random",
    "ScoreTable",
    "Shortest",
    "UpperConfidence",
    "Window",
    "select",
]
