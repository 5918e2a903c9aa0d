"""A finished run, read back from its folder: what every export of a model begins with."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asrsparse.files import read_json
from asrsparse.models.asr import ASRModel
from asrsparse.tokenizer import Tokenizer, load_tokenizer
from asrsparse.train import load_model


@dataclass(frozen=True)
class FinishedRun:
    """What a training left behind.

    Attributes:
        folder: `exp/<recipe>/<system>`.
        config: With which it was trained.
        model: The average of its snapshots, in evaluation mode; a compacted one with its smaller layers.
        tokenizer: Of the prepared corpus.
        train: What `train.json` holds.
    """

    folder: Path
    config: DictConfig
    model: ASRModel
    tokenizer: Tokenizer
    train: dict[str, Any]

    @property
    def sampling_rate(self) -> int | None:
        """Samples per second that the model expects; None if it hears nothing."""
        return int(self.model.frontend.input_rate) if "audio" in self.model.modalities else None


def read_run(run_dir: Path, data_dir: Path | None = None) -> FinishedRun:
    """Reads a finished run.

    Args:
        run_dir: Its folder.
        data_dir: The prepared corpus with its tokenizer; None for where it lay in training.

    Raises:
        ValueError: If it is not finished, or its tokenizer is missing or another one.
    """
    for name in ("config.yaml", "model.safetensors", "train.json"):
        if not (run_dir / name).is_file():
            raise ValueError(
                f"{run_dir} is no finished run: {name} is missing. Allowed are folders in which `asrsparse train` has "
                "ended; run it again, and it goes on where it stopped."
            )
    config = OmegaConf.load(run_dir / "config.yaml")
    assert isinstance(config, DictConfig)
    config.run_dir = str(run_dir)
    tokenizer = _read_tokenizer(Path(config.data_dir) if data_dir is None else data_dir)
    return FinishedRun(run_dir, config, load_model(config, tokenizer), tokenizer, read_json(run_dir / "train.json"))


def _read_tokenizer(data_dir: Path) -> Tokenizer:
    try:
        return load_tokenizer(data_dir / "cuts")
    except ValueError as error:
        raise ValueError(f"{error} If the prepared corpus lies elsewhere, name its folder: data_dir=DIR.") from None


def require(*packages: str) -> None:
    """Checks that the packages of the extra `export` are there.

    Raises:
        ValueError: If one is missing, with the extra that brings it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)}: not installed. The extra brings it: pip install 'asrsparse[export]'.")
