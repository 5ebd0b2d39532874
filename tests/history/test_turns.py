"""Turns of one node: what is asked for, kept and given back."""

from __future__ import annotations

import pytest

from smtpguard.history import turns as module
from smtpguard.history.turns import AGAIN_S, CROWDED_S, IDLE_S, WISH, Turns

KEY, OTHER, THIRD = ("holds", "a"), ("throttles", "b"), ("holds", "c")


def shared() -> Turns:
    turns = Turns()
    turns.join([], 0.0)
    return turns


def test_who_is_alone_has_every_turn_and_asks_for_none() -> None:
    turns = Turns()
    turns.ask(KEY)
    assert turns.has(KEY)
    assert turns.wanted(0.0) == []


def test_what_is_held_when_a_node_starts_is_its_own_unless_another_wants_it() -> None:
    one, other = Turns(), shared()
    one.join([KEY], 1.0)
    assert not one.has(KEY)
    assert one.wanted(1.0) == [KEY]
    one.take([KEY], [KEY])
    assert one.due_back(1.0, lambda _: True) == []
    other.ask(KEY)
    [(_, wish)] = other.wishes(other.wanted(2.0), 2.0)  # asked once
    one.hear(wish)
    assert one.due_back(2.0, lambda _: True) == [KEY]


def test_a_turn_is_ours_when_it_was_given() -> None:
    turns = shared()
    turns.ask(KEY)
    assert not turns.has(KEY)
    assert turns.wanted(1.0) == [KEY]
    turns.take([KEY], [KEY])
    assert turns.has(KEY)
    assert not turns.has(OTHER)
    turns.ask(KEY)
    assert turns.wanted(1.0 + AGAIN_S) == []


def test_a_turn_that_another_node_has_is_asked_for_again_now_and_then() -> None:
    turns = shared()
    turns.ask(KEY)
    assert turns.wanted(1.0) == [KEY]
    assert turns.wanted(1.1) == []
    turns.ask(OTHER)
    assert turns.wanted(1.2) == [OTHER]
    assert turns.wanted(1.0 + AGAIN_S) == [KEY, OTHER]


def test_what_nobody_asks_for_and_what_is_gone_is_given_back() -> None:
    turns = shared()
    for key in (KEY, OTHER):
        turns.ask(key)
    turns.wanted(1.0)
    turns.take([KEY], [KEY])
    assert turns.due_back(1.0 + IDLE_S, lambda _: True) == []
    assert turns.due_back(2.0 + IDLE_S, lambda _: True) == [KEY, OTHER]
    assert turns.due_back(2.0, lambda key: key == OTHER) == [KEY]
    assert turns.due_back(2.0, lambda key: key == KEY) == []  # what is not ours is looked at now and then
    assert turns.due_back(1.0 + AGAIN_S, lambda key: key == KEY) == [OTHER]
    assert turns.forget(KEY)
    assert not turns.has(KEY)
    assert not turns.forget(OTHER)  # it was never ours
    assert turns.wanted(1.0 + AGAIN_S) == []


def asked(turns: Turns, *times: float) -> None:
    for at in times:
        turns.ask(KEY)
        taken = turns.wanted(at)
        turns.take(taken, taken)


@pytest.mark.parametrize(
    ("ours", "theirs", "now", "goes"),
    [
        ([10, 20], [19, 20], 20, True),  # ten seconds apart here, one there
        ([10, 20], [15, 21], 21, False),  # nearly as often
        ([19, 20], [19.9, 20], 20, False),  # both are busy
        ([10, 20], [54, 60], 60, True),  # not any more
        ([10], [1799, 1800], 1800, True),
        ([10, 1810], [1000, 2800], 2800, False),  # by the retries of two MTAs: the first keeps it
        ([10, 11], [12], 14, False),  # it asked once: nobody knows how often
    ],
)
def test_a_turn_goes_where_the_mail_is(ours: list[float], theirs: list[float], now: float, goes: bool) -> None:
    one, other = shared(), shared()
    asked(one, *ours)
    for at in theirs:
        other.ask(KEY)
        other.wanted(at)
    for table, wish in other.wishes([KEY], now):
        assert table == WISH
        one.hear(wish)
    assert one.due_back(now, lambda _: True) == ([KEY] if goes else [])
    assert one.due_back(now, lambda _: True) == []  # a wish counts once


def test_of_what_is_ours_there_is_no_wish_and_of_odd_ones_none_is_heard() -> None:
    turns = shared()
    asked(turns, 1.0)
    assert turns.wishes([KEY], 1.0) == []
    for wish in ("", "often holds a", "1"):
        turns.hear(wish)
    turns.hear("0.1 throttles b")  # which is not ours
    assert turns.due_back(50.0, lambda _: True) == []


def test_a_store_that_is_away_and_back() -> None:
    turns = shared()
    turns.ask(KEY)
    turns.take([KEY], turns.wanted(1.0))
    turns.lose()
    assert turns.has(OTHER)
    turns.join([], 1.1)
    assert not turns.has(KEY)
    assert turns.wanted(1.1) == [KEY]  # at once


def test_no_more_than_so_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TURNS", 2)
    turns = shared()
    for key in "abc":
        turns.ask(("holds", key))
    wanted = turns.wanted(1.0)
    assert len(wanted) == 2
    turns.take(wanted, wanted)
    assert turns.has(("holds", "c"))  # beyond them it decides alone
    turns.ask(("holds", "c"))
    assert turns.wanted(1.0 + AGAIN_S) == []


def test_a_full_node_leaves_to_others_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TURNS", 2)
    turns = shared()
    turns.ask(OTHER)
    turns.take([], turns.wanted(1.0))
    for key in "ab":
        turns.ask(("holds", key))
    turns.take([("holds", "a"), ("holds", "b")], turns.wanted(2.0))
    assert turns.has(("holds", "c"))
    assert not turns.has(OTHER)
    assert turns.wanted(1.0 + AGAIN_S) == [OTHER]  # until nobody has it any more


def test_where_the_store_has_no_room_a_node_decides_alone_of_what_no_other_has() -> None:
    turns = shared()
    for key in (KEY, OTHER):
        turns.ask(key)
    assert turns.wanted(1.0) == [KEY, OTHER]
    turns.take([], [OTHER], is_crowded=True)
    assert turns.has(KEY)
    assert not turns.has(OTHER)
    turns.ask(THIRD)
    assert turns.wanted(2.0) == []  # not now: it would fill what room there is
    assert turns.has(THIRD)


def test_a_store_without_room_is_asked_for_one_turn_now_and_then_and_for_all_when_it_has_room() -> None:
    turns = shared()
    for key in (KEY, OTHER):
        turns.ask(key)
    turns.wanted(1.0)
    turns.take([], [], is_crowded=True)
    assert turns.wanted(1.0 + AGAIN_S) == [KEY]
    turns.take([], [], is_crowded=True)
    assert turns.wanted(1.0 + 2 * AGAIN_S) == []
    assert turns.wanted(1.0 + AGAIN_S + CROWDED_S) == [KEY]
    turns.take([KEY], [])
    assert not turns.has(OTHER)
    assert turns.wanted(1.1 + AGAIN_S + CROWDED_S) == [OTHER]
    turns.take([], [], is_crowded=True)
    turns.lose()
    turns.join([], 99.0)
    assert not turns.has(OTHER)  # another connection: there may be room
