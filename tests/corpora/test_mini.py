"""Tests `corpora.mini`: the same bytes each time, disjoint splits, times for each word, and one preparation only."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrsparse.corpora import mini
from asrsparse.corpora.manifests import SPLITS, manifest_paths, read_split
from asrsparse.corpora.mini import Grammar, prepare_mini, read_grammar, read_speakers
from asrsparse.corpora.synthesis.speech import Voice, synthesize
from asrsparse.data.cuts import make_cuts

SHIPPED = Path(__file__).parents[2] / "data" / "mini"
MINUTES = {"train_minutes": 0.2, "dev_minutes": 0.05, "test_minutes": 0.05}
SOURCES = {
    "grammar.txt": "# patterns\nthe COLOUR OBJECT\nmy OBJECT is COLOUR and NUMBER NUMBER\n",
    "words.txt": "COLOUR: red green blue  # colours\n\nOBJECT: box bottle\nNUMBER: three four five six seven eight\n",
    "speakers.txt": (
        "anna train en-us+f1 165 50 50\nbert train en+m2 175 45 55\n"
        "olga dev en-us+f3 165 50 50\npaul test en-us+m5 170 50 50\n"
    ),
}


@pytest.fixture
def grammar_dir(tmp_path) -> Path:
    folder = tmp_path / "grammar"
    folder.mkdir()
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    prepare_mini(folder, folder, **MINUTES)
    return folder


@pytest.fixture
def count_syntheses(monkeypatch) -> list[str]:
    texts: list[str] = []

    def counted(text, voice):
        texts.append(text)
        return synthesize(text, voice)

    monkeypatch.setattr(mini, "synthesize", counted)
    return texts


def audio(output_dir: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output_dir)): p.read_bytes() for p in sorted(output_dir.glob("audio/**/*.flac"))}


def test_every_utterance_is_complete(prepared):
    for split in SPLITS:
        recordings, supervisions = read_split(prepared / "manifests", split)
        assert [r.id for r in recordings] == [s.id for s in supervisions] == [s.recording_id for s in supervisions]
        assert sum(r.duration for r in recordings) >= 60 * MINUTES[f"{split}_minutes"]
        for recording, supervision in zip(recordings, supervisions, strict=True):
            assert supervision.id.startswith(f"{supervision.speaker}-")
            assert (supervision.start, supervision.duration) == (0.0, recording.duration)
            assert supervision.language == "en"
            words, phones = supervision.alignment["word"], supervision.alignment["phone"]
            assert [word.symbol for word in words] == supervision.text.split()
            assert 0.05 <= words[0].start == phones[0].start
            assert words[-1].end == pytest.approx(phones[-1].end, abs=0.002)
            assert phones[-1].end < recording.duration - 0.04


def test_audio_files(prepared):
    for split in SPLITS:
        recordings, supervisions = read_split(prepared / "manifests", split)
        for recording, supervision in zip(recordings, supervisions, strict=True):
            path = Path(recording.sources[0].source)
            assert path == prepared / "audio" / split / supervision.speaker / f"{recording.id}.flac"
            info = soundfile.info(path)
            assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16000, 1)
            samples, _ = soundfile.read(path, dtype="int16")
            assert len(samples) == recording.num_samples
            assert 0.19 * 32767 < np.abs(samples.astype(int)).max() <= 0.91 * 32767
            assert 0.5 < recording.duration < 8.0
            # The noise floor reaches into the pauses, the speech does not.
            lead = samples[: int(supervision.alignment["phone"][0].start * 16000)].astype(float)
            assert 0 < lead.std() < 0.1 * samples.astype(float).std()


def video(output_dir: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output_dir)): p.read_bytes() for p in sorted(output_dir.glob("video/**/*.mp4"))}


def test_every_utterance_has_a_video_as_long_as_its_audio(prepared):
    for split in SPLITS:
        recordings, supervisions = read_split(prepared / "manifests", split)
        for cut in make_cuts(recordings, supervisions):
            key = f"{cut.supervisions[0].speaker}/{cut.id}.mp4"
            assert (prepared / "video" / key).is_file()
            frames = cut.load_custom("video")
            assert frames.shape == (int(25 * cut.duration + 0.5), 96, 96)
            assert frames.dtype == np.uint8
            assert cut.supervisions[0].custom is None
    assert len(video(prepared)) == len(audio(prepared))


def test_the_mouth_moves_while_the_speaker_speaks(prepared):
    for cut in make_cuts(*read_split(prepared / "manifests", "train")):
        frames = cut.load_custom("video")[:, 30:70, 20:76].astype(int)
        moves = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
        words = cut.supervisions[0].alignment["word"]
        first, last = round(25 * words[0].start), round(25 * words[-1].end)
        assert moves[first:last].mean() > 3 * moves[: max(1, first - 2)].mean()


def test_a_warning_for_no_video(prepared, tmp_path, caplog):
    prepare_mini(prepared, tmp_path / "out", train_minutes=0.01, dev_minutes=0.01, test_minutes=0.01)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_without_video_the_audio_is_the_same(prepared, grammar_dir, tmp_path):
    prepare_mini(grammar_dir, tmp_path / "out", video=False, **MINUTES)
    assert audio(tmp_path / "out") == audio(prepared)
    assert video(tmp_path / "out") == {}
    (cut, *_) = make_cuts(*read_split(tmp_path / "out" / "manifests", "dev"))
    assert cut.custom is None
    prepare_mini(grammar_dir, tmp_path / "out", **MINUTES)
    assert video(tmp_path / "out") == video(prepared)
    prepare_mini(grammar_dir, tmp_path / "out", video=False, **MINUTES)
    assert video(tmp_path / "out") == {}


def test_splits_share_neither_sentences_nor_speakers(prepared):
    texts, speakers = [], []
    for split in SPLITS:
        _, supervisions = read_split(prepared / "manifests", split)
        texts += [s.text for s in supervisions]
        speakers += sorted({s.speaker for s in supervisions})
    assert len(texts) == len(set(texts))
    assert speakers == ["anna", "bert", "olga", "paul"]


def test_the_same_bytes_each_time(prepared, grammar_dir, tmp_path):
    prepare_mini(grammar_dir, tmp_path / "again", **MINUTES)
    assert audio(tmp_path / "again") == audio(prepared)
    assert video(tmp_path / "again") == video(prepared)
    prepare_mini(grammar_dir, tmp_path / "other", seed=1, **MINUTES)
    assert set(audio(tmp_path / "other").values()).isdisjoint(audio(prepared).values())


def test_an_interrupted_preparation_starts_again(prepared, grammar_dir, tmp_path, monkeypatch):
    def interrupted(text, voice):
        if len(audio(tmp_path / "out")) == 4:
            raise KeyboardInterrupt
        return synthesize(text, voice)

    with monkeypatch.context() as patch:
        patch.setattr(mini, "synthesize", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_mini(grammar_dir, tmp_path / "out", **MINUTES)
    prepare_mini(grammar_dir, tmp_path / "out", **MINUTES)
    assert audio(tmp_path / "out") == audio(prepared)


def test_a_second_call_does_nothing(prepared, count_syntheses):
    prepare_mini(prepared, prepared, **MINUTES)
    assert count_syntheses == []


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: append(folder / "words.txt", "SIZE: small large\n"),
        lambda folder: append(folder / "speakers.txt", "rosa test en-us+f4 165 50 50\n"),
        lambda folder: manifest_paths(folder / "manifests", "dev")[0].unlink(),
        lambda folder: manifest_paths(folder / "manifests", "train")[1].write_bytes(b"half of it"),
        lambda folder: next(folder.glob("audio/test/paul/*.flac")).unlink(),
        lambda folder: next(folder.glob("audio/train/anna/*.flac")).write_bytes(b"half of it"),
        lambda folder: next(folder.glob("video/paul/*.mp4")).unlink(),
        lambda folder: next(folder.glob("video/anna/*.mp4")).write_bytes(b"half of it"),
    ],
    ids=[
        *("words", "speakers", "missing manifest", "damaged manifest"),
        *("missing audio", "damaged audio", "missing video", "damaged video"),
    ],
)
def test_a_change_makes_it_prepare_again(change, prepared, tmp_path, count_syntheses):
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    change(folder)
    prepare_mini(folder, folder, **MINUTES)
    made = len(count_syntheses)
    assert made == len(audio(folder)) == sum(len(read_split(folder / "manifests", split)[0]) for split in SPLITS)
    prepare_mini(folder, folder, **MINUTES)
    assert len(count_syntheses) == made


def test_other_minutes_leave_no_old_audio(prepared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    prepare_mini(folder, folder, **MINUTES | {"train_minutes": 0.05})
    recordings, _ = read_split(folder / "manifests", "train")
    assert len(list(folder.glob("audio/train/*/*"))) == len(recordings) < len(list(prepared.glob("audio/train/*/*")))


def test_relative_paths_stay_relative(grammar_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_mini(grammar_dir, Path("out"), train_minutes=0.01, dev_minutes=0.01, test_minutes=0.01)
    recordings, _ = read_split(Path("out/manifests"), "dev")
    assert recordings[0].sources[0].source == "out/audio/dev/olga/olga-0000.flac"
    assert len(recordings[0].load_audio()[0]) == recordings[0].num_samples


def test_shipped_corpus():
    grammar = read_grammar(SHIPPED)
    speakers = read_speakers(SHIPPED / "speakers.txt")
    assert 90 <= len(grammar.vocabulary) <= 130
    assert all(3 <= len(pattern) <= 10 for pattern in grammar.patterns)
    used = {token for pattern in grammar.patterns for token in pattern}
    assert set(grammar.slots) <= used
    train_variants, other_variants = (
        {s.voice.name.split("+")[1] for s in speakers if (s.split == "train") is t} for t in (True, False)
    )
    assert len(train_variants) >= 12
    assert train_variants.isdisjoint(other_variants)


def test_espeak_joins_no_two_neighbours_of_the_shipped_grammar():
    grammar = read_grammar(SHIPPED)
    neighbours = {
        pair
        for pattern in grammar.patterns
        for left, right in itertools.pairwise(pattern)
        for pair in itertools.product(grammar.slots.get(left, [left]), grammar.slots.get(right, [right]))
    }
    words = [word for pair in sorted(neighbours) for word in pair]
    for begin in range(0, len(words), 100):
        text = words[begin : begin + 100]
        spoken = synthesize(" ".join(text), Voice("en-us", rate=450))
        assert [word.label for word in spoken.words] == text


def test_sentences_follow_the_grammar():
    grammar = Grammar([["the", "COLOUR", "OBJECT"]], {"COLOUR": ["red", "blue"], "OBJECT": ["box", "cup"]})
    rng = np.random.default_rng(0)
    drawn = {grammar.sentence(rng) for _ in range(200)}
    assert drawn == {"the red box", "the red cup", "the blue box", "the blue cup"}
    assert grammar.vocabulary == {"the", "red", "blue", "box", "cup"}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("minutes", [0, -1.5, float("nan")])
def test_minutes_not_above_zero(split, minutes, grammar_dir, tmp_path):
    with pytest.raises(ValueError, match=f"{split}_minutes: got {minutes}, allowed are numbers above 0"):
        prepare_mini(grammar_dir, tmp_path / "out", **MINUTES | {f"{split}_minutes": minutes})


@pytest.mark.parametrize("name", SOURCES)
def test_missing_source(name, grammar_dir, tmp_path):
    (grammar_dir / name).unlink()
    with pytest.raises(ValueError, match=f"No file .*{name}. The mini corpus is made from grammar.txt, words.txt"):
        prepare_mini(grammar_dir, tmp_path / "out")


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"No file .*nowhere/grammar\.txt"):
        prepare_mini(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("grammar.txt", "# nothing\n", "grammar.txt has no lines except comments"),
        ("grammar.txt", "the box\nthe Red box\n", "grammar.txt:2: got 'Red', allowed are words"),
        (
            "grammar.txt",
            "\nthe SIZE box\n",
            r"grammar.txt:2: words.txt does not define the slot SIZE \(it has COLOUR, OB",
        ),
        ("words.txt", "COLOUR red green\n", "words.txt:1: got 'COLOUR red green', allowed is a slot and its words"),
        ("words.txt", "COLOUR:\n", "words.txt:1: got 'COLOUR:'"),
        ("words.txt", "COLOUR: red Green\n", "words.txt:1: got 'COLOUR: red Green'"),
        ("words.txt", "A: x\n#\nA: y\n", "words.txt:3: the slot A is defined twice"),
        (
            "speakers.txt",
            "anna train en-us+f1 165 50\n",
            "speakers.txt:1: got 'anna train en-us.f1 165 50', allowed is",
        ),
        ("speakers.txt", "anna eval en-us+f1 165 50 50\n", "speakers.txt:1: got .* one of train, dev, test"),
        (
            "speakers.txt",
            "anna train en-us+f11 165 50 50\n",
            "speakers.txt:1: name: got the voice .* no variant 'f11'.*Nearest",
        ),
        ("speakers.txt", "anna train en-us 20 50 50\n", "speakers.txt:1: rate: got 20 for the voice 'en-us'"),
        (
            "speakers.txt",
            SOURCES["speakers.txt"] + "anna dev en 165 50 50\n",
            "speakers.txt:5: the speaker anna is def",
        ),
        ("speakers.txt", "anna train en 165 50 50\n", "speakers.txt names no speaker for dev"),
    ],
)
def test_malformed_sources(name, text, message, grammar_dir, tmp_path):
    (grammar_dir / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        prepare_mini(grammar_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_sentences(grammar_dir, tmp_path):
    (grammar_dir / "grammar.txt").write_text("the COLOUR OBJECT\n")
    with pytest.raises(ValueError, match=r"has only about 6 different sentences.*Add patterns or words"):
        prepare_mini(grammar_dir, tmp_path / "out", **MINUTES)


def test_joined_words(grammar_dir, tmp_path):
    (grammar_dir / "grammar.txt").write_text("box of the NUMBER\n")
    with pytest.raises(ValueError, match=r"not have a time for each of its words: espeak-ng gives .*'of the'"):
        prepare_mini(grammar_dir, tmp_path / "out", **MINUTES)
