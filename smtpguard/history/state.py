"""What is remembered, for look-ups that never wait: suppressions, strikes, holds, throttles, routes, TLS policies.

All of it stands in memory, read from the store at start. What is put here counts at once, is queued, and is written by
the store's writer; what another node or the command line wrote is read when the store says so (`refresh`), within a
second. While the store is away the memory goes on by itself, and what it was told is written later.

| shelf | keyed by | a row is |
| --- | --- | --- |
| suppressions | keyed hash of the recipient | policy.Suppression |
| strikes | the same | several policy.Strike, one a message |
| holds, throttles | the scope, in policy's words; an address in it as its keyed hash | policy.Hold, policy.Throttle |
| routes | what will be tried again, in policy's words | policy.Route |
| tls_policies | the domain whose MTA-STS policy it is | tables.TlsPolicyRow |

**Probes.** `claim` lets one attempt through each time `probe_at` is reached. It decides here and now, because an answer
to RCPT waits for no database, and tells the others. That two nodes do not both decide in the moment in which the news
travels is what turns.py is for: only who has a scope's turn decides, and turns change hands in the store.

Methods may be called from any thread; times are seconds since the epoch, `now` is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from smtpguard.history.database import Database, Key
from smtpguard.history.tables import (
    HOLDS,
    REMEMBERED,
    ROUTES,
    STRIKES,
    SUPPRESSIONS,
    THROTTLES,
    TLS_POLICIES,
    Table,
    TlsPolicyRow,
)
from smtpguard.history.turns import WISH, Turns
from smtpguard.policy import Hold, Route, Strike, Suppression, Throttle

MAX_ROWS: Final = 500_000  # of one shelf in memory; beyond it the oldest are in the store only
MAX_CHANGES: Final = 100_000  # that wait for the store; beyond it they are forgotten by the next restart, and counted
MAX_KEY: Final = 600  # characters: an index of PostgreSQL takes 2,704 octets; what has a longer one is not remembered

R = TypeVar("R", Suppression, Hold, Throttle, Route, TlsPolicyRow)
P = TypeVar("P", Hold, Throttle)


class Change(NamedTuple):
    """Something to be written: put `row`, note its `probe_at` (claim), or drop what is under `key`."""

    table: Table[Any]
    what: Literal["put", "claim", "drop"]
    key: str
    row: Any = None


def write(database: Database, changes: Sequence[Change]) -> None:
    """Write changes, in order, and announce them. To be called inside a transaction."""
    for table, what, key, row in changes:
        match what:
            case "put":
                database.insert(table, [row])
            case "claim":  # a row that somebody dropped meanwhile stays dropped
                sql = f"UPDATE {table.name} SET probe_at = ? WHERE key = ? AND probe_at < ?"  # noqa: S608
                database.run(sql, (row.probe_at, key, row.probe_at))
            case "drop":
                database.run(f"DELETE FROM {table.name} WHERE key = ?", (key,))  # noqa: S608
    database.announce((change.table.name, change.key) for change in changes)


class Shelf(Generic[R]):
    """Rows by key."""

    def __init__(self, table: Table[Any], state: State) -> None:
        self.table = table
        self._state = state
        self.rows: dict[str, R] = {}

    def get(self, key: str) -> R | None:
        """What is under this key, whether its time is over or not."""
        return self.rows.get(key)

    def put(self, row: R) -> None:
        """Remember it, in the place of what was there; not with a key longer than MAX_KEY."""
        if len(row.key) > MAX_KEY:
            self._state.lose()
            return
        with self._state.lock:
            if len(self.rows) >= MAX_ROWS and row.key not in self.rows:
                del self.rows[next(iter(self.rows))]
            self.rows[row.key] = row
            self._state.change(Change(self.table, "put", row.key, row))

    def drop(self, key: str) -> bool:
        """Forget it; whether there was any."""
        with self._state.lock:
            found = self.rows.pop(key, None)
            if found is not None:
                self._state.change(Change(self.table, "drop", key))
        return found is not None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[R]:
        with self._state.lock:
            return iter(list(self.rows.values()))


class ProbedShelf(Shelf[P]):
    """Rows that let an attempt through now and then."""

    def get(self, key: str) -> P | None:
        """What is under this key, whether its time is over or not."""
        row = self.rows.get(key)
        if row is not None:
            self._state.turns.ask((self.table.name, key))
        return row

    def claim(self, key: str, now: float, every_s: float) -> bool:
        """Whether the caller may make the attempt that is due; the next one is due in `every_s`."""
        with self._state.lock:
            row = self.rows.get(key)
            if row is None or row.probe_at > now or not self._state.turns.has((self.table.name, key)):
                return False
            claimed = row._replace(probe_at=now + every_s)
            self.rows[key] = claimed
            self._state.change(Change(self.table, "claim", key, claimed))
        return True


class Strikes:
    """Strikes by recipient."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.rows: dict[str, tuple[Strike, ...]] = {}

    def of(self, key: str) -> tuple[Strike, ...]:
        """The strikes of a recipient, the oldest first."""
        return self.rows.get(key, ())

    def add(self, strike: Strike) -> bool:
        """Count a strike; False where this message was one already, or its key is longer than MAX_KEY."""
        if len(strike.key) + len(strike.message) > MAX_KEY:
            self._state.lose()
            return False
        with self._state.lock:
            known = self.rows.get(strike.key, ())
            if any(other.message == strike.message for other in known):
                return False
            if len(self.rows) >= MAX_ROWS and not known:
                del self.rows[next(iter(self.rows))]
            self.rows[strike.key] = (*known, strike)
            self._state.change(Change(STRIKES, "put", strike.key, strike))
        return True

    def clear(self, key: str) -> bool:
        """Forget a recipient's strikes, as after an acceptance; whether there were any."""
        with self._state.lock:
            found = self.rows.pop(key, None)
            if found is not None:
                self._state.change(Change(STRIKES, "drop", key))
        return found is not None

    def __len__(self) -> int:
        return len(self.rows)


class State:
    """The shelves. `wake` is called when there is something to write, `on_drop` with how many changes were lost."""

    def __init__(
        self, wake: Callable[[], None] = lambda: None, on_drop: Callable[[int], None] = lambda _: None
    ) -> None:
        self.lock: Final = Lock()  # held for the time of a look into a dictionary, or of a reload's last step
        self._wake = wake
        self._on_drop = on_drop
        self._waiting: deque[Change] = deque()
        self._in_hand: list[Change] = []
        self.turns: Final = Turns()
        self.suppressions: Final[Shelf[Suppression]] = Shelf(SUPPRESSIONS, self)
        self.strikes: Final = Strikes(self)
        self.holds: Final[ProbedShelf[Hold]] = ProbedShelf(HOLDS, self)
        self.throttles: Final[ProbedShelf[Throttle]] = ProbedShelf(THROTTLES, self)
        self.routes: Final[Shelf[Route]] = Shelf(ROUTES, self)
        self.tls_policies: Final[Shelf[TlsPolicyRow]] = Shelf(TLS_POLICIES, self)

    # -- the writer's side ------------------------------------------------------------------------------------------

    def change(self, change: Change) -> None:
        """Queue a change. The lock is held."""
        if len(self._waiting) >= MAX_CHANGES:
            self.lose()
            return
        self._waiting.append(change)
        if change.what == "put" and change.table in (HOLDS, THROTTLES):  # whose mail was refused will try it again
            self.turns.ask((change.table.name, change.key))
        self._wake()

    def lose(self) -> None:
        """Count a change that the store will not hear of."""
        self._on_drop(1)

    def take(self) -> Sequence[Change]:
        """The changes to write now; the same again until `settled`."""
        with self.lock:
            if not self._in_hand:
                self._in_hand = list(self._waiting)
                self._waiting.clear()
            return self._in_hand

    def settled(self) -> None:
        """What was taken is written."""
        with self.lock:
            self._in_hand = []

    def forget_waiting(self) -> int:
        """Give up what waits; how many changes that were."""
        with self.lock:
            lost = len(self._waiting) + len(self._in_hand)
            self._waiting.clear()
            self._in_hand = []
        return lost

    @property
    def waiting(self) -> int:
        """Changes that are not written yet."""
        return len(self._waiting) + len(self._in_hand)

    def load(self, database: Database) -> None:
        """Take all of the store in place of what is here; what is not written yet stays."""
        found = {table.name: _read(database, table) for table in REMEMBERED}
        with self.lock:
            for table in REMEMBERED:
                self._rows(table).clear()
                for row in found[table.name]:
                    self._lay(table, row)
            for change in (*self._in_hand, *self._waiting):
                self._replay(change)

    def refresh(self, database: Database, keys: Iterable[Key]) -> None:
        """Read these keys anew; those of which a change waits here stay as they are: it is the later one."""
        tables = {table.name: table for table in REMEMBERED}
        for name, key in keys:
            if name == WISH:
                self.turns.hear(key)
            if (table := tables.get(name)) is None:
                continue  # of a newer version
            rows = database.query(table.select("WHERE key = ?"), (key,))
            with self.lock:
                if self._waits((name, key)):
                    continue
                self._rows(table).pop(key, None)
                for row in rows:
                    self._lay(table, table.row(*row))

    def probed(self) -> Iterator[Key]:
        """What is tried now and then."""
        for shelf in (self.throttles, self.holds):
            yield from ((shelf.table.name, row.key) for row in shelf)

    def settle_turns(self, database: Database, now: float) -> None:
        """Take the turns that were asked for, and give back those that nobody needs; `now` is of a monotonic clock."""
        turns = self.turns
        if turns.is_alone:
            return
        for key in turns.due_back(now, lambda key: key[1] in getattr(self, key[0]).rows):
            with self.lock:
                is_ours = not self._waits(key) and turns.forget(key)
            if is_ours:
                database.yield_turn(key)
        if wanted := turns.wanted(now):
            given = database.take_turns(wanted)
            self.refresh(database, given.ours)  # what the last owner decided was written before it let go
            turns.take(given.ours, given.others, is_crowded=given.is_crowded)
        if wishes := turns.wishes(wanted, now):
            with database.transaction():
                database.announce(wishes)

    def _waits(self, key: Key) -> bool:
        """Whether a change under this key is not written yet. The lock is held."""
        return any((change.table.name, change.key) == key for change in (*self._in_hand, *self._waiting))

    def expire(self, kept_until: dict[str, float]) -> None:
        """Forget what the store forgets (upkeep.prune): by table, the `until` or `at` before which a row is over."""
        with self.lock:
            for name, limit in kept_until.items():
                if name == STRIKES.name:
                    rows = self.strikes.rows
                    for key in [key for key, strikes in rows.items() if strikes[-1].at < limit]:
                        del rows[key]
                    continue
                shelf: dict[str, Any] = self._rows(next(table for table in REMEMBERED if table.name == name))
                for key in [key for key, row in shelf.items() if row.until < limit]:
                    del shelf[key]

    def _rows(self, table: Table[Any]) -> dict[str, Any]:
        shelf: Any = getattr(self, table.name)
        rows: dict[str, Any] = shelf.rows
        return rows

    def _lay(self, table: Table[Any], row: Any) -> None:
        rows = self._rows(table)
        if table is not STRIKES:
            rows[row.key] = row
        elif all(other.message != row.message for other in rows.get(row.key, ())):
            rows[row.key] = tuple(sorted((*rows.get(row.key, ()), row), key=lambda strike: strike.at))

    def _replay(self, change: Change) -> None:
        if change.what == "drop":
            self._rows(change.table).pop(change.key, None)
        elif change.what == "put" or change.key in self._rows(change.table):
            self._lay(change.table, change.row)


def _read(database: Database, table: Table[Any]) -> list[Any]:
    """All rows, the newest MAX_ROWS of them, oldest first."""
    newest = "at" if table is STRIKES else "since"
    found = database.query(table.select(f"ORDER BY {newest} DESC LIMIT {MAX_ROWS}"))
    return [table.row(*row) for row in reversed(found)]
