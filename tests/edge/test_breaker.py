"""The breaker: its table, and that a host which is back is tried within six seconds whatever happened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.edge.breaker import LONGEST_PAUSE_S, THRESHOLD, Breaker


def _opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(THRESHOLD):
        assert breaker.allow(at)
        breaker.failed(at)
    return breaker


def test_it_stays_closed_below_the_threshold_and_an_answer_begins_the_row_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            breaker.failed(0)
        assert breaker.is_closed
        breaker.answered()
    assert breaker.allow(0)


def test_the_fifth_failure_in_a_row_opens_it_for_a_second() -> None:
    breaker = _opened()
    assert not breaker.is_closed
    assert not breaker.allow(0.99)
    assert breaker.is_barred(0.99)
    assert breaker.allow(1.0)


def test_one_probe_at_a_time_and_a_lost_one_does_not_bar_the_next() -> None:
    breaker = _opened()
    assert breaker.allow(1.0)
    assert not breaker.allow(1.1)
    assert not breaker.allow(1.0 + LONGEST_PAUSE_S - 0.01)
    assert breaker.allow(1.0 + LONGEST_PAUSE_S)


def test_a_withdrawn_probe_makes_room_for_another() -> None:
    breaker = _opened()
    assert breaker.allow(1.0)
    breaker.withdrawn()
    assert breaker.allow(1.1)


@pytest.mark.parametrize("probes", [1, 2, 3, 6])
def test_each_failed_probe_doubles_the_pause_up_to_the_longest(probes: int) -> None:
    breaker, now = _opened(), 0.0
    pauses = [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0]
    for pause in pauses[:probes]:
        assert not breaker.allow(now + pause - 0.01)
        now += pause
        assert breaker.allow(now)
        breaker.failed(now)
    assert not breaker.allow(now + pauses[probes] - 0.01)
    assert breaker.allow(now + pauses[probes])


def test_stragglers_from_before_it_opened_do_not_lengthen_the_pause() -> None:
    breaker = _opened()
    for _ in range(20):
        breaker.failed(0.5)
    assert breaker.allow(1.0)


def test_an_answer_closes_it_and_the_next_pause_is_short_again() -> None:
    breaker = _opened()
    breaker.allow(1.0)
    breaker.failed(1.0)
    breaker.answered()
    assert breaker.is_closed
    for _ in range(THRESHOLD):
        breaker.failed(10.0)
    assert breaker.allow(11.0)


_steps = st.lists(st.tuples(st.sampled_from(["allow", "failed", "answered", "withdrawn"]), st.floats(0, 3)))


@given(_steps)
def test_whatever_happened_it_lets_somebody_try_within_six_seconds_and_one_answer_is_enough(
    steps: list[tuple[str, float]],
) -> None:
    breaker, now = Breaker(), 0.0
    for step, pause in steps:
        now += pause
        match step:
            case "allow":
                barred = breaker.is_barred(now)
                assert breaker.allow(now) != barred
            case "failed":
                breaker.failed(now)
            case "answered":
                breaker.answered()
            case _:
                breaker.withdrawn()
    assert any(breaker.allow(now + tenth / 10) for tenth in range(60))
    breaker.answered()
    assert breaker.is_closed
    assert breaker.allow(now)
