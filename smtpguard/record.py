"""A transaction as one record: what came, what was said, what the MTA got.

`flow.py` fills it, log, metrics and history read it; it decides nothing. Nothing here raises on foreign text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from smtpguard.classify import Classification
from smtpguard.mail.reply import Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Session

Outcome = Literal["accepted", "refused", "deferred", "partial", "aborted", "unknown"]
Source = Literal["next_hop", "lint", "suppression", "policy", "internal"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that the next hop took, with its final 2xx."""

    rcpt: bytes
    reply: Reply
    hop: Hop


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal as the MTA got it (`answer`), and what was behind it.

    `rcpt` is None for a refusal of MAIL, DATA or the message; it then stands for `count` recipients (0: before any RCPT).
    `said` is the next hop's own reply; None where it gave no usable one (`failure`) or was not asked.
    """

    verb: Verb
    answer: Reply
    source: Source
    classification: Classification
    rcpt: bytes | None = None
    count: int = 1
    said: Reply | None = None
    failure: HopFailure | None = None
    hop: Hop | None = None


@dataclass(slots=True)
class Record:
    """A finished transaction. Times: `at` in seconds since the epoch, durations in seconds, sizes in octets."""

    id: str
    at: float
    session: Session
    envelope: Envelope
    outcome: Outcome = "aborted"
    accepted: list[Accepted] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    next_hop: str = ""
    size: int = 0
    message_id: str = ""
    client_gone: bool = False
    duration_s: float = 0.0
    receive_s: float = 0.0
    next_hop_s: float = 0.0
