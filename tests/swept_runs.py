"""Runs of a sweep as the stages leave them."""

from decoded import decoded
from omegaconf import OmegaConf

from asrsparse.files import write_json, write_text
from asrsparse.scoring.score import score, score_settings
from asrsparse.scoring.trn_files import write_decoded


def finish(run):
    """Writes what the stages of a run write."""
    write_text(run.folder / "config.yaml", OmegaConf.to_yaml(run.config))
    write_json(run.folder / "train.json", {})
    write_text(run.folder / "model.safetensors", "")
    write_decoded(run.folder / "decode_test_ctc_greedy", decoded(0.2))
    score(run.folder / "decode_test_ctc_greedy", *score_settings(run.config))
