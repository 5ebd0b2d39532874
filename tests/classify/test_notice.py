"""Notices in messages: recipients and replies out of the bounces of many mailers, complaints, and any octets."""

from __future__ import annotations

import base64
import email
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smtpguard.classify.notice import NO_CODE, bounce, dsn, messages, mime, read_log, read_message, said
from smtpguard.classify.notice.human import Account
from smtpguard.mail.mime import MAX_PARTS
from smtpguard.mail.reply import Verb
from tests.classify.told import TODAY, Expected, seen

NOTICES = Path(__file__).parent / "notices"


# one line a recipient, by sample
SAMPLES: dict[str, list[Expected]] = {
    "postfix-two": [
        Expected(
            "bob@receiver.example",
            "550 5.1.1 <bob@receiver.example>: Recipient address rejected: User unknown in virtual mailbox table",
            "mx.receiver.example",
            Verb.RCPT,
        ),
        Expected("carol@other.example", "554 5.7.1 Message rejected as spam", "mx.other.example", Verb.DOT),
    ],
    "postfix-delayed": [
        Expected(
            "dave@slow.example",
            "connect to mx.slow.example[203.0.113.9]:25: Connection timed out",
            "mx.slow.example",
            action="delayed",
        )
    ],
    "postfix-connect": [
        Expected(
            "erin@listed.example",
            "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org",
            "mx.listed.example",
            Verb.CONNECT,
        )
    ],
    "exim-dsn": [
        Expected(
            "frank@receiver.example",
            "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
            "recipient's email address for typos or unnecessary spaces.",
            "mx.receiver.example",
            Verb.RCPT,
        )
    ],
    "exim-plain": [
        Expected(
            "grace@receiver.example",
            "550 5.2.1 <grace@receiver.example>: mailbox is disabled",
            "mx.receiver.example",
            Verb.RCPT,
        ),
        Expected("heidi@other.example", "all relevant MX records point to non-existent hosts"),
    ],
    "exim-warning": [
        Expected(
            "ivan@slow.example",
            "451 4.7.1 Greylisting in action, please come back later",
            "mx.slow.example",
            Verb.RCPT,
            "delayed",
        )
    ],
    "sendmail": [
        Expected(
            "judy@receiver.example",
            "553 5.3.0 <judy@receiver.example>... Sender domain listed, see https://list.example/",
            "mx.receiver.example",
            Verb.RCPT,
        )
    ],
    "sendmail-nodiag": [
        Expected("mallory@receiver.example", "550 5.1.1 No such user here", "mx.receiver.example", Verb.DATA)
    ],
    "qmail": [
        Expected(
            "niaj@receiver.example",
            "550 5.7.1 <niaj@receiver.example>: Access denied, sending host is on a blocklist",
            verb=Verb.RCPT,
        ),
        Expected("olivia@local.example", "Sorry, no mailbox here by that name. (#5.1.1)"),
        Expected("peggy@none.example", "Sorry, I couldn't find any host named none.example. (#5.1.2)"),
    ],
    "qmail-after-data": [
        Expected(
            "rupert@gmail.example",
            "550 5.7.26 This mail has been blocked because the sender is unauthenticated. "
            "See the page on authentication - gsmtp",
            verb=Verb.DOT,
        )
    ],
    "exchange-2016": [
        Expected(
            "sybil@receiver.example",
            "550 5.7.23 The message was rejected because of Sender Policy Framework violation",
            "mx.receiver.example",
        )
    ],
    "office365-html": [
        Expected(
            "trent@receiver.example",
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient trent@receiver.example not found by SMTP address "
            "lookup",
        )
    ],
    "office365-expired": [
        Expected(
            "ursula@receiver.example",
            "550 5.4.300 Message expired -> 451 4.7.500 Server busy. Please try again later from [192.0.2.7].",
            "mx.receiver.example",
        )
    ],
    "exchange-2003": [
        Expected(
            "victor@receiver.example", "550 5.1.1 <victor@receiver.example>... User unknown", "mx.receiver.example"
        )
    ],
    "gmail-not-found": [
        Expected(
            "walter@receiver.example",
            "550 5.1.1 <walter@receiver.example>: Recipient address rejected: User unknown",
            "mx.receiver.example",
        )
    ],
    "gmail-blocked": [
        Expected(
            "xavier@receiver.example",
            "550 5.7.1 [192.0.2.7] Our system has detected that this message is likely unsolicited mail.",
        )
    ],
    "yahoo": [Expected("yves@receiver.example", "552 5.2.2 mailbox is over its quota")],
    "ses": [
        Expected(
            "zoe@receiver.example",
            "550 4.4.7 Message expired: unable to deliver in 840 minutes.<421 4.4.1 Unable to connect to remote host>",
        )
    ],
    "courier": [Expected("adam@receiver.example", "550 User unknown.", "mx.receiver.example", Verb.RCPT)],
    "mdaemon": [
        Expected(
            "bella@receiver.example",
            "550 5.1.1 <bella@receiver.example>: mailbox unavailable",
            "mx.receiver.example",
            Verb.RCPT,
        )
    ],
    "domino": [Expected("carl@receiver.example", "User carl (carl@receiver.example) not listed in Domino Directory")],
    "domino-plain": [Expected("dora@receiver.example", "554 5.7.1 Relay access denied", "mx.receiver.example")],
    "docomo": [Expected("erika@docomo.ne.jp", "550 Unknown user erika@docomo.ne.jp", verb=Verb.RCPT)],
    "ezweb": [Expected("fritz@ezweb.ne.jp", "550 user unknown: fritz@ezweb.ne.jp")],
    "groupwise": [Expected("gerda@receiver.example", "452 4.2.2 Mailbox full")],
    "barracuda-cut": [
        Expected(
            "hugo@receiver.example",
            "550 5.7.1 Message from 192.0.2.7 rejected because of its reputation, "
            "see https://rep.example/lookup?ip=192.0.2.7",
            "mx.receiver.example",
            Verb.DOT,
        )
    ],
    "german": [
        Expected("ida@receiver.example", "550 5.1.1 Postfach nicht vorhanden", "mx.receiver.example", Verb.RCPT)
    ],
    "eai": [Expected("j\u00fcrgen@receiver.example", "553 5.6.7 SMTPUTF8 not supported")],
    "delivered": [Expected("jan@receiver.example", "", "mx.receiver.example", action="relayed")],
    "forwarded": [Expected("karl@receiver.example", "450 4.2.0 Greylisted", "mx.receiver.example", Verb.RCPT)],
    "opensmtpd": [Expected("lena@receiver.example", "550 5.1.1 <lena@receiver.example> recipient unknown")],
    "smtpguard": [
        Expected(
            "bob@receiver.example", "550 5.1.1 <bob@receiver.example>: User unknown", "mx.receiver.example", Verb.RCPT
        )
    ],
    "arf": [Expected("user@isp.example", "", "mail.isp.example", action="complaint")],
    "ordinary": [],
    "vacation": [],
}


def sample(name: str) -> bytes:
    return (NOTICES / f"{name}.eml").read_bytes()


def test_every_sample_is_expected() -> None:
    assert {path.stem for path in NOTICES.iterdir()} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_recipient_and_reply_of_each_mailer(name: str, line_end: bytes) -> None:
    octets = sample(name).replace(b"\n", line_end)
    assert [seen(notice) for notice in read_message(octets)] == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_reply_knows_the_verb_that_was_told(name: str) -> None:
    for notice in read_message(sample(name)):
        if notice.reply is not None and notice.verb is not None:
            assert notice.reply.verb is notice.verb


def test_what_a_dsn_tells_besides() -> None:
    first, second = read_message(sample("postfix-two"))
    assert first.kind == "dsn"
    assert first.sender == "alice@sender.example"
    assert first.message_id == "<minutes-1@sender.example>"
    assert first.queue_id == "4XyZ0k5mLz"
    assert first.when == datetime(2026, 11, 20, 9, 0, 2, tzinfo=UTC).timestamp()
    assert second.message_id == first.message_id


def test_a_status_stands_for_a_code_that_was_not_told() -> None:
    (notice,) = read_message(sample("domino"))
    assert notice.reply is not None
    assert (notice.reply.code, notice.has_code, str(notice.reply.enhanced)) == (NO_CODE[5], False, "5.1.1")
    (delayed,) = read_message(sample("postfix-delayed"))
    assert delayed.reply is not None
    assert (delayed.reply.code, str(delayed.reply.enhanced)) == (NO_CODE[4], "4.4.1")


def test_a_status_in_base64_is_read() -> None:
    block = b"Reporting-MTA: dns; a.example\n\nFinal-Recipient: rfc822; b@r.example\nAction: failed\nStatus: 5.2.2\n"
    octets = (
        b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n"
        b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(block) + b"--b--\n"
    )
    (notice,) = read_message(octets)
    assert notice.recipient == "b@r.example"
    assert notice.reply is not None
    assert str(notice.reply.enhanced) == "5.2.2"


def test_a_status_of_one_block_is_read() -> None:
    """Some mailers leave out the empty line between the fields of the message and of its recipient."""
    (notice,) = read_message(
        b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
        b"Reporting-MTA: dns; a.example\nFinal-Recipient: rfc822; b@r.example\nStatus: 4.4.7 (expired)\n--b--\n"
    )
    assert (notice.recipient, notice.action) == ("b@r.example", "delayed")


def test_a_transcript_of_many_recipients_is_told_apart() -> None:
    text = (
        "... while talking to mx.r.example.:\n>>> DATA\n<<< 550 5.1.1 <a@r.example>: unknown\n"
        "550 5.1.1 <a@r.example>... User unknown\n<<< 452-4.2.2 <b@r.example>: over\n<<< 452 4.2.2 quota\n"
        ">>> RCPT To:<c@r.example>\n<<< 550 5.7.1 denied\n<<< 503 5.5.1 no valid recipients\n"
    )
    account = Account(text)
    told = {name: account.about(f"{name}@r.example") for name in "abc"}
    assert {name: str(one and one.reply) for name, one in told.items()} == {
        "a": "550 5.1.1 <a@r.example>: unknown",
        "b": "452 4.2.2 <b@r.example>: over quota",
        "c": "550 5.7.1 denied",
    }
    assert {one and one.host for one in told.values()} == {"mx.r.example"}


@pytest.mark.parametrize(
    ("diagnostic", "words", "reply"),
    [
        ("X-Local; delivery failed", "550 5.2.1 mailbox disabled", "550 5.2.1 mailbox disabled"),
        ("smtp; 550 5.2.1 mailbox dis...", "550 5.2.1 mailbox disabled by its owner", None),
        ("smtp; 550 5.2.1 mailbox disabled", "451 4.0.0 another matter", "550 5.2.1 mailbox disabled"),
        ("smtp; 550 5.2.1 mailbox disabled", "550 5.2.1 other words", "550 5.2.1 mailbox disabled"),
        ("", "550 5.2.1 mailbox disabled", "550 5.2.1 mailbox disabled"),
        ("X-Local; delivery failed", "no word of it", "599 5.2.1 delivery failed"),
    ],
)
def test_fields_before_words_and_words_where_fields_fail(diagnostic: str, words: str, reply: str | None) -> None:
    field = f"Diagnostic-Code: {diagnostic}\n" if diagnostic else ""
    (notice,) = read_message(
        f"Content-Type: multipart/report; boundary=b\n\n--b\n\n<a@r.example>: {words}\n\n--b\n"
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; a\n\nFinal-Recipient: rfc822; a@r.example\n"
        f"Action: failed\nStatus: 5.2.1\n{field}--b--\n".encode()
    )
    assert str(notice.reply) == (reply or words)


def test_a_subject_alone_makes_a_bounce_if_nobody_can_answer_it() -> None:
    body = "\n\nno luck:\n\n<a@r.example>: 550 5.1.1 no such user\n"
    head = "From: robot@x.example\nTo: alice@s.example\nSubject: =?utf-8?q?Nicht_zugestellt?="
    assert [notice.recipient for notice in read_message((head + body).encode())] == ["a@r.example"]
    assert read_message((f"Return-Path: <robot@x.example>\n{head}{body}").encode()) == []
    assert read_message((head.replace("Nicht_zugestellt", "Gr=C3=BC=C3=9Fe") + body).encode()) == []
    assert read_message((head.replace("utf-8?q", "nonsense?b") + body).encode()) == []


def test_a_complaint_has_no_reply() -> None:
    (notice,) = read_message(sample("arf"))
    assert (notice.kind, notice.reply, notice.feedback) == ("arf", None, "abuse")
    assert notice.sender == "news@sender.example"
    assert notice.message_id == "<news-1@sender.example>"


def test_what_a_returned_message_holds_is_no_notice() -> None:
    """A DSN within the mail that a DSN returns was somebody else's affair."""
    inner = sample("postfix-connect").decode().replace("B2", "inner")
    outer = sample("postfix-two").decode()
    head, mark, _ = outer.partition("Content-Type: message/rfc822\n\n")
    whole = f"{head}{mark}{inner}\n--4XyZ0k5mLz.1795165202/mail.sender.example--\n"
    assert [notice.recipient for notice in read_message(whole.encode())] == [
        "bob@receiver.example",
        "carol@other.example",
    ]


@pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name]])
def test_a_cut_message_tells_what_is_left(name: str) -> None:
    """A notice that is cut anywhere names no recipient that the whole does not name."""
    octets = sample(name)
    known = {notice.recipient for notice in read_message(octets)}
    for cut in range(0, len(octets), 97):
        for notice in read_message(octets[:cut]):
            assert not notice.recipient or any(one.startswith(notice.recipient) for one in known)


def test_an_mbox_gives_its_messages() -> None:
    names = ["qmail", "ordinary", "arf"]
    mbox = b"".join(
        b"From MAILER-DAEMON Fri Nov 20 10:00:00 2026\n" + sample(name).replace(b"\nFrom ", b"\n>From ") + b"\n"
        for name in names
    )
    found = list(messages(mbox.splitlines(keepends=True)))
    assert [octets.rstrip(b"\n") for octets in found] == [sample(name).rstrip(b"\n") for name in names]


def test_an_mbox_is_read_as_it_comes() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"From a@b.example Fri Nov 20 10:00:00 2026\n"
            yield b"Subject: x\n"
            yield b"\n"

    assert len(list(islice(messages(endless()), 3))) == 3


# --- any octets ------------------------------------------------------------------------------------------------------

WORDS = [
    *(b"\n", b"\r\n", b"\n\n", b" ", b"\t", b"--", b"--b", b"--b--", b"<", b">", b"a@b.example", b"\xff", b"\x00"),
    *(b"Content-Type: multipart/report; boundary=b\n", b"Content-Type: message/delivery-status\n", b'boundary="b'),
    *(b"Content-Type: message/rfc822\n", b"Content-Type: text/html\n", b"Content-Transfer-Encoding: base64\n"),
    *(b"Final-Recipient: rfc822; a@b.example\n", b"Action: failed\n", b"Status: 5.1.1\n", b"Diagnostic-Code: smtp; "),
    *(b"From: MAILER-DAEMON@x.example\n", b"Subject: =?utf-8?b?", b"550 5.1.1 no", b"550-", b"450", b"said: ", b"H="),
    *(b"SMTP error from remote mail server after RCPT TO:<", b">>> RCPT TO:<a@b.example>\n", b"<<< 550 no\n"),
    *(b"Nov 20 10:11:12 ", b"Feb 29 ", b"postfix/smtp[1]: 4ABCDE: to=<a@b>, relay=x, dsn=5.1.1, status=bounced ("),
    *(b" ** ", b" == ", b"1tEabc-0001Xy-2a", b"#Fields: date-time,event-id,session-id,event,data\n", b'"', b",", b";"),
    *(b'{"event.action":"recipient-refused",', b'"smtp.reply.code":550}', b"stat=", b"to=<a>, delay=1, ", b"reject: "),
    *(b"Content-Type: message/feedback-report\n\n", b"Feedback-Type:  \n", b"host x[1] said: ", b"(in reply to ", b")"),
]
soup = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=8)), max_size=60).map(b"".join)
quiet = settings(deadline=timedelta(seconds=2), suppress_health_check=[HealthCheck.too_slow], max_examples=300)


@quiet
@given(soup)
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" * 200)
@example(b"Content-Type: message/rfc822\n\n" * 2000)
@example(b"From: MAILER-DAEMON@x.example\n\n" + b"<" * 50_000)
@example(b"From: MAILER-DAEMON@x.example\nContent-Type: text/html\n\n" + b"<style>" * 9000)
@example(b"From: MAILER-DAEMON@x.example\n\n" + b"a@" * 30_000)
@example(b"From: MAILER-DAEMON@x.example\n\n" + b"a." * 30_000)
@example(b"From: MAILER-DAEMON@x.example\n\n" + b"while talking to " * 4000)
@example(b"From: MAILER-DAEMON@x.example\n\n" + b"response from " * 4000)
@example(b"From: MAILER-DAEMON@x.example\nContent-Type: text/plain; charset=punycode\n\n" + b"a-" * 30_000)
@example(b"Content-Type: text/plain" + b'; a="' * 10_000 + b"\n\n")
def test_no_message_is_too_odd(octets: bytes) -> None:
    for notice in read_message(octets):
        assert notice.action
        assert len(notice.recipient) <= 400


@quiet
@given(soup)
@example(b"Nov 20 10:11:12 x postfix/smtp[1]: 4ABCDE: to=<a@b>, relay=x, " + b"dsn=5.1.1, " * 3000 + b"status=x")
@example(b"NOQUEUE: reject: RCPT from x: " + b"; fro" * 6000)
@example(b" H=" * 10_000 + b" rejected ")
@example(b"AAAAAAAA: to=" * 2000 + b" stat=")
@example(b"1tEabc-0001Xy-2a ** a: " + b"H=x SMTP error from remote mail" * 900)
def test_no_line_is_too_odd(octets: bytes) -> None:
    for notice in read_log(octets.splitlines(keepends=True), TODAY):
        assert notice.action


@quiet
@given(st.text(max_size=300), st.sampled_from(["", "550 ", "said: 550-5.1.1 ", "host a[1] said: "]))
@example("H=a [1] " * 2000, "")
@example("550-" * 4000, "")
@example("\n     " * 3000, "")
def test_any_text_is_a_reply(text: str, lead: str) -> None:
    found = said(lead + text)
    assert 200 <= found.reply.code <= 599


def test_a_message_within_an_encoding_is_looked_into() -> None:
    inner = sample("postfix-two")
    for lines in (inner, inner.replace(b"\r\n", b"\n")):
        head = b"Subject: Fwd\nMIME-Version: 1.0\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
        assert read_message(head + base64.encodebytes(lines)) == read_message(inner)


def test_a_text_without_a_charset_is_utf_8_if_it_can_be() -> None:
    def text(octets: bytes) -> str:
        return mime.parse(b"Content-Type: text/plain\n\n" + octets).text()

    assert text("für".encode()) == text("für".encode("latin-1")) == "für"


def test_a_bomb_of_parts_is_bounded() -> None:
    parts = mime.parse(b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 50_000)
    assert len(list(parts.walk())) <= MAX_PARTS + 1


def test_a_bomb_of_encoded_messages_is_bounded() -> None:
    many = b"Content-Type: multipart/mixed; boundary=c\n\n" + b"--c\n\n" * 250
    encoded = b"--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(many)
    bomb = mime.parse(b"Content-Type: multipart/mixed; boundary=b\n\n" + (encoded + b"\n") * 400)
    opened = [part for part in bomb.walk() if part.type == "message/rfc822" and part.parts]
    assert len(opened) == mime.MAX_ENCODED
    assert len(list(bomb.walk())) <= (MAX_PARTS + 1) * (mime.MAX_ENCODED + 1)


def test_encoded_messages_one_in_the_other_are_bounded() -> None:
    message = b"Subject: innermost\n\nx"
    for _ in range(mime.MAX_ENCODED + 2):
        head = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
        message = head + base64.encodebytes(message)
    assert len(list(mime.parse(message).walk())) == mime.MAX_ENCODED + 1


@pytest.mark.parametrize("end", [b"\n\nwords of the body", b""])
def test_a_header_without_end_is_cut_and_the_body_kept(end: bytes) -> None:
    message = mime.parse(b"Subject: first\n" + b"X-Filler: 0123456789\n" * 10_000 + b"X-Last: 1" + end)
    assert message.header["subject"] == "first"
    assert "x-last" not in message.header
    assert message.text() == end.strip().decode()


def test_recipients_of_a_report_are_bounded() -> None:
    head = b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
    block = b"Final-Recipient: rfc822; a@example.com\nAction: failed\nStatus: 5.1.1\n\n"
    assert 0 < len(read_message(head + block * 5000)) <= dsn.MAX_RECIPIENTS + 1


@pytest.mark.parametrize(("blank", "found"), [(10, ["late@example.com"]), (bounce.MAX_LINES, [])])
def test_detectors_are_given_as_many_lines_as_a_bounce_has(blank: int, found: list[str]) -> None:
    head = b"From: MAILER-DAEMON\nSubject: failure notice\n\nHi. This is the qmail-send program at example.com.\n"
    octets = head + b"\n" * blank + b"<late@example.com>:\nSorry, no mailbox here by that name. (#5.1.1)\n"
    assert bounce._detected(octets) == found


def test_parts_agree_with_the_standard_library() -> None:
    """Another reader of the same messages finds the same leaves."""
    for name in SAMPLES:
        ours = [part.type for part in mime.parse(sample(name)).walk() if not part.parts]
        message = email.message_from_bytes(sample(name))
        theirs = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
        if not any("status" in kind or "feedback" in kind for kind in ours):  # theirs takes those apart
            assert [kind or "text/plain" for kind in ours] == theirs, name
