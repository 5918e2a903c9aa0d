"""A finished run -> encoder and CTC as an ONNX graph, checked with onnxruntime against PyTorch.

The graph reads the modalities of the model: waveforms (the spectrogram is in the graph), video of the mouth region, or
both. It computes log probabilities. The attention decoder is not in it.

Shape legend: B utterances, T samples, N samples of a window, S spectral bins, F feature rows, D mel bins, E encoder
frames, V vocabulary.
"""

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from torch import Tensor, nn

from asrsparse import __version__
from asrsparse.data.batch import Batch
from asrsparse.decoding.runs import FinishedRun
from asrsparse.export.packages import require
from asrsparse.files import atomic_folder, write_json, write_text
from asrsparse.models.asr import BLANK, ASRModel
from asrsparse.models.frontends import LogMelFrontend
from asrsparse.models.visual import SmallVisualFrontend, VisualFrontend
from asrsparse.rates import FRAMES_PER_SECOND

logger = logging.getLogger(__name__)

OPSET = 18
TOLERANCE = 1e-4
CHECKED = ((1, 0.4), (1, 2.0), (3, 1.3), (4, 5.0))
"""Utterances and seconds of the batches on which onnxruntime must give what PyTorch gives."""

README = """\
# {name}

Encoder and CTC of a model that asrsparse trained, as `model.onnx` (opset {opset}). `onnx.json` says what it reads and
gives, and how it was checked.

```python
import numpy
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
tokens = open("tokens.txt", encoding="utf-8").read().split("\\n")
{example}
best = log_probs[0, : frames[0]].argmax(axis=-1)
print([tokens[b] for a, b in zip([-1, *best], best) if b != a and b != 0])  # repeats joined, blanks dropped
```
"""
_EXAMPLES = {
    ("audio",): """\
audio = numpy.zeros((1, {sampling_rate}), dtype=numpy.float32)  # one second, {sampling_rate} samples
log_probs, frames = session.run(None, {{"audio": audio, "audio_lens": numpy.array([audio.shape[1]])}})""",
    ("video",): """\
video = numpy.zeros((1, 25, 96, 96), dtype=numpy.uint8)  # grey mouth regions, 25 a second
log_probs, frames = session.run(None, {{"video": video, "video_lens": numpy.array([video.shape[1]])}})""",
    ("audio", "video"): """\
audio = numpy.zeros((1, {sampling_rate}), dtype=numpy.float32)  # one second, {sampling_rate} samples
video = numpy.zeros((1, 25, 96, 96), dtype=numpy.uint8)  # grey mouth regions, 25 a second
lens = {{"audio_lens": numpy.array([audio.shape[1]]), "video_lens": numpy.array([video.shape[1]])}}
log_probs, frames = session.run(None, {{"audio": audio, "video": video, **lens}})""",
}


def export_onnx(run: FinishedRun, output_dir: Path) -> None:
    """Writes `model.onnx`, `onnx.json`, the tokenizer and `README.md`, if onnxruntime and PyTorch agree.

    Args:
        run: A finished run.
        output_dir: A new folder.

    Raises:
        ValueError: If a part of the model cannot be exported, the results differ, the folder is not empty, or a package
            is missing.
    """
    require("onnx", "onnxruntime")
    _check_exportable(run.model)
    with atomic_folder(output_dir) as folder:
        path = folder / "model.onnx"
        write_graph(run.model, path)
        _add_metadata(path, {"asrsparse": __version__, "blank": BLANK, "sampling_rate": run.sampling_rate})
        record = _describe(run) | {"bytes": path.stat().st_size, "checked": check_graph(run.model, path)}
        write_json(folder / "onnx.json", record)
        run.tokenizer.save(folder)
        write_text(folder / "README.md", _readme(run))
    logger.info("%s: onnxruntime gives what PyTorch gives, within %g.", output_dir, TOLERANCE)


def _readme(run: FinishedRun) -> str:
    example = _EXAMPLES[run.model.modalities].format(sampling_rate=run.sampling_rate)
    return README.format(name=run.folder.resolve().name, opset=OPSET, example=example)


def _check_exportable(model: ASRModel) -> None:
    """Refuses layers that PyTorch's exporter cannot write.

    Raises:
        ValueError: If the model has such a layer.
    """
    for stream in _streams(model):
        if not isinstance(stream.frontend, LogMelFrontend | VisualFrontend):
            raise ValueError(
                f"export onnx: got the front-end {type(stream.frontend).__name__}, allowed are log-mel features and "
                "visual front-ends: PyTorch's exporter cannot write a pooling whose size depends on the input."
            )
        if not isinstance(stream.encoder, ConformerEncoder):
            raise ValueError(
                f"export onnx: got the encoder {type(stream.encoder).__name__}, allowed is ESPnet's ConformerEncoder."
            )


def _streams(model: Any) -> list[Any]:
    return [model] if model.video is None else [model, model.video]


# ------------------------------------------------------------------------------------------------------------ the graph


class EncoderAndCTC(nn.Module):
    """The exported module: modalities and their lengths -> log probabilities (B, E, V) and their lengths (B,).

    Args:
        model: A trained model, in evaluation mode.
    """

    def __init__(self, model: ASRModel) -> None:
        super().__init__()
        self.model = model
        self.names = [name for modality in model.modalities for name in (modality, f"{modality}_lens")]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Computes log probabilities and their lengths of inputs in the order of `names`."""
        given = dict(zip(self.names, inputs, strict=True))
        lens = inputs[1]
        batch = Batch(
            ids=[],
            audio=given.get("audio"),
            audio_lens=given.get("audio_lens"),
            tokens=lens[:, None],
            token_lens=lens,
            seconds=0.0,
            video=given.get("video"),
            video_lens=given.get("video_lens"),
        )
        encoded, encoded_lens = self.model.encode(batch)
        return self.model.ctc_log_probs(encoded), encoded_lens


class LogMelByProducts(nn.Module):
    """Log-mel energies by matrix products; ESPnet's use complex numbers, which the exporter does not support.

    The products are in float64: sums of hundreds of float32 would lose faint bins beside loud ones, which a fast
    Fourier transform does not.

    Args:
        logmel: ESPnet's `DefaultFrontend` with the usual window, centred.
    """

    cosines: Tensor  # (N, S)
    sines: Tensor

    def __init__(self, logmel: Any) -> None:
        super().__init__()
        self.stft, self.hop_length, self.melmat = logmel.stft, logmel.hop_length, logmel.logmel.melmat
        n_fft, length = self.stft.n_fft, self.stft.win_length
        self.begin = (n_fft - length) // 2
        window = torch.hann_window(length, dtype=torch.float64)[:, None]
        bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
        angles = 2 * torch.pi / n_fft * torch.arange(length, dtype=torch.float64)[:, None] * bins
        self.register_buffer("cosines", window * angles.cos(), persistent=False)
        self.register_buffer("sines", window * angles.sin(), persistent=False)

    def forward(self, audio: Tensor, audio_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Computes rows (B, F, D) and their numbers (B,) of waveforms (B, T); rows behind the lengths are not zero."""
        n_fft, length = self.stft.n_fft, self.stft.win_length
        mirrored = F.pad(audio[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0]
        starts = torch.arange(self.begin, mirrored.size(1) - n_fft + 1 + self.begin, self.hop_length)
        windows = mirrored[:, starts[:, None] + torch.arange(length)].double()
        power = (windows @ self.cosines).square() + (windows @ self.sines).square()
        mel = (power.float() @ self.melmat).clamp(min=1e-10)
        return mel.log(), torch.div(audio_lens, self.hop_length, rounding_mode="trunc") + 1


def write_graph(model: ASRModel, path: Path) -> None:
    """Writes the graph of a model, by the exporter that traces, since the other one needs onnxscript."""
    graph = EncoderAndCTC(_traceable(model)).eval()
    names = graph.names
    axes = {name: {0: "utterances"} | ({} if name.endswith("_lens") else {1: f"{name}_length"}) for name in names}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about constants in the graph; `check_graph` finds out whether they are right
        torch.onnx.export(
            graph,
            _noise(model, 2, 1.0),
            str(path),
            input_names=names,
            output_names=["log_probs", "frames"],
            dynamic_axes={**axes, "log_probs": {0: "utterances", 1: "encoded_length"}, "frames": {0: "utterances"}},
            opset_version=OPSET,
            dynamo=False,
        )


def _traceable(model: ASRModel) -> ASRModel:
    """Returns a copy that computes the same without operations whose results tracing would write as constants."""
    traced = copy.deepcopy(model)
    for stream in _streams(traced):
        if isinstance(stream.frontend, LogMelFrontend):
            stream.frontend.logmel = LogMelByProducts(stream.frontend.logmel)
        if isinstance(stream.frontend, SmallVisualFrontend):
            trunk: Any = stream.frontend.trunk
            pooling = [isinstance(layer, nn.AdaptiveAvgPool2d) for layer in trunk]
            trunk[pooling.index(True)] = nn.Identity()  # pictures of 3 x 3 pixels, averaged to 3 x 3
        stream.encoder.register_forward_pre_hook(_give_pad_mask, with_kwargs=True)
    return traced


def _give_pad_mask(encoder: nn.Module, inputs: Any, options: Any) -> Any:
    """Gives ESPnet's conformer its pad mask (B, F), True for padding; one made inside would have a constant size."""
    features, lens = inputs
    return inputs, options | {"masks": torch.arange(features.size(1)) >= lens[:, None]}


# ------------------------------------------------------------------------------------------------------------- checking


def check_graph(model: ASRModel, path: Path) -> list[dict[str, float]]:
    """Compares onnxruntime with PyTorch on batches of noise, of several sizes and lengths.

    Returns:
        The utterances, the seconds and the largest difference of a log probability, for each batch.

    Raises:
        ValueError: If they differ by more than `TOLERANCE`, or in the number of frames.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    graph = EncoderAndCTC(model)
    checked = []
    for utterances, seconds in CHECKED:
        inputs = _noise(model, utterances, seconds)
        with torch.inference_mode():
            expected, frames = graph(*inputs)
        found = session.run(None, {name: v.numpy() for name, v in zip(graph.names, inputs, strict=True)})
        difference = _difference(expected, frames, torch.from_numpy(found[0]), torch.from_numpy(found[1]))
        if not difference <= TOLERANCE:
            raise ValueError(
                f"export onnx: onnxruntime and PyTorch differ by {difference:.2g} in a log probability, on "
                f"{utterances} utterances of {seconds} s; allowed is {TOLERANCE:g}. The graph is not written."
            )
        checked.append({"utterances": utterances, "seconds": seconds, "difference": difference})
    return checked


def _difference(expected: Tensor, frames: Tensor, found: Tensor, found_frames: Tensor) -> float:
    """Returns the largest difference before the ends of the utterances; infinite if their lengths differ."""
    if frames.tolist() != found_frames.tolist() or expected.shape != found.shape:
        return float("inf")
    belongs = torch.arange(expected.size(1)) < frames[:, None]
    return float((expected - found)[belongs].abs().max())


def _noise(model: ASRModel, utterances: int, seconds: float) -> tuple[Tensor, ...]:
    """Returns noise as modalities and lengths, in the order of `EncoderAndCTC`; the first utterance is the longest."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.linspace(1.0, 0.7, utterances)
    inputs: list[Tensor] = []
    for modality in model.modalities:
        rate = model.frontend.input_rate if modality == "audio" else FRAMES_PER_SECOND
        lens = (shares * round(rate * seconds)).long()
        inputs += [_noise_of(modality, lens, generator), lens]
    return tuple(inputs)


def _noise_of(modality: str, lens: Tensor, generator: torch.Generator) -> Tensor:
    belongs = torch.arange(int(lens.max())) < lens[:, None]
    if modality == "audio":
        return 0.1 * torch.randn(belongs.shape, generator=generator) * belongs
    pictures = torch.randint(256, (*belongs.shape, 96, 96), dtype=torch.uint8, generator=generator)
    return pictures * belongs[:, :, None, None]


# ----------------------------------------------------------------------------------------------------- the description


def _describe(run: FinishedRun) -> dict[str, Any]:
    import onnx
    import onnxruntime

    shapes = {"audio": ["utterances", "samples"], "video": ["utterances", "video frames", 96, 96]}
    types = {"audio": "float32, from -1 to 1", "video": "uint8"}
    inputs = {}
    for name in run.model.modalities:
        inputs[name] = {"shape": shapes[name], "type": types[name]}
        inputs[f"{name}_lens"] = {"shape": ["utterances"], "type": "int64"}
    return {
        "opset": OPSET,
        "inputs": inputs,
        "outputs": {
            "log_probs": {"shape": ["utterances", "frames of 40 ms", run.model.vocab_size], "type": "float32"},
            "frames": {"shape": ["utterances"], "type": "int64"},
        },
        "sampling_rate": run.sampling_rate,
        "blank": BLANK,
        "longest_seconds": _longest_seconds(run.model),
        "tolerance": TOLERANCE,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }


def _longest_seconds(model: ASRModel) -> float:
    """Returns the seconds of the longest input: the graph holds positions from E - 1 to 1 - E for E frames."""
    positions: list[int] = [
        m.pe.size(1) for stream in _streams(model) for m in stream.encoder.modules() if hasattr(m, "pe")
    ]
    return (min(positions) + 1) / 2 / FRAMES_PER_SECOND


def _add_metadata(path: Path, values: dict[str, Any]) -> None:
    """Writes properties into the file of the graph, after a check that it is well-formed."""
    import onnx

    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    onnx.helper.set_model_props(graph, {key: str(value) for key, value in values.items() if value is not None})
    onnx.save(graph, path)
