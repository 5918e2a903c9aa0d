"""Which systems may be compared: those that were scored alike, on the same test set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asrsparse.scoring.alignment import Utterance, listed
from asrsparse.scoring.trn_files import line_of


def check_scored_alike(names: Sequence[str], scores: Sequence[Mapping[str, Any]]) -> None:
    """Refuses systems whose numbers were not made alike.

    Args:
        names: The names of the systems, for messages.
        scores: What the `score.json` of each holds.

    Raises:
        ValueError: If normalisers or bootstraps differ; the message names the two systems.
    """
    for name, other in zip(names[1:], scores[1:], strict=True):
        for key in ("normaliser", "bootstrap"):
            if other[key] != scores[0][key]:
                raise ValueError(
                    f"{name} was scored with {key} {other[key]}, {names[0]} with {scores[0][key]}: only numbers that "
                    "are made alike can be compared. Run `asrsparse score` for both again, with the same settings."
                )


def check_same_test_set(
    first: Sequence[Utterance],
    second: Sequence[Utterance],
    names: tuple[str, str],
    folders: tuple[Path, Path] | None = None,
) -> None:
    """Refuses two systems whose utterances, references or speakers differ.

    Args:
        first: The utterances of one system, in any order.
        second: Those of the other.
        names: The names of the two systems, for messages.
        folders: The folders of the two decodings, of which messages name the file and the line.

    Raises:
        ValueError: If something differs; the message has the first difference of each side.
    """
    known = {utterance.id: utterance for utterance in first}, {utterance.id: utterance for utterance in second}
    only = known[0].keys() - known[1].keys(), known[1].keys() - known[0].keys()
    refused = f"{names[0]} and {names[1]} cannot be compared"
    remedy = "Decode both on the same test set, or show them one by one."
    if any(only):
        sides = [
            f"{len(ids)} only in {names[side]} ({listed(ids)}){_line(known[side][min(ids)], folders, side)}"
            for side, ids in enumerate(only)
            if ids
        ]
        raise ValueError(f"{refused}: their utterances differ, {' and '.join(sides)}. {remedy}")
    changed = [key for key, one in known[0].items() if _said(one) != _said(known[1][key])]
    if changed:
        of_both = " and ".join(
            f"{' '.join(of_side[changed[0]].reference.split())!r} of speaker {of_side[changed[0]].speaker} in "
            f"{names[side]}{_place(of_side[changed[0]], folders, side)}"
            for side, of_side in enumerate(known)
        )
        raise ValueError(
            f"{refused}: the reference or the speaker of {len(changed)} utterances differs ({listed(changed)}), of "
            f"{len(known[0])}. The first is {of_both}. {remedy}"
        )


def _said(utterance: Utterance) -> tuple[str, list[str]]:
    return utterance.speaker, utterance.reference.split()


def _line(utterance: Utterance, folders: tuple[Path, Path] | None, side: int) -> str:
    """The line of the reference and its words, where the files are known."""
    place = _place(utterance, folders, side)
    return f"{place}: {utterance.reference[:80]!r}" if place else ""


def _place(utterance: Utterance, folders: tuple[Path, Path] | None, side: int) -> str:
    """The file and number of the line of the reference, where the files are known."""
    if folders is None:
        return ""
    path = folders[side] / "ref.trn"
    number = line_of(path, utterance.trn_id) or line_of(path, utterance.id)  # the latter where there was no utt2spk
    return "" if number is None else f", at {path}:{number}"
