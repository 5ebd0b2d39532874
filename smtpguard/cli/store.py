"""`smtpguard store ...`: the history's upkeep; how each command that asks the history opens it; how `check` sees it.

migrate  apply what a new version changed      prune  delete what is over      stats  how much there is, since when
Exit codes: 0; 2 where there is no store or it cannot be used; 75 where it is locked or away: try again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from smtpguard.cli.finding import Finding
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
    if not url:
        raise StoreError('store.url is "": the history is in the memory of the service, and nowhere else')
    return engine_of(url)


def looked_at(url: str, why: str, *, offline: bool) -> Finding:
    """Whether the history can be kept at `url`, for `check`; no table is touched. `why`: it is not where it should be.

    `url` and `why` are those of `service.memory.place`. A server is not asked `offline`.
    """
    if not url:
        said = why or 'it is "": the history is in the memory of the service, and ends with it'
        remedy = "report, suppress and explain ID need a file or a server" + (_FOLDER if why else "")
        return Finding("store.url", "warn", said, remedy)
    try:
        engine = engine_of(url)
    except StoreError as error:
        return Finding("store.url", "fail", str(error), "correct store.url, or install what it needs")
    if offline and engine.name == "postgresql":
        return Finding("store.url", "skip", f"{engine.where} was not asked")
    try:
        return Finding("store.url", "ok", f"{engine.where}: {_usable(engine)}")
    except StoreError as error:
        said = str(error).removeprefix(f"{engine.where}: ")
        remedy = "mail goes on without, but no event is kept: mend it, or name another store.url"
        return Finding("store.url", "fail", f"{engine.where}: {said}", remedy, is_temporary=isinstance(error, Away))
    finally:
        engine.close()


_FOLDER: Final = (
    "; systemd makes the folder when it starts the service; else: install -d -m 700, for the user that runs it"
)


def _usable(engine: Engine) -> str:
    """In what state a store is that can be written; StoreError where it cannot."""
    if engine.name == "sqlite":
        file = Path(engine.where).absolute()
        needed = file if file.exists() else file.parent
        if not os.access(needed, os.W_OK):
            raise StoreError(f"{needed} is not there, or this user may not write it")
        if needed is not file:
            return "not there yet, `smtpguard serve` makes it"
    database = engine.connect(create=False)
    try:
        with database.transaction():
            pass  # it takes the right to write
        try:
            at = schema.applied(database)
        except Away:  # it could be had a moment ago: it has no tables yet
            at = 0
        if at < schema.NEWEST:
            return f"{f'schema {at}' if at else 'empty'}, `smtpguard serve` makes it schema {schema.NEWEST}"
        schema.check(database)
        return f"can be written, {octets(database.size())}"
    finally:
        database.close()


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
