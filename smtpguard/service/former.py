"""What a reload has replaced and transactions under way still use: they end as they began.

A relay of former settings is kept while it has any; a next hop or a lint that was given up is closed once all of them
are over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Final

from smtpguard.edge.lint import Lint
from smtpguard.flow import Relay
from smtpguard.service.hops import Hop

LOOK_EVERY_S: Final = 0.2


class Former:
    """Relays that are no longer in force, and what only they use."""

    def __init__(self) -> None:
        self.relays: list[Relay] = []
        """Those with transactions under way when the last one was added."""
        self._given_up: set[Hop | Lint] = set()

    def add(self, relay: Relay) -> None:
        """This one is no longer in force."""
        self.relays = [former for former in (*self.relays, relay) if former.under_way]

    def give_up(self, given_up: Sequence[Hop | Lint]) -> Coroutine[None, None, None]:
        """Close them once no transaction is under way that began when they were in force: it may need them."""
        self._given_up.update(given_up)
        return self._close(given_up, tuple(self.relays))

    async def _close(self, given_up: Sequence[Hop | Lint], relays: Sequence[Relay]) -> None:
        while any(relay.under_way for relay in relays):  # noqa: ASYNC110 (a transaction tells nobody that it is over)
            await asyncio.sleep(LOOK_EVERY_S)
        await asyncio.gather(*(each.close() for each in given_up))
        self._given_up.difference_update(given_up)

    async def close(self) -> None:
        """Close what is given up, used or not."""
        await asyncio.gather(*(each.close() for each in self._given_up))
