"""Notices in logs: Postfix, Exim, sendmail, Exchange, and our own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice

import pytest

from smtpguard.classify.notice import NO_CODE, read_log
from smtpguard.classify.notice.maillog import MAX_KNOWN
from smtpguard.mail.reply import Verb
from tests.classify.told import TODAY, Expected, logged, seen

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
    assert notice.id == "01JD5Z8Q7KX3"


OURS = (
    "550-5.1.1 mx.receiver.example said: a{0}550-5.1.1 b{0}550-5.1.1 [smtpguard] Fix: mend{0}"
    "550 5.1.1 [smtpguard] Cause: recipient.unknown (gone) Id: 01JD5Z8Q7KX3"
)


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-20 10:12:01 1tEabc-0000000Dxy-2aBc ** gil@receiver.example R=smarthost T=smtp H=localhost "
        "[127.0.0.1]: SMTP error from remote mail server after RCPT TO:<gil@receiver.example>: " + OURS.format("\\n"),
        "Nov 20 10:13:02 mx1 sendmail[7]: 5AK9D2xx000007: to=<gil@receiver.example>, delay=00:00:01, "
        "relay=localhost. [127.0.0.1], dsn=5.1.1, reply=" + OURS.format(" ") + ", stat=User unknown",
    ],
    ids=["exim", "sendmail"],
)
def test_our_own_words_in_other_logs(line: str) -> None:
    (notice,) = logged(line)
    assert (notice.host, notice.id) == ("mx.receiver.example", "01JD5Z8Q7KX3")
    assert notice.reply is not None
    assert "smtpguard" not in notice.reply.text
    assert "said" not in notice.reply.text
    assert notice.reply.text.startswith("a")
    assert notice.reply.text.endswith("b")


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


OUR_OWN = '{"event.action":"recipient-refused","smtp.verb":"RCPT","smtp.rcpt_to":"o***@receiver.example",'


def test_what_we_refused_ourselves_is_no_lost_connection() -> None:
    """A hold, a suppression, a finding: nobody was asked, and the log says what it is about."""
    held, suppressed, failed, odd = logged(
        OUR_OWN + '"smtpguard.answer":450,"smtpguard.source":"policy","smtpguard.category":"reputation.ip_listed",'
        '"smtpguard.cause":"the sending IP is on a block list"}',
        OUR_OWN + '"smtpguard.answer":550,"smtpguard.source":"suppression","smtpguard.category":"recipient.unknown",'
        '"smtpguard.cause":"the address does not exist"}',
        OUR_OWN + '"smtpguard.answer":451,"smtpguard.source":"internal","smtpguard.category":"server.network",'
        '"smtpguard.cause":"timed out","error.type":"timeout","error.message":"no answer"}',
        OUR_OWN + '"smtpguard.answer":451,"smtpguard.category":"of.later","smtpguard.cause":"x"}',
    )
    assert (held.action, held.category, str(held.reply)) == (
        "delayed",
        "reputation.ip_listed",
        "450 the sending IP is on a block list",
    )
    assert (suppressed.action, suppressed.category, suppressed.has_code) == ("failed", "recipient.unknown", True)
    assert failed.category == odd.category == ""
    assert "no answer" in str(failed.reply)


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


@pytest.mark.parametrize(
    "line",
    [
        "Nov 20 10:11:12 mx1 postfix/smtp[1]: 4XyZ1: to=<a@r.example>, relay=none status=sent (x)",
        "Nov 20 10:11:12 mx1 postfix/smtp[1]: 4XyZ1: to=<a@r.example>, relay=x, delay=1, dsn=2.0.0, status=held (x)",
        "2026-11-20 10:12:01 1tEabc-0001Xy-2a => /var/mail/a <a@r.example> R=local T=file",
        "2026-11-20 10:12:01 a ** b",
        '["recipient-refused"]',
        '{"event.action": 1, "x": "recipient-refused"}',
        "Nov 20 10:13:00 mail sm-mta[2]: 5AKA1x0v012345: to=<a@r.example>, delay=0, dsn=4.0.0, stat=queued",
        "Nov 20 10:13:00 mail sm-mta[2]: ruleset=check_rcpt, nothing",
        "Nov 20 10:13:00 mail sm-mta[2]: 5AKA1x0v012345: stat=",
        "Nov 20 10:13:00 mail app: rejected by all",
        "9999-99-99 10:13:00 reject: nothing",
    ],
)
def test_other_lines_are_no_notice(line: str) -> None:
    assert logged(line) == []


def test_an_exchange_log_ends_where_another_begins() -> None:
    rows = ["2026-11-20T10:15:00.000Z,EX1,ROUTING,FAIL,1,<x>,r@r.example,550 5.1.1 no,a@s.example", "9,a\rb"]
    assert len(logged(*FIELDS, *rows)) == 1
    assert logged(*FIELDS, "#Fields: none", *rows) == []
    assert (
        len(
            logged(
                *FIELDS, *rows, "#Software: x", f"{POSTFIX}to=<a@b>, relay=x, delay=1, dsn=5.1.1, status=bounced (y)"
            )
        )
        == 2
    )


def test_exchange_receives() -> None:
    (notice,) = logged(
        "#Log-type: SMTP Receive Protocol Log",
        "#Fields: date-time,session-id,event,data",
        "2026-11-20T10:16:00.000Z,1,+,",
        "2026-11-20T10:16:00.000Z,1,>,220 ex1",
        "2026-11-20T10:16:00.000Z,1,<,MAIL FROM:<a@s.example>",
        "2026-11-20T10:16:00.000Z,1,>,250-fine",
        "2026-11-20T10:16:00.000Z,1,>,530 5.7.57 not authenticated",
    )
    assert (notice.inbound, notice.verb, notice.sender, str(notice.reply)) == (
        True,
        Verb.MAIL,
        "a@s.example",
        "530 5.7.57 not authenticated",
    )
