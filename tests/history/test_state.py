"""What policy remembers: look-ups, claims, and that the store ends up with the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.history import Database, State, engine_of, schema
from smtpguard.history import state as module
from smtpguard.history.state import write
from smtpguard.history.tables import TlsPolicyRow
from smtpguard.policy import Route, Strike
from tests.history.stores import AT, hold, migrated, suppression, throttle


def written(state: State, database: Database) -> None:
    with database.transaction():
        write(database, state.take())
    state.settled()


def shelves(state: State) -> list[object]:
    rows = [state.suppressions, state.holds, state.throttles, state.routes, state.strikes, state.tls_policies]
    return [shelf.rows for shelf in rows]  # type: ignore[attr-defined]


def test_what_is_put_is_there_until_it_is_dropped() -> None:
    state = State()
    assert not state.suppressions
    state.suppressions.put(suppression("k"))
    assert state.suppressions.get("k") == suppression("k")
    assert state.suppressions.get("other") is None
    assert state.suppressions.drop("k")
    assert state.suppressions.get("k") is None
    assert not state.suppressions.drop("k")


def test_retries_of_a_message_are_one_strike() -> None:
    state = State()
    assert state.strikes.add(Strike("k", "m1", AT))
    assert not state.strikes.add(Strike("k", "m1", AT + 50))
    assert state.strikes.add(Strike("k", "m2", AT + 90_000))
    assert [strike.at for strike in state.strikes.of("k")] == [AT, AT + 90_000]
    assert state.strikes.clear("k")
    assert state.strikes.of("k") == ()
    assert not state.strikes.clear("k")


def test_one_attempt_an_interval() -> None:
    state = State()
    assert not state.holds.claim("k", AT, 900)  # nothing is held
    state.holds.put(hold("k", probe_at=AT + 10))
    assert not state.holds.claim("k", AT + 9, 900)
    assert state.holds.claim("k", AT + 10, 900)
    assert not state.holds.claim("k", AT + 11, 900)
    assert not state.holds.claim("k", AT + 909, 900)
    assert state.holds.claim("k", AT + 910, 900)


def test_what_has_too_long_a_key_is_not_remembered() -> None:
    lost: list[int] = []
    state = State(on_drop=lost.append)
    state.holds.put(hold("x" * 601))
    assert not state.strikes.add(Strike("k" * 16, "x" * 585, AT))
    assert (len(state.holds), len(state.strikes), state.waiting, lost) == (0, 0, 0, [1, 1])


def test_a_full_shelf_leaves_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    state = State()
    for key in "abb":
        state.suppressions.put(suppression(key))
    state.suppressions.put(suppression("c"))
    for key in "abc":
        state.strikes.add(Strike(key, "m", AT))
    assert [row.key for row in state.suppressions] == ["b", "c"]
    assert list(state.strikes.rows) == ["b", "c"]
    with migrated("") as database:
        written(state, database)
        again = State()
        again.load(database)
    assert len(again.suppressions) == 2  # all three are in the store


def test_changes_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHANGES", 1)
    lost: list[int] = []
    state = State(on_drop=lost.append)
    state.suppressions.put(suppression("a"))
    state.suppressions.put(suppression("b"))
    assert lost == [1]
    assert state.suppressions.get("b")  # it counts here, though the store never hears of it


def test_a_load_leaves_what_is_not_written_yet() -> None:
    with migrated("") as database:
        first = State()
        first.suppressions.put(suppression("a"))
        first.holds.put(hold("h", probe_at=AT))
        written(first, database)
        second = State()
        second.load(database)
        second.suppressions.put(suppression("b"))
        second.suppressions.drop("a")
        second.take()  # in the writer's hand
        assert second.holds.claim("h", AT, 900)
        second.load(database)
        assert [row.key for row in second.suppressions] == ["b"]
        assert second.holds.get("h") == hold("h", probe_at=AT + 900)


def test_a_claim_does_not_bring_back_what_somebody_dropped() -> None:
    with migrated("") as database:
        one, other = State(), State()
        one.holds.put(hold("h"))
        written(one, database)
        other.load(database)
        one.holds.drop("h")
        written(one, database)
        assert other.holds.claim("h", AT, 900)
        written(other, database)
        other.refresh(database, [("holds", "h")])
        assert other.holds.get("h") is None


def test_refreshed_keys_are_read_anew_unless_a_change_waits() -> None:
    with migrated("") as database:
        one, other = State(), State()
        for key in "ab":
            one.suppressions.put(suppression(key))
        one.strikes.add(Strike("s", "m", AT))
        written(one, database)
        other.suppressions.put(suppression("b", until=AT + 5))
        other.refresh(database, [("suppressions", "a"), ("suppressions", "b"), ("strikes", "s"), ("of_later", "x")])
    assert other.suppressions.get("a") == suppression("a")
    assert other.suppressions.get("b") == suppression("b", until=AT + 5)
    assert other.strikes.of("s") == (Strike("s", "m", AT),)


def test_what_is_over_is_forgotten() -> None:
    state = State()
    state.suppressions.put(suppression("old", until=AT - 1))
    state.suppressions.put(suppression("new"))
    state.strikes.add(Strike("old", "m", AT - 10))
    state.strikes.add(Strike("new", "m", AT + 10))
    state.expire({"suppressions": AT, "strikes": AT})
    assert [row.key for row in state.suppressions] == ["new"]
    assert list(state.strikes.rows) == ["new"]


KEYS = st.sampled_from("abc")
TIMES = st.integers(0, 5).map(lambda step: AT + 10 * step)
DEEDS: st.SearchStrategy[Callable[[State], object]] = st.one_of(
    st.builds(lambda key, at: lambda state: state.suppressions.put(suppression(key, at)), KEYS, TIMES),
    st.builds(lambda key: lambda state: state.suppressions.drop(key), KEYS),
    st.builds(lambda key, at: lambda state: state.holds.put(hold(key, at)), KEYS, TIMES),
    st.builds(lambda key, at: lambda state: state.holds.claim(key, at, 20), KEYS, TIMES),
    st.builds(lambda key: lambda state: state.holds.drop(key), KEYS),
    st.builds(lambda key, at: lambda state: state.throttles.put(throttle(key, probe_at=at)), KEYS, TIMES),
    st.builds(lambda key, at: lambda state: state.throttles.claim(key, at, 20), KEYS, TIMES),
    st.builds(lambda key, m, at: lambda state: state.strikes.add(Strike(key, m, at)), KEYS, KEYS, TIMES),
    st.builds(lambda key: lambda state: state.strikes.clear(key), KEYS),
    st.builds(lambda key, at: lambda state: state.routes.put(Route(key, AT, at, "b")), KEYS, TIMES),
    st.builds(
        lambda key, at: lambda state: state.tls_policies.put(TlsPolicyRow(key, AT, at, "1", "enforce", "mx.test")),
        KEYS,
        TIMES,
    ),
)


@given(st.lists(st.tuples(DEEDS, st.sampled_from(["go on", "write", "load"])), max_size=25))
def test_the_store_ends_up_with_what_is_remembered(deeds: list[tuple[Callable[[State], object], str]]) -> None:
    engine = engine_of("")
    database = engine.connect()
    schema.migrate(database, AT)
    state, untouched = State(), State()
    for deed, then in deeds:
        assert deed(state) == deed(untouched)
        if then == "write":
            written(state, database)
        elif then == "load":
            state.load(database)
    written(state, database)
    again = State()
    again.load(database)
    engine.close()
    strikes = [{key: sorted(rows) for key, rows in each.strikes.rows.items()} for each in (state, untouched, again)]
    assert strikes[0] == strikes[1] == strikes[2]
    assert shelves(state)[:4] == shelves(untouched)[:4] == shelves(again)[:4]
