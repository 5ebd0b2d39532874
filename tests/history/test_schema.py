"""Migrations, and the key of hashed addresses; and what a `store.url` names."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, get_type_hints

import pytest

from smtpguard.history import StoreError, engine_of, schema
from smtpguard.history.sqlite import FileEngine
from smtpguard.history.tables import COUNTS, EVENTS, REMEMBERED
from tests.history.stores import AT, migrated


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


_VALUES: Final[dict[type, object]] = {float: 1.5, int: 7, str: "x"}


def test_rows_have_the_columns_of_their_tables(any_url: str) -> None:
    with migrated(any_url) as database:
        for table in (*EVENTS, *COUNTS, *REMEMBERED):
            assert database.query(table.select("WHERE 1 = 0")) == []
            types = get_type_hints(table.row)
            values = [_VALUES[types[name]] for name in table.columns]
            database.insert(table, [table.row(*values)])
            assert database.query(table.select("WHERE 1 = 1")) == [tuple(values)]  # no column is missing here


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
