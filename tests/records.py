"""Records for tests: one transaction with recipients taken and refused, spelled as shortly as it can be."""

from __future__ import annotations

from collections.abc import Sequence

from smtpguard.classify import Classification
from smtpguard.mail.reply import Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session
from smtpguard.record import Accepted, Outcome, Record, Refusal, Source

HOP = Hop("default", "mx.example.net", 25, "TLSv1.3")
SENDER = b"Bob.Sender@example.com"
UNKNOWN = Classification(
    "recipient.unknown",
    confidence=0.95,
    rule="postfix.unknown",
    provider="google",
    permanence="permanent",
    responsible="recipient",
    cause="no such user",
    fix="Check the spelling.",
)


def refusal(
    said: str | None = "550 5.1.1 User unknown",
    rcpt: bytes | None = b"jane.doe@example.org",
    *,
    verb: Verb = Verb.RCPT,
    answer: str = "",
    meaning: Classification = UNKNOWN,
    source: Source = "next_hop",
    count: int = 1,
    failure: HopFailure | None = None,
    hop: Hop | None = HOP,
    action: str = "",
) -> Refusal:
    """A refusal, by default one of RCPT that the MTA got as the next hop said it."""
    reply = Reply.of(said, verb) if said is not None else None
    given = Reply.of(answer, verb) if answer else reply
    assert given is not None
    return Refusal(verb, given, source, meaning, rcpt, count, reply, failure, hop, action)


def record(
    *refusals: Refusal,
    accepted: Sequence[bytes] = (),
    said: str = "250 2.0.0 Ok: queued as 4XyZ1a2b3c",
    outcome: Outcome = "accepted",
    mail_from: bytes = SENDER,
    queue_id: str = "4Abc",
    hop: Hop = HOP,
) -> Record:
    """A finished transaction over the SMTP door."""
    rcpts = [*accepted, *(each.rcpt for each in refusals if each.rcpt is not None)]
    reply = Reply.of(said, Verb.DOT)
    return Record(
        "01JD5Z8Q7KX3",
        1_700_000_000.0,
        Session("s1", "smtp", "192.0.2.1", 40000, tls_version="TLSv1.2"),
        Envelope(mail_from, queue_id=queue_id, rcpts=[Recipient(path) for path in rcpts]),
        outcome=outcome,
        accepted=[Accepted(path, reply, hop) for path in accepted],
        refusals=list(refusals),
        next_hop="default",
        size=2048,
        message_id="<m1@example.com>",
        duration_s=0.25,
        receive_s=0.002,
        next_hop_s=0.1,
    )
