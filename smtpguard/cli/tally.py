"""Many notices summed up: causes, providers, what to do first. Takes as little memory for a year's log as for a day's.

Replies that differ only in addresses and ids are classified once: `shape` takes those out. The machine form of a sum is
`Tally.described`; how it looks to a person is in summary.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from smtpguard.classify import Classification, Classifier, provider_of
from smtpguard.classify.notice import REFUSED, Notice
from smtpguard.mail.reply import Reply, Verb

MAX_SHAPES: Final = 20_000

# What differs from one refusal to the next of the same cause: addresses, IP addresses, and long words with letters and
# digits, which are queue ids and host names. A page's address is no such word.
_PASSING = re.compile(
    r"[^\s<>\"'()\[\],;:]+@[^\s<>\"'()\[\],;]+|\b\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|(?<![/\w.=?-])(?=[A-Za-z._-]*\d)(?=[\d._-]*[A-Za-z])[\w.-]{8,}(?![/\w])"
)

# whose fault can be mended here, and how soon: what to do first. Others wait, or are nobody's
_URGENCY: Final = {
    "us or the MTA": 0,
    "configuration": 0,
    "sender infrastructure": 0,
    "sender application": 1,
    "sender content": 1,
    "sender": 1,
    "recipient": 2,
}
_NOT_ON_THE_LIST: Final = 9


def shape(text: str) -> str:
    """A reply's text without what is different each time."""
    return _PASSING.sub("*", text[:2000])


@dataclass(slots=True)
class Cause:
    """The refusals of one category; `example` is the first."""

    example: Notice
    meaning: Classification
    failed: int = 0
    delayed: int = 0
    providers: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.failed + self.delayed

    @property
    def urgency(self) -> int:
        """0 is first: what the sender can mend by itself."""
        return _URGENCY.get(self.meaning.responsible, _NOT_ON_THE_LIST)

    @property
    def is_on_the_list(self) -> bool:
        """Whether anybody at the sender's can do something."""
        return self.urgency < _NOT_ON_THE_LIST


class Tally:
    """Takes notices; what they come to stands in the fields."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._meanings: dict[tuple[str, int, object, str, Verb | None], Classification] = {}
        self.notices = 0
        self.delivered = 0
        self.complaints: Counter[str] = Counter()
        self.causes: dict[str, Cause] = {}
        self.inbound: dict[str, Cause] = {}
        """What the logging server itself refused, of mail that came to it."""
        self.first: float | None = None
        self.last: float | None = None
        self.only: Notice | None = None
        """The one refusal, as long as there is but one."""

    def add(self, notice: Notice) -> Classification | None:
        """Count a notice; what its refusal means, None where it is none."""
        self.notices += 1
        if notice.when is not None:
            self.first = notice.when if self.first is None else min(self.first, notice.when)
            self.last = notice.when if self.last is None else max(self.last, notice.when)
        if notice.action == "complaint":
            self.complaints[notice.feedback] += 1
        if notice.reply is None or notice.action not in REFUSED:
            self.delivered += notice.action in ("delivered", "relayed", "expanded")
            return None
        meaning = self.meaning(notice, notice.reply)
        causes = self.inbound if notice.inbound else self.causes
        cause = causes.get(meaning.category)
        if cause is None:
            self.only = notice if self.refused == 0 and not self.inbound else None
            # the words of this one, not of another of its shape
            cause = causes[meaning.category] = Cause(notice, self._match(notice, notice.reply))
        else:
            self.only = None
        if notice.action == "failed":
            cause.failed += 1
        else:
            cause.delayed += 1
        cause.providers[meaning.provider] += 1
        return meaning

    def meaning(self, notice: Notice, reply: Reply) -> Classification:
        """The classification of a notice's reply, or of one of the same shape."""
        if notice.category:
            return self._match(notice, reply)
        key = (shape(reply.text), reply.code, reply.enhanced, provider_of(notice.host), notice.verb)
        known = self._meanings.get(key)
        if known is None:
            if len(self._meanings) >= MAX_SHAPES:
                self._meanings.clear()
            known = self._meanings[key] = self._match(notice, reply)
        return known

    def _match(self, notice: Notice, reply: Reply) -> Classification:
        if notice.category:
            from smtpguard.policy import stated  # brings the configuration with it, which a mail log does not need

            return stated(notice.category, cause=reply.text)
        return self._classifier.match(reply, notice.host, verb_known=notice.verb is not None)

    # -- what it comes to -----------------------------------------------------------------------------------------

    @property
    def refused(self) -> int:
        return sum(cause.count for cause in self.causes.values())

    @property
    def failed(self) -> int:
        return sum(cause.failed for cause in self.causes.values())

    @property
    def tried(self) -> int:
        """Deliveries told of, however they ended; an attempt that is repeated counts again."""
        return self.delivered + self.refused

    def by_count(self) -> list[tuple[str, Cause]]:
        """Categories, the most frequent first."""
        return sorted(self.causes.items(), key=lambda item: (-item[1].count, item[0]))

    def to_do(self) -> list[tuple[str, Cause]]:
        """Categories that somebody at the sender's can do something about: the sender's own faults first."""
        mendable = (item for item in self.causes.items() if item[1].is_on_the_list)
        return sorted(mendable, key=lambda item: (item[1].urgency, -item[1].count, item[0]))

    def providers(self) -> list[tuple[str, Counter[str]]]:
        """Providers, the one that refused most first, each with its categories; `other` last."""
        found: dict[str, Counter[str]] = {}
        for category, cause in self.causes.items():
            for provider, count in cause.providers.items():
                found.setdefault(provider, Counter())[category] += count
        return sorted(found.items(), key=lambda item: (item[0] == "other", -item[1].total(), item[0]))

    def described(self) -> dict[str, Any]:
        """All of it, as one JSON object; what is unknown is left out."""
        whole = {
            "notices": self.notices,
            "delivered": self.delivered,
            "refused": self.refused,
            "failed": self.failed,
            "delayed": self.refused - self.failed,
            "first": rfc3339(self.first),
            "last": rfc3339(self.last),
            "causes": [described_cause(*item, of=self.refused) for item in self.by_count()],
            "providers": [
                {"provider": name, "refused": counts.total(), "categories": dict(counts.most_common())}
                for name, counts in self.providers()
            ],
            "to_do": [category for category, _ in self.to_do()],
            "complaints": dict(self.complaints.most_common()),
            "inbound": [
                described_cause(category, cause, of=sum(each.count for each in self.inbound.values()))
                for category, cause in sorted(self.inbound.items(), key=lambda item: -item[1].count)
            ],
        }
        return {key: value for key, value in whole.items() if value is not None and value not in ([], {})}


def described_cause(category: str, cause: Cause, *, of: int) -> dict[str, Any]:
    """One cause as JSON; `of` is what its share is of."""
    meaning = cause.meaning
    whole = {
        "category": category,
        "count": cause.count,
        "share": round(cause.count / of, 4),
        "failed": cause.failed,
        "delayed": cause.delayed,
        "responsible": meaning.responsible,
        "permanence": meaning.permanence,
        "cause": meaning.cause,
        "fix": meaning.fix,
        "rule": meaning.rule,
        "reference": meaning.reference,
        "providers": dict(cause.providers.most_common()),
        "example": dict(told(cause.example)),
    }
    return {key: value for key, value in whole.items() if value not in (None, "")}


def told(notice: Notice) -> Iterator[tuple[str, Any]]:
    """What a notice tells besides its cause, as JSON keys and values; nothing that is unknown."""
    reply = notice.reply
    whole: dict[str, Any] = {
        "kind": notice.kind,
        "action": notice.action,
        "reply": (str(reply) if notice.has_code else reply.text) if reply is not None else "",
        "recipient": notice.recipient,
        "sender": notice.sender,
        "host": notice.host,
        "verb": notice.verb.value if notice.verb is not None else None,
        "when": rfc3339(notice.when),
        "message_id": notice.message_id,
        "queue_id": notice.queue_id,
        "id": notice.id,
        "feedback": notice.feedback,
    }
    return ((key, value) for key, value in whole.items() if value not in (None, ""))


def many(count: int, word: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def rfc3339(when: float | None) -> str | None:
    """A time in UTC, whole seconds."""
    if when is None:
        return None
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None
