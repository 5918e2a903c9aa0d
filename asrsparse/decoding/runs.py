"""The folder of a finished run -> its model, decoder and tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from asrsparse.config import build, compose_config, read_config
from asrsparse.data.tokenizer import Tokenizer, load_tokenizer
from asrsparse.decoding.decode import check_settings
from asrsparse.decoding.decoders import Decoder
from asrsparse.files import read_json
from asrsparse.models.asr import ASRModel
from asrsparse.models.builders import load_model, model_node
from asrsparse.models.trusted import check_layers

_TO_TRUST = "If you know where this run is from, allow all that it names: trust=true."


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, ready to decode or to export.

    Attributes:
        folder: The folder of the run, such as `exp/<recipe>/<system>`.
        config: The configuration of the run; its node `decode` is that of the chosen method.
        model: The average of its snapshots, in evaluation mode; a compacted one has its smaller layers.
        decoder: The search of the chosen method.
        tokenizer: The tokenizer of the model.
        train: The content of `train.json`.
    """

    folder: Path
    config: DictConfig
    model: ASRModel
    decoder: Decoder
    tokenizer: Tokenizer
    train: dict[str, Any]

    @property
    def sampling_rate(self) -> int | None:
        """The samples per second that the model expects; None if it reads no audio."""
        return int(self.model.frontend.input_rate) if "audio" in self.model.modalities else None


def open_run(
    run_dir: Path, overrides: tuple[str, ...] = (), data_dir: Path | None = None, trust: bool = False
) -> FinishedRun:
    """Reads a finished run.

    Args:
        run_dir: The folder of the run.
        overrides: Settings of the decoding: `decode=joint`, `decode.nbest=3`.
        data_dir: The prepared corpus, whose tokenizer the model was trained with; by default the folder in the
            configuration of the run, relative to the current folder or to that in which the run was trained.
        trust: Whether the configuration may name classes of other packages than asrsparse, ESPnet and PyTorch, whose
            code runs then.

    Raises:
        ValueError: If the folder holds no finished run, the tokenizer is missing or is that of another model, or the
            configuration names other classes.
    """
    config = _read_config(run_dir, overrides)
    found_dir = _find_data_dir(config, run_dir) if data_dir is None else data_dir
    config.run_dir, config.data_dir = str(run_dir), str(found_dir)
    decoder: Decoder = build(config.decode.decoder)
    check_settings(config.decode, decoder)
    tokenizer = load_tokenizer(found_dir / "cuts")
    if not trust:
        check_layers(f"{run_dir}/config.yaml", model_node(config, tokenizer.vocab_size), _TO_TRUST)
    return FinishedRun(
        run_dir, config, load_model(config, tokenizer), decoder, tokenizer, train=read_json(run_dir / "train.json")
    )


def _read_config(run_dir: Path, overrides: tuple[str, ...]) -> DictConfig:
    """Returns the configuration of a run; groups that older versions did not have, and `decode`, are those of today."""
    for name in ("config.yaml", "model.safetensors", "train.json"):
        if not (run_dir / name).is_file():
            raise ValueError(
                f"{run_dir} is no finished run: {name} is missing. Allowed are folders in which `asrsparse train` has "
                "ended (exp/RECIPE/SYSTEM); run it again, and it resumes where it stopped."
            )
    today, saved = compose_config(overrides), read_config(run_dir)
    for group in ({*map(str, today)} - {*map(str, saved)}) | {"decode"}:
        saved[group] = today._get_node(group)
    return saved


def _find_data_dir(config: DictConfig, run_dir: Path) -> Path:
    """Returns the prepared corpus of a run: as recorded, from the current folder or from that of the training."""
    recorded, parts, run_parts = Path(config.data_dir), run_dir.resolve().parts, Path(config.run_dir).parts
    places = [recorded]
    if parts[-len(run_parts) :] == run_parts:
        places.append(Path(*parts[: -len(run_parts)]) / recorded)
    for place in places:
        if (place / "cuts" / "tokens.txt").is_file():
            return place
    raise ValueError(
        f"No tokenizer in {' or '.join(f'{place}/cuts' for place in places)}, where the configuration of {run_dir} has "
        "it. Name the folder of the corpus that the run was trained on: data_dir=DIR."
    )
