"""`smtpguard lint`: findings as a compiler writes them, as JSON, and the exit code."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import smtpguard.cli.lint
from smtpguard.cli import presend
from smtpguard.cli.lint import exit_code, facts_of, judged, letter_of, lines, run, summary
from smtpguard.lint import RULES, Action, Evidence, Finding, Report, Severity, Skipped
from smtpguard.lint.facts import Egress, Missing, Offers, SenderDomain
from smtpguard.mail.message import Message
from tests.dns.server import serving
from tests.dns.zones import load

HEAD = (
    "From: Ann <ann@shop.example>\nTo: bob@reader.example, Eve <eve@reader.example>\nSubject: Hello\n"
    "Date: Sun, 22 Nov 2026 10:00:00 +0000\nMessage-ID: <1@shop.example>\n"
)
PLAIN = HEAD + "\nHello Bob\n"
BAD = (
    HEAD.replace("Subject: Hello\n", "Subject: Hello\nSubject: again\n")
    + "\nHello Bob\n\nhttps://bit.ly/x\n{{ name }}\n"
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place to write a message to, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path("a.eml")


def lint(file: Path, *, egress: tuple[str, ...] = (), **given: Any) -> int:
    options = {"sender": None, "to": (), "as_json": False, "color": False, "loud": 0, **given}
    return run(str(file), egress=egress, offline=True, **options)


def told(file: Path, capsys: pytest.CaptureFixture[str], **given: Any) -> Any:
    """The JSON of a message."""
    lint(file, as_json=True, **given)
    return json.loads(capsys.readouterr().out)


# --- for a person ----------------------------------------------------------------------------------------------------


def test_nothing_to_say(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(PLAIN)
    assert lint(file) == 0
    out, err = capsys.readouterr()
    findings = [line for line in out.splitlines() if not line.startswith(" ")]
    assert not [line for line in findings if line.endswith("[error]")]
    assert "note: sender <ann@shop.example>, as From says (--from)" in err
    assert "note: 2 recipients, as To and Cc say (--to)" in err
    assert " rules skipped: " in err.splitlines()[-1]


def test_a_finding_is_a_line_and_the_fix_is_below(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BAD)
    assert lint(file) == 1
    out = capsys.readouterr().out.splitlines()
    at = out.index("a.eml:10: CNT005 link-deceptive: a link hides where it leads behind bit.ly [warning]")
    assert out[at + 1] == f"  fix: {RULES['CNT005'].fix}"
    numbers = [int(line.split(":")[1]) for line in out if line.startswith("a.eml:") and line.split(":")[1].isdigit()]
    assert numbers == sorted(numbers)
    assert {4, 10, 11} <= set(numbers)
    assert any(line.startswith("a.eml:4: HDR002 singleton-duplicated: ") and line.endswith(" [error]") for line in out)


def test_more_and_less(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BAD)
    lint(file, loud=1)
    out, err = capsys.readouterr()
    assert "  seen: https://bit.ly/x" in out
    assert "  says: Yahoo: 554 [PH01]" in out
    assert f"  see: {RULES['CNT005'].reference}" in out
    assert "note: skipped, no --egress: " in err
    lint(file, loud=-1)
    out, err = capsys.readouterr()
    assert err == ""
    assert all(line.startswith("a.eml:") for line in out.splitlines())


def finding(severity: Severity, **given: Any) -> Finding:
    whole = {
        "rule": "CNT001", "name": "x", "message": "m", "fix": "f", "reference": "", "predicts": (),
        "evidence": Evidence("", 1, 0), "action": Action.OBSERVE, "answer": None, "category": "unknown", **given,
    }  # fmt: skip
    return Finding(severity=severity, **whole)


def test_colour_is_the_severity() -> None:
    all_three = [finding(severity) for severity in Severity]
    shown = list(lines("a", all_three, color=True, loud=-1))
    assert [line.count("\x1b[0m") for line in shown] == [2, 2, 2]
    assert len({line.partition("CNT001")[0] for line in shown}) == 3
    assert "\x1b" not in "".join(lines("a", all_three, color=False))


def test_a_fix_is_told_once() -> None:
    three = [finding(Severity.ERROR), finding(Severity.ERROR), finding(Severity.ERROR, fix="other")]
    assert [line for line in lines("a", three, color=False) if "fix:" in line] == ["  fix: f", "  fix: other"]


def test_a_terminal_gets_the_fix_folded_and_the_finding_whole() -> None:
    first, *more = lines("a", [finding(Severity.ERROR, fix="one two three")], color=False, width=16)
    assert (first, more) == ("a:1: CNT001 x: m [error]", ["  fix: one two\n       three"])


def test_a_finding_about_no_line_has_none() -> None:
    assert next(lines("a", [finding(Severity.INFO, evidence=Evidence("x"))], color=False)) == "a: CNT001 x: m [note]"


def test_foreign_text_does_no_harm_to_a_terminal(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        PLAIN.replace("Subject: Hello", "Subject: \x1b]0;x\x07 {{first_name}}").replace("ann@", "a\x1b[31mnn@")
        + "http://\x1b[2Jevil.example@8.8.4.4/\x9b1m {{\x1b[1m name }}\n"
    )
    for loud in (0, 1):
        lint(file, loud=loud)
        out, err = capsys.readouterr()
        assert "CNT007" in out
        assert not [c for c in out + err if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize(
    ("severities", "skipped", "words"),
    [
        ([], [], "nothing found"),
        (["error"], [], "1 error"),
        (
            ["error", "error", "warning", "info", "info"],
            [Skipped("A", "x"), Skipped("B", "x")],
            "2 errors, 1 warning, 2 notes; 2 rules skipped: x",
        ),
        ([], [Skipped("A", "x")], "nothing found; 1 rule skipped: x"),
        ([], [Skipped("A", "x"), Skipped("B", "dns: servfail"), Skipped("C", "dns: timeout")],
         "nothing found; 3 rules skipped: dns (2), x (1)"),
    ],
)  # fmt: skip
def test_the_sum(severities: list[str], skipped: list[Skipped], words: str) -> None:
    assert summary([finding(Severity(severity)) for severity in severities], skipped) == words


@pytest.mark.parametrize(
    ("severities", "why", "code"),
    [
        ([], "no --egress", 0),
        ([Severity.WARNING, Severity.INFO], "no --egress", 0),
        ([Severity.INFO, Severity.ERROR], "dns: timeout", 1),
        ([Severity.WARNING], "dns: timeout", 75),
    ],
)
def test_exit_codes(severities: list[Severity], why: str, code: int) -> None:
    assert exit_code(Report([finding(severity) for severity in severities], [Skipped("X", why)])) == code


# --- for a program ---------------------------------------------------------------------------------------------------


def test_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BAD)
    found = told(file, capsys)
    assert (found["file"], found["mail_from"]) == ("a.eml", "ann@shop.example")
    assert found["rcpts"] == ["bob@reader.example", "eve@reader.example"]
    (link,) = [each for each in found["findings"] if each["rule"] == "CNT005"]
    assert link["predicts"][0]["by"] == "Google"
    assert (link["name"], link["severity"], link["line"]) == ("link-deceptive", "warning", 10)
    assert link["evidence"] == "https://bit.ly/x"
    assert link["fix"] == RULES["CNT005"].fix
    assert {"rule": "SPF002", "why": "no --egress"} in found["skipped"]
    assert {"rule": "ENV002", "why": "DNS not asked"} in found["skipped"]
    assert not [value for each in found["findings"] for value in each.values() if value is None]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_offsets_are_those_of_the_file(file: Path, capsys: pytest.CaptureFixture[str], newline: str) -> None:
    file.write_bytes(BAD.replace("\n", newline).encode())
    octets = file.read_bytes()
    offsets = {each["rule"]: each["offset"] for each in told(file, capsys)["findings"] if "offset" in each}
    assert octets[offsets["CNT005"] :].startswith(b"https://bit.ly/x")
    assert octets[offsets["HDR002"] :].startswith(b"Subject: again")


def test_mixed_line_ends_are_a_finding_and_lf_alone_is_none(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(PLAIN)
    assert "MIM002" not in {each["rule"] for each in told(file, capsys)["findings"]}
    file.write_bytes(PLAIN.replace("\n", "\r\n").encode() + b"one\ntwo\r\n")
    assert "MIM002" in {each["rule"] for each in told(file, capsys)["findings"]}


# --- envelope and facts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sender", "path", "note"),
    [
        ("From: a@x.example\n", None, b"a@x.example", "as From says"),
        ("From: a@x.example, b@x.example\nSender: c@x.example\n", None, b"c@x.example", "as Sender says"),
        ("Return-Path: <b@x.example>\nFrom: a@x.example\n", None, b"b@x.example", "as Return-Path says"),
        ("Return-Path: <>\nFrom: a@x.example\n", None, b"", "sender <>, as Return-Path says"),
        ("Subject: x\n", None, b"", "no sender"),
        ("From: a@x.example\n", "<c@x.example>", b"c@x.example", ""),
        ("From: a@x.example\n", "<>", b"", ""),
        ("From: a@x.example\n", "", b"", ""),
    ],
)
def test_where_the_sender_comes_from(fields: str, sender: str | None, path: bytes, note: str) -> None:
    letter = letter_of(f"{fields}\nx\n".encode(), sender, ["r@x.example"])
    assert letter.envelope.mail_from == path
    assert [note in said for said in letter.notes] == ([True] if note else [])


def test_where_the_recipients_come_from() -> None:
    octets = b"To: a@x.example, B <b@x.example>\nCc: a@x.example, undisclosed\nBcc: c@x.example\n\nx\n"
    paths = [rcpt.path for rcpt in letter_of(octets, "s@x.example", []).envelope.rcpts]
    assert paths == [b"a@x.example", b"b@x.example", b"c@x.example"]
    assert [rcpt.path for rcpt in letter_of(octets, "s", ["<d@x.example>"]).envelope.rcpts] == [b"d@x.example"]
    assert letter_of(b"Subject: x\n\nx\n", "s", []).notes == ("note: no recipient (--to)",)


def test_an_address_beyond_ascii_needs_smtputf8() -> None:
    assert letter_of(b"Subject: x\n\nx\n", "\u00e4@x.example", ["r"]).envelope.smtputf8
    assert not letter_of(b"Subject: x\n\nx\n", "a@x.example", ["r"]).envelope.smtputf8


def test_what_is_not_known_is_missing_with_its_reason() -> None:
    letter = letter_of(PLAIN.encode(), None, [])
    facts = facts_of(letter, ())
    reasons = {kind: fact.why for kind, fact in facts.items() if isinstance(fact, Missing)}
    assert reasons[Egress] == "no --egress"
    assert reasons[Offers] == "no next hop"
    assert reasons[SenderDomain] == facts_of(letter, [IPv4Address("192.0.2.1")])[Egress].why == "DNS not asked"
    assert isinstance(facts[Message], Message)


def test_every_rule_is_asked_or_skipped_with_a_reason() -> None:
    """For bulk mail: a rule whose fact nobody gives would be silent."""
    octets = PLAIN.replace("Subject", "Precedence: bulk\nSubject").encode()
    letter = letter_of(octets, None, [])
    facts = facts_of(letter, ())
    report = judged(letter, facts)
    skipped = {each.rule for each in report.skipped}
    missing = {
        code
        for code, rule in RULES.items()
        if rule.by_default and any(isinstance(facts.get(need), Missing) for need in rule.needs)
    }
    assert skipped == missing
    assert "BLK001" in {finding.rule for finding in report.findings}
    assert not [each for each in report.skipped if each.why.startswith("fault")]


def test_rules_of_recipients_are_asked_for_each(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(PLAIN)
    found = told(file, capsys, to=["a..b@x.example", "b@x.example", f"{'c' * 65}@x.example"])
    wrong = [each["rcpt"] for each in found["findings"] if each["rule"] == "RCP001"]
    assert wrong == ["a..b@x.example", f"{'c' * 65}@x.example"]
    assert len([each for each in found["skipped"] if each["rule"] == "RCP002"]) == 1


def test_no_recipient_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("Subject: x\n\nx\n")
    assert {"rule": "RCP001", "why": "no recipient"} in told(file, capsys)["skipped"]


# --- what cannot be linted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (None, "a.eml: No such file or directory"),
        (b"", "a.eml: is empty"),
        (b"\r\n\n", "a.eml: is empty"),
        (b"From ann Sun Nov 22\nSubject: x\n\nx\n", "a.eml: is a mailbox"),
    ],
)
def test_a_file_that_is_no_message(
    file: Path, octets: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if octets is not None:
        file.write_bytes(octets)
    assert lint(file) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"smtpguard lint: {words}")


def test_a_file_beyond_the_limit(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(PLAIN)
    monkeypatch.setattr(smtpguard.cli.lint, "MAX_OCTETS", len(PLAIN))
    assert lint(file) == 0
    monkeypatch.setattr(smtpguard.cli.lint, "MAX_OCTETS", len(PLAIN) - 1)
    assert lint(file) == 2
    assert "a.eml: is larger than" in capsys.readouterr().err


def test_a_folder_or_a_wrong_address_is_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(Path()) == 2
    file.write_text(PLAIN)
    assert lint(file, egress=("mx.example",)) == 2
    assert "--egress: 'mx.example' is no IP address" in capsys.readouterr().err


@pytest.mark.parametrize(
    "octets", [b"\0", b"\xff\xfe", b":\n\n", b"x", b"x\r\r\r", b"From:\n", b"a: b\r\n\r\n" + b"\x80" * 99]
)
def test_any_octets_are_a_message(file: Path, octets: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(octets)
    assert lint(file, as_json=True) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert not [each for each in found["skipped"] if each["why"].startswith("fault")]


# --- as it is asked for ----------------------------------------------------------------------------------------------


def invoke(*arguments: str) -> Result:
    app = typer.Typer()
    app.add_typer(presend.app)
    app.command("other")(lambda: None)  # one command alone would have no name
    return CliRunner().invoke(app, ["lint", "--offline", *arguments])


def test_the_command(file: Path) -> None:
    file.write_text(BAD)
    found = invoke("a.eml", "--from", "x@y.example", "--to", "b@z.example", "--to", "c@z.example", "--json")
    assert found.exit_code == 1
    answer = json.loads(found.stdout)
    assert (answer["mail_from"], answer["rcpts"]) == ("x@y.example", ["b@z.example", "c@z.example"])
    assert invoke("a.eml", "--egress", "none").exit_code == 2
    assert invoke("a.eml", "-q").stderr == ""
    assert "  seen: " in invoke("a.eml", "-v").stdout


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    assert lint(Path("-")) == 1
    assert capsys.readouterr().out.startswith("-:")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert lint(Path("-")) == 2
    assert "standard input: is empty" in capsys.readouterr().err


def test_no_configuration_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(PLAIN)
    Path("smtpguard.toml").write_text("nonsense")
    monkeypatch.setitem(os.environ, "SMTPGUARD_CONFIG", "smtpguard.toml")
    assert invoke("a.eml").exit_code == 0


# --- with the DNS ----------------------------------------------------------------------------------------------------


async def test_what_the_dns_says_is_told_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zone = load("good")
    zone.put("shop.example", {"MX": [10, "mx1.good.test."]}, {"TXT": "v=spf1 -all"})
    async with serving(zone) as server:

        def linted() -> tuple[int, set[str]]:
            file.write_text(PLAIN)
            config = Path("smtpguard.toml")
            config.write_text(
                f'[lint.dns]\nresolvers = ["{server.address}"]\n[lint.blocklists]\nip = []\ndomain = []\n'
                "[next_hop.default]\nhost = 'a.example'\negress_ips = ['192.0.2.25']\n"
            )
            code = run(str(file), sender=None, to=(), egress=(), as_json=True, color=False, loud=0, config=config)
            return code, {each["rule"] for each in json.loads(capsys.readouterr().out)["findings"]}

        code, found = await asyncio.to_thread(linted)
        assert code == 1
        assert {"SPF003", "RCP002"} <= found
        server.fault = "SERVFAIL"
        code, found = await asyncio.to_thread(linted)
        assert code == 75
        assert "DNS001" in found
