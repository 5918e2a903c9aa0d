"""Folders of runs as the stages write them, for tests of their readers."""

from pathlib import Path

from asrsparse.files import write_json, write_text
from asrsparse.scoring.alignment import Utterance
from asrsparse.scoring.bootstrap import Bootstrap
from asrsparse.scoring.decodings import decoding_name
from asrsparse.scoring.score import score
from asrsparse.scoring.trn_files import write_decoded

FEW = Bootstrap(resamples=200)
ENVIRONMENT = {"date": "2026-11-20 10:00 UTC", "python": "3.11.2", "cpu": "a CPU", "threads": "2"}


def utterances(num_wrong, last="now"):
    """Ten utterances of five words, so many of which have a wrong word."""
    texts = [f"bin blue at {letter} {last}" for letter in "abcdefghij"]
    return [
        Utterance(f"u{i}", f"s{i % 2}", text, text.replace("blue", "red") if i < num_wrong else text)
        for i, text in enumerate(texts)
    ]


def make_system(
    exp_dir, name, num_wrong, train=None, bootstrap=FEW, split="test", method="greedy", further=None, **texts
):
    """A run that has been trained, and decoded and scored on one test set; returns the folder of the decoding.

    Args:
        exp_dir: The folder of the recipe.
        name: Of the run.
        num_wrong: How many of ten utterances have a wrong word.
        train: What train.json has instead, or besides.
        bootstrap: Of the scores.
        split: The test set.
        method: Of decoding.
        further: What score.json has besides.
        texts: For `utterances`.
    """
    decode_dir = exp_dir / name / decoding_name(split, method)
    values = {
        **{"name": name, "command": f"asrsparse train recipe=mini system={name}", "hours_heard": 5.25},
        **{"train_seconds": 100.0, "density": 1.0, "parameters": 2_600_000, "seed": 3, "epochs": 10, "steps": 700},
        **{"peak_memory_gib": 1.5, "environment": ENVIRONMENT},
    }
    write_json(exp_dir / name / "train.json", values | (train or {}))
    decode = {"command": f"asrsparse decode recipe=mini system={name}", "method": method, "split": split}
    write_json(decode_dir / "decode.json", decode | {"audio_hours": 0.08, "seconds": 4.5})
    write_decoded(decode_dir, utterances(num_wrong, **texts))
    scores = score(decode_dir, bootstrap)
    write_json(decode_dir / "score.json", scores | (further or {}))
    return decode_dir


def write_config(run_dir, modality="audio", splits=("test",), systems=("full-dense", "masks")) -> Path:
    """The part of a run's config.yaml that reports read."""
    suffix = "" if modality == "audio" else f"-{modality}"
    lines = [f"systems: [{', '.join(systems)}]", f"decode: {{splits: [{', '.join(splits)}]}}"]
    write_text(
        run_dir / "config.yaml", "\n".join([f"modality: {{name: {modality}, suffix: '{suffix}'}}", *lines]) + "\n"
    )
    return run_dir


def write_curves(run_dir, curves, steps_in_epoch=10):
    """TensorBoard files as Lightning writes them: `curves` are values after each epoch, by name."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run_dir / "tensorboard")) as writer:
        for name, values in curves.items():
            for epoch, value in enumerate(values):
                writer.add_scalar(name, value, steps_in_epoch * (epoch + 1) - 1)
        for epoch in range(max(map(len, curves.values()))):
            writer.add_scalar("epoch", epoch, steps_in_epoch * (epoch + 1) - 1)
