"""`[[policy]]`: which rule a refusal falls under (contract 2), and the key by which it is remembered.

The first rule whose conditions all hold decides; without one a refusal passes. What a refusal is remembered by is its
scope: a refusal of one address says nothing of another, one of our egress address something of all mail that goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from smtpguard.config import PolicySettings
from smtpguard.mail.patterns import matches
from smtpguard.mail.reply import Verb

PASS: Final = PolicySettings()
"""What is done where no rule matches."""


class Refused(NamedTuple):
    """What conditions look at. `klass`: 4 or 5, as the next hop said it."""

    klass: int
    category: str
    permanence: str
    provider: str
    from_hop: str
    verb: Verb
    sender_domain: str


class Policies:
    """The rules in their order."""

    def __init__(self, rules: Sequence[PolicySettings] = ()) -> None:
        self._rules = tuple(rules)
        self.actions: Final = frozenset(rule.action for rule in rules)
        """What any of them does."""

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, refused: Refused) -> PolicySettings:
        """The first rule that this refusal falls under; PASS where there is none."""
        return next((rule for rule in self._rules if _holds(rule, refused)), PASS)


def _holds(rule: PolicySettings, refused: Refused) -> bool:
    return (
        rule.klass in (0, refused.klass)
        and (not rule.category or any(_is_meant(pattern, refused.category) for pattern in rule.category))
        and _among(rule.permanence, refused.permanence)
        and _among(rule.provider, refused.provider)
        and _among(rule.from_hop, refused.from_hop)
        and _among(rule.verb, refused.verb)
        and matches(rule.sender_domain, refused.sender_domain)
    )


def _among(chosen: Sequence[str], value: str) -> bool:
    return not chosen or value in chosen


def _is_meant(pattern: str, category: str) -> bool:
    """`reputation.*` is the group, `*` everything."""
    if pattern.endswith("*"):
        return category.startswith(pattern[:-1])
    return category == pattern


class Scope(StrEnum):
    """What one refusal says something about (`Classification.scope`; session and account are the egress's too)."""

    RECIPIENT = "recipient"
    SENDER = "sender"
    EGRESS = "egress"
    MESSAGE = "message"

    @classmethod
    def of(cls, scope: str) -> Scope:
        """The scope of a classification."""
        return cls(scope) if scope in ("recipient", "sender", "message") else cls.EGRESS


class Subject(NamedTuple):
    """Whom an attempt is about, as far as it is known. Addresses are keyed hashes; `message` "" where none is known."""

    rcpt: str
    sender_domain: str
    next_hop: str
    provider: str
    message: str = ""

    def key(self, scope: Scope) -> str:
        """What a refusal of this scope is remembered by; "" where that cannot be said."""
        match scope:
            case Scope.RECIPIENT:
                return f"recipient {self.rcpt}" if self.rcpt else ""
            case Scope.SENDER:
                return f"sender {self.sender_domain} {self.provider}"
            case Scope.MESSAGE:
                return f"message {self.message}" if self.message else ""
            case Scope.EGRESS:
                return f"egress {self.next_hop} {self.provider}"

    def every_key(self) -> tuple[str, ...]:
        """Everything that may be remembered of it, the widest first."""
        return tuple(key for scope in _WIDEST_FIRST if (key := self.key(scope)))


_WIDEST_FIRST: Final = (Scope.EGRESS, Scope.SENDER, Scope.RECIPIENT, Scope.MESSAGE)
