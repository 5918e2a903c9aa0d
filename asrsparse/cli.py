"""`asrsparse COMMAND [word ...]`: parses, forwards to `commands`, and turns a user's mistakes into messages."""

import argparse
import difflib
import logging
import os
import platform
import sys
from collections.abc import Sequence
from typing import NoReturn

from asrsparse import __version__
from asrsparse.commands import COMMANDS

EPILOG = """\
commands:
  prepare   corpus folder -> manifests -> cuts and tokenizer, in data/<corpus>
  train     cuts -> a trained, averaged model, in exp/<recipe>/<system>; the same command resumes a training
  decode    model -> hypotheses of the test sets
  score     hypotheses -> WER, CER and token error rate with intervals, files in the format of sclite, the utterances
            with most errors in worst.txt
  report    the scores of all systems of a recipe -> RESULTS.md, results.{json,csv,tex}, report.html and a table
  config    prints the composed configuration
  sweep     trains, decodes and scores all combinations of overrides with several values (seed=0,1); the same command
            continues a sweep -> exp/<recipe>-sweep/SWEEP.md and a table, with means over seeds
  report EXP ... [baseline=RUN] [method=NAME]
            as report, for all finished runs in folders, of any modality and on all their test sets; all runs are
            compared with the first one, or with RUN
  report pruning EXP ... [utterance=ID] [reference=FILE]
            the kept utterances and scores of runs, or of all runs of recipes, and the utterances that look
            mislabelled, by loss curves unlike those of all, or of the ids in FILE -> pruning.html in their folder: a
            page of plots, pruning.json, and a table
  report noise EXP ...
            word error rates of runs side by side, for each ratio of speech to babble at which they were decoded
            (decode.snrs) -> NOISE.md and noise.json in their folder, and a table
  report masks EXP ...
            masks, weights, gradients, densities, FLOPs and WER of runs, masked and dense -> a table, masks.html and
            masks.json in their folder
  compare DIR DIR ... [margin=POINTS | relative_margin=PERCENT] [json=FILE]
            compares decodings, or all decodings of runs, with the first: paired bootstrap, matched pairs, and whether
            they are worse by less than a margin of WER (default: 0.5 points) -> a table
  breakdown DIR ... [json=FILE]
            the WER of decodings, or of all decodings of runs, by speaker, duration and ratio of signal to noise
            -> a table
  transcribe RUN_DIR FILE ... [method=joint] [json=true [times=true] [nbest=N]] [max_seconds=30] [data_dir=DIR]
            transcribes audio or video files with a finished model: prints one line of text, or of JSON, for each
  export KIND RUN_DIR OUTPUT_DIR [key=value ...]
            a finished model -> a new folder for other programs. Kinds: espnet (for ESPnet's Speech2Text),
            huggingface (weights, model card, tokenizer; push=OWNER/NAME uploads it; language=en license=apache-2.0
            are written to the card), onnx (waveform -> CTC log probabilities). data_dir=DIR: the corpus's new folder

Words after the command are Hydra overrides: GROUP=CHOICE or KEY=VALUE. The groups:
  recipe    mini, grid, lrs2, lrs3, librispeech, librispeech_100, kaldi: corpus, model and length of training
  system    full-dense, easy2hard, masks, easy2hard-masks: pruning and masks; full-dense-as-easy2hard: full-dense,
            stopped at the same time as easy2hard
  pruning   none, random, easy, hard, easy2hard, window, middle, infobatch, repb, orderdp, epsilon_greedy, ucb,
            coverage, longest, shortest: the utterances that an epoch keeps
  segments  none, energy, speech, kaldi_vad, blank, random: the time inside each utterance that a training step uses
  consistency  none, cr_ctc: training on two masked views of each utterance
  noise     none, babble: what is mixed into the audio of training
  masks     dense, learned, continuous_sparsification, random, snip, magnitude, gmp, set, rigl, mest, granet, sr_ste,
            decaying, structured, structured_magnitude, structured_taylor, structured_shrinking, structured_random:
            which weights are zero, and when
  modality  audio, video, audiovisual: what the model reads; added to the name of a system (full-dense-video)
  stream    stream/audio=waveform: ResNet-1D instead of log-mel features
  corpus, model (tiny small base large), optim (adamw sparse_adamw adamw_avsr adamw_largest), trainer (default one_gpu),
  decode (ctc_greedy joint), score (score.normaliser=none, lower_no_punctuation or whisper_english),
  sweep (local slurm: where the runs of a sweep run; sweep.jobs of them at the same time)

examples:
  asrsparse prepare recipe=grid corpus.corpus_dir=/data/grid
  asrsparse train recipe=grid system=easy2hard
  asrsparse train recipe=grid pruning=random pruning.keep_ratio=0.5 name=random-50
  torchrun --nproc-per-node 2 -m asrsparse train recipe=grid system=full-dense
  asrsparse sweep recipe=grid pruning=random,easy2hard pruning.keep_ratio=0.5,0.7 seed=0,1 sweep.jobs=2
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; a mistake of the user ends in one message and exit status 2, not in a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parsed = _parser().parse_args(arguments)
    if parsed.command not in COMMANDS:
        close = difflib.get_close_matches(parsed.command, COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        _fail(f"Unknown command: got {parsed.command!r}, allowed are {', '.join(COMMANDS)}.{hint}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("asrsparse").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    try:
        COMMANDS[parsed.command](parsed.words)
    except (ValueError, OSError) as error:
        if os.environ.get("ASRSPARSE_TRACEBACK"):
            raise
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"asrsparse: {_which_rank()}error: {message}\n")
    sys.exit(2)


def _which_rank() -> str:
    """Which of several processes speaks; nothing where there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ""
    return f"rank {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']} on {platform.node()}: "


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asrsparse",
        description="Train speech recognisers on less data and with fewer weights.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="Hydra overrides, or the folders and options of a command"
    )
    return parser
