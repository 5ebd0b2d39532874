"""The history in SQLite: a file of this host, or memory.

WAL, so that reading never waits for writing; `synchronous = NORMAL`, so that a crash of this program loses nothing and
one of the host the last moments at most. Another process (the command line) may write at any time: `PRAGMA
data_version` says that somebody did, the setting `revision` whether it was about what policy remembers.
https://www.sqlite.org/pragma.html
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from smtpguard.history.database import Away, Database, Given, Key, StoreError, Unfit
from smtpguard.history.tables import Row, Table

PATIENCE_S: Final = 2.0  # for another process's write; events wait better in our queue
_CHUNKS: Final = (64, 8, 1)
"""Rows a statement. Each lets go of the interpreter once, and a thread that gives it away a thousand times in a batch
waits a thousand times for it."""
SHRINK_PAGES: Final = 20_000  # 80 MB at most at once: the file is locked meanwhile
_UNFIT: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)
_SETTINGS: Final = (
    "PRAGMA auto_vacuum = INCREMENTAL",  # before the first table: it is a property of the file
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA secure_delete = FAST",  # zeros over what is deleted where that costs no further write
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)


class Sqlite:
    """database.Database on a connection of sqlite3. `lock` is held in each call: the memory has one connection."""

    can_be_capped = True
    is_shared = False  # the command line writes too, but makes no attempts

    def __init__(self, connection: sqlite3.Connection, lock: threading.RLock, *, is_kept: bool = False) -> None:
        self._connection = connection
        self._lock = lock
        self._is_kept = is_kept
        self._version = -1
        self._revision = ""

    def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, _mapped():
            return self._connection.execute(sql, params).fetchall()

    def run(self, sql: str, params: Sequence[object] = ()) -> int:
        with self._lock, _mapped():
            return self._connection.execute(sql, params).rowcount

    def insert(self, table: Table[Row], rows: Sequence[Row]) -> None:
        start = 0
        for size in _CHUNKS:
            while len(rows) - start >= size:
                chunk = rows[start : start + size]
                self.run(_insert(table, size), list(chain.from_iterable(chunk)))
                start += size

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself (disk full)
                    self._connection.rollback()
                raise

    def lock(self) -> None:
        pass  # BEGIN IMMEDIATE has it

    def announce(self, keys: Iterable[Key]) -> None:
        if not any(True for _ in keys):
            return
        found, stated = self._stated_revision(), token_hex(8)
        self.run(
            "INSERT INTO settings (name, value) VALUES ('revision', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (stated,),
        )
        if found == self._revision:  # else another process changed something too: the next `news` shall see it
            self._revision = stated

    def news(self) -> Sequence[Key] | None:
        version = self.query("PRAGMA data_version")[0][0]
        if version == self._version:
            return ()
        self._version = version
        before, self._revision = self._revision, self._stated_revision()
        return () if before == self._revision else None

    def _stated_revision(self) -> str:
        found = self.query("SELECT value FROM settings WHERE name = 'revision'")
        return str(found[0][0]) if found else ""

    def take_turns(self, keys: Sequence[Key]) -> Given:
        return Given(keys)

    def yield_turn(self, key: Key) -> None:
        pass

    def size(self) -> int:
        (pages,), (free,), (octets,) = (
            self.query(f"PRAGMA {name}")[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * octets)

    def shrink(self) -> None:
        with self._lock, _mapped():
            # a script is run to its end; `execute` stops after the first page, for lack of a column
            self._connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")

    def scrub(self) -> None:
        self.run("PRAGMA secure_delete = ON")
        self.run("VACUUM")
        if self.query("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:  # (busy, pages, pages moved)
            raise Away("another process reads the store: its write-ahead log could not be emptied")

    def close(self) -> None:
        if not self._is_kept:
            with self._lock, contextlib.suppress(sqlite3.Error):
                self._connection.close()


@lru_cache(maxsize=64)
def _insert(table: Table[Any], rows: int) -> str:
    places = f"({', '.join('?' * len(table.columns))})"
    return table.insert(f"VALUES {', '.join([places] * rows)}")


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except _UNFIT as error:
        raise Unfit(str(error)) from error
    except sqlite3.Error as error:
        raise Away(str(error)) from error


class FileEngine:
    """A file; each connection is its own."""

    name = "sqlite"

    def __init__(self, path: str, *, patience_s: float = PATIENCE_S) -> None:
        self.where = path
        self._path = Path(path)
        self._patience_s = patience_s

    def connect(self, *, create: bool = True) -> Database:
        if not self._path.exists():
            if not create:
                raise self._absent()
            self._create()
        return self._open("rw")

    @contextmanager
    def reading(self) -> Iterator[Database]:
        if not self._path.exists():
            raise self._absent()
        database = self._open("rw" if os.access(self._path, os.W_OK) else "ro")
        try:
            yield database
        finally:
            database.close()

    def close(self) -> None:
        pass  # nothing is kept open

    def _absent(self) -> StoreError:
        return StoreError(
            f"{self.where}: there is no history yet; `smtpguard serve` makes it; where its folder cannot be written "
            "the history is in the service's memory: set store.url"
        )

    def _create(self) -> None:
        """An empty file that only its owner and group read; root makes it for whom the folder belongs to."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640))
            if os.geteuid() == 0:
                folder = self._path.parent.stat()
                os.chown(self._path, folder.st_uid, folder.st_gid)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(
                f"{self.where}: {reason}: the folder must exist, and this user be allowed to write it"
            ) from error

    def _open(self, mode: str) -> Sqlite:
        uri = f"{self._path.absolute().as_uri()}?mode={mode}"
        try:
            with _mapped():
                connection = sqlite3.connect(
                    uri, uri=True, timeout=self._patience_s, isolation_level=None, check_same_thread=False
                )
        except Away as error:
            raise Away(f"{self.where}: {error}") from error
        database = Sqlite(connection, threading.RLock())
        try:
            for setting in _SETTINGS if mode == "rw" else ():
                database.query(setting)
        except StoreError as error:
            database.close()
            raise Away(f"{self.where}: {error}") from error
        return database


class MemoryEngine:
    """This process's memory: one connection for all, gone with the process."""

    name = "memory"
    where = "memory"

    def __init__(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._connection = connection
        self._database = Sqlite(connection, threading.RLock(), is_kept=True)

    def connect(self, *, create: bool = True) -> Database:  # noqa: ARG002 - it is there as long as the process
        return self._database

    @contextmanager
    def reading(self) -> Iterator[Database]:
        yield self._database

    def close(self) -> None:
        self._connection.close()
