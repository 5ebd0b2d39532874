"""The reply in a text that tells of it, whatever the text."""

from __future__ import annotations

import pytest

from smtpguard.classify.notice import said
from smtpguard.mail.reply import Verb

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
