#!/usr/bin/env python3
"""How many wrong transcripts `report pruning` finds: precision and recall of its list where 5 % are swapped.

    python benchmarks/mislabelled.py [--recipe grid] [--system full-dense] [--epochs 8] [HYDRA_OVERRIDE ...]

Copies the cuts of a prepared corpus, swaps the transcripts of 5 % of the training utterances among each other, trains a
system on them, and compares the list with the utterances whose transcript is another one now. Beside it, the same
number of utterances by their last loss, and the ranking as a whole (average precision).

Prints a table and one line of JSON.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from asrsparse.config import compose_config
from asrsparse.environment import environment
from asrsparse.pruning.trajectories import agreement, loss_curves, outliers, usual_curve
from asrsparse.reports.pruning_report import LOG
from asrsparse.reports.run_logs import read_log
from asrsparse.training.train import train


def swap_transcripts(cuts_dir: Path, copy_dir: Path, share: float, seed: int) -> set[str]:
    """Copies prepared cuts with some transcripts of the training set swapped; returns the ids that have another one."""
    shutil.copytree(cuts_dir, copy_dir)
    path = copy_dir / "train_cuts.jsonl"
    cuts = [json.loads(line) for line in path.read_text().splitlines()]
    rows = np.random.default_rng(seed).permutation(len(cuts))[: round(share * len(cuts))]
    supervisions = [cuts[row]["supervisions"][0] for row in rows]
    texts = [supervision["text"] for supervision in supervisions]
    for supervision, text in zip(supervisions, texts[1:] + texts[:1], strict=True):
        supervision["text"] = text
        supervision.pop("alignment", None)
    path.write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    changed = [old != new for old, new in zip(texts, texts[1:] + texts[:1], strict=True)]
    return {cuts[row]["id"] for row, differs in zip(rows, changed, strict=True) if differs}


def average_precision(suspicion: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    """The mean of the precisions at each wrong utterance, from the most suspicious down."""
    hits = wrong[np.argsort(-suspicion, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def evaluate(run_dir: Path, wrong_ids: set[str], smoothing: float) -> list[dict[str, float]]:
    """Precision and recall of the list after each epoch from the fourth on."""
    log = [read_log(path, ("id", "score", "last_seen")) for path in sorted(run_dir.glob(LOG))]
    scores, last_seen = (np.stack([table[name].to_numpy() for table in log]) for name in ("score", "last_seen"))
    wrong = np.array([name in wrong_ids for name in log[0]["id"].to_pylist()])
    losses = loss_curves(scores, last_seen, smoothing)
    rows = []
    for num_epochs in range(4, 1 + len(log)):
        scored = agreement(losses[:num_epochs], usual_curve(losses[:num_epochs]))
        listed = outliers(scored)
        found = int((listed & wrong).sum())
        rows.append(
            {
                "epochs": num_epochs,
                "listed": int(listed.sum()),
                "precision": found / max(1, int(listed.sum())),
                "recall": found / int(wrong.sum()),
                "average precision": average_precision(np.nan_to_num(-scored, nan=-2.0), wrong),
                "average precision of the score": average_precision(scores[num_epochs - 1].astype(float), wrong),
            }
        )
    return rows


def main() -> None:
    """Reads the options, trains, prints."""
    parser = argparse.ArgumentParser(description="Precision and recall of the list of mislabelled utterances.")
    parser.add_argument("--recipe", default="grid", help="whose prepared corpus and settings are used")
    parser.add_argument("--system", default="full-dense", help="that is trained")
    parser.add_argument("--epochs", type=int, default=8, help="of the training")
    parser.add_argument("--share", type=float, default=0.05, help="of the transcripts that are swapped")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides")
    options = parser.parse_args()
    words = [f"recipe={options.recipe}", f"system={options.system}", f"trainer.num_epochs={options.epochs}"]
    config = compose_config([*words, *options.overrides])
    with tempfile.TemporaryDirectory() as folder:
        wrong = swap_transcripts(Path(config.data_dir) / "cuts", Path(folder) / "cuts", options.share, config.seed)
        config = compose_config([*words, *options.overrides, f"data_dir={folder}", f"exp_dir={folder}/exp"])
        train(config, "benchmark")
        (run_dir,) = {path.parent.parent for path in Path(folder).glob(f"exp/*/{LOG}")}
        rows = evaluate(run_dir, wrong, config.pruning.smoothing)
    table = Table(*rows[0], title=f"{len(wrong)} wrong transcripts")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    result = {"benchmark": "mislabelled", "recipe": options.recipe, "system": options.system, "rows": rows}
    sys.stdout.write(json.dumps(result | {"environment": environment()}) + "\n")


if __name__ == "__main__":
    main()
