"""Questions to the history: sums over a period, single events, refusals of a kind. Reads, and changes nothing.

Sums come from the counts by slot (tables.SLOT_S), so that they cost the same for a thousand events and for a million;
a period therefore begins at the slot that holds its beginning, and says so. A refusal counts once a recipient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from smtpguard.classify.rules import LIKELY
from smtpguard.history.database import Database
from smtpguard.history.tables import (
    FINDINGS,
    REFUSALS,
    TRANSACTIONS,
    FindingRow,
    RefusalRow,
    TransactionRow,
    slot_of,
)
from smtpguard.lint import RULES

By = Literal["category", "provider", "sender", "code"]

# What a line of a report stands for: columns of the tallies; the first two are the acceptances' too
_COLUMNS: Final[dict[By, tuple[str, ...]]] = {
    "provider": ("provider",),
    "sender": ("sender_domain",),
    "category": ("category",),
    "code": ("code", "enhanced"),
}
_RATED: Final[tuple[By, ...]] = ("provider", "sender")

MAX_LINES: Final = 1000
MAX_REJECTIONS: Final = 1000


class Line(NamedTuple):
    """One line of a report: refusals by what was said, 5xx (`rejected`) and 4xx (`deferred`).

    `accepted` are recipients taken; None where a line has none (a category, a code). `most` is the most frequent
    category in it, "" where the line is one.
    """

    name: str
    rejected: int
    deferred: int
    accepted: int | None = None
    most: str = ""

    @property
    def refused(self) -> int:
        return self.rejected + self.deferred


class Summary(NamedTuple):
    """A period, `since` to `until`, summed up: recipients accepted, refusals, and the lines, the longest first."""

    since: float
    until: float
    by: By
    accepted: int
    rejected: int
    deferred: int
    lines: tuple[Line, ...]

    @property
    def refused(self) -> int:
        return self.rejected + self.deferred


def summary(database: Database, since: float, until: float, by: By = "category") -> Summary:
    """Refusals and acceptances of a period, by one of By; at most MAX_LINES lines."""
    start, columns = slot_of(since), _COLUMNS[by]
    group = ", ".join(columns)
    lines: dict[str, Line] = {}
    most: dict[str, int] = {}
    rows = database.query(
        f"SELECT {group}, category, SUM(CASE WHEN code >= 500 THEN n ELSE 0 END), "  # noqa: S608 - a table above
        f"SUM(CASE WHEN code < 500 THEN n ELSE 0 END) FROM tallies WHERE slot >= ? AND slot <= ? "
        f"GROUP BY {group}{'' if by == 'category' else ', category'}",
        (start, int(until)),
    )
    for *key, category, rejected, deferred in rows:
        name = " ".join(str(part) for part in key if part != "")
        line = lines.get(name, Line(name, 0, 0))
        count = int(rejected + deferred)
        if by != "category" and count > most.get(name, 0):
            most[name] = count
            line = line._replace(most=category)
        lines[name] = line._replace(rejected=line.rejected + int(rejected), deferred=line.deferred + int(deferred))
    accepted = _accepted(database, start, until, columns[0] if by in _RATED else "''")
    if by in _RATED:
        for name in (*lines, *accepted):
            lines[name] = lines.get(name, Line(name, 0, 0))._replace(accepted=accepted.get(name, 0))
    ordered = sorted(lines.values(), key=lambda line: (-line.refused, -(line.accepted or 0), line.name))
    return Summary(
        start,
        until,
        by,
        sum(accepted.values()),
        sum(line.rejected for line in ordered),
        sum(line.deferred for line in ordered),
        tuple(ordered[:MAX_LINES]),
    )


def _accepted(database: Database, start: int, until: float, column: str) -> dict[str, int]:
    rows = database.query(
        f"SELECT {column}, SUM(n) FROM acceptances WHERE slot >= ? AND slot <= ? GROUP BY 1",  # noqa: S608
        (start, int(until)),
    )
    return {name: int(count) for name, count in rows}


# --- lint meets refusal --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule of lint and what became of the mail in which it found something.

    `findings` = `rejected` + `deferred` + `accepted` by the next hop + those of which it was not asked. `would_reject`
    and `would_defer` are those that only observing let pass.
    """

    rule: str
    severity: str
    findings: int = 0
    rejected: int = 0
    deferred: int = 0
    accepted: int = 0
    would_reject: int = 0
    would_defer: int = 0

    @property
    def is_certain(self) -> bool:
        """Whether `lint.mode = "enforce"` refuses for the rule; any other does where `[lint.rules]` names it."""
        known = RULES.get(self.rule)
        return known is not None and known.is_certain

    @property
    def precision(self) -> float | None:
        """The part of the findings that the next hop confirmed; None where it said neither yes nor no for good."""
        told = self.rejected + self.accepted
        return self.rejected / told if told else None


def rules(database: Database, since: float, until: float) -> tuple[RuleLine, ...]:
    """The rules that found something in a period, the one that found most first."""
    found: dict[str, dict[str, int]] = {}
    severities: dict[str, str] = {}
    for rule, severity, action, answer, outcome, count in database.query(
        "SELECT rule, severity, action, answer, outcome, SUM(n) FROM verdicts WHERE slot >= ? AND slot <= ? "
        "GROUP BY rule, severity, action, answer, outcome ORDER BY SUM(n)",
        (slot_of(since), int(until)),
    ):
        severities[rule] = severity  # the most frequent
        counts = found.setdefault(rule, {})
        would = {4: "would_defer", 5: "would_reject"}.get(answer // 100) if action == "observe" else None
        for name in ("findings", outcome, would):
            if name:
                counts[name] = counts.get(name, 0) + int(count)
    lines = (RuleLine(rule, severities[rule], **counts) for rule, counts in found.items())
    return tuple(sorted(lines, key=lambda line: (-line.findings, line.rule)))


_CERTAIN: Final = tuple((rule.code, rule.severity.value) for rule in RULES.values() if rule.is_certain)
"""What `lint.mode = "enforce"` refuses for: a hit that says itself milder than its rule is, is observed still."""


def is_enforced(finding: FindingRow) -> bool:
    """Whether `lint.mode = "enforce"` alone refuses for such a finding."""
    return (finding.rule, finding.severity) in _CERTAIN


class Messages(NamedTuple):
    """Messages that we would have rejected; of these the next hop rejected some itself, and took others."""

    messages: int
    rejected: int
    accepted: int


class WouldReject(NamedTuple):
    """What refusing for what was only observed would have done in a period.

    `enforcing` is what `lint.mode = "enforce"` does, `every` what every rule as `reject` in `[lint.rules]` does; the
    history knows no configuration, so rules that `[lint.rules]` sets count as any other. `by_rule` says which rules,
    the certain ones first, one message counting for each that found something.
    """

    since: float
    until: float
    enforcing: Messages
    every: Messages
    by_rule: tuple[RuleLine, ...]


def would_reject(database: Database, since: float, until: float) -> WouldReject:
    """The findings that were only observed, of rules that may reject."""
    start = slot_of(since)
    certain = " OR ".join(["(rule = ? AND severity = ?)"] * len(_CERTAIN))
    by_rule = tuple(
        sorted(
            (line for line in rules(database, since, until) if line.would_reject),
            key=lambda line: (not line.is_certain, -line.would_reject, line.rule),
        )
    )
    return WouldReject(
        start,
        until,
        _messages(database, start, until, f"AND ({certain})", [part for pair in _CERTAIN for part in pair]),
        _messages(database, start, until),
        by_rule,
    )


def _messages(
    database: Database, start: int, until: float, further: str = "", params: Sequence[object] = ()
) -> Messages:
    """The messages with a finding that was only observed; `further` is a further condition on it, in SQL."""
    counts = dict(
        database.query(
            "SELECT outcome, COUNT(*) FROM (SELECT id, MAX(CASE outcome WHEN 'rejected' THEN 2 WHEN 'accepted' THEN 1 "  # noqa: S608 - a condition of ours
            "ELSE 0 END) AS outcome FROM findings WHERE at >= ? AND at <= ? AND action = 'observe' AND answer >= 500 "
            f"{further} GROUP BY id) AS messages GROUP BY outcome",
            (start, until, *params),
        )
    )
    return Messages(sum(counts.values()), counts.get(2, 0), counts.get(1, 0))


# --- single events ---------------------------------------------------------------------------------------------------


class Event(NamedTuple):
    """A transaction with all that was refused and found in it."""

    transaction: TransactionRow
    refusals: tuple[RefusalRow, ...]
    findings: tuple[FindingRow, ...]


def event(database: Database, id: str) -> Event | None:
    """The transaction with this event id."""
    found = database.query(TRANSACTIONS.select("WHERE id = ?"), (id,))
    return _event(database, TransactionRow(*found[0])) if found else None


def by_queue_id(database: Database, queue_id: str, limit: int = 20) -> list[Event]:
    """The transactions of the MTA's queue id, the newest first: each of its attempts was one."""
    if not queue_id:
        return []
    rows = database.query(TRANSACTIONS.select(f"WHERE queue_id = ? ORDER BY at DESC LIMIT {int(limit)}"), (queue_id,))
    return [_event(database, TransactionRow(*row)) for row in rows]


def _event(database: Database, transaction: TransactionRow) -> Event:
    refusals = database.query(REFUSALS.select("WHERE id = ? ORDER BY position"), (transaction.id,))
    findings = database.query(FINDINGS.select("WHERE id = ? ORDER BY position"), (transaction.id,))
    return Event(transaction, tuple(RefusalRow(*row) for row in refusals), tuple(FindingRow(*row) for row in findings))


class Rejection(NamedTuple):
    """A refusal, and of its transaction what tells whose mail it was."""

    refusal: RefusalRow
    queue_id: str
    message_id: str
    sender: str
    sender_domain: str


def rejections(
    database: Database,
    since: float = 0.0,
    *,
    category: str = "",
    provider: str = "",
    rcpt_id: str = "",
    unexplained: bool = False,
    limit: int = 100,
) -> list[Rejection]:
    """Refusals since then, 4xx and 5xx, the newest first; "" is any. `category` may be a group, as `auth`.

    `unexplained`: only those that no rule explained, be it that all their words together had a likely meaning.
    """
    conditions = ["r.at >= ?"]
    params: list[object] = [since]
    for column, value in (("provider", provider), ("rcpt_id", rcpt_id)):
        if value:
            conditions.append(f"r.{column} = ?")
            params.append(value)
    if category:
        conditions.append("(r.category = ? OR substr(r.category, 1, ?) = ?)")
        params += [category, len(category) + 1, f"{category}."]
    if unexplained:
        conditions.append("(r.category = 'unknown' OR r.rule = ?)")
        params.append(LIKELY)
    of = ", ".join(f"r.{name}" for name in RefusalRow._fields)
    rows = database.query(
        f"SELECT {of}, t.queue_id, t.message_id, t.sender, t.sender_domain "  # noqa: S608 - columns of a table
        f"FROM refusals r JOIN transactions t ON t.id = r.id WHERE {' AND '.join(conditions)} "
        f"ORDER BY r.at DESC, r.id, r.position LIMIT {max(0, min(int(limit), MAX_REJECTIONS))}",
        params,
    )
    width = len(RefusalRow._fields)
    return [Rejection(RefusalRow(*row[:width]), *row[width:]) for row in rows]


def lately(database: Database, refusal: RefusalRow, sender_domain: str, since: float) -> int:
    """How often the same cause was met since then, at the same provider and for the same sender domain."""
    found = database.query(
        "SELECT COALESCE(SUM(n), 0) FROM tallies WHERE slot >= ? AND category = ? AND provider = ? "
        "AND sender_domain = ?",
        (slot_of(since), refusal.category, refusal.provider, sender_domain),
    )
    return int(found[0][0])
