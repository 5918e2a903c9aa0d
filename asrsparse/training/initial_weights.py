"""Initial weights of a training that are those of finished runs: of the whole model, or of each stream."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from asrsparse.models.asr import ASRModel
from asrsparse.models.weight_files import first_reason, load_weights

STREAM_LAYERS = ("frontend", "encoder")
"""The layers that belong to a stream of a model: all up to the encoder frames."""


def load_initial_weights(model: ASRModel, init_from: str | None, init_streams: Mapping[str, str | None]) -> None:
    """Replaces initial weights by those of finished runs.

    Args:
        model: The model that gets the weights.
        init_from: The `model.safetensors` of a run of the same model; None for none.
        init_streams: For `audio` and `video` the `model.safetensors` of a run with that modality alone, whose front-end
            and encoder an audio-visual model takes over; None for none. Its fusion, CTC and decoder keep their initial
            weights, since they read other frames.

    Raises:
        ValueError: If there is no such file, it is of another model, or streams are given for a model of one stream, or
            together with `init_from`.
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
            f"{key}: got a model of one stream, allowed is modality=audiovisual. init_from loads a whole model."
        )
    if init_from is not None:
        raise ValueError(f"{key}: got init_from too, which has the weights of all streams. Choose one of them.")


def _begin_stream(model: ASRModel, modality: str, path: str) -> None:
    key = f"init_streams.{modality}"
    weights = load_weights(_existing(key, path))
    stream = model if modality == "audio" else model.video
    for part in STREAM_LAYERS:
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
