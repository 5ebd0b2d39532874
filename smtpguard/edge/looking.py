"""An exchange that has no host yet: its domain's mail hosts are being looked up, or cannot be (flow.Exchange)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from smtpguard.flow import Body, Exchange, Hears
from smtpguard.mail.reply import FailureKind, Hop, HopFailure, Verb
from smtpguard.mail.session import Recipient


class Looking:
    """While `task` looks; after that it stands for the walk over the hosts, for who has not been told of that yet."""

    def __init__(self, hop: Hop, hears: Hears) -> None:
        self.hop = hop
        self.task: asyncio.Task[None] | None = None
        self._hears: Hears | None = hears
        self._walk: Exchange | None = None
        self._failure = HopFailure(FailureKind.INTERNAL, Verb.MAIL, "the exchange has not begun")

    async def look(self, way: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Find the way and go it; a fault of ours ends this exchange and no other."""
        try:
            await way()
        except Exception as error:
            hears, self._hears = self._hears, None
            if hears is not None:
                hears.broke(error)

    def failed(self, failure: HopFailure) -> None:
        """There is no way."""
        self._failure = failure
        if self._hears is not None:
            self._hears.at_mail(self, failure)

    def goes_on(self, walk: Exchange) -> None:
        """The rest is told by the walk; who was told already has that exchange, and calls this one no more."""
        self._walk = walk

    @property
    def failure(self) -> HopFailure | None:
        """flow.Exchange."""
        return self._walk.failure if self._walk is not None else None

    def send(self, rcpts: Sequence[Recipient]) -> None:
        """flow.Exchange."""
        if self._walk is not None:
            self._walk.send(rcpts)
        elif self._hears is not None:
            for _ in rcpts:
                self._hears.at_rcpt(self._failure)

    def message(self, head: bytes, body: Body, deadline: float) -> None:
        """flow.Exchange."""
        if self._walk is not None:
            self._walk.message(head, body, deadline)
        elif self._hears is not None:
            self._hears.at_message(self._failure)

    def finish(self) -> None:
        """flow.Exchange."""
        self._part()
        if self._walk is not None:
            self._walk.finish()

    def abort(self) -> None:
        """flow.Exchange."""
        self._part()
        if self._walk is not None:
            self._walk.abort()

    def _part(self) -> None:
        self._hears = None
        if self.task is not None and self._walk is None:
            self.task.cancel()
