"""One transaction at a next hop, as the rooms see it (flow.Exchange), and the words it begins with.

Paths and parameters go out octet for octet as they came in. An exchange begins (`nexthop.NextHop` walks it over the
hosts until one takes MAIL), is carried by one connection, and is over: then it answers everything with what became of
it, and reaches no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

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
    return any(rcpt.params for rcpt in rcpts)


def _checked(line: bytes) -> bytes:
    # The doors refuse such paths; this is what stands between a gap there and a command smuggled in.
    if b"\r" in line or b"\n" in line or b"\0" in line:
        raise ValueError("a command holds CR, LF or NUL")
    return line


class HopExchange:
    """flow.Exchange, and pipeline.Hears for its connection.

    While it begins: `hosts` are those not yet tried, `host` the one being tried, `task` what is waited for (a slot, a
    new connection), `last` the best answer so far and `hop` who gave it. `needs_dsn`: MAIL, or a RCPT that goes along
    with it, has a parameter of DSN. `settle` is its next hop's judgement of an answer to MAIL, `leave` is called when
    it is given up before one.
    """

    __slots__ = (
        "connection",
        "deadline",
        "envelope",
        "has_slot",
        "hears",
        "hop",
        "host",
        "hosts",
        "is_begun",
        "is_kept",
        "last",
        "leave",
        "lines",
        "needs_dsn",
        "settle",
        "size",
        "task",
    )

    def __init__(
        self,
        hop: Hop,
        hosts: Iterator[Host],
        envelope: Envelope,
        deadline: float,
        size: int | None,
        hears: Hears,
        settle: Callable[[HopExchange, Answer], None],
        leave: Callable[[HopExchange], None],
    ) -> None:
        self.hop = hop
        self.hosts = hosts
        self.envelope = envelope
        self.deadline = deadline
        self.size = size
        self.needs_dsn = envelope.dsn
        self.lines: list[bytes] = []
        self.hears: Hears | None = hears
        self.settle = settle
        self.leave = leave
        self.host: Host | None = None
        self.last: Answer | None = None
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.has_slot = False
        self.is_kept = False
        self.is_begun = False

    # pipeline.Hears

    def heard(self, verb: Verb, answer: Answer) -> None:
        """What the connection was told."""
        try:
            if verb is Verb.MAIL:
                self.settle(self, answer)
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
        elif (connection := self._part()) is not None:
            connection.finish()

    def abort(self) -> None:
        """Reset the connection; only the first `finish` or `abort` counts."""
        if not self.is_begun:
            self.leave(self)
        if (connection := self._part()) is not None:
            connection.abort()

    def _part(self) -> Connection | None:
        # From here on the connection may be another's: nothing of ours may reach it.
        connection, self.connection = self.connection, None
        self.hears = None
        return connection
