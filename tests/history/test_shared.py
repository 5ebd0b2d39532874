"""Several nodes on one store: what one remembers the others know within a second; a store that stops and comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from smtpguard.history import Store, engine_of, state
from smtpguard.history.state import Change
from smtpguard.history.tables import SUPPRESSIONS
from smtpguard.history.turns import MAX_TURNS
from smtpguard.policy import Strike
from tests.history.cluster import Cluster
from tests.history.stores import (
    AT,
    DAY,
    FRESH_S,
    PATIENCE_S,
    delivered,
    hold,
    migrated,
    numbered,
    started,
    suppression,
    throttle,
    until,
)


def known(is_so: Callable[[], bool], store: Store) -> None:
    """Within a second of now."""
    until(is_so, store, FRESH_S)


def test_what_one_suppresses_the_other_knows(url: str) -> None:
    with started(url) as one, started(url) as other:
        one.state.suppressions.put(suppression())
        known(lambda: other.state.suppressions.get("k") is not None, other)
        other.state.suppressions.drop("k")
        known(lambda: one.state.suppressions.get("k") is None, one)


def test_holds_throttles_and_strikes_are_shared(url: str) -> None:
    with started(url) as one, started(url) as other:
        one.state.holds.put(hold())
        one.state.throttles.put(throttle())
        one.state.strikes.add(Strike("k", "m1", AT))
        known(lambda: bool(other.state.strikes.of("k")), other)
        assert other.state.holds.get("h") == one.state.holds.get("h")
        assert other.state.throttles.get("t") == one.state.throttles.get("t")
        other.state.strikes.add(Strike("k", "m2", AT + DAY))
        known(lambda: len(one.state.strikes.of("k")) == 2, one)


def test_an_attempt_that_one_makes_the_other_does_not(url: str) -> None:
    with started(url) as one, started(url) as other:
        one.state.holds.put(hold("h", AT + 900))
        known(lambda: one.state.turns.has(("holds", "h")), one)
        known(lambda: other.state.holds.get("h") is not None, other)
        assert one.state.holds.claim("h", AT + 900, 900)
        known(lambda: other.state.holds.get("h") == one.state.holds.get("h"), other)
        assert not other.state.holds.claim("h", AT + 901, 900)


KEY = ("holds", "h")


def test_of_nodes_that_are_asked_at_the_same_time_one_makes_the_attempt(postgres_url: str) -> None:
    """Twenty intervals, each of both nodes asked without a pause from two threads while it is due."""
    rounds = 20
    claims: list[list[str]] = [[] for _ in range(rounds)]
    with started(postgres_url) as one, started(postgres_url) as other:
        one.state.holds.put(hold("h", AT))
        known(lambda: other.state.holds.get("h") is not None, other)
        known(lambda: one.state.turns.has(KEY) or other.state.turns.has(KEY), other)
        meet = threading.Barrier(4)

        def ask(name: str, store: Store) -> None:
            for number in range(rounds):
                meet.wait(PATIENCE_S)
                now = AT + 900 * number
                ends = time.monotonic() + 0.02
                while time.monotonic() < ends:
                    if store.state.holds.get("h") is not None and store.state.holds.claim("h", now, 900):
                        claims[number].append(name)

        nodes = (("one", one), ("one", one), ("other", other), ("other", other))
        threads = [threading.Thread(target=ask, args=node) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    made = [len(each) for each in claims]
    assert max(made) == 1
    assert sum(made) >= rounds // 2  # a turn that changes hands meanwhile is nobody's for a moment


def test_a_turn_is_handed_on_when_its_owner_stops(postgres_url: str) -> None:
    with started(postgres_url) as other:
        with started(postgres_url) as one:
            one.state.holds.put(hold("h", AT))
            known(lambda: one.state.turns.has(KEY), one)
            known(lambda: other.state.holds.get("h") is not None, other)
            assert one.flush(PATIENCE_S)
            assert not other.state.holds.claim("h", AT, 900)
            assert one.state.holds.claim("h", AT, 900)
        until(lambda: other.state.holds.get("h") is not None and other.state.turns.has(KEY), other)
        assert not other.state.holds.claim("h", AT + 899, 900)  # it knows of the attempt
        assert other.state.holds.claim("h", AT + 900, 900)


def test_a_turn_goes_to_the_node_that_is_asked_more_often(postgres_url: str) -> None:
    with started(postgres_url) as idle, started(postgres_url) as busy:
        idle.state.holds.put(hold("h", AT))
        known(lambda: idle.state.turns.has(KEY), idle)
        until(lambda: busy.state.holds.get("h") is not None and busy.state.turns.has(KEY), busy)
        assert not idle.state.turns.has(KEY)
        assert busy.state.holds.claim("h", AT, 900)
        assert not idle.state.holds.claim("h", AT, 900)


def test_a_node_that_starts_again_has_the_turn_before_it_is_asked(postgres_url: str) -> None:
    with started(postgres_url) as store:
        store.state.holds.put(hold("h", AT))
    with started(postgres_url) as store:
        known(lambda: store.state.turns.has(KEY), store)
        assert store.state.holds.claim("h", AT, 900)


def test_a_turn_is_given_back_when_nothing_is_held_any_more(postgres_url: str) -> None:
    with started(postgres_url) as one, started(postgres_url) as other:
        one.state.holds.put(hold("h", AT))
        known(lambda: one.state.turns.has(KEY), one)
        one.state.holds.drop("h")
        until(lambda: not one.state.turns.has(KEY), one)
        other.state.holds.put(hold("h", AT))
        known(lambda: other.state.turns.has(KEY), other)
        assert other.state.holds.claim("h", AT, 900)


def test_without_the_store_each_node_makes_one_attempt_an_interval(cluster: Cluster, postgres_url: str) -> None:
    with started(postgres_url) as one, started(postgres_url) as other:
        one.state.holds.put(hold("h", AT))
        known(lambda: one.state.turns.has(KEY), one)
        known(lambda: other.state.holds.get("h") is not None, other)
        cluster.stop()
        try:
            for store in (one, other):
                until(lambda store=store: bool(store.standing.away), store)  # type: ignore[misc]
                assert store.state.holds.claim("h", AT, 900)
                assert not store.state.holds.claim("h", AT + 1, 900)
        finally:
            cluster.start()
        for store in (one, other):
            until(lambda store=store: not store.standing.away, store)  # type: ignore[misc]
            assert store.state.holds.get("h") is not None
        until(lambda: one.state.turns.has(KEY) != other.state.turns.has(KEY), one)


ROOM: Final = 60


@pytest.fixture
def crowd(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Leaves room for ROOM locks in the server's table when it is called, until the test is over."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:

        def fill() -> None:
            with pytest.raises(psycopg.errors.OutOfMemory):
                connection.execute("SELECT count(pg_try_advisory_lock(n)) FROM generate_series(1, 10000000) AS n")
            connection.execute(b"SELECT count(pg_advisory_unlock(n)) FROM generate_series(1, %d) AS n" % ROOM)

        yield fill


def test_a_server_without_room_for_locks_is_not_away(
    crowd: Callable[[], None], postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What another node has stays that one's; of the rest each decides by itself. That is said once."""
    away: list[str] = []
    with started(postgres_url, on_away=away.append) as one, started(postgres_url, on_away=away.append) as other:
        one.state.holds.put(hold("h", AT))
        known(lambda: one.state.turns.has(KEY), one)
        known(lambda: other.state.holds.get("h") is not None, other)
        assert other.flush(PATIENCE_S)
        crowd()
        for number in range(MAX_TURNS):
            other.state.holds.put(hold(f"h{number}", AT))
        other.state.holds.get("h")
        until(lambda: other.state.turns.is_crowded, other)
        assert other.state.holds.claim("h1", AT, 900)
        assert not other.state.holds.claim("h1", AT + 1, 900)
        assert not other.state.holds.claim("h", AT, 900)
        assert one.state.holds.claim("h", AT, 900)
        for store in (one, other):
            assert store.flush(PATIENCE_S)
            assert not store.standing.away
        with one.reading() as database:
            assert database.query("SELECT COUNT(*) FROM holds") == [(1 + MAX_TURNS,)]
    assert away == []
    assert caplog.text.count("raise max_locks_per_transaction") == 1


def test_what_a_failed_question_for_turns_took_is_given_back(crowd: Callable[[], None], postgres_url: str) -> None:
    """A statement's locks stay though it fails; and whoever else works there could do nothing."""
    with migrated(postgres_url) as database:
        crowd()
        given = database.take_turns([("holds", f"h{number}") for number in range(MAX_TURNS)])
        assert (given.ours, given.others, given.is_crowded) == ((), [], True)
        [(left,)] = database.query(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
        assert left == 0


def test_the_command_line_is_heard_by_a_running_node(url: str) -> None:
    with started(url) as store:
        with migrated(url) as database, database.transaction():
            state.write(database, [Change(SUPPRESSIONS, "put", "k", suppression())])
        known(lambda: store.state.suppressions.get("k") is not None, store)


def test_many_changes_at_once_are_one_announcement(url: str) -> None:
    many = 300  # more than are announced one by one
    with started(url) as store:
        with migrated(url) as database, database.transaction():
            changes = [Change(SUPPRESSIONS, "put", f"k{number}", suppression(f"k{number}")) for number in range(many)]
            state.write(database, changes)
        known(lambda: len(store.state.suppressions) == many, store)


def test_what_is_rolled_back_is_not_announced(url: str) -> None:
    with started(url) as store:
        with migrated(url) as database:
            try:
                with database.transaction():
                    state.write(database, [Change(SUPPRESSIONS, "put", "k", suppression())])
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            with database.transaction():
                state.write(database, [Change(SUPPRESSIONS, "put", "later", suppression("later"))])
        known(lambda: store.state.suppressions.get("later") is not None, store)
        assert not store.state.suppressions.get("k")


def test_both_write_events_and_counts(url: str) -> None:
    with started(url) as one, started(url) as other:
        for number in range(200):
            one.write(numbered(number))
            other.write(numbered(1000 + number))
            other.write(delivered(5000 + number))
        assert one.flush(PATIENCE_S)
        assert other.flush(PATIENCE_S)
        with one.reading() as database:
            assert database.query("SELECT COUNT(*) FROM transactions") == [(400,)]
            assert database.query("SELECT SUM(n) FROM tallies") == [(400,)]
            assert database.query("SELECT SUM(n) FROM acceptances") == [(200,)]


def test_a_server_that_stops_and_starts_again(cluster: Cluster, postgres_url: str) -> None:
    away: list[str] = []
    lost: list[int] = []
    with (
        started(postgres_url, on_away=away.append, on_drop=lost.append) as one,
        started(postgres_url) as other,
    ):
        one.state.suppressions.put(suppression("before"))
        known(lambda: other.state.suppressions.get("before") is not None, other)
        cluster.stop()
        try:
            begun = time.perf_counter()
            for number in range(500):
                one.write(numbered(number))
            one.state.suppressions.put(suppression("during"))
            one.state.suppressions.drop("before")
            assert time.perf_counter() - begun < 5.0  # nobody waits for it
            until(lambda: bool(one.standing.away), one)
            assert one.state.suppressions.get("during")
            assert other.state.suppressions.get("before")  # goes on with what it knows
        finally:
            cluster.start()
        assert one.flush(PATIENCE_S)
        until(lambda: other.state.suppressions.get("during") is not None, other)
        until(lambda: other.state.suppressions.get("before") is None, other)
        with one.reading() as database:
            assert database.query("SELECT COUNT(*) FROM transactions") == [(500,)]
            assert database.query("SELECT SUM(n) FROM tallies") == [(500,)]
    assert [bool(why) for why in away] == [True, False]
    assert lost == []


def test_a_server_notices_soon_that_a_node_is_gone_without_a_word(postgres_url: str) -> None:
    """Its turns would be nobody else's until then."""
    engine = engine_of(postgres_url)
    database = engine.connect()
    try:
        patience = database.query(
            "SELECT name FROM pg_settings WHERE name LIKE 'tcp%' AND source = 'session' ORDER BY 1"
        )
    finally:
        database.close()
        engine.close()
    assert [name for (name,) in patience] == [
        "tcp_keepalives_count",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_user_timeout",
    ]
