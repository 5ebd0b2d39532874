"""A batch of what is kept, and how it gets into the database: as a whole, or in parts, or never. No thread, no queue.

A batch is written in one transaction with its number, so that one whose commit was not heard of is known again
(`is_written`). Where the database takes something in it never, the batch is halved until that is alone, so that
nothing else is lost with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from smtpguard.history import state
from smtpguard.history.database import Database, Unfit
from smtpguard.history.rows import Counts, Kept, as_kept
from smtpguard.history.tables import Table
from smtpguard.record import Masker


@dataclass(slots=True)
class Batch:
    """What is written together. `number` 0: a part of one, which is not known again."""

    number: int
    kept: list[Kept]
    counts: Counts
    changes: Sequence[state.Change]


class Part(NamedTuple):
    """What left a batch: how many rows of events, and why they were lost (None: they are written)."""

    rows: int
    unfit: Unfit | None


def write(database: Database, batch: Batch, masker: Masker, now: float, node: str = "") -> None:
    """All of a batch, in one transaction; Unfit where the database takes some of it never. `node`: whose number it is.

    What policy remembers is written as `masker` shows it.
    """
    by_table: defaultdict[Table[Any], list[tuple[Any, ...]]] = defaultdict(list)
    for kept in batch.kept:
        for table, row in kept.rows:
            by_table[table].append(row)
    for (table, row), count in sorted(batch.counts.items(), key=lambda item: (item[0][0].name, item[0][1])):
        by_table[table].append((*row, count))  # sorted: two nodes wait in one order
    with database.transaction():
        for table, rows in by_table.items():
            database.insert(table, rows)
        state.write(database, [change._replace(row=as_kept(change.row, masker)) for change in batch.changes])
        if batch.number:
            database.run(
                "INSERT INTO nodes (id, batch, at) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = excluded.at",
                (node, batch.number, now),
            )


def is_written(database: Database, batch: Batch, node: str) -> bool:
    """Whether a batch of this node is in the store, where its commit was not heard of."""
    found = database.query("SELECT batch FROM nodes WHERE id = ?", (node,))
    return bool(found) and found[0][0] == batch.number


def write_parts(database: Database, batch: Batch, masker: Masker, now: float) -> Iterator[Part]:
    """Write a batch that is unfit as a whole, down to a single row; each part as it leaves the batch.

    It leaves at once: should the connection be lost in between (Away), what is left can be tried again.
    """

    def unfit(kept: list[Kept], counts: Counts, changes: Sequence[state.Change]) -> Unfit | None:
        try:
            write(database, Batch(0, kept, counts, changes), masker, now)
        except Unfit as error:
            return error
        return None

    size = len(batch.kept)
    while batch.kept:
        part = batch.kept[:size]
        why = unfit(part, {}, ())
        if why is not None and len(part) > 1:
            size = len(part) // 2
            continue
        del batch.kept[:size]
        size *= 2
        yield Part(sum(len(kept.rows) for kept in part), why)
    while batch.counts:
        key, count = next(iter(batch.counts.items()))
        why = unfit([], {key: count}, ())
        del batch.counts[key]
        yield Part(0, why)
    for change in batch.changes:  # written twice they say the same
        yield Part(0, unfit([], {}, (change,)))


def keep(database: Database, kept: Sequence[Kept]) -> int:
    """Write notices, for the command line; how many are new. What is there already is not counted again."""
    new = 0
    with database.transaction():
        for one in kept:
            ((table, row),) = one.rows
            if database.query(f"SELECT 1 FROM {table.name} WHERE id = ?", (row[0],)):  # noqa: S608
                continue
            database.insert(table, [row])
            for (counted, key), count in one.counts.items():
                database.insert(counted, [(*key, count)])
            new += 1
    return new
