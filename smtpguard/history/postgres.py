"""The history in PostgreSQL, shared by many nodes: psycopg 3, one connection to write and listen, a small pool to read.

What policy remembers is announced with NOTIFY in the transaction that changes it, and so heard by the other nodes in
the order of the commits and only of what was committed (https://www.postgresql.org/docs/current/sql-notify.html). That
and the turns (turns.py) are of a session of the server. A connection pooler that gives each transaction another session
(https://www.pgbouncer.org/features.html: LISTEN, session-level advisory locks) would lose both without a word: such a
store is `Pooled`, when we connect or as soon as the session changes, and is not written.

A password need not stand in `store.url`: libpq takes it from `?passfile=`, $PGPASSFILE, $PGPASSWORD or a service file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from smtpguard.history.database import Away, Database, Given, Key, StoreError, Unfit
from smtpguard.history.tables import COUNTS, EVENTS, REMEMBERED, Row, Table

READERS: Final = 4
PATIENCE_S: Final = 5.0
CHANNEL: Final = "smtpguard"
MAX_ANNOUNCED: Final = 200  # keys in one transaction; beyond it everybody reads everything
MAX_PAYLOAD: Final = 7_900  # octets; PostgreSQL takes 8,000
ANYTHING: Final = ""
_ROUNDS: Final = 3
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

logging.getLogger("psycopg.pool").disabled = True  # of each attempt that failed; who waits for it is told why

_OF_THE_SERVER: Final = {
    "keepalives_idle": "tcp_keepalives_idle",
    "keepalives_interval": "tcp_keepalives_interval",
    "keepalives_count": "tcp_keepalives_count",
    "tcp_user_timeout": "tcp_user_timeout",
}
"""The same for its side of the writer's connection: else a node that lost power has its turns for two hours more."""


class Pooled(StoreError):
    """The server is behind a connection pooler that gives each transaction another session."""

    def __init__(self) -> None:
        super().__init__(
            "store.url leads through a connection pooler in transaction mode, which loses what nodes tell each other: "
            "set pool_mode = session there (PgBouncer), or name the server itself"
        )


class Postgres:
    """database.Database on a connection of psycopg in autocommit."""

    can_be_capped = False  # deleted rows are reused, not given back
    is_shared = True

    def __init__(self, connection: psycopg.Connection[Any], *, listens: bool = False) -> None:
        self._connection = connection
        self._heard: list[str] = []
        self._session = _session(connection) if listens else 0
        if listens:
            own = self._session
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
        # takes in what waits on the socket, and finds out whether the server is there, and the same session of it
        if self._session not in (0, _session(self._connection)):
            raise Pooled
        heard, self._heard[:] = list(self._heard), []
        if ANYTHING in heard:
            return None
        return [(table, key) for table, _, key in (payload.partition(" ") for payload in heard)]

    def take_turns(self, keys: Sequence[Key]) -> Given:
        # of the session, not of a transaction: the server lets go of it when the connection ends
        numbers = {_number(key): key for key in keys}
        sql = b"SELECT n, pg_try_advisory_lock(n) FROM unnest(%s::bigint[]) AS n"
        with _mapped():
            try:
                found = self._connection.execute(sql, (list(numbers),)).fetchall()
            except psycopg.errors.OutOfMemory:  # 53200: no room in its table of locks
                return self._without_room(numbers)
        by_answer: dict[bool, list[Key]] = {True: [], False: []}
        for number, is_taken in found:
            by_answer[is_taken].append(numbers[number])
        return Given(by_answer[True], by_answer[False])

    def _without_room(self, numbers: dict[int, Key]) -> Given:
        """The statement failed, and what it took is taken: given back, for without room nobody can work here."""
        asked = (list(numbers),)
        self.query(f"SELECT pg_advisory_unlock(n) {_LOCKED} AND pid = pg_backend_pid()", asked)
        others = self.query(f"SELECT n {_LOCKED} AND database = {_HERE}", asked)
        return Given((), [numbers[number] for (number,) in others], is_crowded=True)

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


# https://www.postgresql.org/docs/current/view-pg-locks.html: of a lock with one key of 64 bits objsubid is 1
_LOCKED: Final = (
    "FROM unnest(?::bigint[]) AS n JOIN pg_locks ON locktype = 'advisory' AND objsubid = 1 AND granted "
    "AND (classid::bigint << 32 | objid::bigint) = n"
)
_HERE: Final = "(SELECT oid FROM pg_database WHERE datname = current_database())"


def _session(connection: psycopg.Connection[Any]) -> int:
    """The number of the server's process that answers."""
    with _mapped():
        # not prepared: what a pooler gives next may lack it, and we would hear of that instead
        ((found,),) = connection.execute(b"SELECT pg_backend_pid()", prepare=False).fetchall()
    return int(found)


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
            connection = self._of_its_own_session()
            database = Postgres(connection, listens=True)
            for name, value in self._patience.items():  # an older server lacks one of them
                database.query("SELECT set_config(name, ?, false) FROM pg_settings WHERE name = ?", (value, name))
            return database

    def _of_its_own_session(self) -> psycopg.Connection[Any]:
        """A connection that has one session of the server for as long as it lasts; Pooled where it has not.

        What a pooler says of the session at the start is its own, not the server's. Then two connections ask in turn,
        each twice, for a pooler gives the next transaction the session that was freed last, or the next one of all.
        Others may get in between, hence the rounds.
        """
        connection = psycopg.connect(self._conninfo, autocommit=True)
        try:
            session = _session(connection)
            if session == connection.info.backend_pid:
                return connection
            with psycopg.connect(self._conninfo, autocommit=True) as another:
                for _ in range(_ROUNDS):
                    here = {_session(connection), _session(connection)}
                    there = {_session(another), _session(another)}
                    if here != {session} or len(there) > 1 or here & there:
                        raise Pooled
        except BaseException:
            connection.close()
            raise
        return connection

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
        with _mapped(), ExitStack() as lent:
            try:
                connection = lent.enter_context(self._pool.connection())
            except PoolTimeout:  # it does not say why: one attempt of our own does
                psycopg.connect(self._conninfo).close()
                raise
            yield Postgres(connection)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
