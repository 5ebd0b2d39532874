"""The rooms as a transaction sees them: next hop, body, journal are protocols, met by `edge` and `service`."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from smtpguard.classify import Classifier
from smtpguard.config import ReplySettings
from smtpguard.mail.reply import Answer, Hop, Reply
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.record import Record
from smtpguard.routes import Routes


class Body(Protocol):
    """A received message, dot-stuffed as on the wire, without the final `.CRLF`. May be read several times at once."""

    size: int
    """Octets as received, dots unstuffed."""

    def wire(self) -> Iterator[bytes]:
        """The dot-stuffed octets in chunks of at most 256 KiB."""

    def content(self) -> Iterator[bytes]:
        """The octets of the message itself (dots unstuffed), in chunks of at most 256 KiB; `size` in all."""


class Exchange(Protocol):
    """One transaction on one connection of a next hop. Never raises for what the hop does: answers are values."""

    hop: Hop
    mail: Answer
    """What it said to MAIL, or to what came before (see the reply's verb), or how it failed."""

    rcpts: list[Future[Answer]]
    """Answers to the recipients given to `begin`, in order."""

    def send(self, rcpts: Sequence[Recipient]) -> list[Future[Answer]]:
        """Send further recipients; their answers, in order."""

    async def message(self, head: bytes, body: Body, deadline: float) -> Answer:
        """Send `head` (our fields) and the body, by BDAT or DATA; the answer to it, by `deadline` (loop time)."""

    def finish(self) -> None:
        """Done: the connection goes back to the pool (after RSET where a transaction is still open)."""

    def abort(self) -> None:
        """Give it up at once: the socket is reset, nothing more is sent."""


class NextHop(Protocol):
    """A configured next hop: hosts in order, a pool each, a breaker each."""

    name: str

    def offers(self, keyword: str) -> bool | None:
        """Whether every host offered this EHLO keyword when last asked; None while none was asked."""

    def size_limit(self) -> int | None:
        """The SIZE it offered: 0 no fixed limit, None unknown or not offered."""

    async def begin(
        self, envelope: Envelope, rcpts: Sequence[Recipient], deadline: float, *, size: int | None = None
    ) -> Exchange:
        """Send MAIL and the given recipients to the first host that takes MAIL; answers at MAIL's answer.

        `size` (octets) goes out as SIZE= where it is offered.
        """


class Journal(Protocol):
    """Where finished records go. Never raises, never waits."""

    def write(self, record: Record) -> None:
        """Log it, count it, keep it."""


ServesAs = Callable[[Reply], None]
"""How an answer reaches the client: in order, at once, never waiting."""

RESERVE_S: Final = 60.0
"""Contract 1.4: with less than that left of `answer_within`, the message is not sent any more."""


@dataclass(slots=True)
class Relay:
    """All that a transaction needs. A reload makes a new one; transactions under way keep theirs."""

    hops: Mapping[str, NextHop]
    routes: Routes
    classifier: Classifier
    journal: Journal
    hostname: str
    reply: ReplySettings
    answer_within_s: float
    received_header: bool
    clock: Callable[[], float]
    """Monotonic seconds, the scale of the loop's `time()`."""
    now: Callable[[], float]
    """Seconds since the epoch."""
    new_id: Callable[[], str]
    under_way: int = 0
    """Transactions that have begun with it and are not over: its next hops are still wanted."""

    @property
    def reserve_s(self) -> float:
        """RESERVE_S, or half of `answer_within` where an operator set that to less than two minutes."""
        return min(RESERVE_S, self.answer_within_s / 2)
