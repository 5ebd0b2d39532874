"""The connections of one next hop: how many at once, which are kept, who waits for one.

Rules of this file:
- A slot (`slots.py`) is the right to one connection. Who carries a transaction has one, and so has a connection that is
  leaving, until it is closed: the other side counts it too. There are `connections` of them, over all hosts.
- A kept connection has no slot; kept and slots together are never more than `connections` when one is opened.
- Kept ones are used newest first, so that what is not needed grows old, and goes after `idle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from smtpguard.config.settings import NextHopSettings
from smtpguard.edge.connect import Connected
from smtpguard.edge.health import Host
from smtpguard.edge.pipeline import QUIT_S, Connection
from smtpguard.edge.slots import Groups, Slots
from smtpguard.edge.tally import Tally
from smtpguard.mail.reply import HopFailure

CLOSE_S: Final = QUIT_S + 0.5
ALL: Final[Groups] = ("",)
"""The one name that every slot is taken under: its limit is `connections`."""


class Pool:
    """Slots and kept connections over all hosts of a next hop.

    `on_failure` is told when a connection fails under a transaction that had begun.
    """

    def __init__(self, settings: NextHopSettings, in_use: Tally, on_failure: Callable[[HopFailure], object]) -> None:
        self._settings = settings
        self._most = settings.messages_per_connection
        self._in_use = in_use
        self._on_failure = on_failure
        self.slots = Slots({ALL[0]: settings.connections})
        self._kept: dict[Host, list[Connection]] = {}  # oldest first; never empty
        self._alive: dict[Connection, Host] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self.is_closing = False

    # Connections

    def hold(self, connection: Connection, groups: Groups) -> bool:
        """The caller's slot becomes the connection's: it comes back by itself. False where the connection is dead."""
        if connection not in self._alive:
            if connection.failure is not None:  # it died right behind its answer to MAIL
                self._on_failure(connection.failure)
            return False
        connection.held = groups
        self._in_use.value += 1
        return True

    def _let_go(self, connection: Connection) -> None:
        groups = connection.held
        if groups is not None:
            connection.held = None
            self._in_use.value -= 1
            self.slots.release(groups)

    def newest(self, host: Host) -> Connection | None:
        """Take out the connection to this host that was used last, if one is still good."""
        while (kept := self._kept.get(host)) is not None:
            connection = kept.pop()
            if not kept:
                del self._kept[host]
            if connection.is_alive:
                return connection
            connection.quit()
        return None

    def make_room(self) -> None:
        """Before a connection is opened, for which there is a slot: part with kept ones that would be too many."""
        room = self._settings.connections - self.slots.taken(ALL[0])
        for _ in range(sum(map(len, self._kept.values())) - room):
            if not self._kept:
                return
            oldest = min(self._kept, key=lambda host: self._kept[host][0].idle_since)
            self._take_out(oldest, 0).quit()

    def _take_out(self, host: Host, place: int) -> Connection:
        kept = self._kept[host]
        connection = kept.pop(place)
        if not kept:
            del self._kept[host]
        return connection

    def adopt(self, connected: Connected, host: Host) -> Connection:
        """Take care of a new connection."""
        connection = Connection(connected, self._settings.timeout, self._free, self._gone)
        self._alive[connection] = host
        return connection

    def keep(self, connection: Connection) -> bool:
        """It is not needed now: keep it for the next transaction, or let it go (False) where it has served its time."""
        if connection.transactions >= self._most or self.is_closing or not connection.is_alive:
            connection.quit()
            return False
        connection.idle_since = now = monotonic()
        host = self._alive[connection]
        kept = self._kept.get(host)
        if kept is None:
            self._kept[host] = [connection]
        else:
            kept.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_at(now + self._settings.idle, self._sweep)
        return True

    def _free(self, connection: Connection) -> None:
        """Its transaction is over and its state clean. A slot stays with it if it leaves, until `_gone`."""
        if self.keep(connection):
            self._let_go(connection)

    def _gone(self, connection: Connection, failure: HopFailure | None) -> None:
        """It is closed or reset."""
        if failure is not None and connection.held is not None:
            self._on_failure(failure)
        host = self._alive.pop(connection, None)
        if host in self._kept and connection in self._kept[host]:
            self._take_out(host, self._kept[host].index(connection))
        self._let_go(connection)
        if self._emptied is not None and not self._alive:
            self._emptied.set()

    def _sweep(self) -> None:
        """Part with what was not used for `idle`."""
        loop = asyncio.get_running_loop()
        self._sweeper = None
        since = loop.time() - self._settings.idle
        for host in list(self._kept):
            while host in self._kept and self._kept[host][0].idle_since <= since:
                self._take_out(host, 0).quit()
        oldest = min((kept[0].idle_since for kept in self._kept.values()), default=None)
        if oldest is not None:
            self._sweeper = loop.call_at(oldest + self._settings.idle, self._sweep)

    async def close(self, within_s: float) -> None:
        """Give no more slots; let the transactions under way end within so many seconds, reset the rest."""
        self.is_closing = True
        self.slots.give_up()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for host in list(self._kept):
            while host in self._kept:
                self._take_out(host, -1).quit()
        if self._alive:
            self._emptied = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(within_s, CLOSE_S)):
                    await self._emptied.wait()
        for connection in list(self._alive):
            connection.abort()
        await asyncio.sleep(0)  # a reset socket is closed in the loop's next round
