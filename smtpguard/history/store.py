"""The store at work in the service: records are queued here, one thread writes them, in batches.

    store = Store(engine_of(url), seed=host_key(), mode="mask", retention_s=30 * 86400)
    store.start()
    store.write(record)                  # on the answer's path: an append
    store.state.suppressions.get(key)    # a look into memory
    with store.reading() as database: report.summary(database, ...)      # in a thread
    store.close()

Nothing here raises into the mail path, and nothing waits in it. The writer connects, migrates, loads what policy
remembers, and then in turn: writes what waits, hears of what others wrote, and now and then prunes. While the store is
away (locked, full, stopped) it tries again and again; rows wait, MAX_ROWS of them, and are written later, the oldest
first; what is beyond that is dropped and counted (`on_drop`). A batch whose commit was not heard of is not written
twice, and what the database takes never is dropped alone and counted (writing.py).

Until the first connection the key of hashed addresses is not known (schema.py): records wait as they are, and what
policy is told meanwhile is hashed with `seed`; should the store's key turn out to be another one, that is dropped.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from secrets import token_hex
from typing import Final, NamedTuple

from smtpguard.history import schema, upkeep
from smtpguard.history.database import Database, Engine, StoreError, Unfit
from smtpguard.history.rows import Counts, Finding, Kept, Taken, acceptances, add, count_taken, of_record
from smtpguard.history.state import State
from smtpguard.history.tables import ACCEPTANCES
from smtpguard.history.writing import Batch, is_written, write, write_parts
from smtpguard.record import AddressMode, Masker, Record

MAX_RECORDS: Final = 10_000  # that nobody has looked at yet: seconds of full load
MAX_ROWS: Final = 50_000  # that wait for the store, some 1 to 2 KB each
MAX_COUNTS: Final = 50_000  # different ones that wait for the store
BATCH_ROWS: Final = 2_000
GATHER_S: Final = 0.2  # further records join a batch: counts of accepted mail fill few rows, and a commit is dear
POLL_S: Final = 0.25  # how often others are listened to
RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
FIRST_PRUNE_S: Final = 60.0
PRUNE_EVERY_S: Final = 600.0
CLOSE_S: Final = 5.0
YIELD_EVERY: Final = 25
"""Records made into rows before the mail path may have the interpreter: a millisecond at most."""

_LOG: Final = logging.getLogger(__name__)  # for faults; that the store is away is told by `on_away`


class Standing(NamedTuple):
    """How the store is: why it is away ("" it is there), rows and changes that wait, rows written, events dropped."""

    away: str
    waiting: int
    written: int
    dropped: int


class Store:
    """History and memory of a running service. `write` and `state` are for the mail path, the rest is not."""

    def __init__(
        self,
        engine: Engine,
        *,
        seed: bytes,
        mode: AddressMode,
        retention_s: float,
        max_size: int = 0,
        on_drop: Callable[[int], None] = lambda _: None,
        on_away: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`max_size` in octets, 0: no cap. From the writer's thread: `on_drop` is told how many events or changes were
        lost, `on_away` why the store is away, and "" when it is back."""
        self.key = seed
        """Of hashed addresses: the store's own from the first connection on, `seed` until then."""
        self._engine = engine
        self._mode: AddressMode = mode
        self._retention_s = retention_s
        self._max_size = max_size
        self._on_drop = on_drop
        self._on_away = on_away
        self._clock = clock
        self._node = token_hex(8)
        self._records: deque[tuple[Record, Sequence[Finding]] | threading.Event] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._loaded = threading.Event()
        self._waiting: deque[Kept] = deque()
        self._rows = 0  # in `_waiting` and `_batch`
        self._counts: Counts = {}
        self._tallied: dict[Taken, int] = {}  # of mail that was accepted and no more, until the writer takes them
        self._tallying = threading.Lock()  # held for the time of an addition, by either side
        self._flushes: list[threading.Event] = []
        self._batch: Batch | None = None
        self._number = 0
        self._away = ""
        self._written = 0
        self._dropped = 0
        self._prune_at = time.monotonic() + FIRST_PRUNE_S
        self._has_told_of_crowding = False
        self._thread = threading.Thread(target=self._run, name="smtpguard-history", daemon=True)
        self.state: Final = State(self._wake.set, self._drop)

    # -- anybody's side ---------------------------------------------------------------------------------------------

    def start(self, patience_s: float = 0.0) -> bool:
        """Start the writer; whether what policy remembers was loaded within `patience_s`. It goes on trying."""
        self._thread.start()
        return self._loaded.wait(patience_s)

    def write(self, record: Record, findings: Sequence[Finding] = ()) -> None:
        """Queue a finished record with what lint found, or drop it; returns at once.

        Mail that was accepted and no more is a count, and counted here: to hand it over to the writer costs more.
        """
        is_plain = record.outcome == "accepted" and not (record.refusals or record.diverted or findings)
        if is_plain and self._loaded.is_set():
            self._tally(record)
            return
        records = self._records
        if len(records) >= MAX_RECORDS:
            self._drop(1)
            return
        records.append((record, findings))
        if len(records) == 1:
            self._wake.set()

    def _tally(self, record: Record) -> None:
        try:
            with self._tallying:
                if len(self._tallied) < MAX_COUNTS:
                    count_taken(self._tallied, record)
                    return
        except Exception as error:
            _LOG.error("a transaction could not be counted", exc_info=error)
        self._drop(1)

    def settle(self, *, mode: AddressMode, retention_s: float, max_size: int = 0) -> None:
        """Take new settings, as after a reload; rows that were made stay as they are."""
        self._mode, self._retention_s, self._max_size = mode, retention_s, max_size

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was given before is written; False where it is not within that time."""
        done = threading.Event()
        self._records.append(done)
        self._wake.set()
        return done.wait(timeout_s)

    def reading(self) -> AbstractContextManager[Database]:
        """A connection to ask the history with, in a thread: it may raise StoreError, and it takes its time."""
        return self._engine.reading()

    @property
    def standing(self) -> Standing:
        """How it is now."""
        return Standing(self._away, len(self._records) + self._rows + self.state.waiting, self._written, self._dropped)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits, for at most `timeout_s`; the rest is dropped and counted."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            self._given_up.set()
            self._thread.join(GATHER_S)
        lost = sum(not isinstance(item, threading.Event) for item in self._records)
        lost += len(self._waiting) + (len(self._batch.kept) if self._batch else 0) + self.state.forget_waiting()
        lost += sum(self._tallied.values())
        counted = (self._counts, self._batch.counts if self._batch else {})
        # of the other tables the rows are counted already
        lost += sum(n for counts in counted for (table, _), n in counts.items() if table is ACCEPTANCES)
        if lost:
            self._drop(lost)
        if not self._thread.is_alive():
            self._engine.close()

    # -- the writer -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        database: Database | None = None
        failures = 0
        while True:
            try:
                if failures:
                    self._pause(RETRY_S[min(failures, len(RETRY_S)) - 1])
                    if self._is_over:
                        break
                if database is None:
                    database = self._connected()
                self._turn(database)
                failures = 0
            except Exception as error:
                if not isinstance(error, StoreError):
                    _LOG.error("a fault in the history's writer", exc_info=error)
                failures += 1
                if database is not None:
                    database.close()
                    database = None
                self.state.turns.lose()
                self._tell(str(error) or type(error).__name__)
            if self._is_over:
                break
        if database is not None:
            database.close()

    @property
    def _is_over(self) -> bool:
        return self._given_up.is_set() or (self._closing.is_set() and not self._has_work)

    @property
    def _has_work(self) -> bool:
        return bool(
            self._tallied or self._records or self._waiting or self._batch or self._counts or self.state.waiting
        )

    def _pause(self, seconds: float) -> None:
        """Until the next try. Rows are made meanwhile: they take less room than records."""
        end = time.monotonic() + (RETRY_S[0] if self._closing.is_set() else seconds)
        while (left := end - time.monotonic()) > 0 and not self._given_up.wait(min(left, POLL_S)):
            self._prepare()

    def _connected(self) -> Database:
        database = self._engine.connect()
        try:
            schema.migrate(database, self._clock())
            key = schema.address_key(database, self.key)
            if key != self.key:
                self.key = key
                if lost := self.state.forget_waiting():
                    self._drop(lost)
            self._settle_batch(database)
            database.news()
            self.state.load(database)
            if database.is_shared:
                self.state.turns.join(self.state.probed(), time.monotonic())
            self._loaded.set()
        except BaseException:
            database.close()
            raise
        return database

    def _turn(self, database: Database) -> None:
        """Wait for something to do, at most POLL_S, and do it."""
        if self._wake.wait(POLL_S):
            if not self.state.waiting:
                self._closing.wait(GATHER_S)  # changes are in a hurry, and so is a close
            self._wake.clear()
        self._prepare()
        self._write_all(database)
        self._tell("")  # not before: a full disk lets us connect, and takes nothing
        for done in self._flushes:
            done.set()
        self._flushes.clear()
        self._listen(database)
        self._settle_turns(database)
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_EVERY_S
            self._prune(database)

    def _settle_turns(self, database: Database) -> None:
        self.state.settle_turns(database, time.monotonic())
        if self.state.turns.is_crowded and not self._has_told_of_crowding:
            self._has_told_of_crowding = True
            _LOG.warning(
                "the store has no room for more turns (PostgreSQL: raise max_locks_per_transaction): "
                "until it has, each node makes attempts of its own at what is held"
            )

    def _listen(self, database: Database) -> None:
        news = database.news()
        if news is None:
            self.state.load(database)
        elif news:
            self.state.refresh(database, news)

    def _prepare(self) -> None:
        """Make rows of the records that came in, as many as may wait."""
        if not self._loaded.is_set():
            return
        masker = self._mask()
        for number in range(len(self._records)):
            item = self._records.popleft()
            if isinstance(item, threading.Event):
                self._flushes.append(item)
                continue
            try:
                self._keep(of_record(*item, masker))
            except Exception as error:  # one record that cannot be told is no reason to tell none
                self._drop(1)
                _LOG.error("a transaction could not be kept", exc_info=error)
            if number % YIELD_EVERY == YIELD_EVERY - 1:
                select.select((), (), (), 0)  # let the loop have the interpreter; time.sleep fails where time is faked
        with self._tallying:  # after the records: a flush among them is for what was counted before it
            tallied, self._tallied = self._tallied, {}
        if len(self._counts) + len(tallied) > MAX_COUNTS:
            self._drop(sum(tallied.values()))
        else:
            add(self._counts, acceptances(tallied, masker))
        if self._records:  # came meanwhile; `write` wakes for the first one only
            self._wake.set()

    def _mask(self) -> Masker:
        return _masker(self._mode, self.key)

    def _keep(self, kept: Kept) -> None:
        if self._rows + len(kept.rows) > MAX_ROWS or len(self._counts) + len(kept.counts) > MAX_COUNTS:
            self._drop(1)
            return
        add(self._counts, kept.counts)
        if kept.rows:
            self._rows += len(kept.rows)
            self._waiting.append(kept)

    def _write_all(self, database: Database) -> None:
        while self._batch or self._waiting or self._counts or self.state.waiting:
            self._write_batch(database)

    def _write_batch(self, database: Database) -> None:
        if self._batch is None:
            self._batch = self._next_batch()
        batch = self._batch
        try:
            write(database, batch, self._mask(), self._clock(), self._node)
        except Unfit:
            for rows, unfit in write_parts(database, batch, self._mask(), self._clock()):
                self._rows -= rows
                if unfit is None:
                    self._written += rows
                else:
                    self._drop(1)
                    _LOG.error("the store takes an event never", exc_info=unfit)
        self._done(batch)

    def _next_batch(self) -> Batch:
        kept: list[Kept] = []
        rows = 0
        while self._waiting and rows < BATCH_ROWS:
            kept.append(self._waiting.popleft())
            rows += len(kept[-1].rows)
        counts, self._counts = self._counts, {}
        self._number += 1
        return Batch(self._number, kept, counts, self.state.take())

    def _settle_batch(self, database: Database) -> None:
        """After a connection was lost: was the batch in hand written?"""
        if self._batch is not None and is_written(database, self._batch, self._node):
            self._done(self._batch)

    def _done(self, batch: Batch) -> None:
        rows = sum(len(kept.rows) for kept in batch.kept)
        self._written += rows
        self._rows -= rows
        self._batch = None
        self.state.settled()

    def _prune(self, database: Database) -> None:
        now = self._clock()
        for _ in upkeep.prune_steps(database, now, retention_s=self._retention_s, max_size=self._max_size):
            self._prepare()
            self._write_all(database)
        self.state.expire(upkeep.limits(now, self._retention_s))

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._on_drop(count)

    def _tell(self, away: str) -> None:
        if bool(away) != bool(self._away):
            self._on_away(away)
        self._away = away


@lru_cache(maxsize=4)
def _masker(mode: AddressMode, key: bytes) -> Masker:
    """By what it is made of, for two threads ask: one that was kept could outlive the settings that it was made of."""
    return Masker(mode, key)
