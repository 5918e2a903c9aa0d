"""Weights that a training begins with: those of a finished run, or for each stream those of a run of its own."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from asrsparse.models.asr import ASRModel
from asrsparse.models.weights import first_reason, load_weights

STREAM_PARTS = ("frontend", "encoder")
"""What a stream has of a model: all up to the encoder frames."""


def begin_with(model: ASRModel, init_from: str | None, init_streams: Mapping[str, str | None]) -> None:
    """Replaces initial weights by those of finished runs.

    Args:
        model: Whose weights they become.
        init_from: `model.safetensors` of a run of the same model; None for none.
        init_streams: For `audio` and `video` the `model.safetensors` of a run with that modality alone, whose front-end
            and encoder an audio-visual model takes over; None for none. Its fusion, CTC and decoder begin anew, since
            the frames that they get are others.

    Raises:
        ValueError: If there is no such file, it is of another model, or streams are named of a model that has one, or
            beside `init_from`.
    """
    if init_from is not None:
        _load(model, load_weights(_existing("init_from", init_from)), f"init_from: {init_from}")
    for modality, path in init_streams.items():
        if path is not None:
            _check_streams(model, init_from, f"init_streams.{modality}")
            _begin_stream(model, modality, path)


def _check_streams(model: ASRModel, init_from: str | None, key: str) -> None:
    if model.video is None:
        raise ValueError(
            f"{key}: got a model of one stream, allowed is modality=audiovisual. init_from takes it whole."
        )
    if init_from is not None:
        raise ValueError(f"{key}: got init_from too, which has the weights of all streams. Choose one of them.")


def _begin_stream(model: ASRModel, modality: str, path: str) -> None:
    key = f"init_streams.{modality}"
    weights = load_weights(_existing(key, path))
    stream = model if modality == "audio" else model.video
    for part in STREAM_PARTS:
        of_part = {
            name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")
        }
        _load(getattr(stream, part), of_part, f"{key}: the {part} of {path}")


def _existing(key: str, path: str) -> Path:
    if not Path(path).is_file():
        raise ValueError(f"{key}: no file {path}. Name the model.safetensors of a finished run.")
    return Path(path)


def _load(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{what} is of another model than the configuration describes: {first_reason(error)} Choose the model, the "
            "modality and the prepared data (its tokens) of that run."
        ) from None
