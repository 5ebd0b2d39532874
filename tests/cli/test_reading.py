"""`explain`, `rules` and `ingest` as they are asked for on the command line: what is handed over, and the exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from smtpguard.cli import app

NOTICES = Path(__file__).parents[1] / "classify" / "notices"
RULE = '[[rule]]\nid = "own.one"\ncategory = "rate.limited"\npattern = "xyzzy"\nexamples = ["550 xyzzy"]\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a rule file and a configuration that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMTPGUARD_CONFIG", raising=False)
    Path("own.toml").write_text(RULE)
    Path("guard.toml").write_text('[classify]\nrules = "own.toml"\n')


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="smtpguard")


def test_explain_uses_the_rules_of_the_configuration() -> None:
    assert json.loads(run("explain", "--json", "-c", "guard.toml", "550", "xyzzy").stdout)["rule"] == "own.one"
    assert json.loads(run("explain", "--json", "550", "xyzzy").stdout)["category"] == "unknown"


def test_explain_takes_files() -> None:
    names = [str(NOTICES / "qmail.eml"), str(NOTICES / "yahoo.eml")]
    found = run("explain", *names, "--json")
    assert (found.exit_code, json.loads(found.stdout)["refused"]) == (0, 4)
    assert run("explain", *names, "--id", "none").exit_code == 1
    assert run("explain", "absent.eml").exit_code == 2


def test_rules_list_and_show() -> None:
    listed = run("rules", "list", "-c", "guard.toml", "--category", "rate", "--json")
    assert json.loads(listed.stdout)[0]["id"] == "own.one"
    assert "own.one" not in run("rules", "list").stdout
    shown = run("rules", "show", "own.one", "-c", "guard.toml")
    assert (shown.exit_code, "xyzzy" in shown.stdout) == (0, True)
    assert run("rules", "show", "own.one").exit_code == 2


def test_rules_test() -> None:
    assert run("rules", "test", "own.toml").stdout == "ok: 1 rule, 1 example, 1 file\n"
    assert run("rules", "test", "own.toml", "-q").stdout == ""
    Path("own.toml").write_text(RULE.replace("xyzzy", "("))
    found = run("rules", "test", "own.toml")
    assert found.exit_code == 1
    assert found.stderr.startswith("own.toml: own.one: ")


def test_rules_unmatched() -> None:
    Path("replies").write_text("550 xyzzy\n550 5.1.1 User unknown\n")
    assert json.loads(run("rules", "unmatched", "replies", "--json").stdout)["unmatched"] == 1
    assert json.loads(run("rules", "unmatched", "replies", "--json", "-c", "guard.toml").stdout)["unmatched"] == 0


def test_ingest() -> None:
    found = run("ingest", str(NOTICES / "yahoo.eml"), "--log", "notices.log")
    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr.startswith("1 notice in 1 message (")
    assert json.loads(Path("notices.log").read_text())["event.action"] == "notice-received"
    assert run("-q", "ingest", str(NOTICES / "ordinary.eml")).exit_code == 1


@pytest.mark.parametrize("command", [["explain", "550 x"], ["rules", "list"], ["ingest", "-"]])
def test_a_bad_rule_file_is_2_everywhere(command: list[str]) -> None:
    Path("own.toml").write_text("[[rule]]\n")
    found = run(*command, "-c", "guard.toml")
    assert found.exit_code == 2
    assert "guard.toml:2: classify.rules: own.toml: rule number 1: no id" in found.stderr


def on_a_terminal(*arguments: str, environ: dict[str, str]) -> str:
    """What a terminal of 80 columns is shown, on standard output and standard error."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "smtpguard", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **environ},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while octets := os.read(ours, 65536):
                shown += octets
        except OSError:  # the other end is closed
            pass
        assert process.wait() == 0
    os.close(ours)
    return shown.decode()


def test_a_terminal_gets_colour_and_a_bar_and_no_color_is_heeded() -> None:
    head = "Nov 20 10:11:12 mx1 postfix/smtp[1]: 4XyZ1: to=<a@r.example>, relay=x, delay=1, "
    Path("mail.log").write_text(f"{head}dsn=5.1.1, status=bounced (x)\n" * 50_000)  # large enough for a bar
    shown = on_a_terminal("explain", "mail.log", environ={"NO_COLOR": ""})
    assert "Reading" in shown
    assert "\x1b[1m" in shown
    assert "50,000 refusals" in shown
    plain = on_a_terminal("explain", str(NOTICES / "yahoo.eml"), environ={"NO_COLOR": "1"})
    assert "recipient.full" in plain
    assert "\x1b[3" not in plain
