"""A run that really trained, decoded and was scored: what exports are made of.

Pytest loads this module at its start whatever it tests, so what takes long to import is imported by the fixtures.
"""

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_once import made_once

if TYPE_CHECKING:
    from asrsparse.decoding.runs import FinishedRun
    from asrsparse.models.asr import ASRModel

TRAINING = ["trainer.num_epochs=4", "trainer.accelerator=cpu", "optim.lr=5e-3", "model.ctc_weight=0.5"]


@pytest.fixture(scope="session")
def run_dir(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run; its joint search has a beam of 3."""
    from micro import MICRO

    from asrsparse.config import compose_config
    from asrsparse.decoding.decode import decode
    from asrsparse.scoring.score import score
    from asrsparse.training.train import train

    def make(exp_dir: Path) -> None:
        here = [*MICRO, f"data_dir={tiny_corpus}", f"exp_dir={exp_dir}", *TRAINING]
        greedy = compose_config(here)
        train(greedy, "asrsparse train recipe=mini")
        logging.getLogger("asrsparse").handlers.clear()
        for config in (greedy, compose_config([*here, "decode=joint", "decode.decoder.beam_size=3"])):
            decode(config, f"/opt/env/bin/asrsparse decode decode={config.decode.method}")
            score(Path(greedy.run_dir) / f"decode_test_{config.decode.method}")

    return made_once(tmp_path_factory, "exported_run", make) / "full-dense"


@pytest.fixture(scope="session")
def run(run_dir: Path) -> "FinishedRun":
    """The run, read back."""
    from asrsparse.decoding.runs import open_run

    return open_run(run_dir)


@pytest.fixture(scope="session")
def compacted(run: "FinishedRun") -> "ASRModel":
    """Its model without some units of each kind."""
    import torch

    from asrsparse.masks.compact import compact
    from asrsparse.masks.structured import find_units

    small = copy.deepcopy(run.model)
    with torch.no_grad():
        for units in find_units(small):
            columns = units.kind.columns_per_unit(units.module)
            units.kind.gate(units.module).weight[:, :columns] = 0.0
    compact(small)
    return small
