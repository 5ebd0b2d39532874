"""What the history asks of a database, and which one a `store.url` names.

    engine = engine_of("sqlite:////var/lib/smtpguard/smtpguard.db")      # or "", or "postgresql://host/name"
    database = engine.connect()

A `Database` is one connection, used by one thread at a time. What goes wrong is one of two values: `Away` may pass by
itself (locked, full, stopped, not there yet), `Unfit` is about what was to be written. Both say so in words for a
person; exceptions of sqlite3 and psycopg go no further than sqlite.py and postgres.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from smtpguard.history.tables import Row, Table

Key = tuple[str, str]
"""Of something remembered: the name of its table, and its key there."""


class StoreError(Exception):
    """The store cannot be used as it is; the text says why."""


class Away(StoreError):
    """The store cannot be had now: locked, full, stopped, out of reach."""


class Unfit(StoreError):
    """The store takes this never: a value that it cannot hold."""


class Given(NamedTuple):
    """What came of asking for turns: those that are ours now, and those that another connection has.

    `is_crowded`: the database has no room for more, and what is in neither is nobody's.
    """

    ours: Sequence[Key]
    others: Sequence[Key] = ()
    is_crowded: bool = False


class Database(Protocol):
    """A connection. Every method may raise Away or Unfit; after Away it is to be closed."""

    can_be_capped: bool
    """Whether `size` follows what is deleted, so that a cap can be kept by deleting."""

    is_shared: bool
    """Whether several nodes may be at work on it, which then take turns."""

    def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""

    def run(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run a statement; how many rows it changed."""

    def insert(self, table: Table[Row], rows: Sequence[Row]) -> None:
        """Write rows, at least one, each with another key, as fast as it can be done."""

    def transaction(self) -> AbstractContextManager[None]:
        """All that is run in it, or nothing; nobody else writes what another transaction of ours is about to."""

    def lock(self) -> None:
        """Inside a transaction: let no other node be here at the same time."""

    def announce(self, keys: Iterable[Key]) -> None:
        """Inside a transaction: what is remembered under these keys has changed; others hear of it after the commit."""

    def news(self) -> Sequence[Key] | None:
        """What others have announced since it was asked last; None: anything may have changed."""

    def take_turns(self, keys: Sequence[Key]) -> Given:
        """Ask for turns: what no other connection has is this one's until it yields it or ends."""

    def yield_turn(self, key: Key) -> None:
        """Give a turn back that was taken."""

    def size(self) -> int:
        """Octets of the data."""

    def shrink(self) -> None:
        """Give room that deleted rows left back to the disk, as far as that is quick."""

    def scrub(self) -> None:
        """Leave no octet of deleted rows in the files. Takes as long as writing all of it anew."""

    def close(self) -> None:
        """Let go of it; never raises."""


class Engine(Protocol):
    """Where connections come from."""

    name: str
    """sqlite, postgresql or memory."""

    where: str
    """For a person: the file or the server, never a password."""

    def connect(self, *, create: bool = True) -> Database:
        """A connection for writing. Without `create`, StoreError where there is no store yet."""

    def reading(self) -> AbstractContextManager[Database]:
        """A connection for reading, from any thread."""

    def close(self) -> None:
        """Let go of what it keeps open; never raises."""


_SQLITE: Final = re.compile(r"sqlite:///(?P<path>[^?#]+)")
_POSTGRES: Final = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)


def engine_of(url: str) -> Engine:
    """The engine of a `store.url`; StoreError where it names none, or what it needs is not installed.

    `sqlite:////var/lib/x.db` is absolute, `sqlite:///x.db` in the working directory; "" is this process's memory.
    """
    if not url or (found := _SQLITE.fullmatch(url)):
        from smtpguard.history.sqlite import FileEngine, MemoryEngine

        return FileEngine(found["path"]) if url and found else MemoryEngine()
    if _POSTGRES.match(url):
        try:
            from smtpguard.history.postgres import PostgresEngine
        except ImportError:
            raise StoreError(
                "store.url: PostgreSQL needs psycopg: pip install 'smtpguard[postgres]', from the source '.[postgres]'"
            ) from None
        return PostgresEngine(url)
    raise StoreError('store.url is neither "", sqlite:////path/of/file.db nor postgresql://host/name')
