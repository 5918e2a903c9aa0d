"""The files of a decoding: `ref.trn` and `hyp.trn` as sclite reads them, `utt2spk` and `utt2dur` as in Kaldi."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asrsparse.files import write_text
from asrsparse.scoring.alignment import Utterance, listed, one_spaced

_TRN_LINE = re.compile(r"(?P<words>.*\s)?\((?P<id>[^()\s]+)\)")


def write_trn(path: Path, texts: Mapping[str, str]) -> None:
    """Writes a trn file, whose lines are `words<TAB>(trn id)`, sorted by id.

    Args:
        path: The path of the file.
        texts: The words by trn id.
    """
    write_text(path, "".join(f"{one_spaced(texts[key])}\t({key})\n" for key in sorted(texts)))


def read_trn(path: Path) -> dict[str, str]:
    """Reads a trn file, whose lines are `words (trn id)` with a space or a TAB before the id.

    Returns:
        The words by trn id, with one space between them.

    Raises:
        ValueError: If there is no such file, or a line is not UTF-8, has no id, or repeats one. The message begins with
            `file:line`.
    """
    if not path.is_file():
        raise ValueError(f"No {path}. Run `asrsparse decode` for this system and test set first.")
    texts: dict[str, str] = {}
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not raw.strip():
            continue
        key, words = _parse_trn_line(raw, f"{path}:{number}")
        if key in texts:
            raise ValueError(f"{path}:{number}: got the id ({key}) a second time, allowed is once. Remove one line.")
        texts[key] = words
    return texts


def _parse_trn_line(raw: bytes, where: str) -> tuple[str, str]:
    try:
        line = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error}). Convert the file, for instance with iconv.") from None
    match = _TRN_LINE.fullmatch(line)
    if match is None:
        raise ValueError(
            f"{where}: no utterance id at the end of {line[:60]!r}. A line is `words (speaker-id)`, with a space or a "
            "TAB before the parenthesis and neither spaces nor parentheses in the id."
        )
    return match["id"], one_spaced(match["words"] or "")


def write_decoded(decode_dir: Path, utterances: Sequence[Utterance]) -> None:
    """Writes `ref.trn`, `hyp.trn` and, as in Kaldi, `utt2spk` and `utt2dur`.

    `utt2spk` is needed to read a trn id, which does not say where the name of the speaker ends. `utt2dur` is written if
    all durations are known.

    Args:
        decode_dir: The folder of the decoding.
        utterances: The decoded utterances.

    Raises:
        ValueError: If two utterances share an id.
    """
    references = {utterance.trn_id: utterance.reference for utterance in utterances}
    speakers = {utterance.id: utterance.speaker for utterance in utterances}
    if not len(references) == len(speakers) == len(utterances):
        raise ValueError(f"{decode_dir}: {len(utterances)} utterances have {len(speakers)} ids. Give each its own id.")
    durations = {utterance.id: utterance.duration for utterance in utterances if utterance.duration is not None}
    write_text(decode_dir / "utt2spk", "".join(f"{key} {speakers[key]}\n" for key in sorted(speakers)))
    if len(durations) == len(utterances):
        write_text(decode_dir / "utt2dur", "".join(f"{key} {durations[key]:.4f}\n" for key in sorted(durations)))
    else:
        (decode_dir / "utt2dur").unlink(missing_ok=True)  # one from before would be taken for these utterances'
    write_trn(decode_dir / "ref.trn", references)
    write_trn(decode_dir / "hyp.trn", {utterance.trn_id: utterance.hypothesis for utterance in utterances})


def read_decoded(decode_dir: Path) -> list[Utterance]:
    """Reads `ref.trn` and `hyp.trn` of a folder.

    `utt2spk` beside them says what is speaker and what is utterance in a trn id. Without it (trn files that another
    program wrote) the whole trn id is the id of the utterance, and its speaker ends at the first hyphen, as in sclite.
    Durations are known where there is `utt2dur`.

    Args:
        decode_dir: The folder of the decoding.

    Returns:
        The utterances in the order of their ids.

    Raises:
        ValueError: If a file is damaged, or an utterance is missing in one of them; the message has file and ids.
    """
    references, hypotheses = read_trn(decode_dir / "ref.trn"), read_trn(decode_dir / "hyp.trn")
    for name, other, missing in (
        ("hyp.trn", "ref.trn", references.keys() - hypotheses.keys()),
        ("ref.trn", "hyp.trn", hypotheses.keys() - references.keys()),
    ):
        if missing:
            raise ValueError(
                f"{decode_dir / name} lacks {len(missing)} utterances of the other trn file: {listed(missing)}. The "
                f"first is at {decode_dir / other}:{line_of(decode_dir / other, min(missing))}. "
                "Both files must hold the same ids. Run `asrsparse decode` for this system and test set again."
            )
    names = _read_names(decode_dir / "utt2spk", references)
    durations = _read_durations(decode_dir / "utt2dur", {name for name, _ in names.values()})
    return [
        Utterance(*names[key], references[key], hypotheses[key], durations.get(names[key][0]))
        for key in sorted(references, key=lambda key: names[key])
    ]


def line_of(path: Path, trn_id: str) -> int | None:
    """Returns the number of the line, from 1, that has an id of a trn file; None if no line has it."""
    lines = enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
    return next((number for number, line in lines if line.rstrip().endswith(f"({trn_id})")), None)


def _read_durations(path: Path, ids: set[str]) -> dict[str, float]:
    """The seconds of each utterance; nothing where there is no such file."""
    if not path.is_file():
        return {}
    durations: dict[str, float] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = re.fullmatch(r"(\S+)\s+(\d+\.?\d*)\s*", line)
        if match is None or not float(match[2]):
            raise ValueError(f"{path}:{number}: got {line[:60]!r}, allowed is `utterance seconds`, above 0.")
        durations[match[1]] = float(match[2])
    missing = ids - durations.keys()
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} utterances of ref.trn: {listed(missing)}. Decode again.")
    return durations


def _read_names(path: Path, trn_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The (utterance id, speaker) of each trn id."""
    if not path.is_file():
        return {key: (key, key.split("-")[0] or key) for key in trn_ids}
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    names = {f"{pair[-1]}-{pair[0]}": (pair[0], pair[-1]) for pair in pairs if len(pair) == 2}
    unknown = set(trn_ids) - names.keys()
    if unknown:
        raise ValueError(
            f"{path} does not name {len(unknown)} utterances of ref.trn: {listed(unknown)}. Allowed are ids "
            "`speaker-utterance` of its lines `utterance speaker`. Decode again, or delete utt2spk: then the speaker "
            "is what is before the first hyphen."
        )
    return names
