"""What happened to a message: its transactions, what was refused and foreseen in them, what DSNs told later.

    for account in accounts(database, "4XyZ1a2b3c", now - 86400): ...      # an event id, or the MTA's queue id

Asked by `explain ID` and `/api/v1/rejections/{id}`. Reads, and changes nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from smtpguard.classify.notice.asked import EVENT_ID
from smtpguard.history import report
from smtpguard.history.database import Database
from smtpguard.history.report import Event
from smtpguard.history.tables import NOTICES, NoticeRow, RefusalRow

MAX_NOTICES: Final = 100


class Account(NamedTuple):
    """A transaction with what is known besides: how often each refusal's cause was met lately, notices about it.

    `lately` has a number for each of the refusals, of the same provider and sender domain, this one counted.
    """

    event: Event
    lately: tuple[int, ...]
    notices: tuple[NoticeRow, ...]


def accounts(database: Database, id: str, since: float) -> list[Account]:
    """Of the transaction with this event id, else of all with this queue id, the newest first.

    `since`: from when on the same cause is counted.
    """
    found = report.event(database, id) if EVENT_ID.fullmatch(id) else None
    events = [found] if found is not None else report.by_queue_id(database, id)
    return [
        Account(event, _lately(database, event, since), notices(database, event.transaction.id)) for event in events
    ]


def notices(database: Database, id: str) -> tuple[NoticeRow, ...]:
    """What DSNs and complaints told of an event id or a queue id: also of mail that was accepted, and is no event."""
    rows = database.query(
        NOTICES.select(f"WHERE event_id = ? OR queue_id = ? ORDER BY at, id LIMIT {MAX_NOTICES}"), (id, id)
    )
    return tuple(NoticeRow(*row) for row in rows) if id else ()


def _lately(database: Database, event: Event, since: float) -> tuple[int, ...]:
    counts: dict[tuple[str, str], int] = {}

    def count(refusal: RefusalRow) -> int:
        key = refusal.category, refusal.provider
        if key not in counts:
            counts[key] = report.lately(database, refusal, event.transaction.sender_domain, since)
        return counts[key]

    return tuple(map(count, event.refusals))
