"""The conditions that a test set is decoded under, clean or in noise, and the folders that hold the results."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

BABBLE = "babble"
"""The name of the noise where only a ratio is given, as in `decode.snrs`."""

Snr = str | float
"""A value of `decode.snrs` and of `decode.json`: a ratio of speech to noise in dB, or `"clean"`."""

_CLEAN = "clean"
_NAME = "[a-z]+"


@dataclass(frozen=True)
class NoiseCondition:
    """The noise that a test set is decoded in.

    `CLEAN` is the condition without noise: its ratio is infinite.

    Args:
        name: The name of the noise, such as `"babble"`, in lower-case letters.
        snr_db: The ratio of the mean powers of speech and noise, in dB.

    Raises:
        ValueError: If the name has other characters, or the ratio does not fit the name.

    Example:
        >>> NoiseCondition("babble", -2.5).suffix, CLEAN.suffix
        ('_babble-2.5dB', '')
    """

    name: str
    snr_db: float

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(f"name: got {self.name!r}, allowed are lower-case letters, such as {BABBLE!r}.")
        if math.isfinite(self.snr_db) == (self.name == _CLEAN):
            raise ValueError(
                f"snr_db: got {self.snr_db} for {self.name!r}, allowed is a number of dB for noise and infinity for "
                f"{_CLEAN!r}."
            )

    @property
    def snr(self) -> Snr:
        """The ratio as `decode.snrs` and `decode.json` have it: a number of dB, or `"clean"`."""
        return _CLEAN if self.name == _CLEAN else self.snr_db

    @property
    def suffix(self) -> str:
        """The end of the name of a decoding's folder; it is empty for `CLEAN`."""
        return "" if self.name == _CLEAN else f"_{self.name}{self.snr_db:g}dB"

    @property
    def title(self) -> str:
        """The title of a column of a table, such as `"-2.5 dB"`; noise other than babble has its name before it."""
        if self.name == _CLEAN:
            return _CLEAN
        return f"{self.snr_db:g} dB" if self.name == BABBLE else f"{self.name} {self.snr_db:g} dB"

    @property
    def key(self) -> str:
        """The key in the JSON files of tables, such as `"-2.5"`; noise other than babble has its name before it."""
        return str(self.snr) if self.name in (_CLEAN, BABBLE) else f"{self.name} {self.snr_db}"

    def __str__(self) -> str:
        return _CLEAN if self.name == _CLEAN else f"{self.name} at {self.snr_db:g} dB"


CLEAN = NoiseCondition(_CLEAN, math.inf)
"""The condition without noise."""


def condition_of(snr: Snr, noise: str = BABBLE) -> NoiseCondition:
    """Returns the condition of a value of `decode.snrs`.

    Args:
        snr: A ratio in dB, or `"clean"`.
        noise: The name of the noise.

    Example:
        >>> condition_of("clean") == CLEAN, str(condition_of(-2.5))
        (True, 'babble at -2.5 dB')
    """
    return CLEAN if snr == _CLEAN else NoiseCondition(noise, float(snr) if isinstance(snr, str) else snr)


def quiet_to_loud(conditions: Iterable[NoiseCondition]) -> list[NoiseCondition]:
    """Returns each condition once, from no noise to the loudest; of equal ratios in the order of their names.

    Example:
        >>> [condition.title for condition in quiet_to_loud([condition_of(-2.5), condition_of(12.5), CLEAN])]
        ['clean', '12.5 dB', '-2.5 dB']
    """
    return sorted(set(conditions), key=lambda condition: (-condition.snr_db, condition.name))


def decoding_name(split: str, method: str, condition: NoiseCondition = CLEAN) -> str:
    """Returns the name of the folder of a decoding in the folder of its run.

    Example:
        >>> decoding_name("test", "ctc_greedy"), decoding_name("test", "ctc_greedy", NoiseCondition("babble", -2.5))
        ('decode_test_ctc_greedy', 'decode_test_ctc_greedy_babble-2.5dB')
    """
    return f"decode_{split}_{method}{condition.suffix}"


def parse_decoding_name(name: str) -> tuple[str, NoiseCondition]:
    """Splits the name of a decoding's folder into the name of the clean decoding and the condition.

    Example:
        >>> base, condition = parse_decoding_name("decode_test_joint_babble-2.5dB")
        >>> base, condition.name, condition.snr_db
        ('decode_test_joint', 'babble', -2.5)
        >>> parse_decoding_name("decode_test_joint") == ("decode_test_joint", CLEAN)
        True
    """
    match = re.fullmatch(rf"(.+)_({_NAME})(-?\d+(?:\.\d+)?)dB", name)
    return (match[1], NoiseCondition(match[2], float(match[3]))) if match else (name, CLEAN)


def decoded_folders(folder: Path) -> list[Path]:
    """Returns the folder itself if it holds a decoding, else all decodings in it.

    Args:
        folder: The folder of a decoding, or of a run.

    Raises:
        ValueError: If there is no decoding.
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
        split: The name of the test set.
        condition: The noise in it.
        folder: The folder of its hypotheses.
    """

    split: str
    condition: NoiseCondition
    folder: Path


def decodings(config: "DictConfig", noise: str = BABBLE) -> list[Decoding]:
    """Returns each of `decode.splits` under each of `decode.snrs`; for a model of video alone, `clean` only.

    Args:
        config: The composed configuration.
        noise: The name of the noise that the ratios are of.

    Raises:
        ValueError: If there is no split, or no ratio, or a ratio is neither `clean` nor a number of dB.
    """
    splits, snrs, run_dir = list(config.decode.splits), list(config.decode.snrs), Path(config.run_dir)
    if not splits:
        raise ValueError("decode.splits: got none, allowed are names of splits: [test].")
    check_snrs(snrs)
    conditions = [CLEAN] if config.modality.name == "video" else [condition_of(snr, noise) for snr in snrs]
    method = config.decode.method
    return [
        Decoding(split, condition, run_dir / decoding_name(split, method, condition))
        for split in dict.fromkeys(splits)
        for condition in dict.fromkeys(conditions)
    ]


def check_snrs(snrs: Sequence[Snr]) -> None:
    """Checks the values of `decode.snrs`.

    Raises:
        ValueError: If one is neither `clean` nor a number of dB, or there is none.
    """
    wrong = [snr for snr in snrs if snr != _CLEAN and not (isinstance(snr, int | float) and -60 <= snr <= 60)]
    if wrong or not snrs:
        got = ", ".join(map(str, wrong)) or "none"
        raise ValueError(f"decode.snrs: got {got}, allowed are clean and dB from -60 to 60: [clean,12.5,-2.5].")
