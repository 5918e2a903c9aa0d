"""A configuration -> the recogniser that it describes, freshly initialised or with the weights of a finished run."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from asrsparse.config import build
from asrsparse.data.tokenizer import Tokenizer
from asrsparse.masks.compact import fit_to
from asrsparse.models.asr import ASRModel
from asrsparse.models.weights import first_reason, load_weights
from asrsparse.pruning import ScoreTable, SegmentPruner


def build_model(config: DictConfig, vocab_size: int, segments: SegmentPruner | None = None) -> ASRModel:
    """The recogniser of a configuration, freshly initialised; trained on segments only if it is given their pruner."""
    known = OmegaConf.create({"model": model_node(config, vocab_size)})
    model: ASRModel = build(known.model, segments=segments, segments_level=config.segments.level)
    return model


def model_node(config: DictConfig, vocab_size: int) -> dict[str, Any]:
    """The node `model` of a configuration as plain values; the number of tokens is only known with the tokenizer."""
    known = OmegaConf.merge(config, {"vocab_size": vocab_size})  # a copy: the caller's configuration stays as it is
    node = OmegaConf.to_container(known.model, resolve=True)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def build_segments(config: DictConfig, utterances: ScoreTable) -> SegmentPruner:
    """The pruner of time within the training utterances."""
    blanks = build(config.segments.blanks, utterances=utterances)
    segments: SegmentPruner = build(config.segments.pruner, **({} if blanks is None else {"blanks": blanks}))
    return segments


def load_model(config: DictConfig, tokenizer: Tokenizer) -> ASRModel:
    """The finished model of a run, for decoding; a compacted one with its smaller layers.

    Raises:
        ValueError: If there is none, or it is of another configuration.
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
