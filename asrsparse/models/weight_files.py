"""Weights in safetensors files, and the message where they do not fit a model."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from asrsparse.files import atomic_path


def save_weights(path: Path, weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes weights to a safetensors file, whole or not at all.

    Args:
        path: The file to write.
        weights: The tensors by name.
        metadata: Texts by name, for the header of the file.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, dict(metadata or {}))


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads weights from a safetensors file.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    if not path.is_file():
        raise ValueError(f"No model {path}. Run `asrsparse train` first.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}). Delete it and train again.") from None


def first_reason(error: Exception) -> str:
    """Returns the first difference of two models in PyTorch's message, whose first line names only the class."""
    return textwrap.shorten(str(error).splitlines()[:2][-1], 160, placeholder=" ...")
