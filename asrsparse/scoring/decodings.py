"""Under which conditions a test set is decoded: clean, or with babble at some ratios; and where the results lie."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

CLEAN = "clean"
"""Stands for no noise where ratios are listed."""

Snr = str | float
"""The ratio of signal to noise in dB, or `CLEAN`."""


def decoding_name(split: str, method: str, snr: Snr = CLEAN) -> str:
    """The folder of a decoding in that of its run.

    Example:
        >>> decoding_name("test", "ctc_greedy"), decoding_name("test", "ctc_greedy", -2.5)
        ('decode_test_ctc_greedy', 'decode_test_ctc_greedy_babble-2.5dB')
    """
    return f"decode_{split}_{method}" + ("" if snr == CLEAN else f"_babble{float(snr):g}dB")


def parse_decoding_name(name: str) -> tuple[str, Snr]:
    """The name without the ratio, and the ratio: what `decoding_name` put together.

    Example:
        >>> parse_decoding_name("decode_test_joint"), parse_decoding_name("decode_test_joint_babble-2.5dB")
        (('decode_test_joint', 'clean'), ('decode_test_joint', -2.5))
    """
    match = re.fullmatch(r"(.+)_babble(-?\d+(?:\.\d+)?)dB", name)
    return (match[1], float(match[2])) if match else (name, CLEAN)


def decoded_folders(folder: Path) -> list[Path]:
    """The folder itself if it holds a decoding, else the decodings in it, which is that of a run.

    Raises:
        ValueError: If there is none.
    """
    if (folder / "hyp.trn").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/hyp.trn"))
    if not found:
        raise ValueError(
            f"{folder} holds no decoding, which has ref.trn and hyp.trn. Name a folder such as "
            "exp/mini/full-dense/decode_test_ctc_greedy, or that of a run: exp/mini/full-dense."
        )
    return found


@dataclass(frozen=True)
class Decoding:
    """One test set under one condition.

    Attributes:
        split: The test set.
        snr: The ratio of signal to babble, or `CLEAN`.
        folder: Where its hypotheses lie.
    """

    split: str
    snr: Snr
    folder: Path


def decodings(config: "DictConfig") -> list[Decoding]:
    """Each of `decode.splits` under each of `decode.snrs`; for a model that hears nothing, `clean` alone.

    Raises:
        ValueError: If there is no split, or no ratio, or a ratio is neither `clean` nor a number of dB.
    """
    splits, snrs, run_dir = list(config.decode.splits), list(config.decode.snrs), Path(config.run_dir)
    if not splits:
        raise ValueError("decode.splits: got none, allowed are names of splits: [test].")
    check_snrs(snrs)
    if config.modality.name == "video":
        snrs = [CLEAN]
    folders = {(split, snr): decoding_name(split, config.decode.method, snr) for split in splits for snr in snrs}
    return [Decoding(split, snr, run_dir / name) for (split, snr), name in folders.items()]


def check_snrs(snrs: Sequence[Snr]) -> None:
    """Checks what a user asks for.

    Raises:
        ValueError: If one is neither `clean` nor a number of dB, or there is none.
    """
    wrong = [snr for snr in snrs if snr != CLEAN and not (isinstance(snr, int | float) and -60 <= snr <= 60)]
    if wrong or not snrs:
        got = ", ".join(map(str, wrong)) or "none"
        raise ValueError(f"decode.snrs: got {got}, allowed are clean and dB from -60 to 60: [clean,12.5,-2.5].")
