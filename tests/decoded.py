"""Decoded utterances whose errors are random, and programs of NIST's toolkit that count them too."""

import random
import shutil
import subprocess

import pytest

from asrsparse.scoring.alignment import Utterance

VOCABULARY = ["bin", "blue", "at", "f", "two", "now"]

needs_sctk = pytest.mark.skipif(
    shutil.which("sctk") is None, reason="no `sctk` on PATH: NIST's sclite comes with Debian's package sctk"
)


def decoded(error_rate, num_utterances=120, seed=0, vocabulary=VOCABULARY):
    """Utterances of four speakers, 1 to 4 s long; their references do not depend on the error rate or the seed."""
    texts, errors = random.Random(7), random.Random(seed)
    utterances = []
    for number in range(num_utterances):
        reference = texts.choices(vocabulary, k=texts.randint(1, 12))
        hypothesis = [
            errors.choice(["", "x", f"{word} y"]) if errors.random() < error_rate else word for word in reference
        ]
        key, duration = f"{number:03d}", 1 + 3 * number / num_utterances
        utterances.append(Utterance(key, f"s{number % 4}", " ".join(reference), _joined(hypothesis), duration))
    return utterances


def _joined(words):
    return " ".join(" ".join(words).split())


def sctk(folder, command, stdin=None):
    """What a program of sctk prints."""
    done = subprocess.run(
        ["sctk", *command.split()], cwd=folder, input=stdin, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def random_pair(rng, kind):
    """A reference and a hypothesis of one kind."""
    vocabulary = [f"w{number}" for number in range(rng.choice([2, 5, 20, 1000]))]
    reference = rng.choices(vocabulary, k=rng.randint(200, 600) if kind == "long" else rng.randint(1, 25))
    other = rng.choices(vocabulary, k=rng.randint(1, 25))
    share = rng.choice([0.02, 0.1, 0.3, 0.6])
    noisy = " ".join(
        rng.choice(["", "x", f"{word} y", rng.choice(vocabulary)]) if rng.random() < share else word
        for word in reference
    )
    return {
        "equal": (reference, list(reference)),
        "empty": ([], []),
        "no reference": ([], other),
        "no hypothesis": (reference, []),
        "disjoint": (reference, [f"x{word}" for word in other]),
        "unrelated": (reference, other),
    }.get(kind, (reference, noisy.split()))
