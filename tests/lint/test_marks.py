"""Marks: mail in order has none, and what a rule finds is never kept from it for want of one.

The tests of the rules hold each of them to its marks, too (`asking.py`, `letters.py`).
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.lint import RULES, Report, Ruleset, Stage, marks
from smtpguard.lint.facts import (
    ByProvider,
    Dkim,
    DnsFaults,
    LinkListings,
    Listing,
    Missing,
    Now,
    Offers,
    SenderListings,
    Signatures,
)
from smtpguard.mail.header import date
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dkim import judge, signatures
from smtpguard.mailauth.dns import Answer, Status
from tests.lint.asking import NOTHING, marks_of
from tests.lint.clean import SHAPES
from tests.lint.clean.writing import NOON
from tests.mailauth.signing import record, rsa_key, signature_field

NOW: Final = Now(date(NOON) or 0.0)
OFFERS: Final = Offers(frozenset({"8BITMIME", "SIZE", "SMTPUTF8"}), 50_000)
FIELDS: Final = (
    b"From: Ann <ann@example.com>",
    b"To: Bob <bob@example.org>",
    b"Subject: Lunch",
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000",
    b"Message-ID: <1@example.com>",
    b"MIME-Version: 1.0",
    b"Content-Type: text/plain; charset=utf-8",
)
NAMES: Final = b"from:from:to:subject:date:message-id:mime-version:content-type"
BODY: Final = b"Hello Bob,\r\n\r\nshall we?\r\n"
KEY: Final = record(rsa_key())


def facts_of(raw: bytes, **others: Any) -> dict[type, Any]:
    """What the relay would know of a message whose signer is in order."""
    message = Message(raw)
    found = signatures(message)
    answer = Answer(Status.POSITIVE, (KEY,), 300)
    given = {
        Message: message,
        Now: NOW,
        Offers: OFFERS,
        Envelope: Envelope(b"ann@example.com", eight_bit=False),
        ByProvider: ByProvider({"google": 1}),
        Signatures: Signatures(found),
        Dkim: Dkim(tuple(judge(message, each, answer, NOW) for each in found)),
    }
    return {**NOTHING, **given, **{type(fact): fact for fact in others.values()}}


def signed(*fields: bytes, body: bytes = BODY, **how: Any) -> bytes:
    """A message under a signature of example.com."""
    how = {"names": NAMES} | how
    own = signature_field(rsa_key(), fields, body, **how)
    return b"\r\n".join((own, *fields)) + b"\r\n\r\n" + body


def told(facts: dict[type, Any], seen: int, *, is_bulk: bool = False) -> Report:
    report = Report()
    Ruleset().run(Stage.DATA, facts, report, seen=seen, is_bulk=is_bulk)
    return report


def test_mail_in_order_has_none() -> None:
    assert marks.of_message(facts_of(signed(*FIELDS))) == 0
    assert marks.of_sender(Envelope(b"ann@example.com")) == 0
    assert marks.of_recipient(Recipient(b"Bob.o'Neil+x=y@Example.org"), Envelope(b"ann@example.com")) == 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a..b@example.com", marks.PATH),
        (b"@route.example:ann@example.com", marks.PATH),
        (b"ann@localhost", marks.LOCAL),
        (b"postmaster", marks.PATH | marks.LOCAL),
        ("j\u00f6rg@example.com".encode(), marks.PATH | marks.FOREIGN),
        (b"ann@gmial.com", marks.TYPO),
        (b"", marks.NULL),
    ],
)
def test_senders(path: bytes, expected: int) -> None:
    assert marks.of_sender(Envelope(path)) == expected


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (SenderListings({"example.com": (Listing("dbl.example", "spam"),)}), marks.LISTED),
        (LinkListings({"a.example": (), "b.example": (Listing("dbl.example", "spam"),)}), marks.LISTED),
        (DnsFaults((("MX of example.com", "timeout"),)), marks.UNKNOWN),
        (Offers(frozenset(), 100), marks.LARGE),
    ],
)
def test_of_other_facts(fact: object, expected: int) -> None:
    assert marks.of_message(facts_of(signed(*FIELDS), fact=fact)) == expected


def test_what_is_missing_has_none() -> None:
    facts = {**facts_of(signed(*FIELDS)), SenderListings: Missing("x"), LinkListings: Missing("x")}
    assert marks.of_message(facts) == 0


def test_rules_without_marks_are_asked_whatever_there_is() -> None:
    """Those want what is known of domains alone, or run for bulk mail or in the background."""
    always = {code for code, rule in RULES.items() if not rule.when and rule.stage is not Stage.BACKGROUND}
    families = {"ENV", "RCP", "SPF", "DMA", "BLK"}
    assert {code[:3] for code in always} == families
    assert always.isdisjoint({"ENV001", "RCP001", "DMA001"})


# --- whatever a message holds ----------------------------------------------------------------------------------------

LINES: Final = [
    *(b"Bcc: a@b.example", b"Return-Path: <a@b.example>", b"From: b@c.example", b"Subject: again", b"Date: never"),
    *(b"Date: Sun, 1 Nov 2026 10:00:00 +0000", b"Message-ID: <a b@c>", b"Message-ID: none", b"no field", b"To : x"),
    *(b"X: \xc3\xa9", b"X: =?utf-8?Q?=FF?=", b"Subject: =?utf-8?Q?=FF?=", b"X: a\0b", b"X: a\nb", b"X: a\rb"),
    *(b"X: " + b"y" * 999, b"X: " + b"y" * 40_000, b"Y" * 1025 + b": x", b"Subject: " + b"s " * 500, b"Subject: "),
    *(b"Subject: Hello {{first_name}}", b"Subject: %%NAME%%", b"Received: from a by b\r\n" * 60 + b"X: y"),
    *(b"Content-Type: text/html", b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: odd"),
    *(b'Content-Type: text/plain; name="a.exe"', b"Content-Disposition: attachment; filename=a.exe"),
    *(b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: multipart/mixed", b"Content-Type: message/rfc822"),
    *(b"List-Unsubscribe: <https://a.example/>", b"In-Reply-To: <1@a.example>", b"Precedence: bulk"),
]
PIECES: Final = [
    *(b"x" * 999 + b"\r\n", b"a\nb\r\n", b"a\rb\r\n", b"\xc3\xa9\r\n", b"https://bit.ly/x\r\n", b"www.bit.ly\r\n"),
    *(
        b"Hello undefined,\r\n",
        b"Dear ,\r\n",
        b"Lorem Ipsum dolor\r\n",
        b"http://localhost/\r\n",
        b"[name] ${name}\r\n",
    ),
    *(b"<<name>> ##name## *|NAME|* %%NAME%%\r\n", "\u00abname\u00bb\r\n".encode(), b"a\tb  c \r\n", b"\r\n\r\n"),
    *(b"--b\r\n\r\nx\r\n", b"--b\r\nContent-Type: text/html\r\n\r\n<table><a href=x>y</a>\r\n", b"--b--\r\n"),
    *(b"--b\r\nContent-Type: a/b; name=a.exe\r\n\r\nx\r\n", b"<script>", b"<p style='display:none'>", b"QQ==QQ"),
]


@st.composite
def letters(draw: st.DrawFn) -> bytes:
    """A clean shape, or a letter of ours, signed or not, with what is wrong put into it."""
    head, _, body = draw(st.sampled_from([shape.raw for shape in SHAPES] + [signed(*FIELDS)] * 20)).partition(
        b"\r\n\r\n"
    )
    lines = head.split(b"\r\n")
    for line in draw(st.lists(st.sampled_from(LINES), max_size=3)):
        if draw(st.booleans()):  # in place of those of its name
            name = line.partition(b":")[0].lower()
            lines = [each for each in lines if each.partition(b":")[0].lower() != name]
        lines.insert(draw(st.integers(0, len(lines))), line)
    body = b"".join(draw(st.permutations([body, *draw(st.lists(st.sampled_from(PIECES), max_size=3))])))
    if draw(st.booleans()):
        fields = tuple(b"\r\n".join(lines).replace(b"\r\n ", b"\0 ").replace(b"\r\n\t", b"\0\t").split(b"\r\n"))
        own = tuple(field.replace(b"\0", b"\r\n") for field in fields)
        names = draw(st.sampled_from([NAMES, b"from", b"from:to:subject:date"]))
        more = draw(st.sampled_from([b"", b"x=1795346000; ", b"t=1795400000; ", b"l=3; "]))
        canonical = draw(st.sampled_from(["relaxed/relaxed", "simple/simple"]))
        lines.insert(0, signature_field(rsa_key(), own, body, names=names, more=more, canonical=canonical))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@settings(max_examples=150, deadline=None)
@given(letters(), st.booleans())
def test_no_rule_that_finds_something_is_passed_over(raw: bytes, is_bulk: bool) -> None:
    facts = facts_of(raw)
    assert told(facts, marks.of_message(facts), is_bulk=is_bulk) == told(facts, marks.ALL, is_bulk=is_bulk)


PATHS: Final = st.lists(
    st.sampled_from([b"a", b".", b"..", b"@", b"-", b'"', b" ", b":", b"[10.0.0.1]", b"\xc3\xa9", b"com", b"x" * 64]),
    max_size=8,
).map(b"".join)


@settings(max_examples=150)
@given(PATHS, PATHS, st.booleans())
def test_nor_for_any_path(sender: bytes, rcpt: bytes, smtputf8: bool) -> None:
    envelope = Envelope(sender, smtputf8=smtputf8, rcpts=[Recipient(rcpt), Recipient(b"bob@example.org")])
    facts: dict[type, Any] = {Envelope: envelope, Recipient: envelope.rcpts[0], Offers: Offers(frozenset())}
    for stage in (Stage.MAIL, Stage.RCPT):
        reports = []
        for seen in (marks_of(stage, facts), marks.ALL):
            reports.append(Report())
            Ruleset().run(stage, facts, reports[-1], seen=seen)
        assert reports[0] == reports[1]
