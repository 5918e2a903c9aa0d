"""Prepared cuts -> Kaldi data directories, which Kaldi, ESPnet, lhotse and `corpus=kaldi` read."""

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lhotse import MonoCut

from asrsparse.corpora.kaldi_files import read_data_dir
from asrsparse.data.cuts import read_cuts
from asrsparse.files import write_text

logger = logging.getLogger(__name__)


def export_kaldi(data_dir: Path, output_dir: Path, splits: Sequence[str] | None = None, pipes: bool = False) -> Path:
    """Writes one data directory for each split: wav.scp, text, utt2spk, spk2utt, utt2dur, segments, video.scp.

    Audio and video stay where they are: the files name them by absolute paths. Copies at other speeds are left out.
    `segments` is written if an utterance is a segment of its recording, `video.scp` if all utterances have a video. An
    id that does not begin with its speaker gets the speaker before it, which Kaldi's sorting needs.

    Args:
        data_dir: The folder of a prepared corpus, such as `data/grid`.
        output_dir: The folder that gets a folder for each split; older files in it are replaced.
        splits: The splits to write; by default all that are prepared.
        pipes: Whether files other than `.wav` are written as a command of ffmpeg, without which Kaldi's own programs do
            not read them. ESPnet and lhotse read the files, and `corpus=kaldi` runs commands only when asked to.

    Returns:
        `output_dir`.

    Raises:
        ValueError: If the corpus is not prepared, there is no such split, or its ids cannot stand in Kaldi's files.
    """
    for split in splits or prepared_splits(data_dir / "cuts"):
        cuts = [cut for cut in read_cuts(data_dir / "cuts", split) if not is_perturbed(cut)]
        write_data_dir(output_dir / split, cuts, pipes)
        read_data_dir(output_dir / split)  # says what Kaldi would say
        logger.info("%s: %d utterances", output_dir / split, len(cuts))
    return output_dir


def prepared_splits(cuts_dir: Path) -> list[str]:
    """Returns the splits of a prepared corpus, sorted.

    Raises:
        ValueError: If there is no split.
    """
    splits = sorted(path.name.removesuffix("_cuts.jsonl") for path in cuts_dir.glob("*_cuts.jsonl"))
    if not splits:
        raise ValueError(f"No cuts in {cuts_dir}. Run `asrsparse prepare` first, or name the data_dir of a corpus.")
    return splits


def is_perturbed(cut: MonoCut) -> bool:
    """Whether a cut is a copy at another speed."""
    return any(_name_of(transform) == "Speed" for transform in cut.recording.transforms or [])


def _name_of(transform: object) -> str:
    """Returns the name of a transform of lhotse: an object, or a dictionary if it was read from a file."""
    return transform["name"] if isinstance(transform, Mapping) else type(transform).__name__


def write_data_dir(folder: Path, cuts: Sequence[MonoCut], pipes: bool = False) -> None:
    """Writes a data directory.

    Args:
        folder: The data directory.
        cuts: The utterances.
        pipes: See `export_kaldi`.

    Raises:
        ValueError: If an id has spaces, or there is no cut.
    """
    if not cuts:
        raise ValueError(f"{folder}: no utterance to export.")
    ids = {cut.id: utterance_id(cut) for cut in cuts}
    whole = all(_is_whole(cut) for cut in cuts)
    recordings = {cut.recording.id: cut for cut in cuts} if not whole else {ids[cut.id]: cut for cut in cuts}
    tables = {
        "wav.scp": {name: _audio(cut, pipes) for name, cut in recordings.items()},
        "text": {ids[cut.id]: " ".join(cut.supervisions[0].text.split()) for cut in cuts},
        "utt2spk": {ids[cut.id]: cut.supervisions[0].speaker for cut in cuts},
        "utt2dur": {ids[cut.id]: f"{cut.duration:.4f}" for cut in cuts},
        "spk2utt": _by_speaker(cuts, ids),
    }
    if not whole:
        tables["segments"] = {ids[c.id]: f"{c.recording.id} {_seconds(c.start)} {_seconds(c.end)}" for c in cuts}
    if all(cut.has_custom("video") for cut in cuts):
        tables["video.scp"] = {name: _video(cut) for name, cut in recordings.items()}
    for name in ("segments", "video.scp"):
        (folder / name).unlink(missing_ok=True)
    for name, table in tables.items():
        lines = (f"{key} {table[key]}".rstrip() for key in sorted(table, key=str.encode))
        write_text(folder / name, "".join(f"{line}\n" for line in lines))


def utterance_id(cut: MonoCut) -> str:
    """Returns the id of a cut, behind its speaker if it does not begin with it.

    Raises:
        ValueError: If the speaker is not known, or a name has spaces.
    """
    speaker = cut.supervisions[0].speaker
    for what, value in (("id", cut.id), ("speaker", speaker), ("recording", cut.recording.id)):
        if not value or value.split() != [value]:
            raise ValueError(f"{cut.id}: the {what} is {value!r}, but Kaldi's files have names without spaces.")
    return cut.id if cut.id.startswith(speaker) else f"{speaker}-{cut.id}"


def _is_whole(cut: MonoCut) -> bool:
    """Whether a cut is a whole recording of its own."""
    return bool(cut.id == cut.recording.id and cut.start == 0.0 and cut.duration == cut.recording.duration)


def _audio(cut: MonoCut, pipes: bool) -> str:
    (source,) = cut.recording.sources
    path = Path(source.source).absolute()
    if pipes and path.suffix != ".wav":
        return f"ffmpeg -nostdin -v error -i {shlex.quote(str(path))} -f wav - |"
    return str(path)


def _video(cut: MonoCut) -> str:
    array = cut.custom["video"].array
    return str((Path(array.storage_path) / array.storage_key).absolute())


def _by_speaker(cuts: Iterable[MonoCut], ids: Mapping[str, str]) -> dict[str, str]:
    spoken: dict[str, list[str]] = {}
    for cut in cuts:
        spoken.setdefault(cut.supervisions[0].speaker, []).append(ids[cut.id])
    return {speaker: " ".join(sorted(names, key=str.encode)) for speaker, names in spoken.items()}


def _seconds(value: float) -> str:
    """Returns seconds without an exponent, which not every program reads.

    Example:
        >>> _seconds(0.00001), _seconds(12.0)
        ('0.00001000', '12.00000000')
    """
    return f"{value:.8f}"
