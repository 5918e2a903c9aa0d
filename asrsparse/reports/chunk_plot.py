"""A plot of the chunks that segment pruning keeps of an utterance, over its spectrogram.

Shape legend: C chunks of an utterance.
"""

from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from matplotlib.axes import Axes
from omegaconf import DictConfig, OmegaConf

from asrsparse.config import build, read_config
from asrsparse.data.batch import Batch, BatchDataset
from asrsparse.data.cut_index import CutIndex
from asrsparse.data.cuts import cuts_path
from asrsparse.data.tokenizer import load_tokenizer
from asrsparse.models.builders import build_segments
from asrsparse.models.frontends import Frontend, LogMelFrontend
from asrsparse.models.streams import pruned_features
from asrsparse.models.time_pruning import TimePruning
from asrsparse.models.trusted import check_layers, check_segments
from asrsparse.pruning import KeepAllTime, ScoreTable, SegmentPruner
from asrsparse.rates import FEATURES_PER_SECOND


def plot_chunks(axes: Axes, run_dir: Path, utterance_id: str | None = None) -> None:
    """Draws the log-mel features of an utterance, the chunks that the run drops now, and its words if they have times.

    Args:
        axes: The axes to draw in.
        run_dir: The folder of a run, with its `config.yaml`; its prepared corpus must be where it was.
        utterance_id: The utterance of the training set; by default the first one.

    Raises:
        ValueError: If there is no such utterance, or no cuts, or the configuration names what is not trusted.
    """
    config = read_config(run_dir)
    _check_classes(config, run_dir)
    cuts_dir = Path(config.data_dir) / "cuts"
    index = CutIndex.open(cuts_path(cuts_dir, "train"))
    table = ScoreTable(index.ids.to_pylist(), index.durations)
    row = 0 if utterance_id is None else int(table.positions([utterance_id])[0])
    cuts = index.read([row])
    frontend = build(config.model.frontend)
    batch = BatchDataset(load_tokenizer(cuts_dir).encode, sorted({"audio", frontend.reads}))[cuts]
    segments = _segments_of(config, run_dir, table)
    kept = _choose(config, frontend, batch, segments)
    spectrogram = frontend if isinstance(frontend, LogMelFrontend) else LogMelFrontend()
    features, _ = spectrogram(*batch.of("audio"))
    seconds = features.size(1) / FEATURES_PER_SECOND
    axes.grid(False)
    axes.imshow(features[0].T, origin="lower", aspect="auto", extent=(0, seconds, 0, features.size(2)), cmap="magma")
    if isinstance(segments, KeepAllTime):
        axes.set_title(f"{batch.ids[0]}: this run keeps all time")
    else:
        _shade_dropped(axes, kept, segments.chunk_seconds, seconds)
        share = kept.float().mean().item()
        axes.set_title(f"{batch.ids[0]}: {share:.0%} of the chunks are kept, the others are grey")
    axes.set(xlabel="seconds", ylabel="mel bin", xlim=(0, seconds))
    _write_words(axes, next(iter(cuts)), features.size(2))


def _check_classes(config: DictConfig, run_dir: Path) -> None:
    """The run may come from elsewhere, and its front-end and its pruner are built to draw what they do."""
    where = f"{run_dir}/config.yaml"
    check_layers(
        where, {"frontend": OmegaConf.to_container(config.model.frontend, resolve=True)}, "Train the run again."
    )
    check_segments(where, OmegaConf.to_container(config.segments, resolve=True))


def _segments_of(config: DictConfig, run_dir: Path, table: ScoreTable) -> SegmentPruner:
    """The pruner of time as the run left it."""
    segments = build_segments(config, table)
    checkpoint = run_dir / "last.ckpt"
    if segments.blanks is not None and checkpoint.is_file():
        segments.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["segments"])
        segments.end_epoch()
    return segments


def _choose(config: DictConfig, frontend: Frontend, batch: Batch, segments: SegmentPruner) -> torch.Tensor:
    """The kept chunks (C,) of one utterance."""
    pruning = TimePruning.of(batch, segments, config.segments.level)
    with torch.inference_mode():
        pruned_features(frontend, batch, pruning)
    assert pruning.kept is not None
    return pruning.kept[0]


def _shade_dropped(axes: Axes, kept: torch.Tensor, chunk_seconds: float, seconds: float) -> None:
    for number in np.flatnonzero(~kept.numpy()):
        begin = number * chunk_seconds
        axes.axvspan(begin, min(begin + chunk_seconds, seconds), color="0.6", alpha=0.75, linewidth=0)


def _write_words(axes: Axes, cut: Cut, height: int) -> None:
    words = (cut.supervisions[0].alignment or {}).get("word", [])
    for word in words:
        axes.text(word.start + word.duration / 2, 0.93 * height, word.symbol, color="white", ha="center", fontsize=7)
