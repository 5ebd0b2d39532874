"""`smtpguard suppress`: the list as a person changes it, and as a running node then sees it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smtpguard.cli import suppress
from smtpguard.cli.suppress import Terms
from smtpguard.policy import Strike
from smtpguard.record import Masker
from tests.history.stores import AT, DAY, FRESH_S, PATIENCE_S, SEED, started, until

JANE = "jane.doe@example.org"
KEY = Masker("mask", SEED).id(JANE.encode())


@pytest.fixture
def terms(tmp_path: Path) -> Terms:
    return Terms(f"sqlite:///{tmp_path}/h.db", SEED, "mask", 90 * DAY, ("postmaster@*", "abuse@*"), AT)


def add(terms: Terms, address: str = JANE, **options: Any) -> int:
    return suppress.add(terms, address, **{"ttl_s": None, "reason": "", "as_json": False, **options})


def shown(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_added_listed_removed(terms: Terms, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(terms, reason=f"{JANE} has left") == 0
    assert capsys.readouterr().out == (
        f"{KEY}  j***@example.org  until 2024-02-12T22:13:20Z  manual     "
        "recipient.disabled: 550 5.1.1 j***@example.org has left\n"
    )
    assert suppress.show_list(terms, as_json=True) == 0
    (row,) = shown(capsys)
    assert (row["key"], row["address"], row["source"]) == (KEY, "j***@example.org", "manual")
    assert suppress.remove(terms, f"<{JANE}>") == 0
    assert suppress.show_list(terms, as_json=True) == 0
    assert shown(capsys) == []
    assert suppress.remove(terms, JANE) == 1
    assert "is not on the list" in capsys.readouterr().err


def test_for_longer_than_the_calendar_is_for_ever(
    terms: Terms, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(terms, ttl_s=999_999_999 * DAY)
    assert "until for ever" in capsys.readouterr().out
    suppress.export(terms)
    (tmp_path / "list").write_text(capsys.readouterr().out)
    assert suppress.import_(terms, tmp_path / "list", as_json=False) == 0


def test_an_empty_list_says_so(terms: Terms, capsys: pytest.CaptureFixture[str]) -> None:
    add(terms, ttl_s=1.0)
    capsys.readouterr()
    assert suppress.show_list(replace(terms, now=AT + 2), as_json=False) == 0
    assert capsys.readouterr() == ("", "nobody is suppressed\n")


def test_lookup_by_address_and_by_key(terms: Terms, capsys: pytest.CaptureFixture[str]) -> None:
    add(terms, ttl_s=10.0)
    capsys.readouterr()
    for given in (JANE, "jane.doe@EXAMPLE.org", KEY):
        assert suppress.lookup(terms, given, as_json=True) == 0
        assert shown(capsys)[0]["until_s"] == AT + 10
    assert suppress.lookup(terms, "john@example.org", as_json=True) == 1
    assert suppress.lookup(replace(terms, now=AT + 10), JANE, as_json=True) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("Postmaster@example.org", "is one of suppression.never (postmaster@*)"),
        ("jane", "is not an address"),
        ("a b@example.org", "a b@example.org: syntax"),
        ("", "is not an address"),
    ],
)
def test_what_cannot_be_suppressed(terms: Terms, address: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(terms, address) == 2
    assert words in capsys.readouterr().err


def test_a_running_node_hears_of_it(terms: Terms, capsys: pytest.CaptureFixture[str]) -> None:
    with started(terms.url) as store:
        add(terms)
        until(lambda: store.state.suppressions.get(KEY) is not None, store, FRESH_S)
        store.state.strikes.add(Strike(KEY, "m", AT))
        assert store.flush(PATIENCE_S)
        suppress.remove(terms, JANE)
        until(lambda: store.state.suppressions.get(KEY) is None, store, FRESH_S)
        assert store.state.strikes.of(KEY) == ()
    capsys.readouterr()


# --- lists ---------------------------------------------------------------------------------------------------------


def test_export_and_import(terms: Terms, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(terms, reason="gone", ttl_s=5 * DAY)
    add(terms, "john@example.org")
    capsys.readouterr()
    assert suppress.export(terms) == 0
    exported = capsys.readouterr().out
    file = tmp_path / "list.jsonl"
    file.write_text(exported)
    other = replace(terms, url=f"sqlite:///{tmp_path}/other.db")
    assert suppress.import_(other, file, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"imported": 2}
    assert suppress.export(other) == 0
    assert capsys.readouterr().out == exported


def test_a_hash_of_another_key_is_refused(terms: Terms, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(terms)
    capsys.readouterr()
    suppress.export(terms)
    (tmp_path / "list.jsonl").write_text(capsys.readouterr().out)
    other = replace(terms, url=f"sqlite:///{tmp_path}/other.db", seed=b"another key")
    assert suppress.import_(other, tmp_path / "list.jsonl", as_json=False) == 2
    assert "list.jsonl:1: its key is of another store" in capsys.readouterr().err


def test_addresses_one_a_line(
    terms: Terms, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "# gone",
        "",
        'jane.doe@example.org, "left the company"',
        "<john@example.org>",
        '{"address": "j@example.org", "text": "x"}',
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert suppress.import_(terms, Path("-"), as_json=False) == 0
    assert capsys.readouterr().out == "3 recipients suppressed\n"
    suppress.show_list(terms, as_json=True)
    rows = shown(capsys)
    assert {row["text"] for row in rows} == {"left the company", "suppressed by hand", "x"}
    assert {row["source"] for row in rows} == {"import"}


def test_all_that_is_wrong_is_told_and_nothing_imported(
    terms: Terms, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["ok@example.org", "nonsense", "abuse@example.org", "{", '{"address": 7}', '{"key": "x"}', '{"key": 1}']
    (tmp_path / "list").write_text("\n".join([*lines, *["bad"] * 30]))
    assert suppress.import_(terms, tmp_path / "list", as_json=False) == 2
    said = capsys.readouterr().err
    for number, words in enumerate(
        ["is not an address", "suppression.never", "not JSON", "address is not a string", "another store"], 2
    ):
        assert f"list:{number}: " in said
        assert words in said
    assert "and 16 more lines" in said
    suppress.show_list(terms, as_json=True)
    assert shown(capsys) == []


def test_a_line_that_export_never_wrote(terms: Terms, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = Masker("mask", SEED).id(b"smtpguard")
    good = {"key": KEY, "of": mark, "code": 550, "text": "a\x1b[2J", "since_s": 5.0, "until_s": AT - 1}
    for bad in (
        {"key": "short"},
        {"code": "550"},
        {"code": True},
        {"code": 250},
        {"until_s": "soon"},
        {"since_s": None},
    ):
        (tmp_path / "list").write_text(json.dumps({**good, **bad}))
        assert suppress.import_(terms, tmp_path / "list", as_json=False) == 2
        assert "not a line of `suppress export`" in capsys.readouterr().err
    (tmp_path / "list").write_text(json.dumps(good))
    assert suppress.import_(terms, tmp_path / "list", as_json=False) == 0
    capsys.readouterr()
    suppress.show_list(terms, as_json=True)
    (row,) = shown(capsys)
    assert (row["text"], row["until_s"]) == ("a [2J", AT + 90 * DAY)  # it was over: it begins anew


def test_a_file_that_is_not_there(terms: Terms, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert suppress.import_(terms, tmp_path / "no", as_json=False) == 2
    assert f"{tmp_path}/no: No such file" in capsys.readouterr().err


def test_where_there_is_no_store(terms: Terms, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = replace(terms, url="")
    assert add(nowhere) == 2
    assert suppress.remove(nowhere, JANE) == 2
    assert suppress.lookup(nowhere, JANE, as_json=False) == 2
    assert suppress.show_list(nowhere, as_json=False) == 2
    assert suppress.export(nowhere) == 2
    assert capsys.readouterr().err.count('store.url is ""') == 5
