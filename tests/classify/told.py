"""What a notice is expected to tell, spelled as shortly as it can be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from smtpguard.classify.notice import Notice, read_log
from smtpguard.mail.reply import Verb

TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Expected(NamedTuple):
    """What a sample tells of a recipient; the reply without its code where the sample has none."""

    recipient: str
    reply: str
    host: str = ""
    verb: Verb | None = None
    action: str = "failed"


def seen(notice: Notice) -> Expected:
    reply = notice.reply
    text = "" if reply is None else str(reply) if notice.has_code else reply.text
    return Expected(notice.recipient, text, notice.host, notice.verb, notice.action)


def logged(*lines: str, today: datetime = TODAY) -> list[Notice]:
    return list(read_log((f"{line}\n".encode() for line in lines), today))
