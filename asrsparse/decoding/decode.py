"""`asrsparse decode`: the test sets of a corpus and a trained model -> folders of hypotheses."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import Cut
from omegaconf import DictConfig, OmegaConf

from asrsparse.config import build
from asrsparse.data.batch import BatchDataset
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path, read_cuts
from asrsparse.data.noise import QUIET, Noise, noise_of_test
from asrsparse.data.tokenizer import Tokenizer, load_tokenizer
from asrsparse.decoding.decoders import Decoder
from asrsparse.decoding.nbest import write_nbest
from asrsparse.decoding.recogniser import LOADERS_OF_A_GPU, Recogniser, device_of, device_of_model, recognise
from asrsparse.files import read_json, write_json
from asrsparse.models.asr import ASRModel
from asrsparse.models.builders import load_model
from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.decodings import CLEAN, Decoding, NoiseCondition, decodings
from asrsparse.scoring.trn_files import write_decoded

logger = logging.getLogger(__name__)


def decode(config: DictConfig, command: str) -> None:
    """Decodes each of `decode.splits` with the run's model, once for each of `decode.snrs`, unless that is done.

    Writes `ref.trn`, `hyp.trn`, `utt2spk`, `utt2dur` and `decode.json` to `decode_<split>_<method>/` in the run's
    folder, and to `decode_<split>_<method>_babble<dB>dB/` where babble is mixed into the audio; with `decode.nbest`
    above 1, `1best_recog/` and so on beside them.

    Args:
        config: The composed configuration.
        command: The command that started the decoding, for the record.

    Raises:
        ValueError: If there is no trained model or no such split, a setting is outside its range, or a folder holds
            other utterances.
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
    """Checks the settings of the group `decode`.

    Args:
        settings: The node `decode` of a configuration.
        decoder: The decoder of the settings.

    Raises:
        ValueError: If a setting is outside its range.
    """
    if not 1 <= settings.nbest <= decoder.beam_size:
        raise ValueError(
            f"decode.nbest: got {settings.nbest}, allowed are 1 to {decoder.beam_size}, the hypotheses that "
            f"{type(decoder).__name__} keeps. For more take decode=joint with a larger decode.decoder.beam_size."
        )
    if not settings.batch_seconds > 0:
        raise ValueError(f"decode.batch_seconds: got {settings.batch_seconds}, allowed is more than 0 s of audio.")
    if settings.num_jobs is not None and settings.num_jobs < 1:
        raise ValueError(f"decode.num_jobs: got {settings.num_jobs}, allowed are 1 and more, and null for all cores.")


def _settings(settings: DictConfig, model: ASRModel) -> dict[str, Any]:
    """Returns the settings of a decoding for the record; `num_jobs` has its value on this machine."""
    device = device_of_model(model)
    default_jobs = torch.get_num_threads() if device.type == "cpu" else min(LOADERS_OF_A_GPU, torch.get_num_threads())
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
    dataset = BatchDataset(tokenizer.encode, model.modalities, noise_of(cuts_dir, decoding.condition))
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
    of = {"split": decoding.split, "snr": decoding.condition.snr, "fingerprint": _fingerprint(cuts_dir, decoding.split)}
    write_json(decoding.folder / "decode.json", record | of | done)
    logger.info(
        "%s: %d utterances, %.2f h in %.1f s: %.1f times real time, or hours decoded per hour.",
        *(decoding.folder, len(cuts), audio_hours, seconds, speed),
    )


def _is_decoded(decoding: Decoding, nbest: int, cuts_dir: Path) -> bool:
    """Whether a test set is decoded already, and with the utterances that it has now, where its cuts are here."""
    path = decoding.folder / "decode.json"
    if not path.is_file():
        return False
    done = read_json(path)
    now = _fingerprint(cuts_dir, decoding.split) if cuts_path(cuts_dir, decoding.split).is_file() else None
    if now is not None and done.get("fingerprint", now) != now:
        raise ValueError(
            f"{decoding.folder} holds {done['utterances']} utterances, which are not those that {cuts_dir} has for "
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


def noise_of(cuts_dir: Path, condition: NoiseCondition) -> Noise:
    """Returns the noise of a decoding, at one ratio for all utterances; none where the condition is `CLEAN`."""
    return QUIET if condition == CLEAN else noise_of_test(condition.name, cuts_dir, condition.snr_db)
