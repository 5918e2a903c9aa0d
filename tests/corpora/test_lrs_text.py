from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse.supervision import AlignmentItem

from asrsparse.corpora.lrs_text import MARGIN, read_transcript, split_at_words

LRS3_TEXT = (
    "Text:  SO {LG} WHAT IS IT\nConf:  4\nRef:  0d6iSvF1UmA\n\n"
    "FRAME \tX \tY \tW \tH \n000000 \t0.380 \t0.271 \t0.272 \t0.411\n000001 \t0.380 \t0.271 \t0.272 \t0.411\n\n"
    "WORD START END ASDSCORE\nSO 0.06 0.21 4.3\n{LG} 0.30 0.50 1.0\nWHAT 0.61 0.8 -0.2\nIS 0.8 1 3.1\nIT 1.0 1.2 8\n"
)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_text_and_words_are_read_without_marks_of_noises(tmp_path):
    transcript = read_transcript(write(tmp_path / "50001.txt", LRS3_TEXT))
    assert transcript.text == "SO WHAT IS IT"
    assert [(word.symbol, word.start, word.end) for word in transcript.words] == [
        ("SO", 0.06, 0.21),
        ("WHAT", 0.61, 0.8),
        ("IS", 0.8, 1.0),
        ("IT", 1.0, 1.2),
    ]


@pytest.mark.parametrize(
    "text",
    ["Text:  WHEN YOU'RE THERE\nConf:  3 \n", "Text: WHEN YOU'RE THERE\r\nConf:  3\r\n", "Text:WHEN YOU'RE THERE"],
)
def test_a_file_need_not_have_times(tmp_path, text):
    transcript = read_transcript(write(tmp_path / "a.txt", text))
    assert (transcript.text, transcript.words) == ("WHEN YOU'RE THERE", [])


def test_a_file_in_latin_1_is_read(tmp_path):
    assert read_transcript(write(tmp_path / "a.txt", b"Text:  A CAF\xc9 HERE\nConf:  3\n")).text == "A CAFÉ HERE"


@pytest.mark.parametrize("text", ["", "Conf:  4\n", "SO WHAT IS IT\n", "WORD START END ASDSCORE\nSO 0.06 0.21 4.3\n"])
def test_a_file_without_its_text_line_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"^no Text line: .*a\.txt$"):
        read_transcript(write(tmp_path / "a.txt", text))


@pytest.mark.parametrize("text", ["Text:\n", "Text:   \nConf: 2\n", "Text:  {NS} {LG}\n"])
def test_a_file_without_words_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"^no words: .*a\.txt$"):
        read_transcript(write(tmp_path / "a.txt", text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^no text: .*a\.txt$"):
        read_transcript(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "line", ["SO", "SO 0.1", "SO 0.3 0.2 1", "SO -0.1 0.2 1", "SO x 0.2 1", "SO nan inf 1", "A 0 1 2 3"]
)
def test_a_malformed_line_of_the_words_is_refused_with_its_number(tmp_path, line):
    with pytest.raises(ValueError, match=r"^malformed word: .*a\.txt:3: got .*, expected `WORD START END ASDSCORE`"):
        read_transcript(write(tmp_path / "a.txt", f"Text:  SO\nWORD START END ASDSCORE\n{line}\n"))


def test_words_that_go_back_in_time_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.txt:4: got 'IT 0\.1 0\.2 1'.*in order"):
        read_transcript(
            write(tmp_path / "a.txt", "Text:  SO IT\nWORD START END ASDSCORE\nSO 0.2 0.3 1\nIT 0.1 0.2 1\n")
        )


# ---- segments

HUNDREDTHS = st.integers(0, 300).map(lambda number: number / 100)


@st.composite
def spoken(draw: st.DrawFn) -> tuple[list[AlignmentItem], float]:
    """Words that do not overlap, each of a frame at least, and the duration of their clip."""
    words, time = [], 0.0
    for number, (pause, length) in enumerate(
        draw(st.lists(st.tuples(HUNDREDTHS, HUNDREDTHS), min_size=1, max_size=30))
    ):
        start = round(time + pause, 2)
        words.append(AlignmentItem(f"W{number}", start, round(length + 0.04, 2)))
        time = words[-1].end
    return words, round(time + draw(HUNDREDTHS), 2)


@given(spoken(), st.floats(1.0, 10.0))
def test_no_word_is_lost_repeated_or_split_and_no_segment_is_too_long(clip, max_seconds):
    words, duration = clip
    segments = split_at_words(words, duration, max_seconds)
    assert [word for segment in segments for word in segment.words] == words
    for segment in segments:
        assert 0.0 <= segment.start < segment.end <= duration
        assert segment.end - segment.start <= max_seconds + 1e-6 or len(segment.words) == 1
        for word in segment.words:  # to the nearest frame
            assert segment.start - 0.0201 <= word.start <= word.end <= segment.end + 0.0401
    for before, after in pairwise(segments):
        assert before.end <= after.start


@given(spoken(), st.floats(1.0, 10.0))
def test_borders_are_those_of_video_frames_and_leave_no_more_than_half_a_pause(clip, max_seconds):
    words, duration = clip
    segments = split_at_words(words, duration, max_seconds)
    if len(segments) > 1:
        for segment in segments:
            assert segment.start * 25 == pytest.approx(round(segment.start * 25))
            assert segment.end * 25 == pytest.approx(round(segment.end * 25))
            assert segment.words[0].start - segment.start <= MARGIN + 0.0201
            assert segment.end - segment.words[-1].end <= MARGIN + 0.0201


@given(spoken(), st.floats(1.0, 10.0))
def test_a_segment_ends_only_where_the_next_word_would_make_it_too_long(clip, max_seconds):
    words, duration = clip
    segments = split_at_words(words, duration, max_seconds)
    for before, after in pairwise(segments):
        assert after.words[0].end + MARGIN + 0.04 - before.start > max_seconds


def test_a_short_clip_and_one_without_times_stay_whole():
    words = [AlignmentItem("SO", 1.0, 0.5), AlignmentItem("IT", 9.0, 0.5)]
    for given_words, seconds in ((words, 10.0), ([], 100.0)):
        (segment,) = split_at_words(given_words, seconds, 10.0)
        assert (segment.start, segment.end, segment.words) == (0.0, seconds, given_words)


def test_words_that_overlap_are_separated_where_the_later_one_begins():
    words = [AlignmentItem("SO", 0.0, 3.0), AlignmentItem("IT", 2.0, 3.0)]
    assert [(s.start, s.end) for s in split_at_words(words, 5.0, 4.0)] == [(0.0, 2.0), (2.0, 5.0)]
