"""Upkeep of a store: what is over goes, what is too much goes, what somebody wants forgotten goes; and what there is.

| rows | kept until |
| --- | --- |
| events, counts, strikes | `privacy.retention` after they happened |
| suppressions, routes, TLS policies | their `until` |
| throttles | a day after their `until`: the step they were at |
| holds | `privacy.retention` after their `until`: a hold that is over still says that it was tried |

Deleting goes in small steps, each a transaction, so that nobody who writes waits for long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from smtpguard.history import schema
from smtpguard.history.database import Database
from smtpguard.history.tables import (
    COUNTS,
    EVENTS,
    FINDINGS,
    HOLDS,
    NOTICES,
    REFUSALS,
    REMEMBERED,
    ROUTES,
    STRIKES,
    SUPPRESSIONS,
    THROTTLES,
    TLS_POLICIES,
    TRANSACTIONS,
    Table,
)
from smtpguard.record import Masker

STEP: Final = 2_000  # rows deleted in one transaction
THROTTLE_KEPT_S: Final = 86_400.0
LOW_MARK: Final = 0.95
"""Of the size cap: deleting goes on to here, so that the next row does not begin it again."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What there is: rows by table, octets, the time of the oldest event (None: there is none)."""

    rows: dict[str, int]
    size_bytes: int
    oldest: float | None
    schema: int


def stats(database: Database) -> Stats:
    """Count everything; takes a second or so for a million rows."""
    rows = {
        table.name: int(database.query(f"SELECT COUNT(*) FROM {table.name}")[0][0])  # noqa: S608
        for table in (*EVENTS, *COUNTS, *REMEMBERED)
    }
    oldest = min(
        (found for table in EVENTS if (found := _oldest(database, table)) is not None),
        default=None,
    )
    return Stats(rows, database.size(), oldest, schema.applied(database))


def _oldest(database: Database, table: Table[Any]) -> float | None:
    found: float | None = database.query(f"SELECT MIN(at) FROM {table.name}")[0][0]  # noqa: S608
    return found


# --- what is over --------------------------------------------------------------------------------------------------


def limits(now: float, retention_s: float) -> dict[str, float]:
    """By table of what policy remembers: rows whose `until` (of strikes: `at`) is before this are over."""
    return {
        SUPPRESSIONS.name: now,
        ROUTES.name: now,
        TLS_POLICIES.name: now,
        THROTTLES.name: now - THROTTLE_KEPT_S,
        HOLDS.name: now - retention_s,
        STRIKES.name: now - retention_s,
    }


def prune(database: Database, now: float, *, retention_s: float, max_size: int) -> int:
    """Delete what is over, and the oldest events beyond `max_size` octets (0: no cap); how many rows.

    PostgreSQL keeps to no cap. What policy remembers is small, and never deleted for its size.
    """
    return sum(prune_steps(database, now, retention_s=retention_s, max_size=max_size))


def prune_steps(database: Database, now: float, *, retention_s: float, max_size: int) -> Iterator[int]:
    """`prune` step by step: rows deleted in each; a caller may do something else in between."""
    before = now - retention_s
    for table in EVENTS:
        yield from _delete_before(database, table, before)
    with database.transaction():
        gone = sum(
            database.run(f"DELETE FROM {table.name} WHERE slot < ?", (int(before),))  # noqa: S608
            for table in COUNTS
        )
        for name, limit in limits(now, retention_s).items():
            column = "at" if name == STRIKES.name else "until"
            gone += database.run(f"DELETE FROM {name} WHERE {column} < ?", (limit,))  # noqa: S608
        database.run("DELETE FROM nodes WHERE at < ?", (before,))
    yield gone
    if max_size and database.can_be_capped and database.size() > max_size:
        yield from _delete_oldest(database, int(max_size * LOW_MARK))
    database.shrink()


def _delete_before(database: Database, table: Table[Any], before: float) -> Iterator[int]:
    while True:
        found = database.query(
            f"SELECT at FROM {table.name} WHERE at < ? ORDER BY at LIMIT 1 OFFSET {STEP}",  # noqa: S608
            (before,),
        )
        with database.transaction():
            gone = (
                database.run(f"DELETE FROM {table.name} WHERE at <= ?", (found[0][0],))  # noqa: S608
                if found
                else database.run(f"DELETE FROM {table.name} WHERE at < ?", (before,))  # noqa: S608
            )
        yield gone
        if not found:
            return


def _delete_oldest(database: Database, wanted: int) -> Iterator[int]:
    """Events, from the oldest on, until the store is as small as wanted or has none."""
    while database.size() > wanted:
        times = [
            (found[0][0] if found else _oldest(database, table), table, bool(found))
            for table in EVENTS
            for found in [
                database.query(f"SELECT at FROM {table.name} ORDER BY at LIMIT 1 OFFSET {STEP}")  # noqa: S608
            ]
        ]
        held = [(at, table, is_long) for at, table, is_long in times if at is not None]
        if not held:
            return
        # the time up to which the fullest tables lose a step's worth; short tables lose what is as old
        long = [at for at, _, is_long in held if is_long]
        if not long:  # little is left: half of its time
            oldest = min(at for at, _, _ in held)
            newest = max(database.query(f"SELECT MAX(at) FROM {table.name}")[0][0] for _, table, _ in held)  # noqa: S608
            long = [oldest + (newest - oldest) / 2]
        cut = min(long)
        with database.transaction():
            gone = sum(database.run(f"DELETE FROM {table.name} WHERE at <= ?", (cut,)) for table in EVENTS)  # noqa: S608
        yield gone


# --- what somebody wants forgotten -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Forgotten:
    """Rows deleted, by table."""

    rows: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.rows.values())


# Where an address may stand in the middle of a text: itself ("full"), or its keyed hash ("hash", and in policy's keys)
_TEXTS: Final[dict[str, tuple[str, ...]]] = {
    TRANSACTIONS.name: ("sender", "message_id", "queue_id"),
    REFUSALS.name: ("rcpt", "text", "cause", "fix"),
    FINDINGS.name: ("rcpt", "message"),
    NOTICES.name: ("sender", "rcpt", "text", "message_id"),
    SUPPRESSIONS.name: ("address", "text"),
    STRIKES.name: ("message",),
    HOLDS.name: ("key", "text", "cause", "fix"),
    THROTTLES.name: ("key", "text", "cause", "fix"),
    ROUTES.name: ("key",),
}
_HASHES: Final[dict[str, tuple[str, ...]]] = {
    TRANSACTIONS.name: ("sender_id",),
    REFUSALS.name: ("rcpt_id",),
    FINDINGS.name: ("rcpt_id",),
    NOTICES.name: ("sender_id", "rcpt_id"),
    SUPPRESSIONS.name: ("key",),
    STRIKES.name: ("key",),
}


def spellings(address: str) -> tuple[str, ...]:
    """How an address may have been written: the case of its local part is the receiver's affair, and hashes keep it."""
    local, at, domain = address.rpartition("@")
    if not at:
        return tuple(dict.fromkeys((address, address.lower())))
    forms = (local, local.lower(), local.upper(), local.capitalize(), local.title())
    return tuple(dict.fromkeys(f"{form}@{domain}" for form in forms))


def forget(database: Database, address: str, masker: Masker) -> Forgotten:
    """Delete all that is about an address, as sender or recipient, and every row in whose text it stands.

    Then the octets: `scrub`. Without it they may stay in the files for a while. Away where another process keeps it
    from that; the rows are gone then, and a second call does the rest.
    """
    ids = tuple(masker.id(form.encode()) for form in spellings(address))
    # as the databases' lower() does it, which leaves other letters than ASCII's as they are
    lowered = dict.fromkeys(form.encode().lower().decode() for form in (address, address.lower(), *spellings(address)))
    patterns = tuple(f"%{_escaped(text)}%" for text in (*lowered, *ids))
    forgotten = Forgotten()
    with database.transaction():
        database.lock()
        owned = _conditions(TRANSACTIONS.name, ids, patterns)
        for name in (REFUSALS.name, FINDINGS.name):  # of a sender who is forgotten: with all that was said to them
            where, params = _conditions(name, ids, patterns)
            sql = f"DELETE FROM {name} WHERE {where} OR id IN (SELECT id FROM transactions WHERE {owned[0]})"  # noqa: S608
            forgotten.rows[name] = database.run(sql, (*params, *owned[1]))
        changed: list[tuple[str, str]] = []
        remembered = {table.name for table in REMEMBERED}
        for name in _TEXTS:
            if name in forgotten.rows:
                continue
            where, params = _conditions(name, ids, patterns)
            if name in remembered:
                keys = database.query(f"SELECT key FROM {name} WHERE {where}", params)  # noqa: S608
                changed += [(name, key) for (key,) in keys]
            forgotten.rows[name] = database.run(f"DELETE FROM {name} WHERE {where}", params)  # noqa: S608
        database.announce(changed)
    database.scrub()
    return forgotten


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _conditions(name: str, ids: tuple[str, ...], patterns: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    places = ", ".join("?" * len(ids))
    parts = [f"{column} IN ({places})" for column in _HASHES.get(name, ())]
    params = [value for _ in parts for value in ids]
    for pattern in patterns:
        parts += [f"lower({column}) LIKE ? ESCAPE '\\'" for column in _TEXTS[name]]
        params += [pattern] * len(_TEXTS[name])
    return " OR ".join(parts), tuple(params)
