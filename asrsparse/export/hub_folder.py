"""A finished run -> a folder as Hugging Face has them, and back; and the upload of such a folder."""

import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from asrsparse import __version__
from asrsparse.config import build
from asrsparse.data.tokenizer import Tokenizer, load_tokenizer
from asrsparse.decoding.runs import FinishedRun
from asrsparse.environment import portable_command
from asrsparse.export.packages import require
from asrsparse.files import atomic_folder, read_json, write_json, write_text
from asrsparse.masks.compact import fit_to
from asrsparse.models.asr import ASRModel
from asrsparse.models.builders import model_node
from asrsparse.models.trusted import check_layers
from asrsparse.models.weight_files import load_weights, save_weights


def export_huggingface(
    run: FinishedRun, output_dir: Path, language: str | None = None, license: str | None = None
) -> None:
    """Writes `model.safetensors`, `config.json`, `config.yaml`, the tokenizer and a model card.

    The files hold no paths of this machine: of those outside the current folder only the last name is kept.

    Args:
        run: A finished run.
        output_dir: A new folder.
        language: The language of the speech for the card, a code such as `en`.
        license: The license for the card.

    Raises:
        ValueError: If the folder is not empty, or huggingface_hub is not installed.
    """
    require("huggingface_hub")
    from asrsparse.export.model_card import model_card

    settings, card = model_settings(run), model_card(run, language, license)
    with atomic_folder(output_dir) as folder:
        save_weights(folder / "model.safetensors", run.model.state_dict(), {"format": "pt"})
        write_json(folder / "config.json", settings)
        write_text(folder / "config.yaml", portable_command((run.folder / "config.yaml").read_text(encoding="utf-8")))
        run.tokenizer.save(folder)
        write_text(folder / "README.md", card)


def model_settings(run: FinishedRun) -> dict[str, Any]:
    """Returns the content of `config.json`, of which `load_exported` builds the model."""
    return {
        "model_type": "asrsparse",
        "architectures": [type(run.model).__name__],
        "asrsparse_version": __version__,
        "vocab_size": run.tokenizer.vocab_size,
        "modalities": list(run.model.modalities),
        "sampling_rate": run.sampling_rate,
        "model": model_node(run.config, run.tokenizer.vocab_size),
    }


def load_exported(folder: Path) -> tuple[ASRModel, Tokenizer]:
    """Reads a folder of `export_huggingface`; one from elsewhere can choose layers, but not run code of its own.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        ValueError: If a file is missing or damaged, they do not belong together, or a class is neither asrsparse's nor
            ESPnet's.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no config.json; allowed is a folder that `asrsparse export huggingface` wrote.")
    settings, tokenizer = read_json(path), load_tokenizer(folder)
    node = settings.get("model") if isinstance(settings, dict) else None
    if not isinstance(node, dict) or node.get("vocab_size") != tokenizer.vocab_size:
        raise ValueError(
            f"{path} is not the configuration of a model with {tokenizer.vocab_size} tokens. Export again."
        )
    check_layers(str(path), node, "Export the model anew from its run.")
    model: ASRModel = build(OmegaConf.create(node))
    _load(model, folder / "model.safetensors")
    return model.eval(), tokenizer


def _load(model: ASRModel, path: Path) -> None:
    weights = load_weights(path)
    try:
        fit_to(model, weights)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[:2][-1].strip()
        raise ValueError(f"{path} is of another model than config.json describes: {reason} Export again.") from None


def check_repository(name: str) -> None:
    """Checks the name to upload to, before any work is done.

    Raises:
        ValueError: If it is not of the form OWNER/NAME.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"push: got {name!r}, allowed is OWNER/NAME of a repository on the hub.")


def upload(folder: Path, repository: str) -> None:
    """Uploads an exported folder to Hugging Face's hub, with the login that `huggingface_hub` knows.

    A repository that does not exist is created as a private one; its owner can make it public.

    Args:
        folder: The exported folder.
        repository: The repository, OWNER/NAME.

    Raises:
        OSError: If the hub refuses the upload; the folder stays.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, private=True, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export by asrsparse")
