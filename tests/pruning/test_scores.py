import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.pruning.scores import NEVER, ScoreTable, utterance_keys


@given(st.lists(st.text(min_size=1), min_size=1, max_size=40, unique=True), st.randoms())
def test_every_id_is_found_at_its_own_row(ids, random):
    table = ScoreTable(ids, [1.0] * len(ids))
    asked = random.sample(ids, len(ids))
    assert [ids[row] for row in table.positions(asked)] == asked


def test_keys_do_not_depend_on_the_process():
    assert utterance_keys(["s1-bbaf2n"]).tolist() == [568934311927691983]


def test_score_is_the_moving_average_over_the_epochs_in_which_it_was_seen():
    table = ScoreTable(["a", "b"], [1.0, 1.0], smoothing=0.5)
    for epoch, loss in ((0, 8.0), (1, 4.0), (5, 2.0)):
        table.update(np.array([1]), np.array([loss]), epoch)
    assert table.scores.tolist() == [0.0, ((8.0 + 4.0) / 2 + 2.0) / 2]
    assert table.last_seen.tolist() == [NEVER, 5]


def test_state_comes_back_and_loads_without_pickle(tmp_path):
    table = ScoreTable(["a", "b"], [1.0, 2.0])
    table.update(np.array([0]), np.array([3.0]), epoch=2)
    torch.save(table.state_dict(), tmp_path / "state")
    other = ScoreTable(["a", "b"], [1.0, 2.0])
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert other.scores.tolist() == table.scores.tolist()
    assert other.last_seen.tolist() == table.last_seen.tolist()


def test_columns_take_at_most_26_bytes_an_utterance():
    table = ScoreTable([str(i) for i in range(1000)], [1.0] * 1000)
    columns = [value for value in vars(table).values() if isinstance(value, np.ndarray)]
    assert sum(c.nbytes for c in columns) <= 26 * 1000


@pytest.mark.parametrize(
    ("ids", "durations", "message"),
    [
        (["a", "a"], [1.0, 1.0], "ids: got 1 that repeat; the first is 'a'. An id names one utterance"),
        (["a"], [1.0, 2.0], "ids and durations: got 1 ids and 2 durations"),
        (["a", "b"], [1.0, 0.0], "durations: got 1 that are not positive and finite; the first is 0.0 s of 'b'"),
        (["a"], [float("nan")], "durations: got 1 that are not positive and finite; the first is nan s of 'a'"),
        (
            ["a", "b"],
            [1.0, float("inf")],
            "durations: got 1 that are not positive and finite; the first is inf s of 'b'",
        ),
        (["a"], [1e-50], "durations: got 1 that are not positive and finite; the first is 1e-50 s"),  # 0 as float32
        (["a", 7], [1.0, 1.0], "ids: got 7 of type int, allowed are strings. Name utterances by str"),
        ([b"a"], [1.0], "ids: got b'a' of type bytes, allowed are strings"),
        ("a", [1.0], "ids: got the string 'a', allowed is a list of strings"),
    ],
)
def test_wrong_utterances_are_refused(ids, durations, message):
    with pytest.raises(ValueError, match=message):
        ScoreTable(ids, durations)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_a_table_that_grew_equals_one_that_was_made_whole(sizes):
    ids = [f"u{number}" for number in range(sum(sizes))]
    durations = [1.0 + number for number in range(len(ids))]
    grown, begin = ScoreTable([], []), 0
    for size in sizes:
        grown.extend(ids[begin : begin + size], durations[begin : begin + size])
        begin += size
    whole = ScoreTable(ids, durations)
    assert grown.fingerprint() == whole.fingerprint()
    assert grown.positions(ids).tolist() == list(range(len(ids)))
    assert grown.total_seconds == whole.total_seconds
    assert grown.find(["no such"]).tolist() == [-1]


def test_an_id_that_comes_again_is_refused_and_leaves_the_table_as_it_was():
    table = ScoreTable(["a", "b"], [1.0, 1.0])
    with pytest.raises(ValueError, match="ids: got 1 that repeat; the first is 'b'"):
        table.extend(["c", "b"], [1.0, 1.0])
    assert len(table) == 2


def test_columns_bring_a_table_back():
    table = ScoreTable(["b", "a"], [1.0, 2.0])
    table.update(np.array([1]), np.array([3.0]), epoch=2)
    other = ScoreTable.of_columns(table.columns(), smoothing=0.5)
    assert other.positions(["a", "b"]).tolist() == [1, 0]
    assert other.scores.tolist() == table.scores.tolist()
    assert other.total_seconds == 3.0


def test_smoothing_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"smoothing: got 1.0, allowed is \[0, 1\)"):
        ScoreTable(["a"], [1.0], smoothing=1.0)


def test_ids_of_damaged_file_names_are_ids_like_others():
    names = [b"caf\xe9".decode(errors="surrogateescape"), "caf\udce8", "\ud83d\ude00", "\U0001f600"]
    table = ScoreTable(names, [1.0] * 4)
    assert table.positions(names[::-1]).tolist() == [3, 2, 1, 0]


def test_unknown_ids_are_named():
    with pytest.raises(ValueError, match="1 of 2 ids are not in the score table of 1 utterances; the first is 'z'"):
        ScoreTable(["a"], [1.0]).positions(["a", "z"])


def test_scores_of_another_corpus_are_refused():
    state = ScoreTable(["a", "b"], [1.0, 1.0]).state_dict()
    with pytest.raises(ValueError, match="saved scores are of another corpus: 2 utterances"):
        ScoreTable(["a"], [1.0]).load_state_dict(state)


def test_scores_of_another_version_are_refused():
    table = ScoreTable(["a"], [1.0])
    with pytest.raises(ValueError, match="Score table of version 99; this asrsparse reads 1"):
        table.load_state_dict(table.state_dict() | {"version": 99})
