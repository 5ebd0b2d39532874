"""Migrations, and the key of hashed addresses; and what a `store.url` names."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final, get_type_hints

import pytest

from smtpguard.history import StoreError, engine_of, report, schema
from smtpguard.history.account import accounts, notices
from smtpguard.history.sqlite import FileEngine
from smtpguard.history.tables import COUNTS, EVENTS, NOTICES, REMEMBERED, Table
from tests.history.stores import AT, DAY, PATIENCE_S, hold, migrated, numbered, started
from tests.records import refusal


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    assert [number for number, _, _ in schema.migrations()] == list(range(1, schema.NEWEST + 1))
    assert all(statements for _, _, statements in schema.migrations())


def test_a_migration_is_applied_once(any_url: str) -> None:
    engine = engine_of(any_url)
    database = engine.connect()
    assert schema.migrate(database, AT) == [name for _, name, _ in schema.migrations()]
    assert schema.migrate(database, AT) == []
    database.close()
    engine.close()


OLD_REFUSAL: Final = (
    "INSERT INTO refusals (id, position, at, verb, code, enhanced, text, answer, category, rule, confidence, provider, "
    "cause, fix, reference, source, rcpt, rcpt_id, rcpt_domain, rcpts, host, next_hop, failure) VALUES "
    "('000000000001', 0, 5, 'RCPT', 550, '5.1.1', 'unknown', 550, 'recipient.unknown', 'r', 0.9, 'google', 'c', 'f', "
    "'', 'next_hop', 'j***@example.org', 'k', 'example.org', 1, 'mx', 'default', '')"
)
OLD_TRANSACTION: Final = (
    "INSERT INTO transactions (id, at, outcome, door, queue_id, message_id, sender, sender_id, sender_domain, "
    "next_hop, accepted, refused, size, ms, ms_receive, ms_next_hop, client_gone) VALUES ('000000000001', 5, "
    "'refused', 'smtp', '4Old', '<m@x>', 'a***@x', 's', 'x', 'default', 0, 1, 9, 1, 1, 1, 0)"
)
OLD_NOTICE: Final = (
    "INSERT INTO notices (id, at, kind, action, event_id, queue_id, message_id, sender, sender_id, rcpt, rcpt_id, "
    "rcpt_domain, code, enhanced, text, category, rule, provider, host, feedback) VALUES ('n', 6, 'dsn', 'failed', "
    "'000000000001', '4Old', '', '', '', '', '', '', 550, '', 'no', '', '', '', '', '')"
)


def test_a_store_of_the_first_version_is_brought_up_in_place(url: str) -> None:
    """Its events are there still, are asked as new ones are, and new ones are written beside them."""
    engine = engine_of(url)
    database = engine.connect()
    number, name, statements = schema.migrations()[0]
    database.run("CREATE TABLE migrations (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, at REAL NOT NULL)")
    for statement in (*statements, OLD_TRANSACTION, OLD_REFUSAL, OLD_NOTICE):
        database.run(statement)
    database.run("INSERT INTO migrations (number, name, at) VALUES (?, ?, 0)", (number, name))
    with pytest.raises(StoreError, match="run `smtpguard store migrate`"):
        schema.check(database)
    database.close()
    engine.close()
    with started(url) as store:
        store.write(numbered(2, refusal(action="suppress"), queue_id="4Old"))
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            newest, oldest = accounts(database, "4Old", 0)
            assert newest.event.refusals[0].action == "suppress"
            assert (oldest.event.refusals[0].action, oldest.event.refusals[0].detour) == ("", "")
            assert [row.id for row in oldest.notices] == ["n"]
            assert len(report.rejections(database)) == 2
            assert schema.applied(database) == schema.NEWEST


OLD_HOLD: Final = (
    "INSERT INTO holds (key, since, until, probe_at, probe_s, code, enhanced, text, category) VALUES "
    f"('egress default google', {AT}, {AT + DAY}, {AT}, 900, 550, '5.7.26', 'no DMARC', 'auth.dmarc')"
)
OLD_THROTTLE: Final = (
    "INSERT INTO throttles (key, since, until, probe_at, delay, code, enhanced, text, category) VALUES "
    f"('egress default yahoo', {AT}, {AT + DAY}, 0, 60, 421, '4.7.0', 'slow down', 'rate.limited')"
)


def test_a_store_of_the_third_version_is_brought_up_in_place(url: str) -> None:
    """What it holds is held still, and what is held from now on is kept with what the refusal meant."""
    engine = engine_of(url)
    database = engine.connect()
    for number, name, statements in schema.migrations()[:3]:
        for statement in statements:
            database.run(statement)
        if number == 1:
            database.run(
                "CREATE TABLE migrations (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, at REAL NOT NULL)"
            )
        database.run("INSERT INTO migrations (number, name, at) VALUES (?, ?, 0)", (number, name))
    for statement in (OLD_HOLD, OLD_THROTTLE):
        database.run(statement)
    database.close()
    engine.close()
    new = hold("egress default microsoft", provider="microsoft", cause="no DKIM for a.example", fix="ask ann@a.example")
    with started(url) as store:
        old = store.state.holds.get("egress default google")
        slow = store.state.throttles.get("egress default yahoo")
        assert old is not None
        assert slow is not None
        assert (old.until, old.category, old.provider, old.cause, old.fix) == (AT + DAY, "auth.dmarc", "", "", "")
        assert (slow.delay, slow.provider) == (60, "")
        store.state.holds.put(new)
    with started(url) as store:
        assert store.state.holds.get(old.key) == old
        assert store.state.throttles.get(slow.key) == slow
        assert store.state.holds.get(new.key) == new._replace(fix="ask a***@a.example")


def test_notices_are_found_by_an_index(any_url: str) -> None:
    with migrated(any_url) as database:
        database.insert(NOTICES, [_values(NOTICES)._replace(id=f"{n}", queue_id=f"q{n}") for n in range(9)])
        assert [row.id for row in notices(database, "q7")] == ["7"]
        if not any_url.startswith("postgresql:"):  # which reads a table of nine rows as it is
            sql = NOTICES.select("WHERE queue_id = 'q7' AND queue_id <> ''")
            ((*_, plan),) = database.query(f"EXPLAIN QUERY PLAN {sql}")
            assert "USING INDEX notices_queue_id" in plan


_VALUES: Final[dict[type, object]] = {float: 1.5, int: 7, str: "x"}


def test_rows_have_the_columns_of_their_tables(any_url: str) -> None:
    with migrated(any_url) as database:
        for table in (*EVENTS, *COUNTS, *REMEMBERED):
            assert database.query(table.select("WHERE 1 = 0")) == []
            row = _values(table)
            database.insert(table, [row])
            assert database.query(table.select("WHERE 1 = 1")) == [tuple(row)]  # no column is missing here


def _values(table: Table[Any]) -> Any:
    types = get_type_hints(table.row)
    return table.row(*(_VALUES[types[name]] for name in table.columns))


def test_a_store_of_a_newer_version_is_left_alone(url: str) -> None:
    with migrated(url) as database:
        database.run("INSERT INTO migrations (number, name, at) VALUES (999, 'later', 0)")
        with pytest.raises(StoreError, match="schema 999"):
            schema.migrate(database, AT)


def test_a_store_of_an_older_version_is_to_be_migrated(url: str) -> None:
    with migrated(url) as database:
        schema.check(database)
        database.run("DELETE FROM migrations")
        with pytest.raises(StoreError, match="run `smtpguard store migrate`"):
            schema.check(database)


def test_the_key_is_the_first_ones(url: str) -> None:
    with migrated(url) as database:
        assert schema.address_key(database, b"mine") == b"mine"
        assert schema.address_key(database, b"yours") == b"mine"


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    with migrated(f"sqlite:///{tmp_path}/h.db"):
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) & 0o027 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_root_makes_the_file_for_whom_the_folder_belongs_to(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with migrated(f"sqlite:///{tmp_path}/h.db"):
        assert {file.stat().st_uid for file in tmp_path.iterdir()} == {65534}


def test_a_reader_finds_no_history_where_there_is_none(tmp_path: Path) -> None:
    engine = FileEngine(str(tmp_path / "h.db"))
    with pytest.raises(StoreError, match="there is no history yet"), engine.reading():
        pass
    with pytest.raises(StoreError, match="there is no history yet"):
        engine.connect(create=False)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "h.db").write_bytes(b"this is a letter, not a database" * 100)
    with pytest.raises(StoreError, match=r"h\.db: file is not a database"):
        engine_of(f"sqlite:///{tmp_path}/h.db").connect()


@pytest.mark.parametrize("url", ["mysql://x", "sqlite:/x", "x.db", "postgresql", "sqlite:///"])
def test_a_url_that_names_no_store(url: str) -> None:
    with pytest.raises(StoreError, match=r"store\.url is neither"):
        engine_of(url)


def test_an_unreachable_server_is_away(tmp_path: Path) -> None:
    pytest.importorskip("psycopg_pool", reason="psycopg is not installed")
    from smtpguard.history import Away

    engine = engine_of(f"postgresql:///x?host={tmp_path}&user=u")
    with pytest.raises(Away, match="No such file"):
        engine.connect()
    with pytest.raises(StoreError, match=r"store\.url"):
        engine_of("postgresql://x/?nonsense=1")
