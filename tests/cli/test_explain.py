"""`smtpguard explain`: one reply for a person, many for a program, files of refusals, and input that is none."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smtpguard.classify import CATEGORIES
from smtpguard.classify.notice import said, verb_of
from smtpguard.cli.explain import run
from smtpguard.cli.source import HEAD, MAX_LINE
from smtpguard.cli.tally import shape
from smtpguard.mail.reply import Verb

LISTED = "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org"


def explain(*given: str, jsonl: Path | None = None, **options: Any) -> int:
    return run(given, jsonl, **options)


def feed(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(LISTED) == 0
    said = capsys.readouterr().out
    rows = dict(line.split(":", 1) for line in said.splitlines())
    assert rows["Category"].strip() == "reputation.ip_listed"
    assert rows["Cause"].strip() == "192.0.2.7 is on zen.spamhaus.org"
    assert rows["Who acts"].strip() == "sender infrastructure"
    assert rows["Retry"].strip() == "only after the fix"
    assert rows["Rule"].strip() not in ("", "none matched")
    assert rows["Block list"].strip().startswith("zen.spamhaus.org (https://")
    assert "blocked using zen.spamhaus.org" in rows["Matched"]
    assert "Note" not in rows
    assert said.isascii()


def test_the_provider_s_own_code_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to user complaints") == 0
    rows = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert (rows["Provider"].strip(), rows["Their code"].strip()) == ("yahoo", "TSS04")


def test_a_terminal_gets_a_panel(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert explain(LISTED) == 0
    said = capsys.readouterr().out
    assert "reputation.ip_listed" in said
    assert "╭" in said
    assert "\x1b[3" not in said  # no colour was asked for


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("450 4.2.0 Greylisted, please retry in 5 minutes", as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["category"] == "rate.greylisted"
    assert found["group"] == "rate"
    assert found["retry"] is True
    assert found["retry_after"] == 300
    assert found["class"] == 4
    assert found["reply"] == {
        "code": 450,
        "enhanced": "4.2.0",
        "text": "Greylisted, please retry in 5 minutes",
        "verb": None,
    }
    assert "note" not in found
    assert "blocklist" not in found  # absent rather than null


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "550 5.7.515 Access denied, sending domain NEWS.EXAMPLE.ORG doesn't meet the required authentication "
            "level. Spf= Fail , Dkim= Pass , DMARC= Fail",
            {"domain": "news.example.org", "auth_results": "SPF fail, DKIM pass, DMARC fail"},
        ),
        (
            "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to unexpected volume or user "
            "complaints; see https://postmaster.yahooinc.com/error-codes.",
            {
                "ip": "192.0.2.7",
                "provider_code": "TSS04",
                "url": "https://postmaster.yahooinc.com/error-codes",
            },
        ),
        ("552 5.3.4 Message size exceeds fixed limit of 10485760 bytes", {"limit": "10485760 bytes"}),
        ("550 5.1.1 No such user", {}),
    ],
)
def test_json_tells_what_the_text_says(text: str, told: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(text, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    fields = ("ip", "domain", "limit", "auth_results", "provider_code", "url")
    assert {name: found[name] for name in fields if name in found} == told  # what is not said is absent


def test_text_without_a_code_is_read_as_5xx_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("user unknown", as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["category"], found["class"], found["reply"]["code"]) == ("recipient.unknown", 5, None)
    assert "no reply code" in found["note"]
    assert explain("user unknown") == 0
    assert "read as a 5xx" in capsys.readouterr().out


def test_an_enhanced_code_alone_gives_the_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("4.2.2 over quota", as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["category"], found["class"]) == ("recipient.full", 4)


def test_host_and_verb_decide_what_the_text_leaves_open(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, category in ((None, "unknown"), ("rcpt to", "recipient.full"), ("DOT", "message.too_large")):
        assert explain("552 x", as_json=True, verb=verb) == 0
        assert json.loads(capsys.readouterr().out)["category"] == category
    assert explain("550 5.7.27 x", as_json=True, host="Google") == 0
    assert json.loads(capsys.readouterr().out)["category"] == "auth.spf"


def test_standard_input_holds_one_reply_of_many_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"550-5.1.1 The email account that you tried to reach\r\n550 5.1.1 does not exist. - gsmtp\r\n")
    assert explain("-", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["rule"] == "google.no-such-user"


def test_foreign_text_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("550 user \x1b]0;evil\x07 unknown \x1b[2J user unknown \x9b") == 0
    said = capsys.readouterr().out
    assert not [c for c in said if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize(
    "text", ["", "  \n", "/var/log/absent.log", "absent.eml", "01JD5Z8Q7KX3"], ids=lambda text: repr(text)
)
def test_nothing_to_explain_is_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(text) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("smtpguard explain: ")


def test_empty_standard_input_is_2(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"")
    assert explain("-") == 2


def test_an_unreadable_file_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(jsonl=tmp_path / "absent") == 2
    assert "absent" in capsys.readouterr().err
    assert explain(jsonl=tmp_path) == 2  # a directory


def test_an_unknown_verb_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("550 x", verb="QUIT") == 2
    assert "QUIT" in capsys.readouterr().err


LINES = [
    ('{"reply": "550 5.1.1 User unknown", "next_hop": "mx.example.net", "verb": "RCPT"}', "recipient.unknown"),
    ("552 5.3.4 Message too large", "message.too_large"),
    ('{"reply": "550 5.7.27 x", "next_hop": "Google", "verb": "END OF DATA"}', "auth.spf"),
    ('{"reply": "552 x", "verb": "RCPT TO"}', "recipient.full"),
    ('{"reply": "552 x", "verb": "QUIT"}', "unknown"),
    ('{"reply": "552 x", "verb": null, "next_hop": null}', "unknown"),
]
BAD = ["{", '{"next_hop": "a"}', '{"reply": 5}', '{"reply": "550 x", "verb": 1}', '{"reply": " "}', '{"a":' * 20000]


def test_one_answer_a_line_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "replies.jsonl"
    mixed = [line for pair in zip([text for text, _ in LINES], BAD, strict=True) for line in pair]
    path.write_text("\n\n".join(mixed) + "\n", encoding="utf-8")
    assert explain(jsonl=path) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(mixed)
    for (_, category), answer in zip(LINES, answers[::2], strict=True):
        assert answer["category"] == category
        assert answer["taken_us"] > 0
    for answer in answers[1::2]:
        assert answer["category"] == "unknown"
        assert answer["error"]


def test_lines_come_from_standard_input_whatever_their_octets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"550 \xff\xfe\x00 user unknown\n550 caf\xc3\xa9\n")
    assert explain(jsonl=Path("-")) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["category"] for answer in answers] == ["recipient.unknown", "unknown"]


def test_who_asks_one_line_has_its_answer_before_the_next() -> None:
    command = [sys.executable, "-m", "smtpguard", "explain", "--jsonl", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for text, category in LINES:
            program.stdin.write(f"{text}\n".encode())
            assert json.loads(program.stdout.readline())["category"] == category
        program.stdin.write(b"550 no newline at the end")
        program.stdin.close()
        assert json.loads(program.stdout.readline())["category"] == "unknown"


def test_a_line_without_end_is_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"550 5.1.1 no such user " + b"x" * 9 * MAX_LINE + b"\n552 5.3.4 Message too large")
    assert explain(jsonl=Path("-")) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["category"], second["category"]) == ("recipient.unknown", "message.too_large")
    assert len(first["reply"]["text"]) <= 2 * MAX_LINE


@pytest.mark.parametrize(
    ("text", "code", "host", "verb"),
    [
        (
            "status=bounced (host mx.example.net[192.0.2.1] said: 550 5.1.1 no (in reply to RCPT TO command))",
            550,
            "mx.example.net",
            Verb.RCPT,
        ),
        (
            "host mx.example.net[192.0.2.1] said: 554 5.7.1 spam (in reply to end of DATA command)",
            554,
            "mx.example.net",
            Verb.DOT,
        ),
        ("host mx.example.net[192.0.2.1] refused to talk to me: 554 5.7.1 no", 554, "mx.example.net", Verb.CONNECT),
        (
            "a@b T=remote H=mx.example.net [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<a@b>: 550 no",
            550,
            "mx.example.net",
            Verb.RCPT,
        ),
        (
            "** a@b H=mx.example.net [192.0.2.1]: SMTP error from remote mail server after end of data: 552 5.3.4 big",
            552,
            "mx.example.net",
            Verb.DOT,
        ),
        ("550 5.1.1 no", 550, "", None),
    ],
)
def test_a_line_of_a_log_gives_reply_host_and_verb(text: str, code: int, host: str, verb: Verb | None) -> None:
    question = said(text)
    assert (question.reply.code, question.host, question.verb) == (code, host, verb)
    assert question.has_code


@pytest.mark.parametrize(
    ("word", "verb"),
    [("RCPT", Verb.RCPT), ("rcpt  to", Verb.RCPT), ("HELO", Verb.EHLO), ("end of DATA", Verb.DOT), ("QUIT", None)],
)
def test_words_for_verbs(word: str, verb: Verb | None) -> None:
    assert verb_of(word) is verb


def test_all_answers_are_of_the_closed_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("553 ?", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["category"] in CATEGORIES


# --- files -----------------------------------------------------------------------------------------------------------

NOTICES = Path(__file__).parents[1] / "classify" / "notices"
POSTFIX = (
    "Nov 20 10:11:12 mx1 postfix/smtp[1]: 4XyZ{0:05d}: to=<u{0}@r.example>, relay=mx.r.example[192.0.2.1]:25, delay=1, "
)
UNKNOWN = "dsn=5.1.1, status=bounced (host mx.r.example[192.0.2.1] said: 550 5.1.1 <u{0}@r.example>: User unknown)"
LIST = (
    "dsn=5.7.1, status=bounced (host mx.r.example[192.0.2.1] said: 554 5.7.1 Service unavailable; "
    "Client host [192.0.2.7] blocked using zen.spamhaus.org (in reply to RCPT TO command))"
)
SENT = "dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 1A)"
REJECT = (
    "Nov 20 10:11:17 mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from x[203.0.113.66]: 554 5.7.1 <x@o.example>: "
    "Relay access denied; from=<s@b.example> to=<x@o.example> proto=ESMTP helo=<b>"
)


def log_lines() -> list[str]:
    """Six deliveries: three to unknown users, one refused for a block list, two taken; and one refused by us."""
    ends = [UNKNOWN, UNKNOWN, LIST, UNKNOWN, SENT, SENT]
    return [(POSTFIX + end).format(number) for number, end in enumerate(ends)] + [REJECT]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "mail.log"
    path.write_text("\n".join(log_lines()) + "\n", encoding="utf-8")
    return path


def test_a_bounce_gives_the_panel_with_what_else_it_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(str(NOTICES / "postfix-connect.eml")) == 0
    rows = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["Category"].strip() == "reputation.ip_listed"
    assert rows["Recipient"].strip() == "erin@listed.example"
    assert rows["Refused by"].strip() == "mx.listed.example"
    assert rows["Answer to"].strip() == "CONNECT"
    assert rows["When"].strip() == "2026-11-20T14:00:02Z"


def test_a_bounce_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(str(NOTICES / "yahoo.eml"), as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["category"] == "recipient.full"
    assert found["notice"]["recipient"] == "yves@receiver.example"
    assert found["notice"]["kind"] == "bounce"


def test_a_log_is_summed_up(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(str(log)) == 0
    said = capsys.readouterr().out
    first, _, causes = said.partition("Causes\n")
    assert "4 of 6 deliveries refused (67 %), 4 for good, 0 to be tried again" in " ".join(first.split())
    assert causes.split()[:3] == ["recipient.unknown", "3", "75"]
    # the sender's own fault before the more frequent one of others
    _, _, to_do = said.partition("What to do first\n")
    assert to_do.index("reputation.ip_listed") < to_do.index("recipient.unknown")
    assert "192.0.2.7 on zen.spamhaus.org" in " ".join(to_do.split())
    assert "Refused by this server itself" in said
    assert not [line for line in said.splitlines() if line != line.rstrip()]


def test_a_log_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(str(log), as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["delivered"], found["refused"], found["failed"], found["delayed"]) == (2, 4, 4, 0)
    cause = found["causes"][0]
    assert (cause["category"], cause["count"], cause["share"]) == ("recipient.unknown", 3, 0.75)
    assert cause["example"]["recipient"] == "u0@r.example"
    assert found["to_do"] == ["reputation.ip_listed", "recipient.unknown"]
    assert found["inbound"][0]["category"] == "access.relay_denied"
    assert found["first"] <= found["last"]


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_looked_at(
    packed: bool, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, gzip.compress(log.read_bytes()) if packed else log.read_bytes())
    assert explain("-", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == 4


def test_a_head_that_ends_within_a_line_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 3 * HEAD // len((POSTFIX + UNKNOWN).format(0))
    feed(monkeypatch, "\n".join((POSTFIX + UNKNOWN).format(number) for number in range(count)).encode())
    assert explain("-", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == count


def test_many_files_are_one_summary(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = tmp_path / "mail.log.1.gz"
    older.write_bytes(gzip.compress(log.read_bytes()))
    assert explain(str(log), str(older), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == 8


def test_folders_and_mboxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maildir, mbox = tmp_path / "Maildir", tmp_path / "mbox"
    for name in ("cur", "new", "tmp"):
        (maildir / name).mkdir(parents=True)
    for path in NOTICES.iterdir():
        (maildir / ("new" if path.stem < "m" else "cur") / path.stem).write_bytes(path.read_bytes())
    (maildir / "tmp" / "half").write_bytes((NOTICES / "qmail.eml").read_bytes())
    with mbox.open("wb") as file:
        for path in NOTICES.iterdir():
            file.write(
                b"From x Fri Nov 20 10:00:00 2026\n" + path.read_bytes().replace(b"\nFrom ", b"\n>From ") + b"\n"
            )
    counts = []
    for path in (NOTICES, maildir, mbox):
        assert explain(str(path), as_json=True) == 0
        counts.append(json.loads(capsys.readouterr().out)["refused"])
    assert counts[0] == counts[1] == counts[2] > 30


def test_a_list_of_replies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "replies.txt"
    path.write_text("550 5.1.1 User unknown\n550-5.1.1 User\n550 5.1.1 unknown\n452 4.2.2 Mailbox full\n")
    assert explain(str(path), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == 3
    path.write_text('{"reply": "550 5.7.27 x", "next_hop": "Google"}\n{"reply": "550 5.1.1 no such user"}\n{"a": 1}\n')
    assert explain(str(path), as_json=True) == 0
    causes = {cause["category"] for cause in json.loads(capsys.readouterr().out)["causes"]}
    assert {"auth.spf", "recipient.unknown"} <= causes


def test_an_id_is_looked_up(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(str(log), id="4XyZ00002") == 0
    assert "u2@r.example" in capsys.readouterr().out
    assert explain(str(log), id="4XyZ99999") == 1
    assert "no refusal with the id 4XyZ99999" in capsys.readouterr().err
    assert explain(id="4XyZ00002") == 2  # the history that no configuration names
    assert "explain --id 4XyZ00002 /var/log" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ordinary.eml", "vacation.eml"])
def test_a_message_that_is_no_notice_is_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(str(NOTICES / name)) == 2
    assert "tells of no refusal" in capsys.readouterr().err


def test_a_log_without_refusals_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mail.log"
    path.write_text("Nov 20 10:11:12 mx1 postfix/qmgr[1]: 4XyZ1: removed\n")
    assert explain(str(path)) == 0
    assert "no delivery, refusal or complaint found" in " ".join(capsys.readouterr().out.split())
    path.write_text("")
    assert explain(str(path)) == 0


def test_a_broken_archive_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mail.log.gz"
    path.write_bytes(gzip.compress(random.Random(1).randbytes(1000))[:500])
    assert explain(str(path)) == 2
    assert "mail.log.gz" in capsys.readouterr().err


def test_an_operators_own_rule_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "own.toml"
    rules.write_text(
        '[[rule]]\nid = "own.all"\ncategory = "rate.limited"\ncode = [550]\nexamples = ["550 5.1.1 User unknown"]\n'
    )
    assert explain("550 5.1.1 User unknown", rules=[rules], as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rule"], found["category"]) == ("own.all", "rate.limited")
    assert "alternatives" not in found
    rules.write_text("[[rule]]\n")
    assert explain("550 x", rules=[rules]) == 2
    assert "own.toml: rule number 1: no id" in capsys.readouterr().err


def test_replies_of_one_shape_are_classified_once() -> None:
    one, other = (
        shape(f"<{name}@r.example>: User unknown; Client host [{ip}] see https://x.example/?p=1234567 {id} - gsmtp")
        for name, ip, id in (("a", "192.0.2.1", "d9443c01a7336-2a0ffc"), ("b.c", "192.0.2.2", "af79cd13be357-7b2"))
    )
    assert one == other
    assert "https://x.example/?p=1234567" in one
    assert shape("552 5.2.2 over quota [TSS04] S3150") == "552 5.2.2 over quota [TSS04] S3150"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_asked(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert explain(str(NOTICES)) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_foreign_text_in_a_file_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil\x1b[2J.log"
    path.write_text("\n".join(log_lines()).replace("User unknown", "User \x1b]0;evil\x07unknown \x9b"))
    assert explain(str(path)) == 0
    said = capsys.readouterr().out
    assert not [c for c in said if not c.isprintable() and c != "\n"]


def test_what_we_held_back_ourselves_is_told_by_its_own_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "smtpguard.log"
    path.write_text(
        '{"event.action":"recipient-refused","event.id":"01JD5Z8Q7KX3","smtp.verb":"RCPT","smtp.rcpt_to":"o***@r.example",'
        '"smtpguard.answer":450,"smtpguard.source":"policy","smtpguard.category":"reputation.ip_listed",'
        '"smtpguard.cause":"the sending IP is on a block list"}\n'
    )
    assert explain(str(path), id="01JD5Z8Q7KX3") == 0
    said = capsys.readouterr().out
    assert "Cause:       the sending IP is on a block list\n" in said
    assert "Category:    reputation.ip_listed\n" in said
    assert explain(str(path), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["category"] == "reputation.ip_listed"


def test_a_detector_that_stumbles_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "odd.eml"
    path.write_bytes(
        b"From: mail d\xe6mon\nSubject: failure notice\nReturn-Path: <>\n\n<a@b.example>:\n550 no such user\n"
    )
    assert explain(str(path)) == 0
    assert "a@b.example" in capsys.readouterr().out
    assert caplog.records == []


# --- replies that smtpguard explained ---------------------------------------------------------------------------------


def test_our_own_bounce_tells_the_true_host_and_our_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bounce = NOTICES / "smtpguard.eml"
    assert explain(str(bounce)) == 0
    rows = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert (rows["Refused by"].strip(), rows["Id"].strip()) == ("mx.receiver.example", "01JD5Z8Q7KX3")
    assert rows["Matched"].strip() == "User unknown"
    assert explain(str(bounce), as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["id"], found["notice"]["host"]) == ("01JD5Z8Q7KX3", "mx.receiver.example")
    assert found["reply"]["text"] == "<bob@receiver.example>: User unknown"
    mbox = tmp_path / "mbox"
    mbox.write_bytes((b"From x Fri Nov 20 10:00:00 2026\n" + bounce.read_bytes() + b"\n") * 2)
    assert explain(str(mbox), as_json=True) == 0
    (cause,) = json.loads(capsys.readouterr().out)["causes"]
    assert (cause["category"], cause["count"]) == ("recipient.unknown", 2)
    assert (cause["example"]["host"], cause["example"]["id"]) == ("mx.receiver.example", "01JD5Z8Q7KX3")
    assert explain(str(mbox), id="01JD5Z8Q7KX3") == 0
    assert capsys.readouterr().out.count("Category:") == 2


def test_our_own_reply_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    text = "550 5.1.1 mx.r.example said: no such user 550 5.1.1 [smtpguard] Cause: recipient.unknown Id: 01JD5Z8Q7KX3"
    assert explain(text, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["id"], found["reply"]["text"]) == ("01JD5Z8Q7KX3", "no such user")


# --- what needs no explanation, and what has none ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ["250 2.0.0 ok", "354 End data with <CR><LF>.<CR><LF>"])
def test_an_acceptance_needs_no_explanation(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(text) == 0
    assert capsys.readouterr().out == f"{text}: this is no refusal but an acceptance, nothing to explain\n"
    assert explain(text, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accepted"] is True
    assert found["reply"]["code"] == int(text[:3])
    assert "category" not in found
    lines = tmp_path / "replies"
    lines.write_text(f"{text}\n")
    assert explain(jsonl=lines) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["category"], found["accepted"]) == ("unknown", True)


PASSWD = b"root:x:0:0:root:/root:/bin/sh\nsystemd:x:998:998:Time Synchronization:/:/usr/sbin/nologin\n"


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "octets",
    [
        PASSWD,
        b"\x7fELF\x02\x00\x00550 5.1.1 no\n\x00",
        b"550 \x00",
        b'{\n  "name": "x",\n  "user": "unknown"\n}\n',
        b"\n",
    ],
    ids=["passwd", "program", "nul", "json", "blank"],
)
def test_a_file_that_tells_nothing_is_2(
    octets: bytes, as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in (folder, tmp_path / "file"):  # the folder is empty first
        if place != folder:
            place.write_bytes(octets)
            (folder / "one").write_bytes(octets)
        for name in {place, folder}:
            assert explain(str(name), as_json=as_json) == 2
            captured = capsys.readouterr()
            assert captured.out == ""
            assert "tells of no refusal" in captured.err
            assert "give a bounce" in captured.err


def test_a_file_with_a_reply_is_read_still(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "reply"
    for text in ("The server said:\n  550 5.1.1 no such user\n", "Sorry, no mailbox here by that name. (#5.1.1)\n"):
        path.write_text(text)
        assert explain(str(path), as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["category"] == "recipient.unknown"


def test_a_pipe_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    feed(monkeypatch, b"user unknown\n")
    assert explain("-", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["category"] == "recipient.unknown"
    feed(monkeypatch, b"\x00user unknown\n")
    assert explain("-") == 2
