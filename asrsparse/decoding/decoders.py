"""Decoders: encoder frames -> hypotheses, by CTC alone or by CTC and attention together.

Shape legend: B utterances, E encoder frames, H model width, V vocabulary.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from espnet.nets.batch_beam_search import BatchBeamSearch
from espnet.nets.scorers.ctc import CTCPrefixScorer
from espnet.nets.scorers.length_bonus import LengthBonus

from asrsparse.decoding.nbest import Hypothesis
from asrsparse.models.asr import BLANK, ASRModel, best_path


class Decoder(Protocol):
    """Finds what is said in utterances.

    Attributes:
        beam_size: How many hypotheses it has for one, at most.
    """

    @property
    def beam_size(self) -> int: ...  # noqa: D102

    def __call__(self, model: ASRModel, encoded: torch.Tensor, encoded_lens: torch.Tensor) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each utterance, the best one first.

        Args:
            model: Which encoded them.
            encoded: Encoder frames (B, E, H).
            encoded_lens: Their numbers (B,).
        """


class GreedyCTC:
    """Takes the best path of CTC."""

    beam_size = 1

    def __call__(self, model: ASRModel, encoded: torch.Tensor, encoded_lens: torch.Tensor) -> list[list[Hypothesis]]:
        """Returns one hypothesis for each utterance, with the score of its path; arguments as of `Decoder`."""
        log_probs = model.ctc_log_probs(encoded)
        own = [frames[:length] for frames, length in zip(log_probs, encoded_lens.tolist(), strict=True)]
        return [[Hypothesis(best_path(frames), float(frames.amax(dim=-1).sum()))] for frames in own]


class JointBeamSearch:
    """ESPnet's batched beam search over CTC prefix scores and the attention decoder (Watanabe et al. 2017, eq. 23).

    A batch are the hypotheses of one utterance; utterances come one after another, without their padding.

    Args:
        beam_size: Hypotheses kept.
        ctc_weight: Share of the CTC score, in [0, 1]; the rest is the decoder's.
        length_bonus: Added for each token.
    """

    def __init__(self, beam_size: int = 10, ctc_weight: float = 0.3, length_bonus: float = 0.0) -> None:
        if beam_size < 1:
            raise ValueError(f"decode.decoder.beam_size: got {beam_size}, allowed is at least 1.")
        if not 0.0 <= ctc_weight <= 1.0:
            raise ValueError(f"decode.decoder.ctc_weight: got {ctc_weight}, allowed is [0, 1].")
        self.beam_size = beam_size
        self.ctc_weight = ctc_weight
        self.length_bonus = length_bonus
        self._search: tuple[ASRModel, BatchBeamSearch] | None = None

    def __call__(self, model: ASRModel, encoded: torch.Tensor, encoded_lens: torch.Tensor) -> list[list[Hypothesis]]:
        """Returns at most `beam_size` hypotheses for each utterance; arguments as of `Decoder`.

        Raises:
            ValueError: If the model has no decoder.
        """
        search = self._search_of(model)
        own = [frames[:length] for frames, length in zip(encoded, encoded_lens.tolist(), strict=True)]
        return [self._best(search(frames), model.sos_eos) for frames in own]

    def _best(self, ended: Iterable[Any], sos_eos: int) -> list[Hypothesis]:
        """The best of what ESPnet's search ended with, none of them twice."""
        best: dict[tuple[int, ...], float] = {}
        for hypothesis in ended:
            # Not just the first and last: a search that reaches its longest output ends it with the end's token twice.
            tokens = tuple(token for token in hypothesis.yseq.tolist() if token not in (BLANK, sos_eos))
            best.setdefault(tokens, float(hypothesis.score))
        found = [Hypothesis(list(tokens), score) for tokens, score in best.items()]
        return found[: self.beam_size] or [Hypothesis([], float("-inf"))]

    def _search_of(self, model: ASRModel) -> BatchBeamSearch:
        if self._search is None or self._search[0] is not model:
            self._search = (model, self._make_search(model))
        return self._search[1]

    def _make_search(self, model: ASRModel) -> BatchBeamSearch:
        if model.decoder is None:
            raise ValueError("The model has no attention decoder: decode it by CTC (decode=ctc_greedy).")
        scorers = {
            "decoder": model.decoder,
            "ctc": CTCPrefixScorer(ctc=model.ctc, eos=model.sos_eos),
            "length_bonus": LengthBonus(model.vocab_size),
        }
        weights = {"decoder": 1 - self.ctc_weight, "ctc": self.ctc_weight, "length_bonus": self.length_bonus}
        search = BatchBeamSearch(
            scorers=scorers,
            weights=weights,
            beam_size=self.beam_size,
            vocab_size=model.vocab_size,
            sos=model.sos_eos,
            eos=model.sos_eos,
            token_list=None,
            pre_beam_score_key=None if self.ctc_weight == 1.0 else "full",
        )
        return search.to(next(model.parameters()).device).eval()
