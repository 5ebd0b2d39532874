"""A store behind a connection pooler: in session mode as any other, in another one it is said, and mail goes on."""

from __future__ import annotations

import pytest

from smtpguard.cli import store as command
from smtpguard.history import Store, StoreError, engine_of
from smtpguard.history.postgres import Pooled
from tests.history.cluster import Cluster
from tests.history.pooler import Mode, missing_pooler, pooled
from tests.history.stores import (
    AT,
    DAY,
    FRESH_S,
    PATIENCE_S,
    SEED,
    delivered,
    hold,
    migrated,
    numbered,
    started,
    suppression,
    until,
)

pytestmark = pytest.mark.skipif(bool(missing_pooler()), reason=missing_pooler())

WORDS = r"connection pooler in transaction mode.*pool_mode = session"
LOOSE = pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("transaction", ""),
        ("transaction", "server_round_robin = 1\nmin_pool_size = 5"),
        ("transaction", "default_pool_size = 1"),
        ("statement", ""),
    ],
)


@LOOSE
def test_a_pooler_that_changes_sessions_is_noticed(
    cluster: Cluster, postgres_url: str, mode: Mode, options: str
) -> None:
    with pooled(cluster, postgres_url, mode, options=options) as pooler:
        engine = engine_of(pooler.url)
        with pytest.raises(Pooled, match=WORDS):
            engine.connect()
        engine.close()


def test_in_session_mode_nodes_hear_of_each_other_and_take_turns(cluster: Cluster, postgres_url: str) -> None:
    key = ("holds", "h")
    with (
        pooled(cluster, postgres_url, "session") as pooler,
        started(pooler.url) as one,
        started(pooler.url) as other,
    ):
        one.state.suppressions.put(suppression())
        until(lambda: other.state.suppressions.get("k") is not None, other, FRESH_S)
        one.state.holds.put(hold("h", AT))
        until(lambda: one.state.turns.has(key), one)
        until(lambda: other.state.holds.get("h") is not None, other)
        assert not other.state.holds.claim("h", AT, 900)
        assert one.state.holds.claim("h", AT, 900)


def test_what_a_node_announces_itself_is_no_news_to_it(cluster: Cluster, postgres_url: str) -> None:
    """A pooler gives a session a number of its own, and the server names the true one."""
    with pooled(cluster, postgres_url, "session") as pooler, migrated(pooler.url) as database:
        with database.transaction():
            database.announce([("holds", "h")])
        assert database.news() == []


def test_a_session_that_changes_later_is_noticed(cluster: Cluster, postgres_url: str) -> None:
    """Nobody shows it at the start where a pooler passes the server's own number on, and only one asks."""
    with pooled(cluster, postgres_url, "transaction") as pooler:
        from smtpguard.history.postgres import Postgres

        psycopg = pytest.importorskip("psycopg")
        with (
            psycopg.connect(pooler.url, autocommit=True) as connection,
            psycopg.connect(pooler.url, autocommit=True) as another,
        ):
            database = Postgres(connection, listens=True)
            assert database.news() == []
            with another.transaction():
                another.execute("SELECT 1")  # has the session that was the first one's
                with pytest.raises(Pooled, match=WORDS):
                    database.news()


def test_mail_goes_on_and_what_waited_is_written_when_it_is_mended(cluster: Cluster, postgres_url: str) -> None:
    away: list[str] = []
    with pooled(cluster, postgres_url, "transaction") as pooler:
        store = Store(
            engine_of(pooler.url), seed=SEED, mode="mask", retention_s=DAY, clock=lambda: AT, on_away=away.append
        )
        assert not store.start()
        store.write(numbered(1))
        store.write(delivered(2))
        store.state.suppressions.put(suppression())
        assert store.state.suppressions.get("k")
        until(lambda: bool(store.standing.away), store, PATIENCE_S)
        assert len(away) == 1
        assert "pool_mode = session" in away[0]
        pooler.change("session")
        assert store.flush(PATIENCE_S)
        assert (away[1:], store.standing.dropped) == ([""], 0)
        store.close()
    with started(postgres_url) as store, store.reading() as database:
        assert (
            database.query("SELECT SUM(n) FROM tallies") == database.query("SELECT SUM(n) FROM acceptances") == [(1,)]
        )
        assert store.state.suppressions.get("k")


@pytest.mark.parametrize("offline", [False, True])
def test_check_says_what_to_do(cluster: Cluster, postgres_url: str, offline: bool) -> None:
    with pooled(cluster, postgres_url, "transaction") as pooler:
        found = command.looked_at(pooler.url, "", offline=offline)
    assert found.state == ("skip" if offline else "fail")
    if not offline:
        assert "set pool_mode = session there (PgBouncer), or name the server itself" in found.message
        assert not found.is_temporary


def test_the_command_line_says_what_to_do(
    cluster: Cluster, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pooled(cluster, postgres_url, "transaction") as pooler:
        assert command.migrate(pooler.url, as_json=False) == 2
        with pytest.raises(StoreError, match=WORDS), command.opened(pooler.url):
            pass
    assert "name the server itself" in capsys.readouterr().err
