"""`smtpguard store`: upkeep, and what is said where there is no store or it is away."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from smtpguard.cli import store
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
    assert json.loads(capsys.readouterr().out) == {"applied": ["0001_history.sql"], "schema": 1}
    assert store.migrate(url, as_json=False) == 0
    assert capsys.readouterr().out == "schema 1: nothing to do\n"


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
        ("sqlite:////nowhere/h.db", 2, "/nowhere/h.db: there is no history yet; `smtpguard serve` makes it"),
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


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 octets"), (1023, "1,023 octets"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB"), (2**60, "1048576.0 TiB")],
)
def test_sizes(size: int, said: str) -> None:
    assert store.octets(size) == said
