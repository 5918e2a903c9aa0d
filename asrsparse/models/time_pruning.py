"""Segment pruning inside a recogniser: chosen among what a level holds, cut away, remembered behind the encoder.

Where a model hears and sees, the chunks are chosen once, by what is heard, and both lose the same ones.

Shape legend: B utterances, R rows of the longest, E encoder frames of the longest, H model width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from espnet.nets.pytorch_backend.nets_utils import make_pad_mask
from torch import Tensor

from asrsparse.data.batch import PADDING_TOKEN, Batch
from asrsparse.pruning import SegmentPruner
from asrsparse.rates import FRAMES_PER_SECOND, least_seconds

SEGMENT_LEVELS = ("waveform", "feature", "frontend")

_CHOSEN_AT = {"waveform": "waveform", "feature": "feature", "frontend": "feature"}
"""What a policy looks at; frames behind the subsampling say nothing of loudness."""

_CTC_MARGIN = 1.2
"""Encoder frames that pruned time leaves an utterance, by what CTC needs at least: a bare minimum has one alignment."""


class TimePruning:
    """What one step hears of the time of a batch.

    Args:
        segments: Chooses, cuts and remembers.
        level: Where the rest is cut away, one of `SEGMENT_LEVELS`.
        ids: B utterance ids.
        least_seconds: The least that each utterance keeps (B,).

    Attributes:
        heard_share: The share of the batch's time that is left, in (0, 1].
        kept: True for the chunks that are kept (B, C); None before they are chosen.
    """

    def __init__(
        self,
        segments: SegmentPruner,
        level: str = "feature",
        ids: Sequence[str] = (),
        least_seconds: Tensor | float = 0.0,
    ) -> None:
        self.segments = segments
        self.level = level
        self.ids = ids
        self.least_seconds = least_seconds
        self.heard_share = 1.0
        self.kept: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, segments: SegmentPruner, level: str) -> "TimePruning":
        """The pruning of a batch that leaves its labels enough time."""
        return cls(segments, level, batch.ids, least_ctc_seconds(batch))

    def cut(self, level: str, values: Tensor, lens: Tensor, rows_per_second: int) -> tuple[Tensor, Tensor]:
        """Chooses what is kept, if `level` is looked at first; cuts the rest away, if it is cut at `level`.

        Args:
            level: What `values` are.
            values: (B, R) or (B, R, ...), zero behind `lens`.
            lens: Rows of each utterance (B,).
            rows_per_second: Rows that make a second of `values`.

        Returns:
            What is left of the values, and its lengths.
        """
        if self.kept is None and level == _CHOSEN_AT[self.level]:
            self.kept = self.segments.choose(values, lens, rows_per_second, self.least_seconds, self.ids)
        if level != self.level:
            return values, lens
        assert self.kept is not None
        shorter, shorter_lens = self.segments.apply(self.kept, values, lens, rows_per_second)
        if shorter is not values:
            self.heard_share = float(shorter_lens.sum() / lens.sum())
        return shorter, shorter_lens

    @contextmanager
    def frames_of(self, embed: torch.nn.Module) -> Iterator[None]:
        """Cuts frames between an ESPnet encoder's subsampling and its blocks, while the block of code runs."""
        hook = embed.register_forward_hook(self._cut_frames)
        try:
            yield
        finally:
            hook.remove()

    def _cut_frames(self, embed: torch.nn.Module, inputs: Any, output: Any) -> Any:
        (frames, positions), is_frame = output
        shorter, lens = self.cut("frontend", frames, is_frame.squeeze(1).sum(dim=1), FRAMES_PER_SECOND)
        if shorter is frames:
            return output
        # Positions are relative, from E - 1 to 1 - E, with 0 in the middle.
        dropped = frames.size(1) - shorter.size(1)
        positions = positions[:, dropped : positions.size(1) - dropped]
        return (shorter, positions), ~make_pad_mask(lens)[:, None, :].to(frames.device)

    def observe(self, blank_log_probs: Tensor) -> None:
        """Lets the pruner know how sure the model was of blanks: log probabilities (B, E)."""
        assert self.kept is not None
        self.segments.observe(self.ids, self.kept, blank_log_probs)


def least_ctc_seconds(batch: Batch) -> Tensor:
    """The least time in which CTC can still align each utterance, with a margin (B,)."""
    tokens = batch.tokens
    repeats = ((tokens[:, 1:] == tokens[:, :-1]) & (tokens[:, 1:] != PADDING_TOKEN)).sum(dim=1)
    frames = torch.ceil(_CTC_MARGIN * (batch.token_lens + repeats))
    return least_seconds(frames)
