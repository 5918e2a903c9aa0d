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
    """Finds the hypotheses of utterances.

    Attributes:
        beam_size: The largest number of hypotheses of an utterance.
    """

    @property
    def beam_size(self) -> int: ...  # noqa: D102

    def __call__(self, model: ASRModel, encoded: torch.Tensor, encoded_lens: torch.Tensor) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each utterance, the best one first.

        Args:
            model: The model that encoded the utterances.
            encoded: Encoder frames (B, E, H).
            encoded_lens: The numbers of frames (B,).
        """


class GreedyCTC:
    """Decodes by the best path of CTC."""

    beam_size = 1

    def __call__(self, model: ASRModel, encoded: torch.Tensor, encoded_lens: torch.Tensor) -> list[list[Hypothesis]]:
        """Returns one hypothesis for each utterance, with the score of its path; see `Decoder` for the arguments."""
        log_probs = model.ctc_log_probs(encoded)
        own = [frames[:length] for frames, length in zip(log_probs, encoded_lens.tolist(), strict=True)]
        return [[Hypothesis(best_path(frames), float(frames.amax(dim=-1).sum()))] for frames in own]


class JointBeamSearch:
    """ESPnet's batched beam search over CTC prefix scores and the attention decoder (Watanabe et al. 2017, eq. 23).

    A batch of the search holds the hypotheses of one utterance; utterances are decoded one after another, without their
    padding.

    Args:
        beam_size: The number of hypotheses that are kept, at least 1.
        ctc_weight: The weight of the CTC score, in [0, 1]; the rest is the weight of the decoder's score.
        length_bonus: The number that is added to the score for each token.

    Raises:
        ValueError: If a value is outside its range.
    """

    def __init__(self, beam_size: int, ctc_weight: float, length_bonus: float = 0.0) -> None:
        if beam_size < 1:
            raise ValueError(f"beam_size: got {beam_size}, allowed is at least 1.")
        if not 0.0 <= ctc_weight <= 1.0:
            raise ValueError(f"ctc_weight: got {ctc_weight}, allowed is [0, 1].")
        self.beam_size = beam_size
        self.ctc_weight = ctc_weight
        self.length_bonus = length_bonus
        self._search: tuple[ASRModel, BatchBeamSearch] | None = None

    def __call__(self, model: ASRModel, encoded: torch.Tensor, encoded_lens: torch.Tensor) -> list[list[Hypothesis]]:
        """Returns at most `beam_size` hypotheses for each utterance; see `Decoder` for the arguments.

        Raises:
            ValueError: If the model has no decoder.
        """
        search = self._search_of(model)
        own = [frames[:length] for frames, length in zip(encoded, encoded_lens.tolist(), strict=True)]
        return [self._best(search(frames), model.sos_eos) for frames in own]

    def _best(self, ended: Iterable[Any], sos_eos: int) -> list[Hypothesis]:
        """Returns the best hypotheses of ESPnet's search, each once."""
        best: dict[tuple[int, ...], float] = {}
        for hypothesis in ended:
            # Not only the first and the last token: a search that reaches its longest output ends it with two of them.
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
