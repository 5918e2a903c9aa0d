"""A finished run -> a folder that ESPnet's own `espnet2.bin.asr_inference.Speech2Text` opens.

ESPnet builds its model from `config.yaml` by its own classes, which the models of asrsparse use too: the log-mel
front-end, the conformer, the decoder and CTC. The normalisation here is ESPnet's `UtteranceMVN` for one utterance,
which is what `Speech2Text` decodes; in batches of several, ESPnet counts padding into the variance.
"""

from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.asr.ctc import CTC
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.utterance_mvn import UtteranceMVN
from hydra.utils import get_class

from asrsparse.data.batch import Batch
from asrsparse.data.tokenizer import SentencePieceTokenizer
from asrsparse.decoding.runs import FinishedRun
from asrsparse.files import atomic_folder, write_text
from asrsparse.masks.compact import widen
from asrsparse.models.asr import ASRModel
from asrsparse.models.builders import build_model, model_node
from asrsparse.models.frontends import LogMelFrontend
from asrsparse.models.residual import fold_layer_scale

ENCODERS = {
    "espnet2.asr.encoder.conformer_encoder.ConformerEncoder": "conformer",
    "espnet2.asr.encoder.transformer_encoder.TransformerEncoder": "transformer",
    "espnet2.asr.encoder.branchformer_encoder.BranchformerEncoder": "branchformer",
    "espnet2.asr.encoder.e_branchformer_encoder.EBranchformerEncoder": "e_branchformer",
}
DECODERS = {"espnet2.asr.decoder.transformer_decoder.TransformerDecoder": "transformer"}
"""The classes of encoders and decoders and their names in ESPnet's configuration."""

_FLOOR = 1e-5  # of the standard deviation, as in `normalise_utterances`
_TOLERANCE = 1e-4

README = """\
# {name}

A model that asrsparse trained, for [ESPnet](https://github.com/espnet/espnet) {version}.
In this folder:

```python
import soundfile
from espnet2.bin.asr_inference import Speech2Text

speech2text = Speech2Text(
    asr_train_config="config.yaml",
    asr_model_file="model.pth",{bpemodel}
    beam_size=10,
    ctc_weight={ctc_weight},
)
speech, rate = soundfile.read("speech.wav")  # {sampling_rate} samples per second, one channel
text, *_ = speech2text(speech)[0]
print(text)
```

These settings give the hypotheses of `asrsparse decode decode=joint`.

- SpecAugment is not in `config.yaml`: asrsparse has it behind the normalisation of features, ESPnet before it.
- Layers that were compacted have their full size again, with zeros; LayerScale is multiplied into the weights.
- An unknown piece of SentencePiece is written `<unk>` by asrsparse, and as a double question mark by ESPnet.
"""


def export_espnet(run: FinishedRun, output_dir: Path) -> None:
    """Writes `config.yaml`, `model.pth`, `tokens.txt`, SentencePiece's model where there is one, and `README.md`.

    Before anything is written, a check compares the frames of ESPnet's model with those of the run's.

    Args:
        run: A finished run of a model that reads log-mel features.
        output_dir: A new folder.

    Raises:
        ValueError: If ESPnet has no class for a layer of the model, or the folder is not empty.
    """
    config = espnet_config(run)
    weights = espnet_weights(run)
    _check_same(run.model, _open(config, weights))
    with atomic_folder(output_dir) as folder:
        write_text(folder / "config.yaml", yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
        torch.save(weights, folder / "model.pth")  # ESPnet reads no other format
        run.tokenizer.save(folder)
        write_text(folder / "README.md", _readme(run))


def espnet_config(run: FinishedRun) -> dict[str, Any]:
    """Returns the configuration of a run for ESPnet's `ASRTask.build_model`.

    Raises:
        ValueError: If ESPnet has no class for a layer of the model.
    """
    model = run.model
    if model.modalities != ("audio",) or not isinstance(model.frontend, LogMelFrontend):
        raise ValueError(
            f"export espnet: got a model that reads {' and '.join(model.modalities)} by "
            f"{type(model.frontend).__name__}, allowed is one that reads log-mel features (modality=audio, "
            "and not stream/audio=waveform): ESPnet has no class for the other front-ends. Export to huggingface."
        )
    parts = model_node(run.config, run.tokenizer.vocab_size)
    bpe = isinstance(run.tokenizer, SentencePieceTokenizer)
    return {
        "token_list": list(run.tokenizer.tokens),
        "token_type": "bpe" if bpe else "char",
        "bpemodel": "bpe.model" if bpe else None,
        "preprocessor_conf": {},
        "input_size": None,
        "frontend": "default",
        "frontend_conf": _frontend_conf(model.frontend),
        "specaug": None,
        "normalize": "utterance_mvn",
        "normalize_conf": {"norm_means": True, "norm_vars": True, "eps": _FLOOR},
        **_part("encoder", parts["encoder"], ENCODERS, ("input_size",)),
        **_part("decoder", _trained_decoder(parts), DECODERS, ("vocab_size", "encoder_output_size")),
        "ctc_conf": {},
        "model": "espnet",
        "model_conf": {"ctc_weight": model.ctc_weight, "lsm_weight": model.label_smoothing},
        "init": None,
    }


def espnet_weights(run: FinishedRun) -> dict[str, torch.Tensor]:
    """Returns the weights under ESPnet's names: layers of full size, LayerScale folded in, and no untrained layers."""
    model = build_model(run.config, run.tokenizer.vocab_size)
    model.load_state_dict(widen(model, run.model.state_dict()))
    if run.config.model.get("layer_scale") is not None:
        fold_layer_scale(model)
    unused = {0.0: ("ctc.",), 1.0: ("decoder.",)}.get(model.ctc_weight, ())
    named = {name.replace("frontend.logmel.", "frontend.", 1): value for name, value in model.state_dict().items()}
    return {name: value.clone() for name, value in named.items() if not name.startswith(unused)}


def _frontend_conf(frontend: LogMelFrontend) -> dict[str, Any]:
    logmel = frontend.logmel
    return {
        "fs": frontend.input_rate,
        "n_fft": logmel.stft.n_fft,
        "win_length": logmel.stft.win_length,
        "hop_length": logmel.stft.hop_length,
        "n_mels": logmel.n_mels,
        "frontend_conf": None,
    }


def _trained_decoder(parts: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the node of the decoder; None if its loss had no weight, since ESPnet's model then has no decoder."""
    decoder: dict[str, Any] | None = parts.get("decoder")
    return None if parts["ctc_weight"] == 1.0 else decoder


def _part(
    role: str, node: dict[str, Any] | None, names: dict[str, str], given: tuple[str, ...]
) -> dict[str, str | dict[str, Any] | None]:
    """Returns the name and the settings of the encoder or decoder, without those that ESPnet's model sets itself.

    Raises:
        ValueError: If ESPnet does not know its class.
    """
    if node is None:
        return {role: None, f"{role}_conf": {}}
    target = node["_target_"]
    if target not in names:
        known = ", ".join(name.rpartition(".")[2] for name in names)
        raise ValueError(f"export espnet: got the {role} {target}, allowed are ESPnet's {known}.")
    settings = {key: value for key, value in node.items() if key not in ("_target_", "_convert_", *given)}
    return {role: names[target], f"{role}_conf": settings}


def _open(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> ESPnetASRModel:
    """Builds ESPnet's model as its task does, which cannot be imported everywhere, and loads all weights strictly."""
    vocab_size = len(config["token_list"])
    frontend = DefaultFrontend(**config["frontend_conf"])
    encoder = _class_of(config["encoder"], ENCODERS)(input_size=frontend.output_size(), **config["encoder_conf"])
    sizes = {"vocab_size": vocab_size, "encoder_output_size": encoder.output_size()}
    decoder = None
    if config["decoder"] is not None:
        decoder = _class_of(config["decoder"], DECODERS)(**sizes, **config["decoder_conf"])
    none = dict.fromkeys(("specaug", "preencoder", "postencoder", "joint_network"))
    model = ESPnetASRModel(
        vocab_size=vocab_size,
        token_list=config["token_list"],
        frontend=frontend,
        normalize=UtteranceMVN(**config["normalize_conf"]),
        encoder=encoder,
        decoder=decoder,
        ctc=CTC(odim=vocab_size, encoder_output_size=encoder.output_size()),
        **none,
        **config["model_conf"],
    )
    model.load_state_dict(weights)
    return model.eval()


def _class_of(name: str, names: dict[str, str]) -> Any:
    return get_class(next(target for target, known in names.items() if known == name))


@torch.inference_mode()
def _check_same(ours: ASRModel, theirs: ESPnetASRModel) -> None:
    """Checks that both models encode two seconds of noise to the same frames.

    Raises:
        ValueError: If the frames differ.
    """
    rate = ours.frontend.input_rate
    audio = 0.1 * torch.randn(1, 2 * rate, generator=torch.Generator().manual_seed(0))
    lens = torch.tensor([2 * rate])
    nothing = torch.empty(1, 0, dtype=torch.int64)
    batch = Batch(["noise"], audio, lens, tokens=nothing, token_lens=torch.tensor([0]), seconds=2.0)
    difference = float((ours.encode(batch)[0] - theirs.encode(audio, lens)[0]).abs().max())
    if not difference < _TOLERANCE:
        raise ValueError(
            f"export espnet: got frames of ESPnet's model that differ from this one's by {difference:.2g}; allowed is "
            f"{_TOLERANCE:g}. A layer of the model differs from ESPnet's class of the same name."
        )


def _readme(run: FinishedRun) -> str:
    bpe = isinstance(run.tokenizer, SentencePieceTokenizer)
    return README.format(
        name=run.folder.resolve().name,
        version=run.train["environment"]["espnet"],
        bpemodel='\n    bpemodel="bpe.model",' if bpe else "",
        ctc_weight=run.model.ctc_weight,
        sampling_rate=run.sampling_rate,
    )
