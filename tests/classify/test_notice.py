"""Notices: recipients and replies out of the bounces of many mailers, and out of the logs of five."""

from __future__ import annotations

import base64
import email
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smtpguard.classify.notice import NO_CODE, Notice, messages, mime, read_log, read_message, said
from smtpguard.classify.notice.human import Account
from smtpguard.classify.notice.maillog import MAX_KNOWN
from smtpguard.mail.reply import Verb

NOTICES = Path(__file__).parent / "notices"
TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Expected(NamedTuple):
    """What a sample tells of a recipient; the reply without its code where the sample has none."""

    recipient: str
    reply: str
    host: str = ""
    verb: Verb | None = None
    action: str = "failed"


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
    "arf": [Expected("user@isp.example", "", "mail.isp.example", action="complaint")],
    "ordinary": [],
    "vacation": [],
}


def sample(name: str) -> bytes:
    return (NOTICES / f"{name}.eml").read_bytes()


def seen(notice: Notice) -> Expected:
    reply = notice.reply
    text = "" if reply is None else str(reply) if notice.has_code else reply.text
    return Expected(notice.recipient, text, notice.host, notice.verb, notice.action)


def test_every_sample_is_expected() -> None:
    assert {path.stem for path in NOTICES.iterdir()} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_recipient_and_reply_of_each_mailer(name: str, line_end: bytes) -> None:
    octets = sample(name).replace(b"\n", line_end)
    assert [seen(notice) for notice in read_message(octets)] == SAMPLES[name]


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


# --- logs ------------------------------------------------------------------------------------------------------------


def logged(*lines: str, today: datetime = TODAY) -> list[Notice]:
    return list(read_log((f"{line}\n".encode() for line in lines), today))


POSTFIX = "Nov 20 10:11:12 mx1 postfix/smtp[123]: 4XyZ1a2b3c: "
SAID = "host mx.receiver.example[192.0.2.25] said: 550 5.1.1 <bob@receiver.example>: User unknown"


def test_postfix_bounced_with_sender_and_message_id() -> None:
    (notice,) = logged(
        "Nov 20 10:11:10 mx1 postfix/cleanup[120]: 4XyZ1a2b3c: message-id=<m1@sender.example>",
        "Nov 20 10:11:10 mx1 postfix/qmgr[100]: 4XyZ1a2b3c: from=<alice@sender.example>, size=1234, nrcpt=1 (queue)",
        f"{POSTFIX}to=<bob@receiver.example>, relay=mx.receiver.example[192.0.2.25]:25, delay=1.2, "
        f"delays=0.1/0.01/0.5/0.6, dsn=5.1.1, status=bounced ({SAID} (in reply to RCPT TO command))",
    )
    assert seen(notice) == Expected(
        "bob@receiver.example",
        "550 5.1.1 <bob@receiver.example>: User unknown",
        "mx.receiver.example",
        Verb.RCPT,
    )
    assert (notice.sender, notice.message_id, notice.queue_id) == (
        "alice@sender.example",
        "<m1@sender.example>",
        "4XyZ1a2b3c",
    )
    assert notice.when == datetime(2026, 11, 20, 10, 11, 12, tzinfo=UTC).timestamp()


def test_postfix_deferred_sent_and_no_answer() -> None:
    deferred, sent, gone = logged(
        f"{POSTFIX}to=<carol@slow.example>, orig_to=<team@sender.example>, relay=none, delay=30, delays=0.1/0.01/30/0, "
        "dsn=4.4.1, status=deferred (connect to mx.slow.example[203.0.113.9]:25: Connection timed out)",
        f"{POSTFIX}to=<dave@ok.example>, relay=mx.ok.example[192.0.2.4]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, "
        "status=sent (250 2.0.0 Ok: queued as 1A)",
        f"{POSTFIX}to=<erin@drop.example>, relay=mx.drop.example[192.0.2.5]:25, delay=1, delays=0/0/0/1, dsn=4.4.2, "
        "status=deferred (lost connection with mx.drop.example[192.0.2.5] while receiving the initial server greeting)",
    )
    assert (deferred.recipient, deferred.action, deferred.host) == ("team@sender.example", "delayed", "mx.slow.example")
    assert deferred.reply is not None
    assert (deferred.reply.code, str(deferred.reply.enhanced), deferred.has_code) == (NO_CODE[4], "4.4.1", False)
    assert (sent.action, sent.reply) == ("delivered", None)
    assert (gone.host, gone.verb) == ("mx.drop.example", Verb.CONNECT)


def test_postfix_refuses_itself() -> None:
    (notice,) = logged(
        "Nov 20 10:11:17 mx1 postfix/smtpd[130]: NOQUEUE: reject: RCPT from unknown[203.0.113.66]: 554 5.7.1 "
        "<x@other.example>: Relay access denied; from=<spam@bad.example> to=<x@other.example> proto=ESMTP helo=<bad>"
    )
    assert notice.inbound
    assert (str(notice.reply), notice.verb) == ("554 5.7.1 <x@other.example>: Relay access denied", Verb.RCPT)
    assert (notice.sender, notice.recipient) == ("spam@bad.example", "x@other.example")


def test_our_own_words_are_not_the_next_hops() -> None:
    """Contract 1.5: what smtpguard adds to a reply; the MTA's log has it on one line."""
    (notice,) = logged(
        f"{POSTFIX}to=<fay@dmarc.example>, relay=127.0.0.1[127.0.0.1]:10724, delay=1, delays=0/0/0/1, dsn=5.7.26, "
        "status=bounced (host 127.0.0.1[127.0.0.1] said: 550-5.7.26 mx.google.example said: Unauthenticated email "
        "550-5.7.26 [smtpguard] Fix: align 550 5.7.26 [smtpguard] Cause: auth.dmarc Id: 01JD5Z8Q7KX3 "
        "(in reply to end of DATA command))"
    )
    assert seen(notice)[1:4] == ("550 5.7.26 Unauthenticated email", "mx.google.example", Verb.DOT)


def test_exim_failed_deferred_delivered_and_refused() -> None:
    failed, deferred, delivered, routed, refused = logged(
        "2026-11-20 10:12:00 1tEabc-0000000Dxy-2aBc <= alice@sender.example H=app [192.0.2.20] P=esmtp "
        "S=9 id=e1@sender.example",
        "2026-11-20 10:12:01 1tEabc-0000000Dxy-2aBc ** gil@receiver.example R=dnslookup T=remote_smtp "
        "H=mx.receiver.example [192.0.2.25] X=TLS1.3:ECDHE:256 CV=yes: SMTP error from remote mail server after "
        "RCPT TO:<gil@receiver.example>: 550 5.1.1 No such user",
        "2026-11-20 10:12:02 1tEabc-0000000Dxy-2aBc == hal@slow.example R=dnslookup T=remote_smtp defer (-44) "
        "H=mx.slow.example [203.0.113.9]: SMTP error from remote mail server after pipelined end of data: "
        "451 4.7.1 Later",
        "2026-11-20 10:12:03 +0100 1tEabc-0001Xy-2a => ida@ok.example R=dnslookup T=remote_smtp "
        "H=mx.ok.example [192.0.2.4]",
        "2026-11-20 10:12:04 1tEabd-0000000Dxy-2aBc == kim@slow.example R=dnslookup T=remote_smtp defer (-53): "
        "retry time not reached for any host",
        "2026-11-20 10:12:06 H=(bad) [203.0.113.66] F=<spam@bad.example> "
        "rejected RCPT <x@other.example>: relay not permitted",
    )
    assert seen(failed) == Expected("gil@receiver.example", "550 5.1.1 No such user", "mx.receiver.example", Verb.RCPT)
    assert (failed.sender, failed.message_id) == ("alice@sender.example", "<e1@sender.example>")
    assert seen(deferred) == Expected("hal@slow.example", "451 4.7.1 Later", "mx.slow.example", Verb.DOT, "delayed")
    assert (delivered.action, delivered.host) == ("delivered", "mx.ok.example")
    assert delivered.when == datetime(2026, 11, 20, 9, 12, 3, tzinfo=UTC).timestamp()
    assert routed.reply is not None
    assert (routed.reply.code, routed.reply.text) == (NO_CODE[4], "retry time not reached for any host")
    assert (refused.inbound, refused.verb, refused.recipient) == (True, Verb.RCPT, "x@other.example")


def test_sendmail_failed_deferred_delivered_and_refused() -> None:
    head = "Nov 20 10:13:00 mail sm-mta[200]: "
    more = "delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=120900"
    failed, first, second, sent, refused = logged(
        f"{head}5AKA1x0v012345: from=<alice@sender.example>, size=9, class=0, nrcpts=1, "
        "msgid=<s1@sender.example>, proto=ESMTP",
        f"{head}5AKA1x0v012345: to=<lea@receiver.example>, {more}, relay=mx.receiver.example. [192.0.2.25], "
        "dsn=5.1.1, reply=550 5.1.1 <lea@receiver.example>: no mailbox, stat=User unknown",
        f"{head}5AKA1x0v012346: to=<max@slow.example>,<mia@slow.example>, {more}, "
        "relay=mx.slow.example. [203.0.113.9], "
        "dsn=4.7.1, stat=Deferred: 451 4.7.1 Greylisted, try again later",
        f"{head}5AKA1x0v012347: to=<ned@ok.example>, {more}, relay=mx.ok.example. [192.0.2.4], "
        "dsn=2.0.0, stat=Sent (ok)",
        f"{head}5AKA1x0v012348: ruleset=check_rcpt, arg1=<x@other.example>, relay=bad [203.0.113.66], "
        "reject=550 5.7.1 <x@other.example>... Relaying denied",
    )
    assert seen(failed) == Expected(
        "lea@receiver.example", "550 5.1.1 <lea@receiver.example>: no mailbox", "mx.receiver.example"
    )
    assert (failed.sender, failed.message_id) == ("alice@sender.example", "<s1@sender.example>")
    assert [seen(first), seen(second)] == [
        Expected(name, "451 4.7.1 Greylisted, try again later", "mx.slow.example", action="delayed")
        for name in ("max@slow.example", "mia@slow.example")
    ]
    assert sent.action == "delivered"
    assert (refused.inbound, refused.verb, refused.recipient) == (True, Verb.RCPT, "x@other.example")


FIELDS = (
    "#Software: Microsoft Exchange Server",
    "#Log-type: Message Tracking Log",
    "#Fields: date-time,server-hostname,source,event-id,internal-message-id,message-id,recipient-address,"
    "recipient-status,sender-address",
)


def test_exchange_message_tracking() -> None:
    first, second, deferred = logged(
        *FIELDS,
        "2026-11-20T10:15:00.000Z,EX1,ROUTING,FAIL,4711,<x1@sender.example>,rob@receiver.example;sue@receiver.example,"
        '"550 5.1.1 RESOLVER.ADR.RecipNotFound; not found;550 5.7.1 no",alice@sender.example',
        "2026-11-20T10:15:01.000Z,EX1,SMTP,DEFER,4712,<x2@sender.example>,tom@slow.example,[{LED=451 4.4.397 Error "
        "communicating with target host. -> 421 4.7.0 busy};{MSG=};{FQDN=mx.slow.example};{IP=203.0.113.9}],"
        "alice@sender.example",
        "2026-11-20T10:15:02.000Z,EX1,SMTP,RECEIVE,4713,<x3@sender.example>,una@receiver.example,,alice@sender.example",
    )
    assert seen(first) == Expected("rob@receiver.example", "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found")
    assert seen(second) == Expected("sue@receiver.example", "550 5.7.1 no")
    assert (first.message_id, first.sender) == ("<x1@sender.example>", "alice@sender.example")
    assert (deferred.action, deferred.host) == ("delayed", "mx.slow.example")
    assert str(deferred.reply).startswith("451 4.4.397 Error communicating")


def test_exchange_protocol_log_pairs_commands_and_replies() -> None:
    dialogue = [
        ("+", ""),
        ("<", "220 mx.receiver.example ESMTP"),
        (">", "EHLO ex1.sender.example"),
        ("<", "250  mx.receiver.example SIZE PIPELINING"),
        (">", "MAIL FROM:<alice@sender.example> SIZE=1000"),
        (">", "RCPT TO:<uma@receiver.example>"),
        (">", "RCPT TO:<vic@receiver.example>"),
        (">", "DATA"),
        ("<", "250 2.1.0 Ok"),
        ("<", '"550 5.7.1 <uma@receiver.example>: denied, go away"'),
        ("<", "250 2.1.5 Ok"),
        ("<", "354 go"),
        ("<", "554 5.7.1 spam"),
        ("-", ""),
    ]
    rows = [f"2026-11-20T10:16:00.{n:03d}Z,Out,08DA01,{n},,192.0.2.25:25,{e},{d}," for n, (e, d) in enumerate(dialogue)]
    first, second = logged(
        "#Software: Microsoft Exchange Server",
        "#Log-type: SMTP Send Protocol Log",
        "#Fields: date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,event,data,context",
        *rows,
    )
    assert seen(first) == Expected(
        "uma@receiver.example",
        "550 5.7.1 <uma@receiver.example>: denied, go away",
        "mx.receiver.example",
        Verb.RCPT,
    )
    assert (str(second.reply), second.verb, second.sender) == ("554 5.7.1 spam", Verb.DOT, "alice@sender.example")


def test_our_own_log() -> None:
    refused, failed, accepted = logged(
        '{"@timestamp":"2026-11-20T10:14:00.000Z","event.action":"recipient-refused","event.id":"01JD5Z8Q7KX3",'
        '"smtp.verb":"RCPT","smtp.rcpt_to":"o***@receiver.example","smtp.reply.code":550,"smtp.reply.enhanced":"5.1.1",'
        '"smtp.reply.text":"no such user","server.address":"mx.receiver.example","smtp.queue_id":"4Abc1"}',
        '{"event.action":"recipient-refused","smtp.verb":"CONNECT","error.message":"connection refused"}',
        '{"event.action":"recipient-accepted","smtp.rcpt_to":"q***@ok.example"}',
        '{"event.action":"service-started"}',
        '{"event.action":"recipient-refused"',
        '["recipient-refused"]',
    )
    assert seen(refused) == Expected(
        "o***@receiver.example", "550 5.1.1 no such user", "mx.receiver.example", Verb.RCPT
    )
    assert (refused.id, refused.queue_id) == ("01JD5Z8Q7KX3", "4Abc1")
    assert (failed.action, failed.has_code) == ("delayed", False)
    assert accepted.action == "delivered"


def test_what_was_ingested_is_read_again() -> None:
    head = '{"@timestamp":"2026-11-22T10:00:00.000Z","event.action":"notice-received","smtp.rcpt_to":"a***@r.example",'
    failed, no_code = logged(
        head + '"smtpguard.notice.action":"failed","smtpguard.notice.at":"2026-11-20T10:00:00Z",'
        '"smtp.reply.code":550,"smtp.reply.text":"no such user","smtp.verb":"RCPT"}',
        head + '"smtpguard.notice.action":"delayed","smtp.reply.enhanced":"4.2.2","smtp.reply.text":"full"}',
        head + '"smtpguard.notice.action":"complaint"}',
    )
    assert seen(failed) == Expected("a***@r.example", "550 no such user", verb=Verb.RCPT)
    assert failed.when == datetime(2026, 11, 20, 10, tzinfo=UTC).timestamp()
    assert (no_code.action, no_code.has_code, str(no_code.reply)) == ("delayed", False, "499 4.2.2 full")


def test_a_stamp_without_a_year_is_the_latest_that_is_past() -> None:
    line = "to=<a@b.example>, relay=none, delay=1, dsn=4.4.1, status=deferred (x)"
    zone = timezone(timedelta(hours=1))
    today = datetime(2026, 3, 1, tzinfo=zone)
    december, leap, none = logged(
        f"Dec 31 23:00:00 mx1 postfix/smtp[1]: 4XyZ1: {line}",
        f"Feb 29 10:00:00 mx1 postfix/smtp[1]: 4XyZ2: {line}",
        f"postfix/smtp[1]: 4XyZ3: {line}",
        today=today,
    )
    assert december.when == datetime(2025, 12, 31, 23, tzinfo=zone).timestamp()
    assert (leap.when, none.when) == (None, None)


def test_a_log_is_read_as_it_comes_and_little_is_kept() -> None:
    def endless() -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            head = f"Nov 20 10:11:12 mx1 postfix/smtp[1]: 4X{number:07d}: "
            yield f"{head}from=<a{number}@s.example>, size=1, nrcpt=1 (queue active)\n".encode()
            yield f"{head}to=<b@r.example>, relay=none, delay=1, dsn=4.4.1, status=deferred (x)\n".encode()

    found = list(islice(read_log(endless(), TODAY), MAX_KNOWN + 10))
    assert found[-1].sender == f"a{MAX_KNOWN + 10}@s.example"


# --- the reply in a text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reply", "host", "verb"),
    [
        (f"status=bounced ({SAID} (in reply to RCPT TO command))", None, "mx.receiver.example", Verb.RCPT),
        (
            "host mx.a.example[192.0.2.1] refused to talk to me: 554 5.7.1 no",
            "554 5.7.1 no",
            "mx.a.example",
            Verb.CONNECT,
        ),
        (
            "Remote Server returned '550 5.1.10 RESOLVER.ADR.RecipientNotFound'",
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound",
            "",
            None,
        ),
        ("smtp; 550 5.1.1 no", "550 5.1.1 no", "", None),
        ("550: 5.1.1 no", "550 5.1.1 no", "", None),
        ("550 #5.1.1 no", "550 5.1.1 no", "", None),
        ("the answer was: 452-4.2.2 full", "452 4.2.2 full", "", None),
        ("550-5.1.1 a\n550 5.1.1 b", "550 5.1.1 a b", "", None),
        ("550-5.1.1 a 550-5.1.1 b 550 5.1.1 c", "550 5.1.1 a b c", "", None),
        ("421 4.7.0 busy\nGiving up", "421 4.7.0 busy Giving up", "", None),
    ],
)
def test_the_reply_in_a_text(text: str, reply: str | None, host: str, verb: Verb | None) -> None:
    found = said(text)
    assert str(found.reply) == (reply or "550 5.1.1 <bob@receiver.example>: User unknown")
    assert (found.host, found.verb, found.has_code) == (host, verb, True)


@pytest.mark.parametrize(
    ("text", "code", "enhanced"),
    [
        ("user unknown", 599, None),
        ("4.2.2 over quota", 499, "4.2.2"),
        ("no mailbox here (#5.1.1)", 599, "5.1.1"),
        ("I have 550 parcels", 599, None),
        ("", 599, None),
    ],
)
def test_a_text_without_a_code_is_a_reply_still(text: str, code: int, enhanced: str | None) -> None:
    found = said(text)
    assert (found.reply.code, found.has_code) == (code, False)
    assert (str(found.reply.enhanced) if found.reply.enhanced else None) == enhanced


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


def test_a_bomb_of_parts_is_bounded() -> None:
    parts = mime.parse(b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 50_000)
    assert len(list(parts.walk())) <= mime.MAX_PARTS + 1


def test_parts_agree_with_the_standard_library() -> None:
    """Another reader of the same messages finds the same leaves."""
    for name in SAMPLES:
        ours = [part.type for part in mime.parse(sample(name)).walk() if not part.parts]
        message = email.message_from_bytes(sample(name))
        theirs = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
        if not any("status" in kind or "feedback" in kind for kind in ours):  # theirs takes those apart
            assert [kind or "text/plain" for kind in ours] == theirs, name
