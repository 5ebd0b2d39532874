"""Facts worked out of several DNS answers, kept by key for as long as the answers hold: found once, asked for by many.

The DNS cache (`dnscache.py`) knows records; this knows what they come to: an SPF result, what a domain says of its
mail, a DMARC policy. A message whose facts are known asks nothing and waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from smtpguard.lint.facts import Missing

LONGEST_S: Final = 3600.0
SHORTEST_S: Final = 30.0
MISSING_S: Final = 10.0  # a fact that could not be had is asked for again so soon
AHEAD: Final = 0.8  # of its time: a fact that is used after that is found anew behind it
MAX_KEPT: Final = 10_000
MAX_FINDING: Final = 200

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Found(NamedTuple, Generic[V]):
    """A fact, and the seconds for which it holds."""

    fact: V | Missing
    ttl: float


class Kept(NamedTuple, Generic[V]):
    """A fact that is known; times by the clock of its `Known`."""

    fact: V | Missing
    renew: float
    """When it is found anew, behind whoever asks for it then."""
    until: float


class Known(Generic[K, V]):
    """Facts of one kind. `find` works one out; it never raises for what the DNS does. `clock`: seconds, monotonic.

    `on_fault` is told of each fault of ours; the fact is missing then.
    """

    def __init__(
        self,
        find: Callable[[K], Coroutine[Any, Any, Found[V]]],
        clock: Callable[[], float],
        on_fault: Callable[[Exception], None],
        *,
        limit: int = MAX_KEPT,
    ) -> None:
        self._find = find
        self._clock = clock
        self._on_fault = on_fault
        self._limit = limit
        self._kept: OrderedDict[K, Kept[V]] = OrderedDict()
        self._finding: dict[K, asyncio.Task[V | Missing]] = {}

    def peek(self, key: K) -> V | Missing | None:
        """The fact, if it is known; None: ask."""
        kept = self.look(key)
        return None if kept is None else kept.fact

    def look(self, key: K) -> Kept[V] | None:
        """The same, and for how long."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._clock()
        if now >= kept.until:
            return None
        if now >= kept.renew:
            self.ask(key)
        return kept

    def ask(self, key: K) -> asyncio.Task[V | Missing] | Missing:
        """Find it, or wait with whoever does already; Missing where too much is being found already."""
        task = self._finding.get(key)
        if task is None:
            if len(self._finding) >= MAX_FINDING:
                return Missing("busy")
            task = self._finding[key] = asyncio.get_running_loop().create_task(self._learn(key), name="fact")
        return task

    async def _learn(self, key: K) -> V | Missing:
        try:
            fact, ttl = await self._find(key)
        except Exception as fault:  # whoever asks does without, and mail goes on
            self._on_fault(fault)
            fact, ttl = Missing(f"fault: {type(fault).__name__}"), MISSING_S
        finally:
            self._finding.pop(key, None)
        ttl = MISSING_S if isinstance(fact, Missing) else min(LONGEST_S, max(SHORTEST_S, ttl))
        now = self._clock()
        self._kept[key] = Kept(fact, now + ttl * AHEAD, now + ttl)
        self._kept.move_to_end(key)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return fact

    async def close(self) -> None:
        """End what is being found."""
        tasks = list(self._finding.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
