"""The reply in a text that tells of it, whatever the text."""

from __future__ import annotations

import textwrap
from time import perf_counter

import pytest

from smtpguard import policy
from smtpguard.classify import Classification
from smtpguard.classify.notice import said
from smtpguard.mail.reply import EnhancedCode, Reply, Verb

SAID = "host mx.receiver.example[192.0.2.25] said: 550 5.1.1 <bob@receiver.example>: User unknown"


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
        ("550;5.1.1 no", "550 5.1.1 no", "", None),
        ("550 5.1.1 no 550-[smtpguard] Cause: x", "550 5.1.1 no", "", None),
        ("421 4.7.0 busy\nGiving up", "421 4.7.0 busy Giving up", "", None),
    ],
)
def test_the_reply_in_a_text(text: str, reply: str | None, host: str, verb: Verb | None) -> None:
    found = said(text)
    assert str(found.reply) == (reply or "550 5.1.1 <bob@receiver.example>: User unknown")
    assert (found.host, found.verb, found.has_code) == (host, verb, True)


def test_of_a_line_of_a_log_without_a_reply_only_the_reason_is_read() -> None:
    reason = "lost connection with mx.receiver.example[192.0.2.25] while performing the EHLO handshake"
    found = said(f"4F1A: to=<b@receiver.example>, relay=none, delay=30, dsn=4.4.2, status=deferred ({reason})")
    assert found.reply.lines == (reason,)
    assert (found.host, found.verb, found.has_code) == ("mx.receiver.example", Verb.EHLO, False)


@pytest.mark.parametrize("around", ["{}", "host mx.next.example[192.0.2.1] said: {} (in reply to MAIL FROM command)"])
def test_what_was_said_to_who_verified_the_sender_is_not_the_reply(around: str) -> None:
    reply = f"550 5.1.7 <a@sender.example>: Sender address rejected: undeliverable address: {SAID}"
    found = said(around.format(f"{reply} (in reply to RCPT TO command)"))
    assert str(found.reply).startswith(reply)
    assert found.host != "mx.receiver.example"
    assert found.verb is not Verb.RCPT


@pytest.mark.parametrize(
    ("text", "code", "enhanced"),
    [
        ("user unknown", 599, None),
        ("4.2.2 over quota", 499, "4.2.2"),
        ("no mailbox here (#5.1.1)", 599, "5.1.1"),
        ("I have 550 parcels", 599, None),
        ("5\u0660\u0660 no", 599, None),
        ("", 599, None),
    ],
)
def test_a_text_without_a_code_is_a_reply_still(text: str, code: int, enhanced: str | None) -> None:
    found = said(text)
    assert (found.reply.code, found.has_code) == (code, False)
    assert (str(found.reply.enhanced) if found.reply.enhanced else None) == enhanced


# --- what smtpguard wrote around a reply (contract 1.5) --------------------------------------------------------------

ID = "01JD5Z8Q7KX3"
MEANING = Classification("recipient.unknown", cause="the address does not exist", fix="Check it. " * 30)


@pytest.mark.parametrize("width", [None, 30, 61, 72])
@pytest.mark.parametrize(
    "lines", [("<bob@r.example>: User unknown",), ("The account", "does not exist", "- gsmtp"), ("many",) * 9]
)
def test_what_we_wrote_is_taken_off_again(lines: tuple[str, ...], width: int | None) -> None:
    """As policy writes it and an MTA quotes it: on lines, on one line, wrapped."""
    reply = Reply(550, lines, EnhancedCode(5, 1, 1), Verb.RCPT)
    text = policy.explained(reply, MEANING, id=ID, host="mx.r.example").wire().decode()
    if width is not None:
        flat = f"host 127.0.0.1[127.0.0.1] said: {' '.join(text.split())} (in reply to RCPT TO command)"
        text = "\n    ".join(textwrap.wrap(flat, width, break_on_hyphens=False))
    found = said(text)
    assert (str(found.reply), found.host, found.id) == (str(reply), "mx.r.example", ID)
    assert found.is_relayed


@pytest.mark.parametrize("reason", policy.Own)
def test_our_own_refusal_has_no_host_before_it(reason: policy.Own) -> None:
    own = policy.own(reason, Verb.RCPT)
    found = said(policy.explained(own.reply, own.classification, id=ID).wire().decode())
    assert (str(found.reply), found.host, found.id, found.is_relayed) == (str(own.reply), "", ID, False)


def test_the_id_is_of_the_nearest_of_two() -> None:
    inner = policy.explained(Reply(550, ("no",), EnhancedCode(5, 1, 1)), MEANING, id=ID, host="mx.r.example")
    outer = policy.explained(inner, MEANING, id="01JD5Z8Q7KX4", host="relay.example")
    found = said(outer.wire().decode())
    assert (found.host, found.id) == ("relay.example", "01JD5Z8Q7KX4")


@pytest.mark.parametrize(
    "text", ["550 5.1.1 mx.a.example said: no", "550 x [smtpguard]", "550 5.1.1 [smtpguard] Cause: x Id: short"]
)
def test_others_words_are_left_alone(text: str) -> None:
    found = said(text)
    assert (found.host, found.id, found.is_relayed) == ("", "", False)


@pytest.mark.parametrize(
    "text", [" " * 16000 + "[smtpguard] ", "[smtpguard] Cause: " * 900, "550 " * 4000 + "[smtpguard] "]
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    began = perf_counter()
    said(text)
    assert perf_counter() - began < 2


@pytest.mark.parametrize(("text", "code"), [("250 2.0.0 Ok", 250), ("354 End data with .", 354), ("334 VXNlcm5h", 334)])
def test_a_reply_that_is_no_refusal(text: str, code: int) -> None:
    found = said(text)
    assert (found.reply.code, found.has_code) == (code, True)
