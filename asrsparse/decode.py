"""Utterances and a trained model -> hypotheses, by CTC alone or by CTC and attention together.

Shape legend: E encoder frames, H model width, V vocabulary.
"""

import logging
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from espnet.nets.batch_beam_search import BatchBeamSearch
from espnet.nets.scorers.ctc import CTCPrefixScorer
from espnet.nets.scorers.length_bonus import LengthBonus
from lhotse import CutSet
from lhotse.cut import Cut
from lightning.fabric.utilities import move_data_to_device
from omegaconf import DictConfig
from rich.progress import track

from asrsparse.batch import BatchDataset
from asrsparse.conditions import Decoding, decodings
from asrsparse.config import build
from asrsparse.cuts import read_cuts
from asrsparse.files import write_json
from asrsparse.models.asr import BLANK, ASRModel, best_path
from asrsparse.noise import noise_of_test
from asrsparse.sclite import Utterance, write_decoded
from asrsparse.tokenizer import Tokenizer, load_tokenizer
from asrsparse.train import load_model

logger = logging.getLogger(__name__)


class Decoder(Protocol):
    """Finds the tokens of one utterance."""

    def __call__(self, model: ASRModel, encoded: torch.Tensor) -> list[int]:
        """Returns the token ids for encoder frames (E, H)."""


class GreedyCTC:
    """Takes the best path of CTC."""

    def __call__(self, model: ASRModel, encoded: torch.Tensor) -> list[int]:
        """Returns the token ids for encoder frames (E, H)."""
        return best_path(model.ctc_log_probs(encoded))


class JointBeamSearch:
    """ESPnet's batched beam search over CTC prefix scores and the attention decoder (Watanabe et al. 2017, eq. 23).

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

    def __call__(self, model: ASRModel, encoded: torch.Tensor) -> list[int]:
        """Returns the token ids for encoder frames (E, H).

        Raises:
            ValueError: If the model has no decoder.
        """
        hypotheses = self._search_of(model)(encoded)
        best = hypotheses[0].yseq.tolist() if hypotheses else []
        # Not just the first and last: a search that reaches its longest output ends it with the end's token twice.
        return [token for token in best if token not in (BLANK, model.sos_eos)]

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


def decode(config: DictConfig, command: str) -> None:
    """Decodes the test sets with the finished model of a run, once for each of `decode.snrs`, unless that is done.

    Writes `ref.trn`, `hyp.trn`, `utt2spk`, `utt2dur` and `decode.json` to `decode_<split>_<method>/` in the run's
    folder, and to `decode_<split>_<method>_babble<dB>dB/` where babble is mixed into the audio.

    Args:
        config: The composed configuration.
        command: The command that led here, for the record.

    Raises:
        ValueError: If there is no finished model, no such split, or a ratio is none.
    """
    left = [decoding for decoding in decodings(config) if not _is_decoded(decoding.folder)]
    if not left:
        return
    tokenizer = load_tokenizer(Path(config.data_dir) / "cuts")
    model = load_model(config, tokenizer).to(_device(config.trainer.accelerator))
    for decoding in left:
        record = {"command": command, "method": config.decode.method}
        _decode_one(decoding, config, model, tokenizer, record)


def _decode_one(
    decoding: Decoding, config: DictConfig, model: ASRModel, tokenizer: Tokenizer, record: dict[str, Any]
) -> None:
    """Decodes one test set under one condition; `record` is completed and becomes `decode.json`."""
    cuts_dir = Path(config.data_dir) / "cuts"
    cuts = read_cuts(cuts_dir, decoding.split).to_eager()
    dataset = BatchDataset(tokenizer.encode, model.modalities, noise_of_test(cuts_dir, decoding.snr))
    started = time.perf_counter()
    tokens = transcribe(model, build(config.decode.decoder), cuts, dataset)
    seconds = time.perf_counter() - started
    utterances = [_utterance(cut, tokenizer.decode(ids)) for cut, ids in zip(cuts, tokens, strict=True)]
    write_decoded(decoding.folder, utterances)
    audio_hours = sum(cut.duration for cut in cuts) / 3600
    done = {"utterances": len(cuts), "audio_hours": audio_hours, "seconds": seconds}
    write_json(decoding.folder / "decode.json", record | {"split": decoding.split, "snr": decoding.snr} | done)
    logger.info("%s: %.0f times real time.", decoding.folder, 3600 * audio_hours / seconds)


def _is_decoded(decode_dir: Path) -> bool:
    if not (decode_dir / "decode.json").is_file():
        return False
    logger.info("%s is already decoded.", decode_dir)
    return True


@torch.inference_mode()
def transcribe(model: ASRModel, decoder: Decoder, cuts: CutSet, dataset: BatchDataset) -> list[list[int]]:
    """Finds the tokens of each cut, one cut at a time: padding could change the encoder's output.

    Returns:
        Token ids for each cut, in the cuts' order.
    """
    device = next(model.parameters()).device
    tokens = []
    for cut in track(cuts, description="decoding", total=len(cuts), transient=True):
        batch = dataset[CutSet.from_cuts([cut])]
        encoded, _ = model.encode(move_data_to_device(batch, device))
        tokens.append(decoder(model, encoded.squeeze(0)))
    return tokens


def _utterance(cut: Cut, hypothesis: str) -> Utterance:
    (supervision,) = cut.supervisions
    return Utterance(cut.id, supervision.speaker, supervision.text, hypothesis, duration=cut.duration)


def _device(accelerator: str) -> torch.device:
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
