"""The sandbox's side of one TCP connection: packets in, flights of replies out, and all the ways to behave badly.

A flight is what answers one packet of the client: it leaves as one write, `latency_s` after the packet came, so that a
client that pipelines pays for the distance once. Steps (close, reset, begin TLS) travel in the flight in their place
among the replies. What a turn of the dialogue may do to the connection is here; what the commands mean is in
`transaction` and `dialogue`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from smtpguard.sandbox.message import Message
from smtpguard.sandbox.script import Action

Step = Callable[[], None]

LINGER_S: Final = 1.0  # after FIN we read on so long: a close with unread octets would be an RST
_HANDSHAKE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all connections of a sandbox; see `Sandbox`."""

    hostname: str
    keywords: Sequence[str]
    size_limit: int
    tls: ssl.SSLContext | None
    implicit_tls: bool
    users: Mapping[str, str] | None
    latency_s: float
    slow_s: float
    maildir: Path | None
    keep: bool


class House(Protocol):
    """What a connection tells the sandbox, and asks of it."""

    settings: Settings
    flights: int
    round_trips: int

    def hear(self, line: bytes) -> None:
        """A command line came (without CRLF)."""

    def cue(self, verb: str, connection: int, own: dict[str, int]) -> Action | None:
        """The script's action for this occurrence of a verb; `own` counts this connection's."""

    def queue_id(self) -> str:
        """A new id for a message."""

    def accept(self, message: Message) -> None:
        """A message was taken."""

    def left(self, wire: Wire) -> None:
        """The connection is gone."""


class Wire(asyncio.Protocol, ABC):
    """A connection. `begin` and `read` are the dialogue's; all else is how octets come and go."""

    def __init__(self, house: House, number: int) -> None:
        self.house = house
        self.number = number
        self.tls = False
        self.inbox = bytearray()
        self.outbox: list[bytes | Step] = []
        self.held = False  # a turn takes its time: what arrives waits
        self.deaf = False  # what arrives is thrown away
        self._choked = False  # the client does not read
        self._reading = True
        self._spoken = False  # something was sent since the client last spoke
        self._due: deque[list[bytes | Step]] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._pieces: Iterator[bytes] | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # -- the dialogue's part

    @abstractmethod
    def begin(self) -> None:
        """The connection stands, or TLS does."""

    @abstractmethod
    def read(self) -> bool:
        """Use octets of `inbox`; False where more are needed."""

    @abstractmethod
    def settle(self) -> None:
        """A turn is over."""

    # -- octets in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.begin()
        self.pump()

    def data_received(self, data: bytes) -> None:
        if self._spoken:
            self._spoken = False
            self.house.round_trips += 1
        if not self.deaf:
            self.inbox += data
            self.pump()

    def eof_received(self) -> bool:
        # With replies still under way the connection stays until they left; asyncio cannot do so under TLS.
        if self.tls or self.held or self.deaf or not self._due:
            return False
        self._due[-1].append(self._transport.close)
        self.deaf = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended is not our business
        self._gone()

    def _gone(self) -> None:
        if self.closed.done():
            return
        self.deaf = True
        self.held = False
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._due.clear()
        self._pieces = None
        self.settle()
        self.closed.set_result(None)
        self.house.left(self)

    def pump(self) -> None:
        """Use up what arrived, as far as may be, and send the flight."""
        while not (self.held or self.deaf) and self.read():
            pass
        if self.deaf:
            self.inbox.clear()
        if self.outbox:
            self._send_flight()

    # -- replies out

    def _send_flight(self) -> None:
        flight, self.outbox = self.outbox, []
        if any(isinstance(part, bytes) and part for part in flight):
            self.house.flights += 1
        latency = self.house.settings.latency_s
        if not latency:
            self._depart(flight)
        else:
            self._due.append(flight)
            self._after(latency, self._depart_next)

    def _depart_next(self) -> None:
        # By order of the queue, not of the timers: equal times have no order there.
        self._depart(self._due.popleft())

    def _depart(self, flight: list[bytes | Step]) -> None:
        octets = b""
        for part in flight:
            if isinstance(part, bytes):
                octets += part
            else:
                self._write(octets)
                octets = b""
                part()
        self._write(octets)

    def _write(self, octets: bytes) -> None:
        if octets and not self._transport.is_closing():
            self._spoken = True
            self._transport.write(octets)

    def pause_writing(self) -> None:
        self._choked = True
        self._regulate()

    def resume_writing(self) -> None:
        self._choked = False
        self._regulate()
        if self._pieces is not None:
            self._pour_on()

    def _regulate(self) -> None:
        wanted = not self._choked and (self.deaf or not self.held)
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _after(self, delay_s: float, step: Step) -> None:
        def run() -> None:
            self._timers.discard(timer)
            step()

        timer = self._loop.call_later(delay_s, run)
        self._timers.add(timer)

    # -- what a turn may do

    def hold(self) -> None:
        """Let what arrives wait."""
        self.held = True
        self._regulate()

    def go_on(self, then: Step) -> None:
        """Do `then`, and unless it holds again, go on reading."""
        self.held = False
        then()
        if not self.held:
            self.settle()
        self._regulate()
        self.pump()

    def hold_for(self, delay_s: float, then: Step) -> None:
        """Let what arrives wait for a time, then `go_on`."""
        self.hold()
        self._after(delay_s, lambda: self.go_on(then))

    def drip(self, octets: bytes, interval_s: float) -> None:
        """Send octet by octet, beginning when the flight leaves."""
        self.hold()
        left = iter(octets)

        def drop() -> None:
            octet = next(left, None)
            if octet is None:
                self.go_on(lambda: None)
            else:
                self._write(bytes((octet,)))
                self._after(interval_s, drop)

        self.outbox.append(drop)

    def pour(self, pieces: Iterator[bytes]) -> None:
        """Send as fast as the client reads, then FIN."""

        def start() -> None:
            self._pieces = pieces
            self._pour_on()

        self.ignore()
        self.outbox.append(start)

    def _pour_on(self) -> None:
        assert self._pieces is not None
        while not self._choked:
            piece = next(self._pieces, None)
            if piece is None or self._transport.is_closing():
                self._pieces = None
                self._fin()
                return
            self._write(piece)

    def ignore(self) -> None:
        """Throw away what arrives from here on."""
        self.deaf = True
        self.inbox.clear()

    def close(self) -> None:
        """FIN, after the replies."""
        self.ignore()
        self.outbox.append(self._fin)

    def reset(self) -> None:
        """RST, in the place of a reply; what the socket still holds is lost."""
        self.ignore()
        self.outbox.append(self._rst)

    async def end(self) -> None:
        """End it at once, and wait until its socket is closed."""
        self.ignore()
        self._transport.abort()
        await self.closed
        if self._upgrade is not None:
            await self._upgrade
        await asyncio.sleep(0)  # the transport under TLS closes its socket in the loop's next turn

    def _fin(self) -> None:
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            with suppress(OSError):  # the client is gone already
                self._transport.write_eof()
            self._after(LINGER_S, self._transport.close)
        else:
            self._transport.close()
        self._regulate()

    def _rst(self) -> None:
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # -- TLS

    def start_tls(self) -> None:
        """Shake hands after the replies; what came before in clear is thrown away (RFC 3207 4.2)."""
        self.hold()
        self.inbox.clear()
        self.outbox.append(self._start_handshake)

    def _start_handshake(self) -> None:
        if self.deaf:  # it closes after its reply: there is nobody to shake hands with
            return
        self._upgrade = self._loop.create_task(self._handshake())

    async def _handshake(self) -> None:
        context = self.house.settings.tls
        assert context is not None
        try:
            handshake = self._loop.create_task(
                self._loop.start_tls(
                    self._transport,
                    self,
                    context,
                    server_side=True,
                    ssl_handshake_timeout=_HANDSHAKE_S,
                    ssl_shutdown_timeout=LINGER_S,
                )
            )
            await asyncio.sleep(
                0
            )  # it sets its protocol now and begins in the loop's next turn, before what we add to it
            self._loop.call_soon(self._hand_over)
            transport = await handshake
        except OSError:  # TLS errors, a connection lost, the time-out: all are one
            transport = None
        if transport is None or transport.is_closing():  # so they say that it ended without an error
            self._transport.abort()
            self._gone()
            return
        self._transport = transport
        self.tls = True
        self._reading = True
        self.go_on(self.begin)

    def _hand_over(self) -> None:
        # Where TLS comes first, uvloop may have read the client's hello already: TLS must have it.
        protocol = self._transport.get_protocol()
        while self.inbox and protocol is not self and not self._transport.is_closing():
            tls = cast(asyncio.BufferedProtocol, protocol)
            buffer = memoryview(tls.get_buffer(len(self.inbox)))
            count = min(len(buffer), len(self.inbox))
            buffer[:count] = self.inbox[:count]
            del self.inbox[:count]
            tls.buffer_updated(count)
