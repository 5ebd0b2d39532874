"""The wire half of a session: octets in, lines and data out, replies back (performance: "How the hot path is built").

A subclass of aiosmtpd's `SMTP` that takes over the transport: its own buffer instead of a StreamReader, one timer,
bounded lines, backpressure both ways, and no task: what can be done with octets is done in the call that brings them.
What stays aiosmtpd's is what runs seldom: STARTTLS, and PROXY, which reads this buffer through `readexactly` and
`readuntil`. What a line means is the business of `frame.Frame` and what is built on it.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP, TLSSetupException

from smtpguard.edge import burst

MAX_LINE: Final = 4096  # contract 1.3, CRLF included
READ_AHEAD: Final = 128 * 1024
"""Octets of unread commands after which the transport is paused."""

LINGER_S: Final = 5.0
"""How long a closed connection may hold what the peer does not read."""

PART_S: Final = 1.0
"""How long a client that we part from may take to close."""


def _throw_away(_: bytes) -> None:
    """A sink that is never satisfied."""


class LineFault(Enum):
    """A command line that is none."""

    TOO_LONG = auto()
    BARE_LF = auto()


class Wire(SMTP, ABC):
    """One client connection. Subclasses say what octets mean; each of their methods is called by what comes in.

    aiosmtpd's own `__init__` looks at every method by introspection, 218 us a connection, for hooks that are not used
    here; it is replaced by the attributes that the inherited methods need.
    """

    transport: asyncio.Transport | None = None
    _tls_protocol: Any = None
    _original_transport: asyncio.Transport | None = None
    _timer: asyncio.TimerHandle | None = None
    _buffer = b""
    _start = 0
    _skipping = False
    _waiter: asyncio.Future[None] | None = None
    _sink: Callable[[bytes], bytes | None] | None = None
    _reading_paused = False
    _full = False  # the client does not read its answers: commands wait, and the idle timer ends that
    _parting = False
    eof = False
    lost = False
    closing = False

    def __init__(self, loop: asyncio.AbstractEventLoop, *, idle_s: float, tls_context: ssl.SSLContext | None) -> None:
        self.loop = loop
        self.tls_context = tls_context
        self._idle_s = idle_s
        self._burst = burst.of(loop)

    # -- for subclasses ------------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """The client is there."""

    @abstractmethod
    def proceed(self) -> None:
        """Lines may be here, there is room for answers, or no more octets will come: go on, if it is time to."""

    @abstractmethod
    def received(self) -> None:
        """The sink given to `receive` has all it wants."""

    @abstractmethod
    def expired(self) -> None:
        """Nothing came from the client for `idle_s`."""

    @abstractmethod
    def gone(self) -> None:
        """The connection is lost, or ends in the middle of data."""

    @abstractmethod
    def parted(self) -> None:
        """What `part` began is over."""

    @abstractmethod
    def broke(self, error: Exception) -> None:
        """One of these raised: a fault of ours."""

    @property
    @abstractmethod
    def owes(self) -> bool:
        """The client waits for us, not we for it: the idle timer does not count."""

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._seen = self.loop.time()
        if self._tls_protocol is not None:
            # RFC 3207 4.2: what came in clear behind STARTTLS is forgotten.
            self._buffer = b""
            self._start = 0
            return
        self._timer = self.loop.call_later(self._idle_s, self._check_idle)
        try:
            self.begin()
        except Exception as error:
            self.broke(error)

    def data_received(self, data: bytes) -> None:
        # A command has `idle_s` for all of it: who drips one that never ends would keep a session for ever
        if self._sink is not None or not (self._buffer or self._skipping) or b"\n" in data:
            self._seen = self.loop.time()
        try:
            if self._sink is not None:
                self._drink(data)
            else:
                self._buffer = self._buffer + data if self._buffer else data
                if len(self._buffer) > READ_AHEAD and self.transport is not None:
                    self.transport.pause_reading()
                    self._reading_paused = True
            if self._waiter is None:
                self.proceed()
            else:
                self._wake()
        except Exception as error:
            self.broke(error)

    def eof_received(self) -> bool:
        """A half-closed client still gets its answers; one under TLS cannot be half-closed."""
        self.eof = True
        if self._parting:
            self._part_now()
        elif self._sink is not None:
            self.gone()
        elif self._waiter is None:
            self.proceed()
        else:
            self._wake()
        return self._tls_protocol is None

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost = True
        self._full = False
        if self._timer is not None:
            self._timer.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        # Each of these holds us too; without the cycle a session's memory is free at once.
        self.transport = self._original_transport = self._tls_protocol = self._sink = None
        self._wake()
        if self._parting:
            self._part_now()
        else:
            self.gone()

    # -- in ------------------------------------------------------------------------------------------------------

    def next_line(self) -> bytes | LineFault | None:
        """The next whole command line without CRLF; None if it is not all here yet."""
        buffer, start = self._buffer, self._start
        end = buffer.find(b"\n", start)
        if end < 0:
            if len(buffer) - start > MAX_LINE:
                self._skipping = True
                self._buffer = b""
            elif start:
                self._buffer = buffer[start:]
            self._start = 0
            if self._reading_paused:
                self._read_on()
            return None
        if end + 1 == len(buffer):
            self._buffer = b""
            self._start = 0
            if self._reading_paused:
                self._read_on()
        else:
            self._start = end + 1
        if self._skipping or end - start >= MAX_LINE:
            self._skipping = False
            return LineFault.TOO_LONG
        line = buffer[start:end]
        return line[:-1] if line[-1:] == b"\r" else LineFault.BARE_LF

    def peek(self, prefix: bytes) -> bool:
        """Whether a whole line that begins with `prefix` (upper case, as it will be) is at hand."""
        start = self._start
        return (
            self._buffer[start : start + len(prefix)].upper() == prefix
            and not self._skipping
            and self._buffer.find(b"\n", start) >= 0
        )

    async def more(self) -> bool:
        """Wait until octets came; False when none will come any more."""
        if self.eof or self.lost or self.closing:
            return False
        if self._reading_paused:
            self._read_on()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    def receive(self, sink: Callable[[bytes], bytes | None]) -> None:
        """Give all octets to `sink` until it returns what is left over: then `received`."""
        ahead = self._buffer[self._start :]
        self._buffer = b""
        self._start = 0
        self._sink = sink
        if self._reading_paused:
            self._read_on()
        if ahead:
            self._drink(ahead)
        if self.eof and self._sink is not None:
            self.gone()

    def _drink(self, data: bytes) -> None:
        assert self._sink is not None
        rest = self._sink(data)
        if rest is not None:
            self._sink = None
            self._buffer = rest
            self.received()

    def _read_on(self) -> None:
        self._reading_paused = False
        if self.transport is not None:
            self.transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- out -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Octets for the client."""
        if self.transport is not None:
            self._burst.write(self.transport, data)

    async def start_tls(self) -> str:
        """RFC 3207, by aiosmtpd; the TLS version. After TLSSetupException the connection is gone."""
        try:
            await super().smtp_STARTTLS("")
            # asyncio calls a handshake done, too, whose connection was lost.
            made = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
            if made is None:
                raise TLSSetupException
        except TLSSetupException as failure:
            if failure.__cause__ is not None:
                failure.__cause__.__traceback__ = None  # it leads to a frame that leads to it, and holds us
            if not self.lost:
                self.connection_lost(None)  # asyncio tells only those whose handshake was completed
            raise
        return str(made.version())

    async def push(self, status: str | bytes) -> None:
        """aiosmtpd's way to answer, for its inherited STARTTLS."""
        self.send((status.encode() if isinstance(status, str) else status) + b"\r\n")
        self._burst.flush()  # before TLS takes the transport

    def pause_writing(self) -> None:
        """The client does not read its answers: commands wait."""
        self._full = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._full = False
        self.loop.call_soon(self.proceed)  # asyncio's transport would not bear a close in the middle of its write

    def close(self) -> None:
        """Send what is due, then close; a client that does not read is cut off after LINGER_S."""
        self.closing = True
        if self.transport is not None and not self.transport.is_closing():
            self._burst.flush()
            self.transport.close()
            self._instead_of_idle(LINGER_S, self.cut)
        self._wake()

    def part(self) -> None:
        """After our last words: say no more, and throw away what comes until the client closes too, PART_S at most.

        Then `parted`. A close with input unread is a reset, which may overtake those words: a client in the middle of
        its message would not know whether that was taken.
        """
        transport = self.transport
        is_pointless = transport is None or self.eof or self._tls_protocol is not None or transport.is_closing()
        if transport is None or is_pointless or not transport.can_write_eof():
            self.parted()
            return
        self._burst.flush()
        try:
            transport.write_eof()
        except OSError:  # asyncio's: the client is gone, and it is about to be told
            self.parted()
            return
        self.closing = self._parting = True
        self._sink = _throw_away
        if self._reading_paused:
            self._read_on()
        self._instead_of_idle(PART_S, self._part_now)

    def _part_now(self) -> None:
        self._parting = False
        self._sink = None
        self.parted()

    def _instead_of_idle(self, seconds: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, act)

    def cut(self) -> None:
        """Reset the connection at once."""
        if self.transport is not None:
            self._burst.flush()
            self.transport.abort()

    # -- time ----------------------------------------------------------------------------------------------------

    def _check_idle(self) -> None:
        """One timer a session, armed anew only when it fires."""
        now = self.loop.time()
        if self.owes:
            self._seen = now
        left = self._seen + self._idle_s - now
        if left > 0:
            self._timer = self.loop.call_later(left, self._check_idle)
        elif not self.lost:
            self.expired()

    # -- the reader of aiosmtpd's PROXY header -----------------------------------------------------------------------

    async def readexactly(self, n: int) -> bytes:
        """`n` octets; IncompleteReadError when the client went."""
        while len(self._buffer) - self._start < n:
            if not await self.more():
                raise asyncio.IncompleteReadError(b"", n)
        return self._cut_off(n)

    async def read(self, n: int = 1) -> bytes:
        """The same (aiosmtpd asks for exact counts only)."""
        return await self.readexactly(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """All up to and with `separator`; LimitOverrunError beyond a command line's length."""
        while (end := self._buffer.find(separator, self._start)) < 0:
            if len(self._buffer) - self._start > MAX_LINE:
                raise asyncio.LimitOverrunError("line too long", MAX_LINE)
            if not await self.more():
                raise asyncio.IncompleteReadError(b"", None)
        return self._cut_off(end - self._start + len(separator))

    def _cut_off(self, n: int) -> bytes:
        taken = self._buffer[self._start : self._start + n]
        self._start += n
        return taken
