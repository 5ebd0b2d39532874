"""What happened to a message: its transactions, what was refused and foreseen in them, what DSNs told later.

    for account in accounts(database, "4XyZ1a2b3c", now - 86400): ...      # an event id, or the MTA's queue id

Asked by `explain ID` and `/api/v1/rejections/{id}`. Reads, and changes nothing.

What policy made of a refusal is kept with it (`action`); since when and until when it holds is what policy remembers
now, and is looked up there by what a refusal of its kind is remembered by (policy.Subject). Not found are a sender's
where domains are kept as hashes, and a message's without a queue id: the history does not have their keys.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from smtpguard.classify import provider_of
from smtpguard.classify.notice.asked import EVENT_ID
from smtpguard.history import report
from smtpguard.history.database import Database
from smtpguard.history.report import Event
from smtpguard.history.tables import HOLDS, NOTICES, ROUTES, SUPPRESSIONS, THROTTLES, NoticeRow, RefusalRow, Table
from smtpguard.policy import Hold, Route, Scope, Subject, Suppression, Throttle

MAX_NOTICES: Final = 100
MAX_STANDINGS: Final = 100
"""Refusals of one transaction whose standing is looked up; a thousand recipients held are held for one reason."""

Remembered = Hold | Throttle | Suppression | Route


class Account(NamedTuple):
    """A transaction with what is known besides: how often each refusal's cause was met lately, notices about it.

    `lately` and `standings` have one for each of the refusals: how many of the same cause, provider and sender domain,
    this one counted; and what policy remembers of it still, None where that is nothing.
    """

    event: Event
    lately: tuple[int, ...]
    notices: tuple[NoticeRow, ...]
    standings: tuple[Remembered | None, ...]


def accounts(database: Database, id: str, since: float) -> list[Account]:
    """Of the transaction with this event id, else of all with this queue id, the newest first.

    `since`: from when on the same cause is counted.
    """
    found = report.event(database, id) if EVENT_ID.fullmatch(id) else None
    events = [found] if found is not None else report.by_queue_id(database, id)
    return [
        Account(
            event,
            _lately(database, event, since),
            notices(database, event.transaction.id),
            _standings(database, event),
        )
        for event in events
    ]


def notices(database: Database, id: str) -> tuple[NoticeRow, ...]:
    """What DSNs and complaints told of an event id or a queue id: also of mail that was accepted, and is no event."""
    if not id:
        return ()
    rows = [
        NoticeRow(*row)  # two questions: each has its index
        for column, other in (("event_id", ""), ("queue_id", "AND event_id <> queue_id"))
        for row in database.query(
            NOTICES.select(f"WHERE {column} = ? AND {column} <> '' {other} ORDER BY at, id LIMIT {MAX_NOTICES}"), (id,)
        )
    ]
    return tuple(sorted(rows, key=lambda row: (row.at, row.id))[:MAX_NOTICES])


def _lately(database: Database, event: Event, since: float) -> tuple[int, ...]:
    counts: dict[tuple[str, str], int] = {}

    def count(refusal: RefusalRow) -> int:
        key = refusal.category, refusal.provider
        if key not in counts:
            counts[key] = report.lately(database, refusal, event.transaction.sender_domain, since)
        return counts[key]

    return tuple(map(count, event.refusals))


# --- what policy remembers of it -----------------------------------------------------------------------------------

_REMEMBERED: Final[dict[str, Table[Any]]] = {
    "defer": HOLDS,
    "throttle": THROTTLES,
    "suppress": SUPPRESSIONS,
    "reroute": ROUTES,
}
"""By action: where what it leaves behind is kept."""


def _standings(database: Database, event: Event) -> tuple[Remembered | None, ...]:
    standings = _Standings(database, event)
    return tuple(
        standings.of(refusal) if number < MAX_STANDINGS else None for number, refusal in enumerate(event.refusals)
    )


class _Standings:
    """Looks up what is remembered of the refusals of one transaction; what may cover many of them, once."""

    def __init__(self, database: Database, event: Event) -> None:
        self._database = database
        self._event = event
        self._wide: dict[tuple[str, str, str], list[Remembered]] = {}

    def of(self, refusal: RefusalRow) -> Remembered | None:
        table = _REMEMBERED.get(refusal.action)
        if table is None or refusal.detour:
            return None
        rows = self._by_key(table, refusal)
        if table in (HOLDS, THROTTLES):
            rows += self._by_scope(table, refusal)
        ended = self._event.transaction.at + self._event.transaction.ms / 1e3
        return next((row for row in rows if row.since <= ended + 1 and _is_why(row, refusal)), None)

    def _by_key(self, table: Table[Any], refusal: RefusalRow) -> list[Remembered]:
        """What is about this recipient or this message alone."""
        keys = self._keys(table, refusal)
        places = ", ".join("?" * len(keys))
        return [table.row(*row) for row in self._database.query(table.select(f"WHERE key IN ({places})"), keys)]

    def _keys(self, table: Table[Any], refusal: RefusalRow) -> tuple[str, ...]:
        domain, rcpt = self._event.transaction.sender_domain, refusal.rcpt_id
        subject = Subject(rcpt, domain, refusal.next_hop, "", self._event.transaction.queue_id)
        if table is SUPPRESSIONS:
            return (rcpt,)
        if table is ROUTES:
            return (f"{domain} {rcpt}",)
        return (subject.key(Scope.RECIPIENT), subject.key(Scope.MESSAGE))

    def _by_scope(self, table: Table[Any], refusal: RefusalRow) -> list[Remembered]:
        """What is about the sender or the egress. Mail that was answered at MAIL did not come to any next hop."""
        asked = (table.name, refusal.category, refusal.next_hop)
        if asked not in self._wide:
            domain = self._event.transaction.sender_domain
            egress = f"egress {refusal.next_hop} " if refusal.next_hop else "egress "
            sender = f"sender {domain} "
            found = self._database.query(
                table.select("WHERE category = ? AND (substr(key, 1, ?) = ? OR substr(key, 1, ?) = ?) ORDER BY key"),
                (refusal.category, len(egress), egress, len(sender), sender),
            )
            self._wide[asked] = [table.row(*row) for row in found]
        providers = {refusal.provider, provider_of(refusal.rcpt_domain)}
        return [row for row in self._wide[asked] if row.key.rpartition(" ")[2] in providers or not refusal.rcpt_domain]


def _is_why(row: Remembered, refusal: RefusalRow) -> bool:
    """Whether it stands for this kind of refusal; a route stands for any."""
    return isinstance(row, Route) or row.category == refusal.category
