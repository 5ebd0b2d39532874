"""What a notice is: one recipient's fate, as a DSN, a bounce, a complaint or a log line tells it.

Only the value stands here, so that all readers (dsn.py, bounce.py, arf.py, maillog.py, exchange.py) give the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smtpguard.mail.reply import Reply, Verb

Kind = Literal["dsn", "bounce", "arf", "log"]
Action = Literal["failed", "delayed", "delivered", "relayed", "expanded", "complaint"]
"""RFC 3464 2.3.3, and what an ARF report is about."""

REFUSED: frozenset[Action] = frozenset(("failed", "delayed"))


@dataclass(frozen=True, slots=True)
class Notice:
    """One recipient's fate. Texts are as they were written: clean them before they are shown. "" is unknown.

    `reply` is what the remote MTA (`host`) said, or what the notice says in its place; None where a complaint or a
    delivery needs none. Where no SMTP code was told, `has_code` is False and `reply.code` stands for its class only
    (said.NO_CODE). `verb` None: not known. `when` is in seconds since the epoch. `queue_id` is the reporting MTA's,
    `id` the event id of smtpguard's own log, or in a reply that it explained. `inbound` is a refusal by the logging
    server itself, of mail that came to it. `feedback` is the Feedback-Type of a complaint (RFC 5965 3.1). `category` is
    known where smtpguard itself refused, asking nobody: for a hold, a suppression, a finding; `reply` says why then.
    """

    kind: Kind
    action: Action
    reply: Reply | None = None
    recipient: str = ""
    sender: str = ""
    host: str = ""
    verb: Verb | None = None
    when: float | None = None
    message_id: str = ""
    queue_id: str = ""
    id: str = ""
    has_code: bool = True
    inbound: bool = False
    feedback: str = ""
    category: str = ""
