import gzip

import pytest
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut

from asrsparse.data.cut_index import CutIndex


def write_cuts(folder, durations=(1.0, 2.5, 0.5)):
    path = folder / "cuts.jsonl"
    cuts = [dummy_cut(number, duration=seconds) for number, seconds in enumerate(durations)]
    CutSet.from_cuts(cuts).to_file(path)
    return path


def test_an_index_holds_every_cut_and_reads_any(tmp_path):
    path = write_cuts(tmp_path)
    index = CutIndex.open(path)
    cuts = list(CutSet.from_jsonl(path))
    assert index.ids.to_pylist() == [cut.id for cut in cuts]
    assert index.durations.tolist() == [1.0, 2.5, 0.5]
    assert list(index.read([2, 0, 2])) == [cuts[2], cuts[0], cuts[2]]


def test_only_the_lines_asked_for_are_parsed(tmp_path):
    path = write_cuts(tmp_path)
    index = CutIndex.open(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"x" * (len(lines[1]) - 1) + b"\n" + lines[2])
    assert [cut.id for cut in index.read([0, 2])] == ["dummy-mono-cut-0000", "dummy-mono-cut-0002"]
    with pytest.raises(ValueError, match=r"got no cut .* at byte \d+, its index has 'dummy-mono-cut-0001' there"):
        index.read([1])


def test_an_index_is_made_once_and_again_when_the_manifest_changed(tmp_path):
    path = write_cuts(tmp_path)
    made = tmp_path / "cuts.index.parquet"
    CutIndex.open(path)
    first = made.stat().st_mtime_ns
    CutIndex.open(path)
    assert made.stat().st_mtime_ns == first
    write_cuts(tmp_path, durations=(1.0, 2.0, 3.0, 4.0))
    assert len(CutIndex.open(path)) == 4


def test_a_damaged_index_is_made_again(tmp_path):
    path = write_cuts(tmp_path)
    (tmp_path / "cuts.index.parquet").write_bytes(b"no parquet")
    assert len(CutIndex.open(path)) == 3


def test_a_manifest_of_the_same_size_that_changed_is_noticed_when_it_is_read(tmp_path):
    path = write_cuts(tmp_path)
    index = CutIndex.open(path)
    path.write_text(path.read_text().replace("dummy-mono-cut-0000", "dummy-mono-cut-9999"))
    with pytest.raises(ValueError, match=r"got 'dummy-mono-cut-9999' at byte 0.*delete cuts.index.parquet beside it"):
        index.read([0])


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"No cuts .*cuts.jsonl. Run `asrsparse prepare` first"):
        CutIndex.open(tmp_path / "cuts.jsonl")


def test_a_compressed_manifest_is_refused(tmp_path):
    (tmp_path / "cuts.jsonl").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(ValueError, match=r"cuts.jsonl is compressed.*Unpack it \(gunzip\)"):
        CutIndex.open(tmp_path / "cuts.jsonl")


@pytest.mark.parametrize("line", ["not json", '{"id": "a"}', "[1]"])
def test_a_line_that_is_no_cut_is_named(tmp_path, line):
    path = write_cuts(tmp_path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"cuts.jsonl, line 4: not a cut of lhotse"):
        CutIndex.open(path)


def test_the_short_cuts_are_found_in_the_same_file(tmp_path):
    index = CutIndex.open(write_cuts(tmp_path, durations=(1.0, 2.5, 0.5, 1.5)))
    short = index.up_to(1.0)
    assert short.durations.tolist() == [1.0, 0.5]
    assert [cut.id for cut in short.read([1, 0])] == ["dummy-mono-cut-0002", "dummy-mono-cut-0000"]
    assert index.up_to(2.5).ids == index.ids


def test_no_cut_so_short_is_refused_with_the_shortest(tmp_path):
    with pytest.raises(ValueError, match=r"has no cut of at most 0\.25 s; the shortest has 0\.50 s"):
        CutIndex.open(write_cuts(tmp_path)).up_to(0.25)
