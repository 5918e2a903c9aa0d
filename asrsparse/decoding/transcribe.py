"""Audio or video files and a finished run -> text: `asrsparse transcribe RUN_DIR FILE... [KEY=VALUE ...]`.

Shape legend: T samples, V video frames, S frames of 40 ms.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from asrsparse.corpora.media import decode_audio
from asrsparse.data.batch import Batch
from asrsparse.decoding.nbest import Hypothesis
from asrsparse.decoding.recogniser import device_of
from asrsparse.decoding.runs import FinishedRun, open_run
from asrsparse.decoding.word_times import word_times
from asrsparse.pruning.chunk_policies import motion
from asrsparse.rates import FRAMES_PER_SECOND, SAMPLES_PER_FRAME, SAMPLING_RATE
from asrsparse.video.mouth_regions import crop_mouth_region, fit_to_audio

MIN_SECONDS = 0.1
"""The shortest file; a model has no frame of shorter ones."""

_SMOOTHED_FRAMES = 5


@dataclass(frozen=True)
class Options:
    """The options of `asrsparse transcribe`.

    Args:
        method: The method of decoding, a choice of the group `decode`.
        json: Whether to print a JSON object for each file, and not its text alone.
        times: Whether the object holds the times of words.
        nbest: The number of hypotheses that the object holds.
        max_seconds: The length in seconds above which a file is cut where it is quietest (or, for a model that reads
            video alone, where the least moves), at least 1.
        data_dir: The prepared corpus of the run; see `open_run`.
        trust: See `open_run`.

    Raises:
        ValueError: If a value is outside its range.
    """

    method: str = "ctc_greedy"
    json: bool = False
    times: bool = False
    nbest: int = 1
    max_seconds: float = 30.0
    data_dir: Path | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        if (self.times or self.nbest > 1) and not self.json:
            raise ValueError(
                f"times and nbest: got {self.times} and {self.nbest} without json, allowed are False and 1, since both "
                "are not shown in plain text. Add json=true."
            )
        if not self.max_seconds >= 1.0:
            raise ValueError(f"max_seconds: got {self.max_seconds:g}, allowed is at least 1 s.")


_KINDS: dict[str, Any] = {
    "method": str,
    "json": {"true": True, "false": False}.__getitem__,
    "times": {"true": True, "false": False}.__getitem__,
    "nbest": int,
    "max_seconds": float,
    "data_dir": Path,
    "trust": {"true": True, "false": False}.__getitem__,
}


def transcribe(words: Sequence[str]) -> int:
    """Prints the transcript of each file on a line, in their order.

    The line is the text, or a JSON object with `file`, `seconds`, `text` and `segments`. For a file that cannot be
    transcribed it is empty, or an object with `file` and `error`; the message goes to standard error.

    Args:
        words: The folder of the run, files, and options as KEY=VALUE.

    Returns:
        The exit status: 1 if a file could not be transcribed.

    Raises:
        ValueError: If an option or the run is wrong.
    """
    run_dir, files, options = parse(words)
    run = open_run(
        run_dir, (f"decode={options.method}", f"decode.nbest={options.nbest}"), options.data_dir, options.trust
    )
    run.model.to(device_of(run.config.trainer.accelerator))
    status = 0
    for file in tqdm(files, unit="file", disable=sys.stdout.isatty() or not sys.stderr.isatty()):
        try:
            record = transcribe_file(run, file, options)
        except (ValueError, OSError) as error:
            record, status = {"file": str(file), "error": str(error)}, 1
            tqdm.write(f"asrsparse: error: {error}", sys.stderr)
        line = json.dumps(record, ensure_ascii=False) if options.json else record.get("text", "")
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return status


def parse(words: Sequence[str]) -> tuple[Path, list[Path], Options]:
    """Returns the folder of the run, the files and the options in the words of the command.

    Raises:
        ValueError: If there is no folder or file, or an option is unknown or has a value that is not allowed.

    Example:
        >>> parse(["exp/mini/masks", "a.wav", "json=true"])[1:]  # doctest: +ELLIPSIS
        ([PosixPath('a.wav')], Options(method='ctc_greedy', json=True, ...))
    """
    given = [word for word in words if "=" in word and not Path(word).exists()]
    paths = [Path(word) for word in words if word not in given]
    if len(paths) < 2:
        raise ValueError(
            "transcribe: got no file, allowed is RUN_DIR FILE... : asrsparse transcribe exp/mini/masks a.wav"
        )
    values = {}
    for key, _, value in (word.partition("=") for word in given):
        if key not in _KINDS:
            raise ValueError(
                f"transcribe: got {key}={value}, allowed are {', '.join(f'{k}=' for k in _KINDS)}, and files."
            )
        try:
            values[key] = _KINDS[key](value)
        except (KeyError, ValueError):
            allowed = "true and false" if key in ("json", "times", "trust") else "numbers"
            raise ValueError(f"{key}: got {value!r}, allowed are {allowed}.") from None
    return paths[0], paths[1:], Options(**values)


def transcribe_file(run: FinishedRun, path: Path, options: Options) -> dict[str, Any]:
    """Transcribes an audio or video file.

    Returns:
        The values of its JSON object.

    Raises:
        ValueError: If there is no such file, it does not decode, is too short, or lacks what the model reads.
    """
    audio, video = read_media(path, run.model.modalities)
    seconds = len(_some(video)) / FRAMES_PER_SECOND if audio is None else len(audio) / SAMPLING_RATE
    if seconds < MIN_SECONDS:
        raise ValueError(f"too short: {path} has {seconds:.2f} s; allowed are {MIN_SECONDS} s and more")
    activity = _activity(audio, video)
    begins = quiet_places(activity, int(options.max_seconds * FRAMES_PER_SECOND))
    if len(begins) > 1:
        tqdm.write(f"asrsparse: {path}: {seconds:.1f} s are cut at {len(begins) - 1} quiet places.", sys.stderr)
    segments = [
        _transcribe_segment(run, _segment(path, audio, video, begin, end), begin / FRAMES_PER_SECOND, options)
        for begin, end in zip(begins, [*begins[1:], len(activity)], strict=True)
    ]
    text = " ".join(segment["text"] for segment in segments if segment["text"])
    return {"file": str(path), "seconds": round(seconds, 3), "text": text, "segments": segments}


def read_media(path: Path, modalities: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
    """Reads the modalities of a model from a file.

    Returns:
        Samples (T,) in [-1, 1) at 16 kHz or None, and the mouth region (V, 96, 96) at 25 frames a second or None.

    Raises:
        ValueError: If there is no such file, or it lacks a modality of the model.
    """
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    audio = decode_audio(path) if "audio" in modalities else None
    frames = crop_mouth_region(path).frames if "video" in modalities else None
    if audio is not None and frames is not None:
        frames = fit_to_audio(frames, len(audio) / SAMPLING_RATE, path)
    samples = None if audio is None else torch.from_numpy(audio.astype(np.float32) / 2**15)
    return samples, None if frames is None else torch.from_numpy(frames)


def quiet_places(activity: NDArray[np.floating], limit: int) -> list[int]:
    """Returns where to cut a long file: at the quietest frame in the second half of the longest allowed segment.

    Args:
        activity: The loudness or movement in each frame (S,).
        limit: The largest number of frames of a segment, at least 2.

    Returns:
        The first frame of each segment; the first segment begins at 0.

    Example:
        >>> quiet_places(np.array([9, 9, 9, 9, 0, 0, 0, 0, 0, 9, 9, 9.0]), limit=10)
        [0, 6]
    """
    smooth = np.convolve(activity, np.ones(_SMOOTHED_FRAMES), "same")
    begins = [0]
    while len(activity) - begins[-1] > limit:
        earliest = begins[-1] + limit // 2
        latest = min(begins[-1] + limit, len(activity) - limit // 2)
        begins.append(earliest + int(smooth[earliest : latest + 1].argmin()))
    return begins


def _activity(audio: Tensor | None, video: Tensor | None) -> NDArray[np.floating]:
    """Returns the loudness of each frame (S,), or without audio how much moves in it."""
    if audio is None:
        moved = motion(_some(video)[None], torch.tensor([len(_some(video))]))
        return np.asarray(moved[0, :, 0].numpy())
    silence = -len(audio) % SAMPLES_PER_FRAME
    frames = torch.nn.functional.pad(audio.abs(), (0, silence)).view(-1, SAMPLES_PER_FRAME)
    return np.asarray(frames.mean(dim=1).numpy())


def _segment(path: Path, audio: Tensor | None, video: Tensor | None, begin: int, end: int) -> Batch:
    """Returns the frames of a file from `begin` to `end` as a batch of one utterance."""
    samples = None if audio is None else audio[SAMPLES_PER_FRAME * begin : SAMPLES_PER_FRAME * end][None]
    frames = None if video is None else video[begin:end][None]
    return Batch(
        ids=[str(path)],
        audio=samples,
        audio_lens=None if samples is None else torch.tensor([samples.size(1)]),
        tokens=torch.zeros(1, 0, dtype=torch.int64),
        token_lens=torch.zeros(1, dtype=torch.int64),
        seconds=(end - begin) / FRAMES_PER_SECOND if samples is None else samples.size(1) / SAMPLING_RATE,
        video=frames,
        video_lens=None if frames is None else torch.tensor([frames.size(1)]),
    )


@torch.inference_mode()
def _transcribe_segment(run: FinishedRun, batch: Batch, begin: float, options: Options) -> dict[str, Any]:
    """Returns one of the `segments` of a file's JSON object; `begin` is in seconds of the file."""
    device = next(run.model.parameters()).device
    encoded, encoded_lens = run.model.encode(move_data_to_device(batch, device))
    ((best, *others),) = run.decoder(run.model, encoded, encoded_lens)
    segment = {"start": round(begin, 2), "end": round(begin + batch.seconds, 2), **_described(run, best)}
    if options.times:
        words = word_times(run.model.ctc_log_probs(encoded)[0], best.tokens, run.tokenizer)
        segment["words"] = None if words is None else [_moved(asdict(word), begin) for word in words]
    if options.nbest > 1:
        segment["nbest"] = [_described(run, each) for each in [best, *others][: options.nbest]]
    return segment


def _described(run: FinishedRun, hypothesis: Hypothesis) -> dict[str, Any]:
    tokens = [run.tokenizer.tokens[token] for token in hypothesis.tokens]
    return {"text": run.tokenizer.decode(hypothesis.tokens), "tokens": tokens, "score": round(hypothesis.score, 4)}


def _moved(word: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Returns a word of a segment with times in seconds of the file."""
    return word | {"start": round(word["start"] + seconds, 2), "end": round(word["end"] + seconds, 2)}


def _some(values: Tensor | None) -> Tensor:
    assert values is not None, "a model reads audio or video"
    return values
