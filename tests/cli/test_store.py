"""`smtpguard store`: upkeep, and what is said where there is no store or it is away."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path

import pytest

from smtpguard.cli import store
from smtpguard.history import schema
from tests.history.stores import DAY, PATIENCE_S, numbered, started


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with two events, long ago."""
    url = f"sqlite:///{tmp_path}/h.db"
    with started(url) as given:
        given.write(numbered(1))
        given.write(numbered(2))
        assert given.flush(PATIENCE_S)
    return url


def test_migrate_makes_the_tables_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/h.db"
    assert store.migrate(url, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "applied": [name for _, name, _ in schema.migrations()],
        "schema": schema.NEWEST,
    }
    assert store.migrate(url, as_json=False) == 0
    assert capsys.readouterr().out == f"schema {schema.NEWEST}: nothing to do\n"


def test_stats(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.stats(url, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"]["transactions"], found["oldest"]) == (2, "2023-11-14T22:13:20Z")
    assert store.stats(url, as_json=False) == 0
    said = capsys.readouterr().out
    assert "events since 2023-11-14T22:13:20Z" in said
    assert "\n  refusals                  2\n" in said


def test_prune_deletes_what_is_over(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.prune(url, retention_s=DAY, max_size=0, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] == 5  # two events of two rows, and a count
    assert store.prune(url, retention_s=DAY, max_size=0, as_json=False) == 0
    assert capsys.readouterr().out.startswith("0 rows deleted; ")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("", 2, 'store.url is "": the history is in the memory of the service'),
        ("sqlite:////nowhere/h.db", 2, "/nowhere/h.db: there is no history yet; `smtpguard serve` makes it; where"),
        ("mysql://x", 2, "store.url is neither"),
    ],
)
def test_where_there_is_no_store(url: str, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.stats(url, as_json=False) == code
    assert store.prune(url, retention_s=DAY, max_size=0, as_json=False) == code
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["smtpguard store stats", "smtpguard store prune"]
    assert all(words in line for line in said)


def test_a_folder_that_is_not_there_is_named_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert store.migrate("sqlite:////nowhere/h.db", as_json=False) == 2
    assert "/nowhere/h.db: no such file or directory: the folder must exist" in capsys.readouterr().err


def test_a_locked_store_is_temporary(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert store.stats(url, as_json=False) == 75
    finally:
        other.close()
    assert "database is locked" in capsys.readouterr().err


# --- for check -----------------------------------------------------------------------------------------------------


def dump(file: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


def test_a_history_in_memory_is_warned_of() -> None:
    found = store.looked_at("", "kept in memory, for /x cannot be written", offline=False)
    assert (found.state, found.message) == ("warn", "kept in memory, for /x cannot be written")
    assert "in the memory of the service" in store.looked_at("", "", offline=False).message


def test_a_store_that_can_be_written_is_left_as_it_is(tmp_path: Path, url: str) -> None:
    before = dump(tmp_path / "h.db")
    found = store.looked_at(url, "", offline=True)
    assert (found.name, found.state) == ("store.url", "ok")
    assert found.message.startswith(f"{tmp_path}/h.db: can be written, ")
    assert dump(tmp_path / "h.db") == before


def test_a_store_that_is_still_to_be_made_is_not_made(tmp_path: Path) -> None:
    found = store.looked_at(f"sqlite:///{tmp_path}/new.db", "", offline=False)
    assert (found.state, found.message) == ("ok", f"{tmp_path}/new.db: not there yet, `smtpguard serve` makes it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "state", "words"), [(0, "ok", "empty, `smtpguard serve`"), (99, "fail", "upgrade")])
def test_a_store_of_another_version(number: int, state: str, words: str, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    with other:
        other.execute("CREATE TABLE x (y)")
        if number:
            other.execute("CREATE TABLE migrations (number, name, at)")
            other.execute("INSERT INTO migrations VALUES (?, '', 0)", (number,))
    other.close()
    found = store.looked_at(f"sqlite:///{tmp_path}/other.db", "", offline=False)
    assert (found.state, words in found.message, found.is_temporary) == (state, True, False)


def test_a_store_that_cannot_be_had(tmp_path: Path, url: str) -> None:
    missing = store.looked_at(f"sqlite:///{tmp_path}/none/h.db", "", offline=False)
    assert (missing.state, missing.is_temporary) == ("fail", False)
    assert f"{tmp_path}/none is not there, or this user may not write it" in missing.message
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        locked = store.looked_at(url, "", offline=False)
    finally:
        other.close()
    assert (locked.state, locked.is_temporary, locked.message) == ("fail", True, f"{tmp_path}/h.db: database is locked")
    assert store.looked_at("mysql://x", "", offline=False).state == "fail"


def test_a_server_that_is_away_and_one_that_is_not_asked(tmp_path: Path) -> None:
    pytest.importorskip("psycopg_pool", reason="psycopg is not installed")
    url = f"postgresql:///x?host={tmp_path}&user=u"
    away = store.looked_at(url, "", offline=False)
    assert (away.state, away.is_temporary) == ("fail", True)
    assert store.looked_at(url, "", offline=True).state == "skip"


def test_a_server_that_is_away_is_told_once_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    driver = pytest.importorskip("smtpguard.history.postgres", reason="psycopg is not installed")
    monkeypatch.setattr(driver, "PATIENCE_S", 0.1)
    assert store.stats(f"postgresql:///x?host={tmp_path}&user=u", as_json=False) == 75
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("smtpguard store stats: ")
    assert "No such file or directory" in line


def test_without_its_driver_a_server_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smtpguard.history.postgres", None)
    found = store.looked_at("postgresql://db.example/x", "", offline=True)
    assert (found.state, found.is_temporary) == ("fail", False)
    assert found.message.endswith("pip install 'smtpguard[postgres]', from the source '.[postgres]'")


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 octets"), (1023, "1,023 octets"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB"), (2**60, "1048576.0 TiB")],
)
def test_sizes(size: int, said: str) -> None:
    assert store.octets(size) == said
