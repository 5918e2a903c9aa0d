"""A run that was trained, decoded and scored, for tests of exports."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from micro import MICRO

from asrsparse.config import compose_config
from asrsparse.decoding.decode import decode
from asrsparse.decoding.runs import FinishedRun, open_run
from asrsparse.masks.compact import compact
from asrsparse.masks.structured import find_units
from asrsparse.models.asr import ASRModel
from asrsparse.scoring.score import score
from asrsparse.training.train import train


@pytest.fixture(scope="session")
def settings(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Returns the overrides of the run."""
    exp_dir = tmp_path_factory.mktemp("exp")
    places = [f"data_dir={tiny_corpus}", f"exp_dir={exp_dir}"]
    return [*MICRO, *places, "trainer.num_epochs=4", "trainer.accelerator=cpu", "optim.lr=5e-3", "model.ctc_weight=0.5"]


@pytest.fixture(scope="session")
def run_dir(settings: list[str]) -> Path:
    """Returns the folder of the run, whose joint search has a beam of 3."""
    greedy = compose_config(settings)
    train(greedy, "asrsparse train recipe=mini")
    logging.getLogger("asrsparse").handlers.clear()
    folder = Path(greedy.run_dir)
    for config in (greedy, compose_config([*settings, "decode=joint", "decode.decoder.beam_size=3"])):
        decode(config, f"/opt/env/bin/asrsparse decode decode={config.decode.method}")
        score(folder / f"decode_test_{config.decode.method}")
    return folder


@pytest.fixture(scope="session")
def run(run_dir: Path) -> FinishedRun:
    """Returns the run."""
    return open_run(run_dir)


@pytest.fixture(scope="session")
def compacted(run: FinishedRun) -> ASRModel:
    """Returns its model without some units of each kind."""
    small = copy.deepcopy(run.model)
    with torch.no_grad():
        for units in find_units(small):
            columns = units.kind.columns_per_unit(units.module)
            units.kind.gate(units.module).weight[:, :columns] = 0.0
    compact(small)
    return small
