"""The model card: what a model is, how it was trained, and its error rates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from asrsparse.decoding.runs import FinishedRun
from asrsparse.environment import portable_command
from asrsparse.files import read_json
from asrsparse.scoring.decodings import condition_of
from asrsparse.scoring.table_formats import format_rate

_TASK = "automatic-speech-recognition"

_CARD = """\
---
{metadata}
---

# {name}

A speech recogniser that reads {modalities}, trained by asrsparse on the corpus `{corpus}`.

## Results

{results}

## Training

{training}

```
{command}
```

## Use

```python
from pathlib import Path

from asrsparse.export.hub_folder import load_exported

model, tokenizer = load_exported(Path("."))  # this folder
```

{use}`config.yaml` is the whole configuration of the training, `config.json` that of the model alone.
"""

_USE_AUDIO = """\
```python
import soundfile
import torch

from asrsparse.data.batch import Batch
from asrsparse.models.asr import best_path

speech, rate = soundfile.read("speech.wav", dtype="float32")  # {sampling_rate} samples per second, one channel
nothing = torch.zeros(1, 0, dtype=torch.int64)
audio, audio_lens = torch.from_numpy(speech)[None], torch.tensor([len(speech)])
batch = Batch(["speech"], audio, audio_lens, nothing, torch.tensor([0]), seconds=len(speech) / rate)
with torch.inference_mode():
    encoded, _ = model.encode(batch)
    print(tokenizer.decode(best_path(model.ctc_log_probs(encoded)[0])))
```

"""


def model_card(run: FinishedRun, language: str | None = None, license: str | None = None) -> str:
    """Returns the text of `README.md`: metadata for Hugging Face's hub, the table of results, and how to use the model.

    Args:
        run: A finished run, whose decoded and scored test sets are in the table.
        language: A code such as `en`; None if it is not known.
        license: As the hub names it, such as `apache-2.0`; None leaves it out.
    """
    scores = read_scores(run.folder)
    named = "audiovisual" if len(run.model.modalities) == 2 else run.model.modalities[0]
    metadata = ModelCardData(
        language=language,
        license=license,
        library_name="asrsparse",
        pipeline_tag=_TASK,
        tags=["asrsparse", _TASK, named],
        metrics=["wer", "cer"],
        model_name=_name(run),
        eval_results=[result for record in scores for result in _eval_results(run, record)] or None,
    )
    return _CARD.format(
        metadata=metadata.to_yaml(),
        name=_name(run),
        modalities=" and ".join(run.model.modalities),
        corpus=run.config.corpus.name,
        results=_results(scores),
        training=_training(run),
        command=portable_command(run.train["command"]),
        use=_USE_AUDIO.format(sampling_rate=run.sampling_rate) if named == "audio" else "",
    )


def read_scores(run_dir: Path) -> list[dict[str, Any]]:
    """Returns decode.json and score.json, joined, for each scored decoding of a run, sorted by the decoding's name."""
    folders = sorted(path.parent for path in run_dir.glob("decode_*/score.json"))
    return [read_json(folder / "decode.json") | read_json(folder / "score.json") for folder in folders]


def _eval_results(run: FinishedRun, record: dict[str, Any]) -> list[EvalResult]:
    """Returns WER and CER of one decoding, in per cent."""
    corpus, condition = run.config.corpus.name, _condition(record)
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=corpus,
            dataset_name=f"{corpus}, {condition}",
            dataset_split=record["split"],
            metric_type=metric,
            metric_value=round(100 * record[metric], 2),
            metric_name=f"{metric.upper()} % ({record['method']})",
        )
        for metric in ("wer", "cer")
    ]


def _condition(record: dict[str, Any]) -> str:
    return str(condition_of(record.get("snr", "clean")))


def _results(scores: Sequence[dict[str, Any]]) -> str:
    """Returns the table of error rates with 95 % intervals by bootstrap."""
    if not scores:
        return "Nothing was decoded and scored before this export."
    columns = ["test set", "condition", "decoding", "WER % [95 %]", "CER % [95 %]", "utterances", "words", "command"]
    rows = [
        [
            record["split"],
            _condition(record),
            record["method"],
            format_rate(record["wer"], record["ci_low"], record["ci_high"]),
            format_rate(record["cer"], record["cer_ci_low"], record["cer_ci_high"]),
            str(record["utterances"]),
            str(record["words"]),
            f"`{portable_command(record['command'])}`",
        ]
        for record in scores
    ]
    return _table(columns, rows)


def _training(run: FinishedRun) -> str:
    train = run.train
    values = {
        "hours of speech": f"{train['hours_heard']:.2f}",
        "training s": f"{train['train_seconds']:.0f}",
        "epochs": str(train["epochs"]),
        "density": f"{train['density']:.3f}",
        "masks": train["masks"],
        "parameters": f"{sum(p.numel() for p in run.model.parameters()) / 1e6:.2f} M",
        "seed": str(train["seed"]),
        **{key: train["environment"][key] for key in ("torch", "asrsparse") if key in train["environment"]},
    }
    return _table(list(values), [list(values.values())])


def _table(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])


def _name(run: FinishedRun) -> str:
    return f"{run.config.recipe_name}-{run.config.name}"
