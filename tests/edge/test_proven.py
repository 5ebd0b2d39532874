"""What gives way in a memory that is full: what came up once, never what is asked for again and again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.edge.proven import PROOF_S, Proven

ROWS, WEIGHT = 10, 1000


def memory(rows: int = ROWS, weight: int = WEIGHT) -> Proven[int]:
    """Of numbers, each as heavy as it is great."""
    return Proven(rows, weight, lambda value: value)


def kept(of: Proven[int], *keys: str) -> str:
    return " ".join(key for key in keys if of.get(key) is not None)


def test_what_was_asked_for_again_stays_and_of_the_rest_the_oldest_goes() -> None:
    them = memory(3)
    for key in ("a", "b", "c"):
        them.put(key, 1, 0.0)
    assert them.ask("a", PROOF_S) == 1
    for key in ("d", "e"):
        them.put(key, 1, PROOF_S)
    assert kept(them, "a", "b", "c", "d", "e") == "a d e"


def test_what_is_asked_for_in_one_moment_proves_nothing() -> None:
    them = memory(2)
    them.put("a", 1, 0.0)
    for _ in range(9):
        them.ask("a", PROOF_S - 1)
    assert them.get("a") == 1
    them.put("b", 1, PROOF_S)
    them.put("c", 1, PROOF_S)
    assert kept(them, "a", "b", "c") == "b c"


def test_of_too_many_proven_the_one_longest_not_asked_for_gives_way_to_new_ones() -> None:
    them = memory()
    keys = [f"{number}" for number in range(ROWS)]
    for key in keys:
        them.put(key, 1, 0.0)
    for at, key in enumerate((*keys, "0"), start=1):  # all of them, and the first once more
        them.ask(key, PROOF_S + at)
    for number in range(5):
        them.put(f"new {number}", 1, 2 * PROOF_S)
    assert kept(them, *keys) == "0 3 4 5 6 7 8 9"  # PROVEN_SHARE of the rows
    assert kept(them, *(f"new {number}" for number in range(5))) == "new 3 new 4"


def test_a_new_value_stands_in_the_place_of_the_old() -> None:
    them = memory(2)
    them.put("a", 1, 0.0)
    them.ask("a", PROOF_S)
    them.put("a", 7, PROOF_S)
    for key in ("b", "c"):
        them.put(key, 1, PROOF_S)
    assert (kept(them, "a", "b", "c"), them.get("a"), them.weight) == ("a c", 7, 8)


def test_weight_counts_too_and_the_newest_is_kept_whatever_it_weighs() -> None:
    them = memory(weight=10)
    them.put("a", 5, 0.0)
    them.put("b", 5, 0.0)
    them.put("c", 6, 0.0)
    assert (kept(them, "a", "b", "c"), them.weight) == ("c", 6)
    them.put("d", 99, 0.0)
    assert (kept(them, "c", "d"), them.weight) == ("d", 99)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 12), st.booleans()), max_size=60))
def test_it_is_never_fuller_than_it_may_be(steps: list[tuple[str, int, bool]]) -> None:
    them, latest = memory(4, 20), {}
    for number, (key, weight, is_put) in enumerate(steps):
        if is_put:
            them.put(key, weight, number * PROOF_S / 2)
            latest[key] = weight
            assert them.get(key) == weight
        else:
            assert them.ask(key, number * PROOF_S / 2) in (None, latest.get(key))
        there = [key for key in "abcdefgh" if them.get(key) is not None]
        assert len(there) == len(them) <= 4
        assert them.weight == sum(latest[key] for key in there) <= 20
