"""The history in PostgreSQL, shared by many nodes: psycopg 3, one connection to write and listen, a small pool to read.

What policy remembers is announced with NOTIFY in the transaction that changes it, and so heard by the other nodes in
the order of the commits and only of what was committed (https://www.postgresql.org/docs/current/sql-notify.html). A
connection pooler in transaction mode in between would lose that: connect to the server itself.

A password need not stand in `store.url`: libpq takes it from `?passfile=`, $PGPASSFILE, $PGPASSWORD or a service file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from smtpguard.history.database import Away, Database, Key, StoreError, Unfit
from smtpguard.history.tables import COUNTS, EVENTS, REMEMBERED, Row, Table

READERS: Final = 4
PATIENCE_S: Final = 5.0
CHANNEL: Final = "smtpguard"
MAX_ANNOUNCED: Final = 200  # keys in one transaction; beyond it everybody reads everything
MAX_PAYLOAD: Final = 7_900  # octets; PostgreSQL takes 8,000
ANYTHING: Final = ""
_LOCK: Final = 0x534D5450  # "SMTP": the advisory lock of migrations and upkeep

# A server that is gone without a word is noticed within half a minute; what the URL says wins
_DEFAULTS: Final = {
    "application_name": "smtpguard",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

_OF_THE_SERVER: Final = {
    "keepalives_idle": "tcp_keepalives_idle",
    "keepalives_interval": "tcp_keepalives_interval",
    "keepalives_count": "tcp_keepalives_count",
    "tcp_user_timeout": "tcp_user_timeout",
}
"""The same for its side of the writer's connection: else a node that lost power has its turns for two hours more."""


class Postgres:
    """database.Database on a connection of psycopg in autocommit."""

    can_be_capped = False  # deleted rows are reused, not given back
    is_shared = True

    def __init__(self, connection: psycopg.Connection[Any], *, listens: bool = False) -> None:
        self._connection = connection
        self._heard: list[str] = []
        if listens:
            own = connection.info.backend_pid
            connection.add_notify_handler(
                lambda notify: self._heard.append(notify.payload) if notify.pid != own else None
            )
            self.run(f"LISTEN {CHANNEL}")

    def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _mapped():
            return self._connection.execute(_native(sql), params).fetchall()

    def run(self, sql: str, params: Sequence[object] = ()) -> int:
        with _mapped():
            return self._connection.execute(_native(sql), params).rowcount

    def insert(self, table: Table[Row], rows: Sequence[Row]) -> None:
        # a parameter a column: psycopg looks through a statement anew that has many
        columns = zip(table.types, zip(*rows, strict=True), strict=True)
        self.run(_insert(table), [[kind(value) for value in column] for kind, column in columns])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with _mapped(), self._connection.transaction():
            yield

    def lock(self) -> None:
        self.query("SELECT pg_advisory_xact_lock(?)", (_LOCK,))

    def announce(self, keys: Iterable[Key]) -> None:
        payloads = [f"{table} {key}" for table, key in dict.fromkeys(keys)]
        if len(payloads) > MAX_ANNOUNCED or any(len(payload.encode()) > MAX_PAYLOAD for payload in payloads):
            payloads = [ANYTHING]
        for payload in payloads:
            self.query("SELECT pg_notify(?, ?)", (CHANNEL, payload))

    def news(self) -> Sequence[Key] | None:
        self.query("SELECT 1")  # takes in what waits on the socket, and finds out whether the server is there
        heard, self._heard[:] = list(self._heard), []
        if ANYTHING in heard:
            return None
        return [(table, key) for table, _, key in (payload.partition(" ") for payload in heard)]

    def take_turns(self, keys: Sequence[Key]) -> Sequence[Key]:
        # of the session, not of a transaction: the server lets go of it when the connection ends
        numbers = {_number(key): key for key in keys}
        sql = "SELECT n, pg_try_advisory_lock(n) FROM unnest(?::bigint[]) AS n"
        return [numbers[number] for number, is_taken in self.query(sql, (list(numbers),)) if is_taken]

    def yield_turn(self, key: Key) -> None:
        self.query("SELECT pg_advisory_unlock(?)", (_number(key),))

    def size(self) -> int:
        names = ", ".join(f"'{table.name}'::regclass" for table in _TABLES)
        return int(self.query(f"SELECT sum(pg_total_relation_size(t)) FROM unnest(ARRAY[{names}]) AS t")[0][0])  # noqa: S608

    def shrink(self) -> None:
        pass  # autovacuum does it

    def scrub(self) -> None:
        for table in _TABLES:
            self.run(f"VACUUM FULL {table.name}")

    def close(self) -> None:
        self._connection.close()


def _number(key: Key) -> int:
    """Of the advisory lock of a turn: 64 bits."""
    return int.from_bytes(blake2b(" ".join(key).encode(), digest_size=8).digest(), "big", signed=True)


_TABLES: Final = (*EVENTS, *COUNTS, *REMEMBERED)


@lru_cache(maxsize=512)
def _native(sql: str) -> bytes:
    """`%s` for `?`. No statement of ours has either in a literal."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


_ARRAYS: Final[dict[type, str]] = {str: "text[]", int: "bigint[]", float: "double precision[]"}


@lru_cache(maxsize=64)
def _insert(table: Table[Any]) -> str:
    arrays = ", ".join(f"?::{_ARRAYS[kind]}" for kind in table.types)
    return table.insert(f"SELECT * FROM unnest({arrays})")  # noqa: S608


# ProgramLimitExceeded: more octets than an index takes
_UNFIT: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, UnicodeError)


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except _UNFIT as error:
        raise Unfit(_words(error)) from error
    except (psycopg.Error, PoolTimeout) as error:
        raise Away(_words(error)) from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class PostgresEngine:
    """A server; the pool is opened with the first reading."""

    name = "postgresql"

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise StoreError(f"store.url: {_words(error)}") from None
        settings: dict[str, Any] = {**_DEFAULTS, **given}
        self._conninfo = make_conninfo(**settings)
        self._patience = {_OF_THE_SERVER[name]: str(settings[name]) for name in _OF_THE_SERVER}
        self.where = f"{given.get('host') or 'localhost'}/{given.get('dbname') or ''}"
        self._pool: ConnectionPool[psycopg.Connection[Any]] | None = None

    def connect(self, *, create: bool = True) -> Database:  # noqa: ARG002 - the database is made by its administrator
        with _mapped():
            database = Postgres(psycopg.connect(self._conninfo, autocommit=True), listens=True)
            for name, value in self._patience.items():  # an older server lacks one of them
                database.query("SELECT set_config(name, ?, false) FROM pg_settings WHERE name = ?", (value, name))
            return database

    @contextmanager
    def reading(self) -> Iterator[Database]:
        if self._pool is None:
            self._pool = ConnectionPool(
                self._conninfo,
                kwargs={"autocommit": True},
                min_size=0,
                max_size=READERS,
                timeout=PATIENCE_S,
                name="smtpguard",
                open=True,
            )
        with _mapped(), self._pool.connection() as connection:
            yield Postgres(connection)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
