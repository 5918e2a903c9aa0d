"""The kinds of export: `asrsparse export KIND SOURCE_DIR OUTPUT_DIR [key=value ...]`.

A new kind is a function of two folders, and an entry in `KINDS`. Words of the form `key=value` become its further
arguments, as text.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path


def _espnet(run_dir: Path, output_dir: Path, data_dir: str | None = None) -> None:
    from asrsparse.decoding.runs import open_run
    from asrsparse.export.espnet_folder import export_espnet

    export_espnet(open_run(run_dir, data_dir=_folder(data_dir)), output_dir)


def _huggingface(
    run_dir: Path,
    output_dir: Path,
    data_dir: str | None = None,
    language: str | None = None,
    license: str | None = None,
    push: str | None = None,
) -> None:
    from asrsparse.decoding.runs import open_run
    from asrsparse.export.hub_folder import check_repository, export_huggingface, upload

    if push is not None:
        check_repository(push)
    export_huggingface(open_run(run_dir, data_dir=_folder(data_dir)), output_dir, language, license)
    if push is not None:
        upload(output_dir, push)


def _onnx(run_dir: Path, output_dir: Path, data_dir: str | None = None) -> None:
    from asrsparse.decoding.runs import open_run
    from asrsparse.export.onnx_graph import export_onnx

    export_onnx(open_run(run_dir, data_dir=_folder(data_dir)), output_dir)


def _folder(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _kaldi(data_dir: Path, output_dir: Path, pipes: str = "false") -> None:
    from asrsparse.export.kaldi_dirs import export_kaldi
    from asrsparse.files import atomic_folder

    if pipes not in ("true", "false"):
        raise ValueError(f"export kaldi: got pipes={pipes}, allowed are true and false.")
    with atomic_folder(output_dir) as folder:
        export_kaldi(data_dir, folder, pipes=pipes == "true")


KINDS: dict[str, Callable[..., None]] = {"espnet": _espnet, "huggingface": _huggingface, "onnx": _onnx, "kaldi": _kaldi}
"""The kinds of export: functions of a source folder, an output folder, and options."""


def export(kind: str, source_dir: Path, output_dir: Path, options: Mapping[str, str]) -> None:
    """Writes one kind of export.

    Args:
        kind: One of `KINDS`.
        source_dir: The folder to export: of a finished run, or for `kaldi` of a prepared corpus.
        output_dir: A new folder.
        options: The options of the kind.

    Raises:
        ValueError: If there is no such kind or option, or the source cannot be exported so.
    """
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"export: got the kind {kind!r}, allowed are {', '.join(KINDS)}.{hint}")
    allowed = list(inspect.signature(KINDS[kind]).parameters)[2:]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ValueError(f"export {kind}: got the option {unknown[0]!r}, allowed are {', '.join(allowed)}.")
    KINDS[kind](source_dir, output_dir, **options)
