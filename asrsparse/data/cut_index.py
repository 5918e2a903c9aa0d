"""The index of a manifest of cuts, so that an epoch parses only the lines of the cuts that it trains on.

Shape legend: N cuts.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.serialization import decode_json_line, deserialize_item
from numpy.typing import NDArray

from asrsparse.files import atomic_path


@dataclass(frozen=True)
class CutIndex:
    """The place of each cut in a manifest. It takes 24 bytes and an id of memory per cut, whatever the cuts hold.

    Attributes:
        path: The manifest, uncompressed JSON lines as lhotse writes them.
        ids: N ids, in the order of the lines.
        durations: The duration of each cut in seconds (N,).
        begins: The number of bytes before each line (N,).
        ends: The number of bytes up to the end of each line (N,).
    """

    path: Path
    ids: pa.StringArray
    durations: NDArray[np.float64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path) -> "CutIndex":
        """Reads the index of a manifest; it is made first where there is none, or the manifest has changed since.

        Raises:
            ValueError: If the manifest is missing, compressed or damaged.
        """
        index_path = path.with_suffix(".index.parquet")
        if not _is_of(index_path, path):
            return cls.make(path)
        table = pq.read_table(index_path)
        ids = table["id"].combine_chunks()
        offsets = np.append(table["offset"].to_numpy(), path.stat().st_size)
        return cls(path, ids, table["duration"].to_numpy(), offsets[:-1], offsets[1:])

    @classmethod
    def make(cls, path: Path) -> "CutIndex":
        """Reads a manifest from its beginning to its end and writes its index to `<name>.index.parquet` beside it.

        Raises:
            ValueError: If the manifest is missing, compressed or damaged.
        """
        _check_manifest(path)
        _write_index(path.with_suffix(".index.parquet"), path)
        return cls.open(path)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """A hash of the ids and durations of the utterances, which does not depend on where the files lie."""
        digest = blake2b("\n".join(self.ids.to_pylist()).encode(), digest_size=8)
        digest.update(self.durations.astype("<f8").tobytes())
        return digest.hexdigest()

    def up_to(self, seconds: float) -> "CutIndex":
        """Returns the index of the cuts that are not longer than `seconds`.

        Raises:
            ValueError: If there is no such cut.
        """
        rows = np.flatnonzero(self.durations <= seconds)
        if len(rows) == 0:
            raise ValueError(
                f"{self.path} has no cut of at most {seconds:g} s; the shortest has {self.durations.min():.2f} s."
            )
        taken = pa.array(rows)
        return CutIndex(self.path, self.ids.take(taken), self.durations[rows], self.begins[rows], self.ends[rows])

    def read(self, rows: Iterable[int]) -> CutSet:
        """Parses the cuts of some lines, in the order of `rows`.

        Raises:
            ValueError: If a line does not hold the cut that the index names.
        """
        with open(self.path, "rb", buffering=0) as lines:
            return CutSet.from_cuts([self._read(lines.fileno(), row) for row in rows])

    def _read(self, lines: int, row: int) -> Cut:
        begin, end = int(self.begins[row]), int(self.ends[row])
        try:
            cut: Cut = deserialize_item(decode_json_line(os.pread(lines, end - begin, begin)))
        except (ValueError, KeyError) as error:
            raise ValueError(self._is_stale(row, f"no cut ({error})")) from None
        if cut.id != self.ids[row].as_py():
            raise ValueError(self._is_stale(row, repr(cut.id)))
        return cut

    def _is_stale(self, row: int, found: str) -> str:
        return (
            f"{self.path}: got {found} at byte {self.begins[row]}, its index has {self.ids[row].as_py()!r} there. The "
            f"file was changed after it was indexed: delete {self.path.with_suffix('.index.parquet').name} beside it, "
            "and start a new run."
        )


def _check_manifest(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"No cuts {path}. Run `asrsparse prepare` first.")
    with open(path, "rb") as lines:
        begin = lines.read(2)
    if begin == b"\x1f\x8b":
        raise ValueError(f"{path} is compressed, so its lines cannot be found by their place. Unpack it (gunzip).")


def _is_of(index_path: Path, manifest: Path) -> bool:
    """Whether an index is there and was made of a manifest of this size."""
    if not (index_path.is_file() and manifest.is_file()):
        return False
    try:
        metadata = pq.read_schema(index_path).metadata or {}
    except pa.ArrowInvalid:
        return False
    return metadata.get(b"manifest_bytes") == str(manifest.stat().st_size).encode()


def _write_index(index_path: Path, manifest: Path) -> None:
    ids: list[str] = []
    durations: list[float] = []
    offsets: list[int] = []
    offset = 0
    with open(manifest, "rb") as lines:
        size = os.fstat(lines.fileno()).st_size
        for number, line in enumerate(lines, start=1):
            if line.strip():
                name, seconds = _id_and_duration(line, f"{manifest}, line {number}")
                ids.append(name)
                durations.append(seconds)
                offsets.append(offset)
            offset += len(line)
    columns = {"id": pa.array(ids, pa.string()), "duration": np.array(durations), "offset": np.array(offsets, np.int64)}
    with atomic_path(index_path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata({"manifest_bytes": str(size)}), temporary)


def _id_and_duration(line: bytes, where: str) -> tuple[str, float]:
    try:
        cut = decode_json_line(line)
        return str(cut["id"]), float(cut["duration"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not a cut of lhotse ({error!r}). Write the manifest again.") from None
