"""What the tests of the history share: a store that is started and closed, numbered records, a wait for something."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from smtpguard.history import Database, Engine, Store, engine_of, schema
from smtpguard.policy import Hold, Suppression, Throttle
from smtpguard.record import Record, Refusal
from tests.records import record, refusal

SEED: Final = b"a seed of the tests"
AT: Final = 1_700_000_000.0
DAY: Final = 86_400.0
PATIENCE_S: Final = 20.0  # for what takes no time but on a busy machine
FRESH_S: Final = 1.0  # within which one node hears of another


@contextmanager
def started(url: str | Engine, **options: Any) -> Iterator[Store]:
    """A store at work; its clock stands at AT."""
    given = {"seed": SEED, "mode": "mask", "retention_s": 30 * DAY, "clock": lambda: AT, **options}
    store = Store(engine_of(url) if isinstance(url, str) else url, **given)
    assert store.start(PATIENCE_S)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    """A connection to a store without a writer."""
    engine = engine_of(url)
    database = engine.connect()
    try:
        schema.migrate(database, AT)
        yield database
    finally:
        database.close()
        engine.close()


def until(is_so: Callable[[], bool], store: Store, seconds: float = PATIENCE_S) -> None:
    """Turn the store's writer round until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        store.flush(1.0)


def numbered(number: int, *refusals: Refusal, at: float = AT, **fields: Any) -> Record:
    """The record with the id `number`; one refusal where none is given."""
    given = record(*(refusals or (refusal(),)), outcome="refused", **fields)
    return dataclasses.replace(given, id=f"{number:012d}", at=at)


def delivered(number: int, *rcpts: bytes, at: float = AT, **fields: Any) -> Record:
    """A record of mail that was simply accepted."""
    return dataclasses.replace(record(accepted=rcpts or (b"a@example.org",), **fields), id=f"{number:012d}", at=at)


def suppression(key: str = "k", until: float = AT + DAY, **fields: Any) -> Suppression:
    given = Suppression(key, AT, until, "j***@example.org", 550, "5.1.1", "unknown", "recipient.unknown", "policy")
    return given._replace(**fields)


def hold(key: str = "h", probe_at: float = AT, **fields: Any) -> Hold:
    given = Hold(key, AT, AT + DAY, probe_at, 900.0, 554, "5.7.1", "listed", "reputation.ip_listed")
    return given._replace(**fields)


def throttle(key: str = "t", until: float = AT + 60, **fields: Any) -> Throttle:
    given = Throttle(key, AT, until, AT + 30, 30.0, 421, "4.7.28", "slow down", "rate.limited")
    return given._replace(**fields)


class Code(NamedTuple):
    code: int


REJECTED: Final = Code(550)


@dataclass(frozen=True)
class Found:
    """A finding, as far as the history looks at one."""

    rule: str = "SPF003"
    severity: str = "error"
    action: str = "observe"
    message: str = "hard fail"
    answer: Code | None = REJECTED
    rcpt: bytes | None = None
