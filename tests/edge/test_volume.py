"""How much mail a domain sent in 24 hours."""

from __future__ import annotations

from smtpguard.edge import volume
from smtpguard.edge.volume import HOUR_S, Volume


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bulk_sender_is_one_from_the_threshold_on() -> None:
    counted = Volume(10, Clock())
    assert [counted.count("a.example", 4) for _ in range(3)] == [False, False, True]
    assert not counted.count("b.example", 9)


def test_what_is_a_day_past_counts_no_more() -> None:
    clock = Clock()
    counted = Volume(10, clock)
    counted.count("a.example", 6)
    clock.now = 1.5 * HOUR_S
    counted.count("a.example", 3)
    clock.now = 23.9 * HOUR_S
    assert counted.count("a.example", 1)  # all ten
    clock.now = 24.1 * HOUR_S
    assert not counted.count("a.example", 1)  # 3, 1 and 1
    assert counted.count("a.example", 5)
    clock.now = 100 * HOUR_S
    assert not counted.count("a.example", 9)


def test_of_many_domains_the_longest_unseen_is_forgotten() -> None:
    counted = Volume(2, Clock())
    for number in range(volume.MAX_DOMAINS):
        counted.count(f"{number}.example", 1)
    assert counted.count("0.example", 1)
    counted.count("new.example", 1)
    assert not counted.count("1.example", 1)  # begun anew
    assert counted.count("0.example", 1)
