"""Segment pruning inside a recogniser: it chooses chunks of time, cuts the others away, and observes the blanks.

A model that reads audio and video chooses the chunks once, by the audio, and cuts the same ones out of both.

Shape legend: B utterances, R rows of the longest, E encoder frames of the longest, C chunks of the longest.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from espnet.nets.pytorch_backend.nets_utils import make_pad_mask
from torch import Tensor

from asrsparse.data.batch import PADDING_TOKEN, Batch
from asrsparse.models.consistency import in_views
from asrsparse.pruning import SegmentPruner
from asrsparse.rates import FRAMES_PER_SECOND, least_seconds

SEGMENT_LEVELS = ("waveform", "feature", "frontend")
"""The places where chunks can be cut away; `frontend` is behind the encoder's subsampling."""

_CHOSEN_AT = {"waveform": "waveform", "feature": "feature", "frontend": "feature"}
"""The values by which chunks are chosen, by the level where they are cut away; frames do not show loudness."""

_CTC_MARGIN = 1.2
"""The factor on the least number of frames that CTC needs: with exactly this number there is a single alignment."""


class TimePruning:
    """The segment pruning of one batch.

    Args:
        segments: Chooses the chunks that are kept.
        level: The place where the other chunks are cut away, one of `SEGMENT_LEVELS`.
        ids: B utterance ids.
        least_seconds: The least time that each utterance keeps, in seconds (B,).

    Attributes:
        kept_share: The share of the batch's time that is kept, in (0, 1].
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
        self.kept_share = 1.0
        self.kept: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, segments: SegmentPruner, level: str) -> "TimePruning":
        """Returns the pruning of a batch that leaves each utterance enough time for its labels."""
        return cls(segments, level, batch.ids, least_ctc_seconds(batch))

    def cut(self, level: str, values: Tensor, lens: Tensor, rows_per_second: int) -> tuple[Tensor, Tensor]:
        """Chooses chunks if they are chosen by the values of `level`, and cuts the others away if they are cut there.

        Args:
            level: The level of `values`, one of `SEGMENT_LEVELS`.
            values: Rows (B, R) or (B, R, ...), zero behind `lens`; if chunks were chosen before, rows for several
                views of the batch (views x B, ...), which lose the same chunks.
            lens: Rows of each utterance (B,).
            rows_per_second: The number of rows in a second of `values`.

        Returns:
            The kept rows, zero behind their lengths, and their lengths (B,).
        """
        if self.kept is None and level == _CHOSEN_AT[self.level]:
            self.kept = self.segments.choose(values, lens, rows_per_second, self.least_seconds, self.ids)
        if level != self.level:
            return values, lens
        assert self.kept is not None
        kept = in_views(self.kept, len(values) // len(self.kept))
        shorter, shorter_lens = self.segments.apply(kept, values, lens, rows_per_second)
        if shorter is not values:
            self.kept_share = float(shorter_lens.sum() / lens.sum())
        return shorter, shorter_lens

    @contextmanager
    def frames_of(self, embed: torch.nn.Module) -> Iterator[None]:
        """Returns a context in which frames are cut between an ESPnet encoder's subsampling and its blocks."""
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
        """Passes the log probabilities of CTC's blank in each encoder frame (B, E) to the segment pruner."""
        assert self.kept is not None
        self.segments.observe(self.ids, self.kept, blank_log_probs)


def least_ctc_seconds(batch: Batch) -> Tensor:
    """Returns the least time in which CTC can still align each utterance, with a margin, in seconds (B,)."""
    tokens = batch.tokens
    repeats = ((tokens[:, 1:] == tokens[:, :-1]) & (tokens[:, 1:] != PADDING_TOKEN)).sum(dim=1)
    frames = torch.ceil(_CTC_MARGIN * (batch.token_lens + repeats))
    return least_seconds(frames)
