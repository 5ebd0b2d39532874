"""Several nodes on one store: what one remembers the others know within a second; a store that stops and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

from smtpguard.history import Store, state
from smtpguard.history.state import Change
from smtpguard.history.tables import SUPPRESSIONS
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
        known(lambda: other.state.holds.get("h") is not None, other)
        assert one.state.holds.claim("h", AT + 900, 900)
        known(lambda: other.state.holds.get("h") == one.state.holds.get("h"), other)
        assert not other.state.holds.claim("h", AT + 901, 900)
        assert other.state.holds.claim("h", AT + 1800, 900)


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
            assert time.perf_counter() - begun < 1.0  # nobody waits for it
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
