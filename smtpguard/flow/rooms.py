"""The rooms as a transaction sees them: next hop, body, journal are protocols, met by `edge` and `service`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeGuard

from smtpguard.classify import Classifier
from smtpguard.config import ReplySettings
from smtpguard.flow.standing import Standing
from smtpguard.lint import Finding, Report
from smtpguard.mail.octets import Buffer
from smtpguard.mail.reply import Answer, Hop, HopFailure, Reply
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

    def raw(self) -> Buffer:
        """The message itself in one piece, mapped into memory where it is large; OSError where it cannot be read."""


class Hears(Protocol):
    """Who is told what a next hop says in one exchange; a fault of its own is its own to see to, by `broke`."""

    def at_mail(self, exchange: Exchange, answer: Answer) -> None:
        """What `exchange.hop` said to MAIL, or to what came before (see the reply's verb), or how it failed.

        Unless it is a 2xx, nothing more is told.
        """

    def at_rcpt(self, answer: Answer) -> None:
        """What it said to the next of the recipients."""

    def at_message(self, answer: Answer) -> None:
        """What it said to the message, or to DATA before."""

    def broke(self, error: Exception) -> None:
        """One of these raised: the exchange was aborted."""


class Exchange(Protocol):
    """One transaction on one connection of a next hop. Never raises for what the hop does: answers are values.

    Nothing here waits: `Hears` is told each answer as it comes, perhaps before the call that asked for it returns.
    """

    hop: Hop

    @property
    def failure(self) -> HopFailure | None:
        """How its connection died, if it did: also while nothing was asked, when nobody is told."""

    def send(self, rcpts: Sequence[Recipient]) -> None:
        """Send further recipients."""

    def message(self, head: bytes, body: Body, deadline: float) -> None:
        """Send `head` (our fields) and the body, by BDAT or DATA; it is answered by `deadline` (loop time)."""

    def finish(self) -> None:
        """Done: the connection goes back to the pool (after RSET where a transaction is still open)."""

    def abort(self) -> None:
        """Give it up at once: the socket is reset, nothing more is sent or told."""


class NextHop(Protocol):
    """A configured next hop: hosts in order, a pool each, a breaker each."""

    name: str
    news: int
    """Grows when a host offers something else than before: what `offers` and `size_limit` said may be over."""
    is_by_domain: bool
    """Whether each recipient's domain goes a way of its own: the recipients of one transaction are of one domain."""

    def provider_to(self, domain: str) -> str:
        """Whose servers take the mail of a recipient's domain (classify/providers.toml); "": no one's in particular."""

    def offers(self, keyword: str) -> bool | None:
        """Whether every host offered this EHLO keyword when last asked; None while none was asked."""

    def keywords(self) -> frozenset[str]:
        """The EHLO keywords that every host offered when last asked; none where none was asked."""

    def size_limit(self) -> int | None:
        """The SIZE it offered: 0 no fixed limit, None unknown or not offered."""

    def begin(
        self, envelope: Envelope, rcpts: Sequence[Recipient], deadline: float, hears: Hears, *, size: int | None = None
    ) -> Exchange:
        """Send MAIL and the given recipients to the first host that takes MAIL; `hears` is told.

        `size` (octets) goes out as SIZE= where it is offered. `finish` or `abort` must be called, at any time.
        """


class Journal(Protocol):
    """Where finished records go. Never raises, never waits."""

    def write(self, record: Record) -> None:
        """Log it, count it, keep it."""


class Inspection(Protocol):
    """The lint of one transaction. `then` is told once: before the call returns, or when DNS has answered."""

    report: Report

    def at_mail(self, then: Callable[[Finding | None], None]) -> None:
        """The finding that refuses MAIL, if any."""

    def at_rcpts(self, rcpts: Sequence[Recipient], then: Callable[[Sequence[Finding | None]], None]) -> None:
        """For each recipient the finding that refuses it, if any."""

    def at_dot(self, body: Body, then: Callable[[Finding | None], None]) -> None:
        """The finding that refuses the message, if any."""

    def finish(self) -> None:
        """The transaction is over: nobody is told any more, and what was not looked at is looked at now."""


class Client(Protocol):
    """Who is answered: the door. It counts what it is owed, and goes on when it has it all."""

    def serve(self, reply: Reply) -> None:
        """An answer to the client: in order, at once, never waiting."""

    def broke(self, error: Exception) -> None:
        """A fault of ours, found when a next hop answered: the session cannot go on."""


def way_of(next_hop: NextHop, rcpt: Recipient) -> tuple[str, str]:
    """What recipients have in common that may share a transaction: next hop, and domain where that matters there."""
    return next_hop.name, rcpt.domain if next_hop.is_by_domain else ""


def is_taken(said: Answer | None) -> TypeGuard[Reply]:
    """Whether a next hop said yes."""
    return isinstance(said, Reply) and said.code // 100 == 2


RESERVE_S: Final = 60.0
"""Contract 1.4: with less than that left of `answer_within`, the message is not sent any more."""


@dataclass(slots=True, eq=False)
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
    standing: Standing
    id_of: Callable[[bytes], str]
    """The keyed hash of an address."""
    shown: Callable[[bytes], str]
    """An address as `privacy.addresses` lets it be kept."""
    masked: Callable[[str, Sequence[bytes]], str]
    """A text, with these addresses in it as they may be kept."""
    inspect: Callable[[Envelope, str], Inspection] | None = None
    """The lint of a transaction that goes by the next hop of this name ("": not known yet); None: it is off."""
    under_way: int = 0
    """Transactions that have begun with it and are not over: its next hops are still wanted."""

    @property
    def reserve_s(self) -> float:
        """RESERVE_S, or half of `answer_within` where an operator set that to less than two minutes."""
        return min(RESERVE_S, self.answer_within_s / 2)
