import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrsparse.schedules import Constant, Geometric, Linear, Schedule, WarmupCosine

progresses = st.floats(-1.0, 2.0)
positive = st.floats(1e-3, 1e3)


@given(positive, positive, progresses)
def test_a_schedule_from_start_to_end_stays_between_them(start, end, progress):
    for schedule in (Linear(start, end), Geometric(start, end)):
        assert min(start, end) * (1 - 1e-9) <= schedule(progress) <= max(start, end) * (1 + 1e-9)
        assert schedule(0.0) == schedule(-1.0) == pytest.approx(start)
        assert schedule(1.0) == schedule(2.0) == pytest.approx(end)


@given(st.floats(0.0, 0.99), st.floats(0.0, 1.0), progresses, progresses)
def test_warmup_cosine_rises_then_falls_and_ends_at_its_end(warmup, final, one, other):
    schedule = WarmupCosine(warmup, final)
    assert schedule(warmup) == pytest.approx(1.0)
    assert schedule(1.0) == pytest.approx(final, abs=1e-9)
    early, late = sorted((one, other))
    if late < warmup:
        assert schedule(early) <= schedule(late)
    if early >= warmup:
        assert schedule(early) >= schedule(late) - 1e-12


def test_constant_is_constant():
    schedule: Schedule = Constant(0.7)
    assert {schedule(progress) for progress in (-1.0, 0.0, 0.5, 1.0)} == {0.7}


def test_schedules_are_values():
    assert Linear(0.0, 1.0) == Linear(0.0, 1.0) != Linear(0.0, 2.0)


def test_bad_arguments_are_named():
    with pytest.raises(
        ValueError, match=r"^start and end: got start=0.0 and end=1.0, allowed are positive values. Use Linear"
    ):
        Geometric(0.0, 1.0)
    with pytest.raises(ValueError, match=r"^warmup: got 1.0, allowed is a share of training in \[0, 1\)"):
        WarmupCosine(1.0)
    with pytest.raises(ValueError, match=r"^final: got 1.5, allowed is a factor in \[0, 1\]"):
        WarmupCosine(0.1, final=1.5)
