"""HDR rules: for each, messages that it must find, with the line and the octet, and twins that it must not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.lint import RULES, Hit, Severity
from smtpguard.lint.facts import Now
from smtpguard.lint.headers import FIELDS_LIMIT, HOPS_LIMIT, MESSAGE_ID_LIMIT
from smtpguard.mail.fields import LINES_LIMIT
from smtpguard.mail.header import date
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope
from tests.lint.asking import ask
from tests.lint.letters import hits, is_at, severities

NOON = Now(date(b"Sun, 22 Nov 2026 12:00:00 +0000") or 0.0)


def message(header: str | bytes, body: bytes = b"Hello\r\n") -> Message:
    """A message with this header, written with line feeds."""
    octets = header.encode() if isinstance(header, str) else header
    return Message(octets.replace(b"\n", b"\r\n") + b"\r\n" + body)


def only(found: list[Hit]) -> Hit:
    """The one hit."""
    assert len(found) == 1
    return found[0]


# --- HDR001 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "at", "words"),
    [
        ("Subject: x\nFrom: a@b.example\nFrom: c@d.example\n", b"From: c", "2 From"),
        ("Subject: x\nFrom: Ann\n", b"From: Ann", "no address"),
        ("From:\n", b"From", "no address"),
        ("from: <>\n", b"from", "no address"),
        ("From: Ann <ann@example.org\n", b"From", "no address"),
        ("From: undisclosed:;\n", b"From", "no address"),
    ],
)
def test_from_that_names_nobody(header: str, at: bytes, words: str) -> None:
    given_ = message(header)
    hit = only(hits("HDR001", given_))
    assert is_at(given_, hit, at)
    assert words in hit.message
    assert severities("HDR001", given_) == [Severity.ERROR]


def test_no_from() -> None:
    hit = only(hits("HDR001", message("To: a@b.example\nReply-To: c@d.example\n")))
    assert (hit.evidence.line, hit.evidence.offset) == (1, 0)


@pytest.mark.parametrize(
    ("header", "at", "words"),
    [
        ("From: a@b.example,\n c@d.example\n", b"c@d", "lists 2 addresses"),
        ("From: Lee, Ann <a@b.example>\n", b"Lee,", "an entry without an address"),
    ],
)
def test_from_with_more_than_one_entry_is_a_warning(header: str, at: bytes, words: str) -> None:
    given_ = message(header)
    hit = only(hits("HDR001", given_))
    assert words in hit.message
    assert is_at(given_, hit, at)
    assert severities("HDR001", given_) == [Severity.WARNING]


@pytest.mark.parametrize(
    "value",
    [
        "a@b.example",
        '"Lee, Ann" <a@b.example>',
        "root@host (Cron Daemon)",
        "Mail Delivery System\n <MAILER-DAEMON@mx.b.example>",
        "=?utf-8?q?Ann?= <a@b.example>",
        "Ann\xe9 <a@b.example>",
        "a..b@docomo.example",
        "a@[192.0.2.1]",
    ],
)
def test_from_of_any_honest_form(value: str) -> None:
    assert hits("HDR001", message(f"From: {value}\n")) == []


# --- HDR002 ----------------------------------------------------------------------------------------------------------


def test_fields_that_stand_once() -> None:
    given_ = message("Subject: x\nTo: a@b.example\nCc: c@d.example\nSUBJECT: y\nTo: e@f.example\n")
    first, second = hits("HDR002", given_)
    assert is_at(given_, first, b"SUBJECT: y")
    assert is_at(given_, second, b"To: e@")
    assert "2 Subject: fields" in first.message


def test_fields_that_may_stand_often() -> None:
    header = "From: a@b.example\nFrom: c@d.example\nReceived: x\nReceived: y\nX-A: 1\nX-A: 2\nDKIM-Signature: 1\n"
    assert (
        hits("HDR002", message(header + "DKIM-Signature: 2\nComments: 1\nComments: 2\nSubject: x\nTo: y@z.example\n"))
        == []
    )


# --- HDR003 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("yesterday", "cannot be read"),
        ("2026-11-22T12:00:00Z", "cannot be read"),
        ("Wed, 25 Nov 2026 12:00:00 +0000", "3 days in the future"),
        ("Fri, 06 Nov 2026 12:00:00 +0000", "16 days in the past"),
        ("Thu, 01 Jan 1970 00:00:00 +0000", "days in the past"),
    ],
)
def test_dates_that_are_off(value: str, words: str) -> None:
    given_ = message(f"Subject: x\nDate: {value}\n")
    found = only(list(RULES["HDR003"].check(given_, NOON)))
    assert words in found.message
    assert is_at(given_, found, b"Date")


def test_no_date() -> None:
    [finding] = ask("HDR003", message("Subject: x\n"), NOON)
    assert "no Date" in finding.message


@pytest.mark.parametrize(
    "header",
    [
        "Date: Sun, 22 Nov 2026 12:00:00 +0000\n",
        "Date: Tue, 24 Nov 2026 11:00:00 +0000\n",
        "Date: 8 Nov 2026 12:00 GMT\n",
        "Date: Thu, 01 Jan 2015 00:00:00 +0000\nResent-Date: Sun, 22 Nov 2026 11:00:00 +0000\n",
    ],
)
def test_dates_that_are_not(header: str) -> None:
    assert ask("HDR003", message(header), NOON) == []


# --- HDR004 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "is empty"),
        ("a@b.example", "is not enclosed in < >"),
        ("<ab>", "no @"),
        ("<a b@c.example>", "has a space"),
        ("<@c.example>", "nothing on one side"),
        ("<a@>", "nothing on one side"),
        ("<a@b.example> <c@d.example>", "more than one"),
        ("<" + "a" * MESSAGE_ID_LIMIT + "@b.example>", "characters long"),
    ],
)
def test_message_ids_that_are_none(value: str, words: str) -> None:
    given_ = message(f"Subject: x\nMessage-Id: {value}\n")
    hit = only(hits("HDR004", given_))
    assert words in hit.message
    assert is_at(given_, hit, b"Message-Id")


def test_no_message_id() -> None:
    assert "no Message-ID" in only(hits("HDR004", message("In-Reply-To: <a@b.example>\n"))).message


@pytest.mark.parametrize(
    "value",
    [
        "<a@b.example>",
        "\n <" + "a" * 400 + "@b.example>",
        "<a$b.c@[192.0.2.1]>",
        "(c) <a@b> (added by x@y)",
        "<1@2@host>",
    ],
)
def test_message_ids(value: str) -> None:
    assert hits("HDR004", message(f"Message-ID: {value}\n")) == []


# --- HDR005 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "at", "words"),
    [
        ("From: a@b.example\nHello there\nTo: c@d.example\n", b"Hello", "no colon"),
        ("From: a@b.example\nDear Ann: hello\n", b"Dear", "name of a field"),
        ("From: a@b.example\nBetré: hello\n", "Betré".encode(), "name of a field"),
        ("From: a@b.example\nTo : c@d.example\n", b"To :", "space between the name of a field and its colon"),
        ("From a@b.example Sun Nov 22 12:00:00 2026\nTo: c@d.example\n", b"From a", "mbox"),
        (" Subject: x\nFrom: a@b.example\n", b" Subject", "first line begins with a space"),
        ("From: a@b.example\nX: a\0b\nTo: c@d.example\n", b"\0b", "NUL"),
    ],
)
def test_lines_that_are_no_field(header: str, at: bytes, words: str) -> None:
    given_ = message(header)
    hit = only(hits("HDR005", given_))
    assert words in hit.message
    assert is_at(given_, hit, at)


@pytest.mark.parametrize("newline", [b"\n", b"\r"])
def test_newlines_in_the_header_that_are_no_crlf(newline: bytes) -> None:
    given_ = Message(b"From: a@b.example\r\nX: a" + newline + b"b\r\nTo: c@d.example\r\n\r\n")
    hit = only(hits("HDR005", given_))
    assert "not part of a CRLF" in hit.message
    assert is_at(given_, hit, newline + b"b")


def test_lines_of_one_kind_are_one_finding() -> None:
    assert "(and 2 more)" in only(hits("HDR005", message("a\nb\nc\n"))).message


@pytest.mark.parametrize("header", ["From:a@b.example\n", "X-!#$%&'*+^_`{|}~: 1\n", "A:\n B\n\tC\n", "A: \u00e9\n", ""])
def test_lines_that_are_fields(header: str) -> None:
    given_ = message(header, b"no field\n here: \0")
    assert hits("HDR005", given_) == []


# --- HDR006 ----------------------------------------------------------------------------------------------------------


def test_raw_octets_in_the_header() -> None:
    given_ = message("From: a@b.example\nSubject: one\n caf\u00e9\nTo: Ren\u00e9 <c@d.example>\n")
    hit = only(list(RULES["HDR006"].check(given_, Envelope(b"a@b.example"))))
    assert is_at(given_, hit, "\u00e9".encode())
    assert hit.evidence.line == 3
    assert "Subject: (and 1 more) has" in hit.message
    alone = message("Subject: caf\u00e9\n")
    assert [each.message for each in ask("HDR006", alone, Envelope(b""))] == ["Subject: has raw octets above 127"]


def test_raw_octets_that_are_allowed() -> None:
    given_ = message("Subject: caf\u00e9\n")
    assert ask("HDR006", given_, Envelope(b"", smtputf8=True)) == []
    assert ask("HDR006", message("Subject: =?utf-8?q?caf=C3=A9?=\n", b"caf\xe9"), Envelope(b"")) == []


# --- HDR007 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "at", "words"),
    [
        ("Subject: x =?utf-8?Q?caf=E9?= y\n", b"=?utf", "not utf-8"),
        ("Subject: a\n =?utf-8?B?Zm!u?=\n", b"=?utf", "Base64"),
        ("Subject: =?x-none?Q?a?=\n", b"=?x", "unknown"),
        ("Subject: =?utf-8?Q?a b?=\n", b"=?utf", "space"),
        ("Subject: =?utf-8?Q?" + "a" * 64 + "?=\n", b"=?utf", "76 characters"),
        ('From: "=?utf-8?Q?Ann?=" <a@b.example>\n', b"=?utf", "double quotes"),
        ('From: "Ann =?utf-8?Q?Lee?=" <a@b.example>\n', b"=?utf", "double quotes"),
        ("To: Ann <=?utf-8?Q?a?=@b.example>\n", b"=?utf", "an address"),
    ],
)
def test_encoded_words_that_are_bad(header: str, at: bytes, words: str) -> None:
    given_ = message(header)
    hit = only(hits("HDR007", given_))
    assert words in hit.message
    assert is_at(given_, hit, at)


@pytest.mark.parametrize(
    "header",
    [
        "Subject: =?utf-8?Q?caf=C3=A9?=\n =?utf-8?Q?_au_lait?=\n",
        "Subject: =?utf-8?Q?" + "a" * 63 + "?=\n",
        'Subject: "=?utf-8?Q?a?="\n',
        'From: "Ann" =?utf-8?Q?Lee?= <a@b.example>, "B" <b@b.example>\n',
        "From: a@b.example (=?utf-8?Q?Ann?=)\n",
        "Subject: what is 2 =? 3\n",
        "X-Report: =?x-none?Q?a?=\n",
    ],
)
def test_encoded_words_that_are_good(header: str) -> None:
    assert hits("HDR007", message(header)) == []


# --- HDR008 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "at", "words"),
    [
        (b"A: 1\nX: " + b"a" * 33_000 + b"\n", b"X: ", "33,001 octets"),
        (b"A: 1\nSubject: " + b"a" * 999 + b"\n", b"Subject", "999 octets"),
        (b"A: 1\n" + b"X" * 1025 + b": 1\n", b"XX", "1,025 octets"),
        (b"To: a@b.example,\n" + b" c@d.example,\n" * 50_000, b"To", "header section"),
        (b"To: a@b.example,\n" + b" c@d,\n" * LINES_LIMIT, b"To", "40,000 lines"),
        (b"X: 1\n" * (FIELDS_LIMIT + 1), b"X: 1", "5,001 fields"),
    ],
)
def test_headers_over_the_limits(header: bytes, at: bytes, words: str) -> None:
    given_ = message(header)
    hit = only(hits("HDR008", given_))
    assert words in hit.message
    assert is_at(given_, hit, at)


@pytest.mark.parametrize(
    "header",
    [
        b"To: a@b.example,\n" + b" c@d.example,\n" * 5_000,
        b"References:" + b"\n <a@b.example>" * 5_000 + b"\n",
        b"Subject: " + b"a" * 998 + b"\n",
        b"X: 1\n" * FIELDS_LIMIT,
        b"X: " + b"a" * 32_000 + b"\n",
    ],
)
def test_headers_within_the_limits(header: bytes) -> None:
    assert hits("HDR008", message(header)) == []


# --- HDR009 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "at", "words"),
    [
        ("To: a@b.example\nBcc: c@d.example, e@f.example\n", b"Bcc", "2 recipients"),
        ("To: a@b.example\nReturn-Path: <c@d.example>\n", b"Return-Path", "Return-Path"),
        ("To: a@b.example\nDelivered-To: c@d.example\n", b"Delivered-To", "Delivered-To"),
    ],
)
def test_fields_that_tell_too_much(header: str, at: bytes, words: str) -> None:
    given_ = message(header)
    hit = only(hits("HDR009", given_))
    assert words in hit.message
    assert is_at(given_, hit, at)
    assert severities("HDR009", given_) == [Severity.INFO]


def test_a_mail_loop() -> None:
    given_ = message("Received: x\n" * HOPS_LIMIT + "received: last\n")
    assert is_at(given_, only(hits("HDR009", given_)), b"received")
    assert severities("HDR009", given_) == [Severity.ERROR]
    assert hits("HDR009", message("Received: x\n" * HOPS_LIMIT)) == []


def test_a_bcc_without_recipients() -> None:
    assert hits("HDR009", message("Bcc:\nTo: a@b.example\n")) == []


def test_forwarded_mail_keeps_its_delivered_to() -> None:
    trace = "Received: by mx.example\nDelivered-To: c@d.example\n"
    assert hits("HDR009", message(f"{trace}Received: from a.example\nTo: a@b.example\n")) == []
    assert len(hits("HDR009", message(f"{trace}To: a@b.example\n"))) == 1


# --- any octets ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"From: ",
        b"Date: ",
        b"Subject: =?utf-8?q?",
        b"?=",
        b"Message-ID: <",
        b"@",
        b">",
        b" ",
        b"\n",
        b'"',
        b"\0",
        b"\xe9",
    ]
)


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=25).map(b"".join))
def test_any_octets_give_findings_or_none(raw: bytes) -> None:
    for code in [code for code in RULES if code.startswith("HDR")]:
        facts = [fact for fact in (Message(raw), NOON, Envelope(b"")) if type(fact) in RULES[code].needs]
        for finding in ask(code, *facts):
            assert finding.evidence.offset is None or 0 <= finding.evidence.offset <= len(raw)
            assert finding.evidence.text.isprintable()
