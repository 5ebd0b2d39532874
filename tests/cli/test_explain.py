"""`smtpguard explain`: one reply for a person, many for a program, and input that is none."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from smtpguard.classify import CATEGORIES
from smtpguard.cli.explain import asked, run, verb_of
from smtpguard.mail.reply import Verb

LISTED = "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org"


def explain(text: str | None = None, jsonl: Path | None = None, **given: Any) -> int:
    options = {"host": "", "verb": None, "as_json": False, "color": False, **given}
    return run(text, jsonl, **options)


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
    assert rows["Rule"].strip() == "postfix.client-listed"
    assert rows["Block list"].strip().startswith("zen.spamhaus.org (https://")
    assert rows["Matched"].strip().startswith("Service unavailable")
    assert "Note" not in rows
    assert said.isascii()


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


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_nothing_to_explain_is_2(text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
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
    question = asked(text)
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
