"""The wire half of a session: octets in, lines and data out, replies back (performance: "How the hot path is built").

A subclass of aiosmtpd's `SMTP` that takes over the transport: its own buffer instead of a StreamReader, one timer,
replies gathered into one write, bounded lines, backpressure both ways. What stays aiosmtpd's is what runs seldom:
STARTTLS, and PROXY, which reads this buffer through `readexactly` and `readuntil`. What a line means is the business
of `entrance.Entrance` and `smtpd.Door`.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Final, cast

from aiosmtpd.smtp import SMTP, TLSSetupException

MAX_LINE: Final = 4096  # contract 1.3, CRLF included
READ_AHEAD: Final = 128 * 1024
"""Octets of unread commands after which the transport is paused."""

MAX_GATHERED: Final = 64
"""Replies that are gathered for one write; more would escape the backpressure of a client that does not read."""

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
    """One client connection. Subclasses give `run` (the session, as a task), `expired` and `gone`.

    aiosmtpd's own `__init__` looks at every method by introspection, 218 us a connection, for hooks that are not used
    here; it is replaced by the attributes that the inherited methods need.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, idle_s: float, tls_context: ssl.SSLContext | None) -> None:
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.tls_context = tls_context
        self._tls_protocol = None
        self._original_transport = None
        self._handler_coroutine: asyncio.Task[None] | None = None
        self._idle_s = idle_s
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0.0
        self._buffer = bytearray()
        self._start = 0
        self._skipping = False
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], bytes | None] | None = None
        self._out: list[bytes] = []
        self._flush_due = False
        self._reading_paused = False
        self._unread: asyncio.Future[None] | None = None
        self.eof = False
        self.lost = False
        self.closing = False
        self.waits_for_hop = False
        """The client waits for us, not we for it: the idle timer does not count."""

    # -- for subclasses ------------------------------------------------------------------------------------------

    @abstractmethod
    async def run(self) -> None:
        """The session, from greeting to goodbye."""

    @abstractmethod
    def expired(self) -> None:
        """Nothing came from the client for `idle_s`."""

    @abstractmethod
    def gone(self) -> None:
        """The connection is lost."""

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._seen = self.loop.time()
        if self._tls_protocol is not None:
            # RFC 3207 4.2: what came in clear behind STARTTLS is forgotten.
            self._buffer.clear()
            self._start = 0
            return
        self._timer = self.loop.call_later(self._idle_s, self._check_idle)
        self._handler_coroutine = self.loop.create_task(self.run())

    def data_received(self, data: bytes) -> None:
        self._seen = self.loop.time()
        if self._sink is not None:
            rest = self._sink(data)
            if rest is None:
                return
            self._sink = None
            data = rest
        self._buffer += data
        if len(self._buffer) > READ_AHEAD and self.transport is not None:
            self.transport.pause_reading()
            self._reading_paused = True
        self._wake()

    def eof_received(self) -> bool:
        """A half-closed client still gets its answers; one under TLS cannot be half-closed."""
        self.eof = True
        self._wake()
        return self._tls_protocol is None

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost = True
        self.resume_writing()
        if self._timer is not None:
            self._timer.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        # Each of these holds us too; without the cycle a session's memory is free at once.
        self.transport = self._original_transport = self._tls_protocol = None
        self._wake()
        self.gone()

    # -- in ------------------------------------------------------------------------------------------------------

    def next_line(self) -> bytes | LineFault | None:
        """The next whole command line without CRLF; None if it is not all here yet."""
        end = self._buffer.find(b"\n", self._start)
        if end < 0:
            if len(self._buffer) - self._start > MAX_LINE:
                self._skipping = True
                self._buffer.clear()
            elif self._start:
                del self._buffer[: self._start]
            self._start = 0
            return None
        line = bytes(self._buffer[self._start : end + 1])
        self._start = end + 1
        if self._start == len(self._buffer):
            self._buffer.clear()
            self._start = 0
        if self._skipping or len(line) > MAX_LINE:
            self._skipping = False
            return LineFault.TOO_LONG
        if not line.endswith(b"\r\n"):
            return LineFault.BARE_LF
        return line[:-2]

    def peek(self, prefix: bytes) -> bool:
        """Whether a whole line that begins with `prefix` (upper case, as it will be) is at hand."""
        start = self._start
        return (
            self._buffer[start : start + len(prefix)].upper() == prefix
            and not self._skipping
            and self._buffer.find(b"\n", start) >= 0
        )

    async def more(self) -> bool:
        """Wait until octets came (or, with a sink, until it is satisfied); False when none will come any more."""
        if self.eof or self.lost or self.closing:
            return False
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    async def receive(self, sink: Callable[[bytes], bytes | None]) -> bool:
        """Give all octets to `sink` until it returns what is left over; False if the client went before."""
        ahead = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = 0
        if ahead:
            rest = sink(ahead)
            if rest is not None:
                self._buffer += rest
                return True
        self._sink = sink
        try:
            while self._is_sinking():
                if not await self.more():
                    return False
        finally:
            self._sink = None
        return True

    def _is_sinking(self) -> bool:
        """`data_received` takes the sink away when it has all it wants."""
        return self._sink is not None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- out -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Octets for the client; what is sent in one turn of the loop leaves in one write."""
        self._out.append(data)
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._out:
            if self.transport is not None:
                self.transport.write(b"".join(self._out) if len(self._out) > 1 else self._out[0])
            self._out.clear()

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
        self._out.append((status.encode() if isinstance(status, str) else status) + b"\r\n")
        self._flush()

    def pause_writing(self) -> None:
        """The client does not read its answers: commands wait."""
        self._unread = self._unread or self.loop.create_future()

    def resume_writing(self) -> None:
        """It reads again, or is gone."""
        if self._unread is not None:
            if not self._unread.done():
                self._unread.set_result(None)
            self._unread = None

    async def drained(self) -> None:
        """Wait while the client does not read its answers; the idle timer ends that."""
        if len(self._out) >= MAX_GATHERED:
            self._flush()
        if self._unread is not None:
            await self._unread

    def close(self) -> None:
        """Send what is due, then close; a client that does not read is cut off after LINGER_S."""
        self.closing = True
        self._flush()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(LINGER_S, self.cut)
        self._wake()

    async def part(self) -> None:
        """After our last words: say no more, and throw away what comes until the client closes too, PART_S at most.

        A close with input unread is a reset, which may overtake those words: a client in the middle of its message
        would not know whether that was taken.
        """
        transport = self.transport
        if transport is None or self.eof or self._tls_protocol is not None or not transport.can_write_eof():
            return
        self.closing = True
        self._flush()
        transport.write_eof()
        self._sink = _throw_away
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        self._waiter = self.loop.create_future()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PART_S):
                    await self._waiter
        finally:
            self._waiter = None

    def cut(self) -> None:
        """Reset the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    # -- time ----------------------------------------------------------------------------------------------------

    def _check_idle(self) -> None:
        """One timer a session, armed anew only when it fires."""
        now = self.loop.time()
        if self.waits_for_hop:
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
        taken = bytes(self._buffer[self._start : self._start + n])
        self._start += n
        return taken
