"""A bounded memory in which what came up once gives way before what is asked for again and again.

Somebody who makes us look up ten thousand names of his own fills such a memory, and pushes out what others rely on, if
the oldest goes first, or what was not used for longest. Here a row is *proven* when it is asked for once more, PROOF_S
after it came; what is not goes first, the oldest of it. Proven rows have PROVEN_SHARE of the room: of more of them the
one that was not asked for for longest must prove itself anew, so that there is always room for new ones to do so.

No I/O, no clock: `now` is passed in, in seconds, and never goes back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

PROOF_S: Final = 300.0
"""Mail that came together asks together: that proves nothing."""
PROVEN_SHARE: Final = 0.8

V = TypeVar("V")


class _Row(NamedTuple, Generic[V]):
    value: V
    since: float
    weight: int


class Proven(Generic[V]):
    """At most `max_rows`, of at most `max_weight` together; the newest is kept whatever it weighs."""

    def __init__(self, max_rows: int, max_weight: int, weight_of: Callable[[V], int]) -> None:
        self._max_rows = max_rows
        self._max_weight = max_weight
        self._weight_of = weight_of
        self._new: OrderedDict[str, _Row[V]] = OrderedDict()
        self._proven: OrderedDict[str, _Row[V]] = OrderedDict()
        self._weight = 0
        self._weight_of_proven = 0

    def get(self, key: str) -> V | None:
        """What is there; that proves nothing."""
        row = self._proven.get(key) or self._new.get(key)
        return row.value if row is not None else None

    def ask(self, key: str, now: float) -> V | None:
        """What is there, for somebody who needs it."""
        if key in self._proven:
            self._proven.move_to_end(key)
        elif (row := self._new.get(key)) is not None and now - row.since >= PROOF_S:
            self._prove(key, self._new.pop(key))
        return self.get(key)

    def put(self, key: str, value: V, now: float) -> list[str]:
        """Keep it, in the place of what was there, which it inherits; the keys of what had to give way."""
        weight = self._weight_of(value)
        if (before := self._proven.get(key)) is not None:
            self._weight_of_proven += weight - before.weight
            self._proven[key] = _Row(value, before.since, weight)
            self._proven.move_to_end(key)
        else:
            before = self._new.get(key)
            self._new[key] = _Row(value, before.since if before is not None else now, weight)
            self._new.move_to_end(key)
        self._weight += weight - (before.weight if before is not None else 0)
        given_up: list[str] = []
        while len(self) > 1 and (len(self) > self._max_rows or self._weight > self._max_weight):
            rows = self._new if len(self._new) > (key in self._new) else self._proven
            last, gone = rows.popitem(last=False)
            self._weight -= gone.weight
            self._weight_of_proven -= gone.weight if rows is self._proven else 0
            given_up.append(last)
        return given_up

    def _prove(self, key: str, row: _Row[V]) -> None:
        self._proven[key] = row
        self._weight_of_proven += row.weight
        while len(self._proven) > 1 and (
            len(self._proven) > PROVEN_SHARE * self._max_rows
            or self._weight_of_proven > PROVEN_SHARE * self._max_weight
        ):
            last, former = self._proven.popitem(last=False)
            self._weight_of_proven -= former.weight
            self._new[last] = former

    def __len__(self) -> int:
        return len(self._new) + len(self._proven)

    @property
    def weight(self) -> int:
        """Of all that is kept."""
        return self._weight
