"""A run's folder -> its finished model, from whatever folder one calls."""

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
    """What a finished training left, ready to decode with or to hand on.

    Attributes:
        folder: `exp/<recipe>/<system>`, or where it lies now.
        config: Its configuration; `decode` is that of the method asked for.
        model: The average of its snapshots, in evaluation mode; a compacted one with its smaller layers.
        decoder: The search.
        tokenizer: Of the model.
        train: What `train.json` holds.
    """

    folder: Path
    config: DictConfig
    model: ASRModel
    decoder: Decoder
    tokenizer: Tokenizer
    train: dict[str, Any]

    @property
    def sampling_rate(self) -> int | None:
        """Samples per second that the model expects; None if it hears nothing."""
        return int(self.model.frontend.input_rate) if "audio" in self.model.modalities else None


def open_run(
    run_dir: Path, overrides: tuple[str, ...] = (), data_dir: Path | None = None, trust: bool = False
) -> FinishedRun:
    """Reads a finished run.

    Args:
        run_dir: Its folder.
        overrides: How to decode: `decode=joint`, `decode.nbest=3`.
        data_dir: The prepared corpus, whose tokenizer the model was trained with; by default where the run's
            configuration says, seen from here or from where the run was trained.
        trust: Whether the configuration may name classes of other packages than ours, ESPnet's and torch's: they run.

    Raises:
        ValueError: If the folder holds no finished run, its tokenizer is not found or another one, or it names other
            classes.
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
    """The configuration of a run; groups that older versions did not have, and `decode`, are those of today."""
    for name in ("config.yaml", "model.safetensors", "train.json"):
        if not (run_dir / name).is_file():
            raise ValueError(
                f"{run_dir} is no finished run: {name} is missing. Allowed are folders in which `asrsparse train` has "
                "ended (exp/RECIPE/SYSTEM); run it again, and it goes on where it stopped."
            )
    today, saved = compose_config(overrides), read_config(run_dir)
    for group in ({*map(str, today)} - {*map(str, saved)}) | {"decode"}:
        saved[group] = today._get_node(group)
    return saved


def _find_data_dir(config: DictConfig, run_dir: Path) -> Path:
    """Where the prepared corpus of a run is: as recorded, from here or from the folder in which the run was trained."""
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
