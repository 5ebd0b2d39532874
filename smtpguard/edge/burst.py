"""Small writes of one turn of the loop, made together at its end.

Who reads at the other end of a socket is woken by a write to it. Writes made as octets come in wake client and next hop
once each, over and over, from one processor to the other; in one burst the first write wakes them and the others find
them awake. On an idle machine that is a seventh of a message's CPU.

What goes to one transport keeps its order as long as all of it goes through here: who closes a transport, or writes to
it directly, calls `flush` first.
"""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakKeyDictionary

MOST: Final = 128
"""Writes that wait: with more, a client that floods us with commands would not be held up by the answers it owes."""
SMALL: Final = 8 * 1024
"""Octets of what should go through here; what is larger is worth a wake-up of its own, and room."""


class Burst:
    """The writes of one loop, which it does not hold; from `of`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, octets: bytes) -> None:
        """Write them before the loop waits again. To a transport that closes meanwhile nothing is written."""
        waiting = self._waiting
        waiting.append((transport, octets))
        if len(waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)
        elif len(waiting) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Write all that waits."""
        waiting, self._waiting = self._waiting, []
        for transport, octets in waiting:
            if transport.is_closing():
                continue
            try:
                transport.write(octets)
            except Exception:  # what one transport raises is no reason to leave the others without their octets
                transport.abort()


_BURSTS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Burst]] = WeakKeyDictionary()


def of(loop: asyncio.AbstractEventLoop) -> Burst:
    """The one of this loop."""
    burst = _BURSTS.get(loop)
    if burst is None:
        burst = _BURSTS[loop] = Burst()
    return burst
