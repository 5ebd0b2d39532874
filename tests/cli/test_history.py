"""The commands of the history as they are typed: options, exit codes, settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from smtpguard.cli import app
from smtpguard.history import schema
from tests.history.stores import numbered, started

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a store with one event, of long ago."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/h.db"
    (tmp_path / "smtpguard.toml").write_text(f'[store]\nurl = "{url}"\n[suppression]\nttl = "7d"\n')
    with started(url) as store:
        store.write(numbered(1))
    return lambda *words: CliRunner().invoke(app, list(words))


def test_report(run: Run) -> None:
    done = run("report", "--since", "9999d", "--by", "code", "--format", "csv")
    assert (done.exit_code, done.stdout) == (0, "code,rejected,deferred,mostly\n550 5.1.1,1,0,recipient.unknown\n")
    assert json.loads(run("report", "--since", "9999d", "--json").stdout)["rejected"] == 1
    assert "0 messages" in run("report", "--would-reject").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "--since", "24"], "has no unit"),
        (["report", "--by", "colour"], "is not one of category, provider"),
        (["report", "--format", "pdf"], "is not one of table, json"),
        (["suppress", "add", "a@b.example", "--for", "ever"], "is not a duration"),
        (["suppress", "add", "a@b.example", "--for", "36501d"], "give at most 36500d"),
    ],
)
def test_what_is_no_option(run: Run, words: list[str], said: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_suppress(run: Run, tmp_path: Path) -> None:
    assert run("suppress", "add", "jane@example.org", "--reason", "gone", "--for", "1d").exit_code == 0
    assert "j***@example.org" in run("suppress", "list").stdout
    assert run("suppress", "lookup", "jane@example.org").exit_code == 0
    exported = run("suppress", "export", "--json").stdout
    assert json.loads(run("suppress", "remove", "jane@example.org", "--json").stdout) == {"removed": 1}
    assert run("suppress", "lookup", "jane@example.org").exit_code == 1
    (tmp_path / "list").write_text(exported)
    assert json.loads(run("suppress", "import", "list", "--json").stdout) == {"imported": 1}
    assert run("suppress", "add", "abuse@example.org").exit_code == 2


def test_store_and_forget(run: Run) -> None:
    assert run("store", "migrate").stdout == f"schema {schema.NEWEST}: nothing to do\n"
    assert json.loads(run("store", "stats", "--json").stdout)["rows"]["refusals"] == 1
    assert run("forget", "jane.doe@example.org").stdout == "1 row deleted: refusals 1\n"
    assert run("store", "prune").stdout.startswith("2 rows deleted")  # the transaction and its count, years old


def test_a_bad_configuration_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "smtpguard.toml").write_text('[store]\nurl = "mysql://x"\n')
    done = run("store", "stats")
    assert done.exit_code == 2
    assert "smtpguard.toml:2: store.url" in done.stderr
