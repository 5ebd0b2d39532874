"""What a rule says: a finding with its evidence, or that it was skipped for want of a fact. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from smtpguard.mail.reply import EnhancedCode


class Severity(StrEnum):
    """How sure we are that mail is refused for it; what is done about it is an action."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Stage(StrEnum):
    """When a rule is asked (lint catalogue 0): the first moment at which what it needs is there."""

    __hash__ = str.__hash__  # as its text; that of Enum is three times as slow

    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BACKGROUND = "BG"


class Action(StrEnum):
    """What is done about a finding: policy, not severity."""

    OFF = "off"
    OBSERVE = "observe"
    DEFER = "defer"
    REJECT = "reject"


class Predicted(NamedTuple):
    """What a receiver says to such mail: its name, its code as published, and where (page and date, or RFC)."""

    by: str
    says: str


class Answer(NamedTuple):
    """What we say where the rule is enforced."""

    code: int
    enhanced: EnhancedCode

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where it shows: the text (a record, a header field, a piece of the body), and the place of it in a message."""

    text: str = ""
    line: int | None = None
    """From 1."""
    offset: int | None = None
    """Of its first octet in the message."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule found, in its own words. The rule's constants (severity, reference, ...) are not repeated here.

    `message` says what is wrong with *this* mail, with the values filled in; `fix` what to do, with the very DNS record
    to publish where one can be written ("" takes the rule's own). Both are one line. `severity` overrides the rule's.
    """

    message: str
    evidence: Evidence = Evidence()
    fix: str = ""
    severity: Severity | None = None
    ttl: int | None = None
    """Seconds for which the answer of the DNS behind it holds; None where none is."""
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit of a rule with everything that a log, a person or a policy wants to know."""

    rule: str
    name: str
    severity: Severity
    message: str
    fix: str
    reference: str
    predicts: tuple[Predicted, ...]
    evidence: Evidence
    action: Action
    answer: Answer | None
    category: str
    """Of the refusal that it predicts (classify/categories.toml)."""
    source: str = "message"
    """Where the facts came from: message, dns, stale."""
    ttl: int | None = None
    rcpt: bytes | None = None
    """The recipient it is about; None: the sender or the message."""


class Skipped(NamedTuple):
    """A rule that could not be asked, and why."""

    rule: str
    why: str
