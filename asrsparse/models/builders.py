"""A configuration -> the recogniser that it describes, with initial weights or with those of a finished run."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asrsparse.config import build
from asrsparse.data.tokenizer import Tokenizer
from asrsparse.masks.compact import fit_to
from asrsparse.models.asr import ASRModel
from asrsparse.models.time_pruning import SEGMENT_LEVELS
from asrsparse.models.weight_files import first_reason, load_weights
from asrsparse.pruning import ScoreTable, SegmentPruner


def build_model(config: DictConfig, vocab_size: int, segments: SegmentPruner | None = None) -> ASRModel:
    """Builds the recogniser of a configuration, with initial weights.

    Args:
        config: The composed configuration.
        vocab_size: The number of tokens.
        segments: Chooses the chunks of time that training keeps; None keeps all time.

    Raises:
        ValueError: If a value of the configuration is outside its range.
    """
    level = config.segments.level
    if level not in SEGMENT_LEVELS:
        raise ValueError(f"segments.level: got {level!r}, allowed are {', '.join(SEGMENT_LEVELS)}.")
    known = OmegaConf.create({"model": model_node(config, vocab_size)})
    model: ASRModel = build(known.model, segments=segments, segments_level=level)
    return model


def model_node(config: DictConfig, vocab_size: int) -> dict[str, Any]:
    """Returns the node `model` of a configuration as plain values, with the number of tokens of the tokenizer."""
    known = OmegaConf.merge(config, {"vocab_size": vocab_size})  # a copy: the caller's configuration stays as it is
    node = OmegaConf.to_container(known.model, resolve=True)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def build_segments(config: DictConfig, utterances: ScoreTable) -> SegmentPruner:
    """Builds the segment pruner of a configuration.

    Args:
        config: The composed configuration.
        utterances: The training utterances, of which a table of blanks may hold what the model found.
    """
    blanks = build(config.segments.blanks, utterances=utterances)
    segments: SegmentPruner = build(config.segments.pruner, **({} if blanks is None else {"blanks": blanks}))
    return segments


def load_model(config: DictConfig, tokenizer: Tokenizer) -> ASRModel:
    """Reads the finished model of a run, in evaluation mode; a compacted one has its smaller layers.

    Args:
        config: The composed configuration of the run, whose `run_dir` holds the model.
        tokenizer: The tokenizer of the model.

    Raises:
        ValueError: If there is no model, or it is of another configuration.
    """
    model = build_model(config, tokenizer.vocab_size)
    path = Path(config.run_dir) / "model.safetensors"
    weights = load_weights(path)
    try:
        fit_to(model, weights)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} is of another model than the configuration describes: {first_reason(error)} Decode "
            "with the overrides that the run was trained with, or train again under another name=NAME."
        ) from None
    return model.eval()
