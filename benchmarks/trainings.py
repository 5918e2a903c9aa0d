"""One run of a study: trained, decoded and scored by the commands that a user types, once."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from asrsparse.config import compose_config


def train(overrides: Sequence[str]) -> bool:
    """Trains, decodes and scores a run, unless that is done; returns whether it is."""
    if is_done(overrides):
        return True
    commands = ([sys.executable, "-m", "asrsparse", stage, *overrides] for stage in ("train", "decode", "score"))
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)


def is_done(overrides: Sequence[str]) -> bool:
    """Returns whether a run of this configuration is scored, without the seconds that its three stages take to tell."""
    config = compose_config(list(overrides))
    run_dir = Path(config.run_dir)
    if not (run_dir / "decode_test_ctc_greedy" / "score.json").is_file():
        return False
    return (run_dir / "config.yaml").read_text(encoding="utf-8") == OmegaConf.to_yaml(config)
