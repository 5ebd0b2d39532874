"""The store's schema: numbered migrations, applied at open; and the few settings that the store keeps of itself.

A migration is migrations/NNNN_name.sql: statements that both databases understand, each ended by `;` at a line's end.
One is applied once, all of it or nothing, by one node; a store that a newer version has made is left alone.

The key of hashed addresses is kept in the store: nodes that share it, and a container that is made anew, must find an
address by the same hash. It is the first node's; who can read the store can test whether an address is in it, as can
who reads /etc/machine-id on a single host.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Final

from smtpguard.history.database import Database, StoreError


@lru_cache(maxsize=1)
def migrations() -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """(number, file name, statements), in order."""
    found = sorted(
        (file for file in files(__package__).joinpath("migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    return tuple((int(file.name[:4]), file.name, _statements(file.read_text(encoding="utf-8"))) for file in found)


def _statements(text: str) -> tuple[str, ...]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return tuple(part.strip() for part in f"{lines}\n".split(";\n") if part.strip())


NEWEST: Final = migrations()[-1][0]
_KEY: Final = "key"


def applied(database: Database) -> int:
    """The number of the last migration that was applied; 0: none. Away where there is no store yet."""
    return int(database.query("SELECT COALESCE(MAX(number), 0) FROM migrations")[0][0])


def check(database: Database) -> None:
    """StoreError where the tables are not those that this version knows."""
    at = applied(database)
    if at > NEWEST:
        raise StoreError(
            f"the store has schema {at}, this version knows {NEWEST}: a newer smtpguard made it; "
            "upgrade this one, or name another store.url"
        )
    if at < NEWEST:
        raise StoreError(f"the store has schema {at}, this version needs {NEWEST}: run `smtpguard store migrate`")


def migrate(database: Database, now: float) -> list[str]:
    """Apply what is missing; the names of what was. StoreError where a newer version made the store."""
    done: list[str] = []
    with database.transaction():
        database.lock()
        database.run(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, at DOUBLE PRECISION NOT NULL)"
        )
        at = applied(database)
        for number, name, statements in migrations():
            if number > at:
                for statement in statements:
                    database.run(statement)
                database.run("INSERT INTO migrations (number, name, at) VALUES (?, ?, ?)", (number, name, now))
                done.append(name)
        check(database)
    return done


def address_key(database: Database, own: bytes) -> bytes:
    """The key of hashed addresses in this store: the one that is there, else `own`."""
    if found := database.query("SELECT value FROM settings WHERE name = ?", (_KEY,)):
        return bytes.fromhex(found[0][0])
    with database.transaction():
        database.run(
            "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (_KEY, own.hex())
        )
    return bytes.fromhex(database.query("SELECT value FROM settings WHERE name = ?", (_KEY,))[0][0])
