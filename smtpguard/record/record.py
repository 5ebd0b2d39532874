"""A transaction as one record: what came, what was said, what the MTA got. The flow fills it; it decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from smtpguard.classify import Classification
from smtpguard.mail.reply import Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Session
from smtpguard.policy import Suppression

if TYPE_CHECKING:
    from smtpguard.lint import Finding, Skipped  # 0.2 s, which commands that read a log need not pay

Outcome = Literal["accepted", "refused", "deferred", "partial", "aborted", "unknown"]
Source = Literal["next_hop", "lint", "suppression", "policy", "internal"]


class Accepted(NamedTuple):
    """A recipient that the next hop took, with its final 2xx."""

    rcpt: bytes
    reply: Reply
    hop: Hop


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal as the MTA got it (`answer`), and what was behind it.

    `rcpt` is None for a refusal of MAIL, DATA or the message; it then stands for `count` recipients (0: before any
    RCPT).
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
    action: str = ""
    """What policy made of it: defer, throttle, suppress, reroute; "" it passed."""
    alert: bool = False
    suppressed: Suppression | None = None
    """Added for it."""
    rule: str = ""
    """The lint rule whose finding it is, of source lint."""


Agreement = Literal["rejected", "accepted", ""]
"""What the next hop said to what a finding is about; "" it was not asked, or did not say."""


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
    diverted: list[Refusal] = field(default_factory=list)
    """Refusals that the MTA was not told of: another next hop was tried."""
    findings: Sequence[Finding] = ()
    skipped: Sequence[Skipped] = ()
    next_hop: str = ""
    size: int = 0
    message_id: str = ""
    client_gone: bool = False
    duration_s: float = 0.0
    receive_s: float = 0.0
    lint_s: float = 0.0
    next_hop_s: float = 0.0

    def agreement(self, finding: Finding) -> Agreement:
        """Whether the next hop refused what the lint had found something in."""
        if any(
            refusal.source == "next_hop" and (finding.rcpt is None or refusal.rcpt in (None, finding.rcpt))
            for refusal in (*self.refusals, *self.diverted)
            if refusal.said is not None
        ):
            return "rejected"
        if any(finding.rcpt in (None, accepted.rcpt) for accepted in self.accepted):
            return "accepted"
        return ""

    @property
    def refused(self) -> int:
        """How many recipients were refused, one by one or with their message."""
        return sum(refusal.count for refusal in self.refusals) if self.refusals else 0
