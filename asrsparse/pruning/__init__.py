"""Dynamic data pruning: what the next epoch hears of which utterances. Needs torch and numpy alone."""

from asrsparse.pruning.audit import Audit
from asrsparse.pruning.blank import BlankTable
from asrsparse.pruning.kept_sampler import KeptSampler
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
from asrsparse.pruning.segment import (
    AllTime,
    ChunkPolicy,
    Chunks,
    LeastBlankChunks,
    LoudestChunks,
    RandomChunks,
    SegmentPruner,
)
from asrsparse.pruning.stream import KeptStream, StreamPruner
from asrsparse.pruning.utterance import DynamicPruner, KeptSet, PruningPlan, select

__all__ = [
    "AllTime",
    "Audit",
    "BlankTable",
    "Candidates",
    "ChunkPolicy",
    "Chunks",
    "Coverage",
    "DynamicPruner",
    "Easy",
    "EasyToHard",
    "EpsilonGreedy",
    "Hard",
    "InfoBatch",
    "KeepAll",
    "KeptSampler",
    "KeptSet",
    "KeptStream",
    "LeastBlankChunks",
    "Longest",
    "LoudestChunks",
    "Middle",
    "Policy",
    "PruningPlan",
    "Random",
    "RandomChunks",
    "ScoreTable",
    "SegmentPruner",
    "Shortest",
    "StreamPruner",
    "UpperConfidence",
    "Window",
    "select",
]
