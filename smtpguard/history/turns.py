"""Whose turn it is to try what is held: of the nodes that share a store one makes the attempts of a scope. Pure.

A node that is asked about a hold or a throttle asks the store for its turn, long before the attempt is due as a rule:
held mail comes again and again. The store gives a turn to one node at a time (PostgreSQL: an advisory lock of the
writer's session), and takes it back when that node lets go, closes or loses its connection. Who has the turn decides by
memory alone when the attempt is made (`state.ProbedShelf.claim`), so that no answer waits for a database; a turn is let
go only when what was decided is written, and who takes it reads that first. So two nodes never make the attempt of one
interval, as long as both reach the store.

A turn goes where the mail is: a node that wants one tells the others how often it is asked (a wish), and who has it
lets go when that is twice as often as itself. Of two that are asked as seldom, each by the retry of an MTA, one keeps
it: were it handed on each time, every retry would find it with the other.

What it does not do: where the store is away each node goes on alone, and makes an attempt an interval of its own; so
does a node that has MAX_TURNS, or that the store has no room for more of, with what it does not know another to have.
And mail that comes to a node without the turn is answered with the hold, though the attempt be due: the next one may be
the attempt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from itertools import islice
from math import inf
from typing import Final, NamedTuple

from smtpguard.history.database import Key

MAX_TURNS: Final = 100
"""Of one node. PostgreSQL has room for some 6,400 locks in all, if max_locks_per_transaction does not say otherwise;
whoever else works there needs some too."""
MAX_WISHES: Final = 100
"""Told to the others at once."""
IDLE_S: Final = 7200.0
"""A turn is let go when nobody has asked for so long. Postfix comes again within 4,000 s (maximal_backoff_time)."""
AGAIN_S: Final = 5.0
"""How often the store is asked again for a turn that another node has."""
CROWDED_S: Final = 60.0
"""How often a store that had no room for more turns is asked for one: each question fills what room there is."""
OFTEN_S: Final = 1.0
"""Who is asked once a second is asked often enough: of two busy nodes none takes it from the other."""
NEVER: Final = inf
"""Between two questions, where nobody has asked."""
WISH: Final = "turn"
"""Stands for the table in what is announced of a wish."""


class _Pace(NamedTuple):
    """When somebody asked last, and how long after the time before that."""

    at: float
    gap_s: float


class Turns:
    """The turns of this node: `ask` and `has` are for the mail path, the rest for the writer. `now` never goes back."""

    def __init__(self) -> None:
        self.is_alone = True
        """Whether no other node makes attempts, or none can be heard of: then every turn is ours."""
        self.is_crowded = False
        """Whether the store had no room for the last that was asked for."""
        self._fresh: dict[Key, None] = {}  # in their order
        self._asked: dict[Key, _Pace] = {}
        self._mine: set[Key] = set()
        self._others: set[Key] = set()  # as far as the store was asked
        self._wished: dict[Key, float] = {}  # by others: the seconds between two questions there
        self._again_at = 0.0

    def ask(self, key: Key) -> None:
        """Somebody wanted to know about this: the next attempt may be ours."""
        if not self.is_alone and len(self._fresh) < MAX_TURNS:
            self._fresh[key] = None

    def has(self, key: Key) -> bool:
        """Whether the attempt is ours to make."""
        is_full = self.is_crowded or len(self._mine) >= MAX_TURNS
        return self.is_alone or key in self._mine or (is_full and key not in self._others)

    # -- the writer's side ------------------------------------------------------------------------------------------

    def join(self, held: Iterable[Key], now: float) -> None:
        """A store that others share is there, and this is held in it: ours if nobody wants it more."""
        self.is_alone = False
        self._again_at = now
        for key in islice(held, MAX_TURNS):
            self._asked.setdefault(key, _Pace(now, NEVER))

    def lose(self) -> None:
        """The store is away, and all turns with it."""
        self.is_alone = True
        self.is_crowded = False
        self._mine.clear()
        self._others.clear()
        self._wished.clear()

    def wanted(self, now: float) -> list[Key]:
        """Which to ask the store for: those that were first asked about just now, each AGAIN_S all that others have."""
        wanted: list[Key] = []
        for key in list(self._fresh):
            del self._fresh[key]
            last = self._asked.get(key)
            self._asked[key] = _Pace(now, now - last.at if last is not None and last.gap_s < NEVER else IDLE_S)
            if last is None and not self.is_crowded:
                wanted.append(key)
        if now >= self._again_at:
            self._again_at = now + (CROWDED_S if self.is_crowded else AGAIN_S)
            wanted = [key for key in self._asked if key not in self._mine]
        if self.is_crowded:
            return wanted[:1]
        room = max(0, MAX_TURNS - len(self._mine))
        return [key for key in wanted if key in self._others] + [key for key in wanted if key not in self._others][
            :room
        ]

    def take(self, ours: Iterable[Key], others: Iterable[Key], *, is_crowded: bool = False) -> None:
        """What the store said to those that were wanted (`database.Given`)."""
        if self.is_crowded and not is_crowded:
            self._again_at = 0.0  # all the others now
        self.is_crowded = is_crowded
        self._mine.update(ours)
        self._others.update(others)
        self._others -= self._mine

    def wishes(self, keys: Iterable[Key], now: float) -> list[Key]:
        """What to announce of turns that another node has, where we were asked lately."""
        paces = ((key, self._pace(key, now)) for key in keys if key not in self._mine)
        return [(WISH, f"{pace:.1f} {' '.join(key)}") for key, pace in paces if pace <= IDLE_S][:MAX_WISHES]

    def hear(self, wish: str) -> None:
        """Another node wants a turn."""
        gap, _, rest = wish.partition(" ")
        table, _, key = rest.partition(" ")
        with contextlib.suppress(ValueError):  # of a newer version
            self._wished[table, key] = max(OFTEN_S, float(gap))

    def due_back(self, now: float, is_kept: Callable[[Key], bool]) -> list[Key]:
        """What to let go: what another node is asked for twice as often, what nobody asks for, what is not kept now."""
        wished, self._wished = self._wished, {}
        # all that was asked about may be a hundred thousand: now and then, while the store is asked again
        looked_at = self._asked if now >= self._again_at else self._mine
        return [
            *(key for key, gap_s in wished.items() if key in self._mine and 2 * gap_s < self._pace(key, now)),
            *(key for key in looked_at if now - self._asked[key].at > IDLE_S or not is_kept(key)),
        ]

    def forget(self, key: Key) -> bool:
        """Want this no more until it is asked for again; whether it was ours, and is to be given back."""
        self._asked.pop(key, None)
        self._others.discard(key)
        is_mine = key in self._mine
        self._mine.discard(key)
        return is_mine

    def _pace(self, key: Key, now: float) -> float:
        """Seconds between two questions, and no less than since the last one."""
        last = self._asked.get(key)
        return max(last.gap_s, now - last.at) if last is not None else IDLE_S
