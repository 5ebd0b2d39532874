"""`smtpguard store ...`: the history's upkeep; and how each command that asks the history opens it.

migrate  apply what a new version changed      prune  delete what is over      stats  how much there is, since when
Exit codes: 0; 2 where there is no store or it cannot be used; 75 where it is locked or away: try again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from smtpguard.cli.options import EXIT_FINE, EXIT_TEMPORARY, EXIT_USAGE
from smtpguard.cli.tally import many, rfc3339
from smtpguard.history import Away, Database, Engine, StoreError, engine_of, schema, upkeep
from smtpguard.mail.reply import clean

_UNITS: Final = ("octets", "KiB", "MiB", "GiB", "TiB")


@contextmanager
def opened(url: str, *, create: bool = False, applied: list[str] | None = None) -> Iterator[Database]:
    """The store, for writing, its schema up to date; StoreError where it cannot be had.

    `create` makes an empty SQLite file where there is none; `applied` takes the names of the migrations that were due.
    """
    engine = _engine(url)
    database = engine.connect(create=create)
    try:
        due = schema.migrate(database, time.time())
        if applied is not None:
            applied += due
        yield database
    finally:
        database.close()
        engine.close()


@contextmanager
def asked(url: str) -> Iterator[Database]:
    """The store, for questions: of a file it is enough that one may read it. StoreError where it cannot be had."""
    engine = _engine(url)
    try:
        with engine.reading() as database:
            schema.check(database)
            yield database
    finally:
        engine.close()


def _engine(url: str) -> Engine:
    engine = engine_of(url)
    if engine.name == "memory":
        raise StoreError('store.url is "": the history is in the memory of the service, and nowhere else')
    return engine


def failed(command: str, error: StoreError) -> int:
    """Say what stands in the way; the exit code."""
    print(f"smtpguard {command}: {clean(str(error), utf8=True)}", file=sys.stderr)
    return EXIT_TEMPORARY if isinstance(error, Away) else EXIT_USAGE


def migrate(url: str, *, as_json: bool) -> int:
    """`store migrate`: make or renew the tables. `as_json`: {"applied": [file], "schema": number}."""
    applied: list[str] = []
    try:
        with opened(url, create=True, applied=applied):
            pass
    except StoreError as error:
        return failed("store migrate", error)
    if as_json:
        print(json.dumps({"applied": applied, "schema": schema.NEWEST}))
    else:
        print(f"schema {schema.NEWEST}: {', '.join(applied) or 'nothing to do'}")
    return EXIT_FINE


def prune(url: str, *, retention_s: float, max_size: int, as_json: bool) -> int:
    """`store prune`: what the service does every ten minutes. `as_json`: {"deleted": rows, "size_bytes"}."""
    try:
        with opened(url) as database:
            deleted = upkeep.prune(database, time.time(), retention_s=retention_s, max_size=max_size)
            size = database.size()
    except StoreError as error:
        return failed("store prune", error)
    if as_json:
        print(json.dumps({"deleted": deleted, "size_bytes": size}))
    else:
        print(f"{many(deleted, 'row')} deleted; {octets(size)} left")
    return EXIT_FINE


def stats(url: str, *, as_json: bool) -> int:
    """`store stats`: rows, size, age. `as_json`: {"schema", "size_bytes", "oldest", "rows": {table: count}}."""
    try:
        with asked(url) as database:
            found = upkeep.stats(database)
    except StoreError as error:
        return failed("store stats", error)
    oldest = rfc3339(found.oldest)
    if as_json:
        whole = {"schema": found.schema, "size_bytes": found.size_bytes, "oldest": oldest, "rows": found.rows}
        print(json.dumps(whole))
        return EXIT_FINE
    print(f"{octets(found.size_bytes)}, schema {found.schema}, " + (f"events since {oldest}" if oldest else "no event"))
    for name, count in found.rows.items():
        print(f"  {name:<14} {count:>12,}")
    return EXIT_FINE


def octets(size: int) -> str:
    """`12.3 MiB`."""
    number, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{size:,} {unit}" if unit == _UNITS[0] else f"{number:.1f} {unit}"
