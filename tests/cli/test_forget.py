"""`smtpguard forget`: what is said; that no octet stays is shown in tests/history/test_upkeep.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smtpguard.cli.forget import run
from tests.history.stores import PATIENCE_S, SEED, numbered, started


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/h.db"
    with started(url) as store:
        store.write(numbered(1))
        assert store.flush(PATIENCE_S)
    return url


def test_what_was_deleted_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(url, "<jane.doe@example.org>", seed=SEED, as_json=False) == 0
    assert capsys.readouterr().out == "1 row deleted: refusals 1\n"
    assert run(url, "jane.doe@example.org", seed=SEED, as_json=False) == 0
    assert capsys.readouterr().out == "nothing was kept of it\n"


def test_a_sender_goes_with_all_that_was_said_to_them(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(url, "Bob.Sender@example.com", seed=b"of another host", as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": {"refusals": 1, "transactions": 1}}


@pytest.mark.parametrize("given", ["", " ", "jane", "<>"])
def test_what_is_no_address_is_refused(url: str, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(url, given, seed=SEED, as_json=False) == 2
    assert "is not an address: give name@domain" in capsys.readouterr().err


def test_where_there_is_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("", "a@example.org", seed=SEED, as_json=False) == 2
    assert capsys.readouterr().err.startswith("smtpguard forget: store.url")
