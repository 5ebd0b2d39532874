"""One transaction at a next hop, as the rooms see it (flow.Exchange), and the words it begins with.

Paths and parameters go out octet for octet as they came in. An exchange begins (`nexthop.NextHop` walks it over the
hosts until one takes MAIL), is carried by one connection, and is over: then it answers everything with what became of
it, and reaches no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from smtpguard.edge.health import Host
from smtpguard.edge.pipeline import Connection
from smtpguard.flow import Body, Hears
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Verb
from smtpguard.mail.session import Envelope, Recipient


def mail_line(envelope: Envelope) -> bytes:
    """MAIL without SIZE and CRLF; ValueError if it would not be one line."""
    line = b"MAIL FROM:<%b>" % envelope.mail_from
    return _checked(b" ".join((line, *envelope.params)) if envelope.params else line)


def rcpt_lines(rcpts: Iterable[Recipient]) -> list[bytes]:
    """RCPT for each, with CRLF; ValueError if one would not be one line."""
    lines: list[bytes] = []
    for rcpt in rcpts:
        line = b"RCPT TO:<%b>" % rcpt.path
        if rcpt.params:
            line = b" ".join((line, *rcpt.params))
        lines.append(_checked(line) + b"\r\n")
    return lines


def has_dsn(rcpts: Iterable[Recipient]) -> bool:
    """Whether one has a parameter: RCPT has only those of DSN (RFC 3461 4)."""
    for rcpt in rcpts:  # noqa: SIM110 (`any` costs each message a generator)
        if rcpt.params:
            return True
    return False


def _checked(line: bytes) -> bytes:
    # The doors refuse such paths; this is what stands between a gap there and a command smuggled in.
    if b"\r" in line or b"\n" in line or b"\0" in line:
        raise ValueError("a command holds CR, LF or NUL")
    return line


class Walks(Protocol):
    """Who leads an exchange over the hosts of a next hop (walk.Walk)."""

    def at_mail(self, exchange: HopExchange, answer: Answer) -> None:
        """What the host that it is at said to MAIL."""

    def given_up(self, exchange: HopExchange) -> None:
        """It is aborted before it has begun."""


class HopExchange:
    """flow.Exchange, and pipeline.Hears for its connection.

    While it begins: `hosts` are those not yet tried, `host` the one being tried, `task` what is waited for (a slot, a
    new connection), `last` the best answer so far and `hop` who gave it. `needs_dsn`: MAIL, or a RCPT that goes along
    with it, has a parameter of DSN.
    """

    # Most of it never changes in a transaction on a kept connection, and need not be written at its beginning
    connection: Connection | None = None
    host: Host | None = None
    last: Answer | None = None
    task: asyncio.Task[None] | None = None
    has_slot = False
    is_kept = False
    is_begun = False

    def __init__(
        self,
        walk: Walks,
        hop: Hop,
        hosts: Iterator[Host],
        envelope: Envelope,
        deadline: float,
        size: int | None,
        hears: Hears,
    ) -> None:
        self.walk = walk
        self.hop = hop
        self.hosts = hosts
        self.envelope = envelope
        self.deadline = deadline
        self.size = size
        self.needs_dsn = envelope.dsn
        self.lines: list[bytes] = []
        self.hears: Hears | None = hears

    # pipeline.Hears

    def heard(self, verb: Verb, answer: Answer) -> None:
        """What the connection was told."""
        try:
            if verb is Verb.MAIL:
                self.walk.at_mail(self, answer)
            elif self.hears is not None:
                if verb is Verb.RCPT:
                    self.hears.at_rcpt(answer)
                else:
                    self.hears.at_message(answer)
        except Exception as error:
            self.broke(error)

    def broke(self, error: Exception) -> None:
        """A fault of ours, which ends this transaction and no other."""
        hears = self.hears
        self.abort()
        if hears is not None:
            hears.broke(error)

    # flow.Exchange

    @property
    def failure(self) -> HopFailure | None:
        """How its connection died, if it did."""
        return self.connection.failure if self.connection is not None else None

    def send(self, rcpts: Sequence[Recipient]) -> None:
        """Further recipients; `hears.at_rcpt` is told their answers, in order."""
        if not rcpts:
            return
        instead: Answer
        if self.connection is None:
            instead = self._epitaph()
        elif has_dsn(rcpts) and "DSN" not in self.connection.keywords:
            instead = HopFailure(FailureKind.CAPABILITY, Verb.RCPT, "DSN is not offered", "DSN")
        else:
            try:
                self.connection.more(rcpt_lines(rcpts))
                return
            except ValueError as error:
                instead = HopFailure(FailureKind.INTERNAL, Verb.RCPT, str(error))
        for _ in rcpts:
            self.heard(Verb.RCPT, instead)

    def message(self, head: bytes, body: Body, deadline: float) -> None:
        """The message; `hears.at_message` is told its answer."""
        if self.connection is not None:
            self.connection.message(head, body, deadline)
        else:
            self.heard(Verb.DOT, self._epitaph())

    def _epitaph(self) -> Answer:
        return self.last or HopFailure(FailureKind.INTERNAL, Verb.MAIL, "the exchange is over")

    def finish(self) -> None:
        """Done with it; only the first `finish` or `abort` counts. One that has not begun is given up."""
        if not self.is_begun:
            self.abort()
        elif (connection := self.connection) is not None:
            self.connection = self.hears = None  # from here on it may be another's: nothing of ours may reach it
            connection.finish()

    def abort(self) -> None:
        """Reset the connection; only the first `finish` or `abort` counts."""
        if not self.is_begun:
            self.walk.given_up(self)
        connection, self.connection, self.hears = self.connection, None, None
        if connection is not None:
            connection.abort()
