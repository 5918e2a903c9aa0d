"""Utterances and a trained model -> hypotheses, by CTC alone or by CTC and attention together.

No utterance sees what it shares a batch with (`models.padding`), so the size of batches, and how many processes share
the work, is a matter of speed alone.

Shape legend: B utterances, E encoder frames, H model width, V vocabulary.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import torch
from espnet.nets.batch_beam_search import BatchBeamSearch
from espnet.nets.scorers.ctc import CTCPrefixScorer
from espnet.nets.scorers.length_bonus import LengthBonus
from lhotse import CutSet
from lhotse.cut import Cut
from lightning.fabric.utilities import move_data_to_device
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

from asrsparse.batch import Batch, BatchDataset
from asrsparse.conditions import Decoding, decodings
from asrsparse.config import build
from asrsparse.cut_index import CutIndex
from asrsparse.cuts import cuts_path, read_cuts
from asrsparse.files import read_json, write_json
from asrsparse.models.asr import BLANK, ASRModel, best_path
from asrsparse.nbest import Hypothesis, write_nbest
from asrsparse.noise import noise_of_test
from asrsparse.parallel import in_processes
from asrsparse.sclite import Utterance, write_decoded
from asrsparse.tokenizer import Tokenizer, load_tokenizer
from asrsparse.train import load_model

logger = logging.getLogger(__name__)

_LOADERS_OF_A_GPU = 4
_BATCHES_PER_JOB = 4
"""At least, so that processes have their last ones done at about the same time."""


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


class Recogniser:
    """A model, and what it takes to find what is said in cuts.

    Args:
        model: A trained one, in evaluation mode.
        decoder: Its search.
        dataset: Loads batches for it.
    """

    def __init__(self, model: ASRModel, decoder: Decoder, dataset: BatchDataset) -> None:
        self.model = model
        self.decoder = decoder
        self.dataset = dataset

    def __call__(self, cuts: Sequence[Cut]) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each cut of a batch."""
        return self.find(cuts, self.load(cuts))

    def load(self, cuts: Sequence[Cut]) -> Batch:
        """Loads a batch."""
        return self.dataset[CutSet.from_cuts(cuts)]

    def find(self, cuts: Sequence[Cut], batch: Batch) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each utterance of a batch; where it is too large for a GPU, of one after another.

        Args:
            cuts: Those of the batch.
            batch: What `load` made of them.
        """
        try:
            return hypotheses_of(self.model, self.decoder, batch)
        except torch.OutOfMemoryError:
            if len(cuts) == 1:
                raise
        logger.warning("%d utterances do not fit into the GPU's memory: lower decode.batch_seconds.", len(cuts))
        return [found for cut in cuts for found in self([cut])]


@torch.inference_mode()
def hypotheses_of(model: ASRModel, decoder: Decoder, batch: Batch) -> list[list[Hypothesis]]:
    """The hypotheses of each of B utterances, the best one first."""
    encoded, encoded_lens = model.encode(move_data_to_device(batch, _device_of(model)))
    return decoder(model, encoded, encoded_lens)


def recognise(
    recogniser: Recogniser, cuts: Iterable[Cut], batch_seconds: float = 60.0, num_jobs: int = 1
) -> list[list[Hypothesis]]:
    """Finds what is said in cuts, with a progress bar.

    Args:
        recogniser: Does it for a batch.
        cuts: Any number of them.
        batch_seconds: Seconds of audio in a batch, padding counted; a longer cut is a batch alone.
        num_jobs: Processes that share the work, on a GPU that load files; 1 does all here.

    Returns:
        The hypotheses of each cut, the best one first, in the cuts' order: the same for all sizes and numbers.

    Raises:
        ValueError: If a cut cannot be read, or a process was killed.
    """
    cuts = list(cuts)
    durations = [cut.duration for cut in cuts]
    even_seconds = sum(durations) / (_BATCHES_PER_JOB * num_jobs)
    rows = batches_by_length(durations, min(batch_seconds, even_seconds) if num_jobs > 1 else batch_seconds)
    batches = [[cuts[row] for row in batch] for batch in rows]
    settings = "decode.num_jobs or decode.batch_seconds"
    if _device_of(recogniser.model).type == "cpu":
        found = in_processes(recogniser, batches, num_jobs, settings)
    else:
        found = map(recogniser.find, batches, in_processes(recogniser.load, batches, num_jobs, settings))
    singly = track(chain.from_iterable(found), description="decoding", total=len(cuts), transient=True)
    of_row = dict(zip(chain.from_iterable(rows), singly, strict=True))
    return [of_row[row] for row in range(len(cuts))]


def batches_by_length(durations: Sequence[float], batch_seconds: float) -> list[list[int]]:
    """Batches of utterances of similar length, the longest first: what does not fit into memory shows at once.

    Args:
        durations: Seconds of each utterance.
        batch_seconds: Seconds in a batch, padding counted.

    Returns:
        The numbers of utterances in each batch.

    Example:
        >>> batches_by_length([1.0, 4.0, 3.0, 9.0], batch_seconds=8.0)
        [[3], [1, 2], [0]]
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(durations)), key=lambda row: -durations[row]):
        if not batches or (len(batches[-1]) + 1) * durations[batches[-1][0]] > batch_seconds:
            batches.append([])
        batches[-1].append(row)
    return batches


def decode(config: DictConfig, command: str) -> None:
    """Decodes each of `decode.splits` with the run's model, once for each of `decode.snrs`, unless that is done.

    Writes `ref.trn`, `hyp.trn`, `utt2spk`, `utt2dur` and `decode.json` to `decode_<split>_<method>/` in the run's
    folder, and to `decode_<split>_<method>_babble<dB>dB/` where babble is mixed into the audio; with `decode.nbest`
    above 1, `1best_recog/` and so on beside them.

    Args:
        config: The composed configuration.
        command: The command that led here, for the record.

    Raises:
        ValueError: If there is no finished model, no such split, a setting or ratio is none, or a folder holds other
            utterances.
    """
    decoder: Decoder = build(config.decode.decoder)
    check_settings(config.decode, decoder)
    cuts_dir = Path(config.data_dir) / "cuts"
    left = [decoding for decoding in decodings(config) if not _is_decoded(decoding, config.decode.nbest, cuts_dir)]
    if not left:
        return
    tokenizer = load_tokenizer(cuts_dir)
    model = load_model(config, tokenizer).to(device_of(config.trainer.accelerator))
    record = {"command": command, "method": config.decode.method} | _settings(config.decode, model)
    for decoding in left:
        _decode_one(decoding, cuts_dir, model, decoder, tokenizer, record)


def check_settings(settings: DictConfig, decoder: Decoder) -> None:
    """Checks how a user wants to decode.

    Raises:
        ValueError: If a setting is outside its range.
    """
    if not 1 <= settings.nbest <= decoder.beam_size:
        raise ValueError(
            f"decode.nbest: got {settings.nbest}, allowed are 1 to {decoder.beam_size}, the hypotheses that "
            f"{type(decoder).__name__} keeps. More has decode=joint with a larger decode.decoder.beam_size."
        )
    if not settings.batch_seconds > 0:
        raise ValueError(f"decode.batch_seconds: got {settings.batch_seconds}, allowed is more than 0 s of audio.")
    if settings.num_jobs is not None and settings.num_jobs < 1:
        raise ValueError(f"decode.num_jobs: got {settings.num_jobs}, allowed are 1 and more, and null for all cores.")


def _settings(settings: DictConfig, model: ASRModel) -> dict[str, Any]:
    """What a decoding is done with, for the record; `num_jobs` as it is on this machine."""
    device = _device_of(model)
    default_jobs = torch.get_num_threads() if device.type == "cpu" else min(_LOADERS_OF_A_GPU, torch.get_num_threads())
    return {
        "decoder": OmegaConf.to_container(settings.decoder, resolve=True),
        "nbest": settings.nbest,
        "batch_seconds": settings.batch_seconds,
        "num_jobs": settings.num_jobs or default_jobs,
        "device": device.type,
    }


def _decode_one(
    decoding: Decoding,
    cuts_dir: Path,
    model: ASRModel,
    decoder: Decoder,
    tokenizer: Tokenizer,
    record: dict[str, Any],
) -> None:
    """Decodes one test set under one condition; `record` is completed and becomes `decode.json`."""
    cuts = read_cuts(cuts_dir, decoding.split).to_eager()
    dataset = BatchDataset(tokenizer.encode, model.modalities, noise_of_test(cuts_dir, decoding.snr))
    started = time.perf_counter()
    found = recognise(Recogniser(model, decoder, dataset), cuts, record["batch_seconds"], record["num_jobs"])
    seconds = time.perf_counter() - started
    write_decoded(
        decoding.folder,
        [_utterance(cut, tokenizer.decode(best.tokens)) for cut, (best, *_) in zip(cuts, found, strict=True)],
    )
    if record["nbest"] > 1:
        lists = {cut.id: each[: record["nbest"]] for cut, each in zip(cuts, found, strict=True)}
        write_nbest(decoding.folder, lists, tokenizer)
    audio_hours = sum(cut.duration for cut in cuts) / 3600
    speed = 3600 * audio_hours / seconds
    done = {"utterances": len(cuts), "audio_hours": audio_hours, "seconds": seconds, "times_real_time": speed}
    of = {"split": decoding.split, "snr": decoding.snr, "fingerprint": _fingerprint(cuts_dir, decoding.split)}
    write_json(decoding.folder / "decode.json", record | of | done)
    logger.info(
        "%s: %d utterances, %.2f h in %.1f s: %.1f times real time, or hours decoded per hour.",
        *(decoding.folder, len(cuts), audio_hours, seconds, speed),
    )


def _is_decoded(decoding: Decoding, nbest: int, cuts_dir: Path) -> bool:
    """Whether the test set is decoded already, as it is now; without its cuts nothing is known of now."""
    path = decoding.folder / "decode.json"
    if not path.is_file():
        return False
    done = read_json(path)
    now = _fingerprint(cuts_dir, decoding.split) if cuts_path(cuts_dir, decoding.split).is_file() else None
    if now is not None and done.get("fingerprint", now) != now:
        raise ValueError(
            f"{decoding.folder} holds {done['utterances']} utterances, others than those that {cuts_dir} has for "
            f"{decoding.split} now. Delete the folder to decode them, or name the data that the model was trained on "
            "(data_dir=DIR)."
        )
    if done.get("nbest", 1) < nbest:
        return False
    logger.info("%s is already decoded.", decoding.folder)
    return True


def _fingerprint(cuts_dir: Path, split: str) -> str:
    return CutIndex.open(cuts_path(cuts_dir, split)).fingerprint


def _utterance(cut: Cut, hypothesis: str) -> Utterance:
    (supervision,) = cut.supervisions
    return Utterance(cut.id, supervision.speaker, supervision.text, hypothesis, duration=cut.duration)


def device_of(accelerator: str) -> torch.device:
    """Where a model computes, by `trainer.accelerator`."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def _device_of(model: ASRModel) -> torch.device:
    return next(model.parameters()).device
