"""Rights to a connection: how many at once, under one limit or several, and who waits for one.

A slot is taken under one name or several, each of which may have a limit: one name for all where mail goes to a few
configured hosts; the total's, the provider's and the destination's where it goes to the whole world (`mx.py`). A slot
is to be had when there is room under each of its names. Who finds none waits in turn; a destination that is full holds
up nobody who wants another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

Groups = tuple[str, ...]


class _Waiting(NamedTuple):
    """One that waits: True when it has its slot, False when it was in vain."""

    groups: Groups
    turn: asyncio.Future[bool]


class Slots:
    """`limits`: at most so many slots at once under a name; a name without one has no limit."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = dict(limits)
        self._taken: dict[str, int] = {}
        self._waiting: deque[_Waiting] = deque()

    def taken(self, name: str) -> int:
        """How many there are under a name."""
        return self._taken.get(name, 0)

    def limit(self, name: str, most: int | None) -> None:
        """Set a limit, or lift it (None). Slots beyond a lower one are not taken away."""
        if most is None:
            self._limits.pop(name, None)
        else:
            self._limits[name] = most
        self._serve()

    def take(self, groups: Groups) -> bool:
        """Take a slot if there is room under all its names; give it back by `release`.

        Nobody is overtaken: whoever waits has no room, else it would have been served.
        """
        limits, taken = self._limits, self._taken
        for name in groups:
            if name in limits and taken.get(name, 0) >= limits[name]:
                return False
        for name in groups:
            taken[name] = taken.get(name, 0) + 1
        return True

    async def slot(self, groups: Groups, until: float) -> bool:
        """The same, waiting for it until then (loop time)."""
        if self.take(groups):
            return True
        loop = asyncio.get_running_loop()
        waiting = _Waiting(groups, loop.create_future())
        self._waiting.append(waiting)
        timer = loop.call_at(until, self._give_up, waiting)
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.cancelled():
                with suppress(ValueError):  # `give_up` emptied the row at the same moment
                    self._waiting.remove(waiting)
            elif waiting.turn.result():  # it was our turn, at the very moment
                self.release(groups)
            raise
        finally:
            timer.cancel()

    def _give_up(self, waiting: _Waiting) -> None:
        if not waiting.turn.done():
            self._waiting.remove(waiting)
            waiting.turn.set_result(False)

    def release(self, groups: Groups) -> None:
        """Give a slot back: to the one who has waited longest among those that may have it, if any."""
        taken = self._taken
        for name in groups:
            taken[name] -= 1
            if taken[name] == 0:
                del taken[name]
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        unserved: deque[_Waiting] = deque()
        while self._waiting:
            waiting = self._waiting.popleft()
            if waiting.turn.done() or not self.take(waiting.groups):
                unserved.append(waiting)
            else:
                waiting.turn.set_result(True)
        self._waiting = unserved

    def give_up(self) -> None:
        """Nobody need wait any more."""
        while self._waiting:
            turn = self._waiting.popleft().turn
            if not turn.done():
                turn.set_result(False)
