"""Dynamic data pruning: which utterances an epoch trains on, and which parts of them. Needs only torch and numpy."""

import warnings
from typing import Any

from asrsparse.pruning.audit import Audit
from asrsparse.pruning.blank import BlankTable
from asrsparse.pruning.chunk_policies import ChunkPolicy, Chunks, LeastBlankChunks, LoudestChunks, RandomChunks
from asrsparse.pruning.drawn_policies import InfoBatch, OrderDP, RePB
from asrsparse.pruning.draws import Draw
from asrsparse.pruning.kept_sampler import KeptSampler
from asrsparse.pruning.policies import (
    Candidates,
    Coverage,
    Easy,
    EasyToHard,
    EpsilonGreedy,
    Hard,
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
from asrsparse.pruning.segment import KeepAllTime, SegmentPruner
from asrsparse.pruning.selection import KeptSet, PruningPlan, select
from asrsparse.pruning.speech_chunks import KaldiVadChunks, SpeechChunks
from asrsparse.pruning.stream import KeptStream, StreamPruner
from asrsparse.pruning.utterance import DynamicPruner

__all__ = [
    "Audit",
    "BlankTable",
    "Candidates",
    "ChunkPolicy",
    "Chunks",
    "Coverage",
    "Draw",
    "DynamicPruner",
    "Easy",
    "EasyToHard",
    "EpsilonGreedy",
    "Hard",
    "InfoBatch",
    "KaldiVadChunks",
    "KeepAll",
    "KeepAllTime",
    "KeptSampler",
    "KeptSet",
    "KeptStream",
    "LeastBlankChunks",
    "Longest",
    "LoudestChunks",
    "Middle",
    "OrderDP",
    "Policy",
    "PruningPlan",
    "Random",
    "RandomChunks",
    "RePB",
    "ScoreTable",
    "SegmentPruner",
    "Shortest",
    "SpeechChunks",
    "StreamPruner",
    "UpperConfidence",
    "Window",
    "select",
]

_RENAMED = {"AllTime": "KeepAllTime"}
"""Public names of the last release, and what they are called now."""


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.{name} is called {_RENAMED[name]} now; the next release removes the old name.",
        DeprecationWarning,
        stacklevel=2,
    )
    return globals()[_RENAMED[name]]
