"""What the documents' Python blocks take for granted: a model, batches, files."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from micro import make_model

from asrsparse import masks, pruning
from asrsparse.video.io import write_video


class LossOfEach(torch.nn.Module):
    """A model that gives the loss of each utterance of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))

    def forward(self, batch: Any) -> torch.Tensor:
        return self.layers(batch.inputs).squeeze(1).square()


def batch_of(utterances: list[Any]) -> Any:
    return SimpleNamespace(ids=[u.id for u in utterances], inputs=torch.randn(len(utterances), 8))


def exports(module: Any) -> dict[str, Any]:
    """What a module offers, by name."""
    return {name: getattr(module, name) for name in module.__all__}


def readme() -> dict[str, Any]:
    """A corpus of 40 utterances, a loader, a padded batch, and what the two subjects export."""
    model = LossOfEach()
    corpus = [SimpleNamespace(id=f"u{number}", duration=1.0 + number % 5) for number in range(40)]
    return {
        **exports(pruning),
        **exports(masks),
        "AdamW": torch.optim.AdamW,
        "corpus": corpus,
        "ids": [utterance.id for utterance in corpus],
        "durations": [utterance.duration for utterance in corpus],
        "loader": lambda kept: [batch_of(list(kept))],
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters()),
        "audio": torch.randn(2, 16000),
        "audio_lens": torch.tensor([16000, 12000]),
        "video": torch.randn(2, 25, 8, 8),
        "video_lens": torch.tensor([25, 19]),
        "word_ends": torch.tensor([[0.4, 0.9], [0.3, 0.7]]),
        "batches": [batch_of(corpus[:4])] * 20,
        "num_steps": 20,
        "task_loss": lambda model, batch: model(batch).mean(),
    }


def masks_page() -> dict[str, Any]:
    """A recogniser of ESPnet's modules, another one, and the state of the first."""
    model, fresh_model = make_model(), make_model()

    def train(model: torch.nn.Module, masks: Any) -> None:
        masks.finish("sparse", torch.optim.AdamW(masks.param_groups(lr=1e-3)))

    taken = {"train": train, "model": model, "fresh_model": fresh_model, "state": fresh_model.state_dict()}
    return {**exports(masks), **taken}


def audio_visual() -> dict[str, Any]:
    """Landmarks as a detector leaves them, and a film, in the current folder."""
    Path("bbaf2n.pkl").write_bytes(pickle.dumps([np.zeros((68, 2), np.float32)] * 25))
    film = Path("data/mini/video/alan/alan-0000.mp4")
    write_video(film, np.full((25, 96, 96), 90, np.uint8))
    return {}


WORLDS = {"README.md": readme, "docs/masks.md": masks_page, "docs/audio_visual.md": audio_visual}
"""By document; the others say all themselves."""
