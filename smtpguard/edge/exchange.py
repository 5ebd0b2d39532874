"""One transaction at a next hop, as the rooms see it (flow.Exchange), and the words it begins with.

Paths and parameters go out octet for octet as they came in. What is left of a transaction that could not begin, or that
is over, is an exchange too: it answers everything with what became of it, and reaches no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from smtpguard.edge.pipeline import Connection
from smtpguard.flow import Body
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Verb
from smtpguard.mail.session import Envelope, Recipient


def mail_line(envelope: Envelope) -> bytes:
    """MAIL without SIZE and CRLF; ValueError if it would not be one line."""
    return _framed(b" ".join((b"MAIL FROM:<" + envelope.mail_from + b">", *envelope.params)))


def rcpt_lines(rcpts: Iterable[Recipient]) -> list[bytes]:
    """RCPT for each, with CRLF; ValueError if one would not be one line."""
    return [_framed(b" ".join((b"RCPT TO:<" + rcpt.path + b">", *rcpt.params))) + b"\r\n" for rcpt in rcpts]


def _framed(line: bytes) -> bytes:
    # The doors refuse such paths; this is what stands between a gap there and a command smuggled in.
    if b"\r" in line or b"\n" in line or b"\0" in line:
        raise ValueError("a command holds CR, LF or NUL")
    return line


class HopExchange:
    """flow.Exchange on a connection; or, without one, what became of the attempt."""

    __slots__ = ("_connection", "_instead", "hop", "mail", "rcpts")

    def __init__(
        self, hop: Hop, mail: Answer, rcpts: list[asyncio.Future[Answer]], connection: Connection | None = None
    ) -> None:
        self.hop = hop
        self.mail = mail
        self.rcpts = rcpts
        self._connection = connection
        self._instead = mail

    @property
    def is_begun(self) -> bool:
        """Whether there is a connection behind it."""
        return self._connection is not None

    @property
    def is_held(self) -> bool:
        """Whether the connection has taken over its beginner's slot."""
        return self._connection is not None and self._connection.is_held

    def send(self, rcpts: Sequence[Recipient]) -> list[asyncio.Future[Answer]]:
        """Further recipients; their answers, in order."""
        if self._connection is None:
            return settled(self._instead, len(rcpts))
        try:
            return self._connection.more(rcpt_lines(rcpts))
        except ValueError as error:
            return settled(HopFailure(FailureKind.INTERNAL, Verb.RCPT, str(error)), len(rcpts))

    async def message(self, head: bytes, body: Body, deadline: float) -> Answer:
        """The message; its answer."""
        if self._connection is None:
            return self._instead
        return await self._connection.message(head, body, deadline)

    def finish(self) -> None:
        """Done with it; only the first `finish` or `abort` counts."""
        if (connection := self._part()) is not None:
            connection.finish()

    def abort(self) -> None:
        """Reset the connection; only the first `finish` or `abort` counts."""
        if (connection := self._part()) is not None:
            connection.abort()

    def _part(self) -> Connection | None:
        # From here on the connection may be another's: nothing of ours may reach it.
        connection, self._connection = self._connection, None
        if connection is not None:
            self._instead = HopFailure(FailureKind.INTERNAL, Verb.MAIL, "the exchange is over")
        return connection


def settled(answer: Answer, count: int) -> list[asyncio.Future[Answer]]:
    """So many futures that hold `answer`."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in range(count)]
    for future in futures:
        future.set_result(answer)
    return futures
