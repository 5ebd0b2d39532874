"""A client that pipelines and keeps time, which smtp-source does neither.

MAIL, all RCPTs and DATA leave in one packet (RFC 2920), the message in the next; a message's time runs from the first
to the answer to the dot. `flat_out` keeps each connection busy: also the load where recipients are refused. `paced`
sends on a timetable and counts from the time that the table says, so that a stall is charged to every message that it
delays. One process, one loop: what it costs itself is in `direct` too, and is taken off there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from tests.bench.letters import RCPT, SENDER, signed

PATIENCE_S: Final = 120.0
"""No run of the client takes longer; TimeoutError then."""

T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """What a run saw: seconds for each message, seconds in all, replies by code (of RCPT, and the dot or DATA)."""

    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    codes: Counter[int] = field(default_factory=Counter)


class Connection(asyncio.Protocol):
    """One session of ours; `ask` sends octets and waits for so many replies."""

    def __init__(self) -> None:
        self._inbox = b""
        self._codes: list[int] = []
        self._wanted = 0
        self._answered: asyncio.Future[list[int]] | None = None
        self._lost = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        *lines, self._inbox = (self._inbox + data).split(b"\r\n")
        self._codes += [int(line[:3]) for line in lines if line[3:4] != b"-"]
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._settle()

    def _settle(self) -> None:
        waiting = self._answered
        if waiting is None or waiting.done():
            return
        if len(self._codes) >= self._wanted:
            waiting.set_result(self._codes[: self._wanted])
            del self._codes[: self._wanted]
        elif self._lost:
            waiting.set_exception(ConnectionResetError("the peer closed the connection"))

    async def ask(self, octets: bytes, replies: int = 1) -> list[int]:
        """Send; the codes of the next replies. ConnectionResetError if the peer goes."""
        assert self._transport is not None
        self._wanted = replies
        self._answered = asyncio.get_running_loop().create_future()
        if octets:
            self._transport.write(octets)
        self._settle()
        return await self._answered

    async def hello(self) -> None:
        """The greeting and EHLO."""
        await self.ask(b"")
        await self.ask(b"EHLO load.test\r\n")

    async def hand_over(self, envelope: bytes, rcpts: int, body: bytes) -> list[int]:
        """One transaction: the codes of the RCPTs, and of the dot or, where that was refused, of DATA."""
        codes = await self.ask(envelope, rcpts + 2)
        if codes[0] != 250:
            raise RuntimeError(f"MAIL was answered with {codes[0]}")
        if codes[-1] == 354:
            return codes[1:-1] + await self.ask(body)
        await self.ask(b"RSET\r\n")
        return codes[1:]

    def close(self) -> None:
        """Go without QUIT; the benchmark does not wait for goodbyes."""
        if self._transport is not None:
            self._transport.abort()


async def connect(port: int, sessions: int = 1) -> list[Connection]:
    """So many sessions that have said hello."""
    loop = asyncio.get_running_loop()
    made: list[Connection] = []
    for _ in range(sessions):
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        await connection.hello()
        made.append(connection)
    return made


def envelope(rcpts: Sequence[str]) -> bytes:
    """MAIL, the RCPTs and DATA as one packet."""
    lines = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{rcpt}>" for rcpt in rcpts), "DATA", ""]
    return "\r\n".join(lines).encode()


@dataclass(frozen=True, slots=True)
class Stage:
    """What is sent: recipients of each message, its size (one of `letters.signed`), over how many connections."""

    rcpts: Sequence[str] = (RCPT,)
    size: int = 2048
    sessions: int = 10

    def flat_out(self, port: int, messages: int) -> Run:
        """Hand over so many messages, each connection always busy."""
        return run(self._flat_out(port, messages))

    def paced(self, port: int, messages: int, rate: float) -> Run:
        """Hand over so many messages, `rate` a second over all connections."""
        return run(self._paced(port, messages, rate))

    async def _flat_out(self, port: int, messages: int) -> Run:
        seen, packet = Run(), self._packet()
        left = iter(range(messages))

        async def work(connection: Connection) -> None:
            for _ in left:
                await _one(connection, seen, packet, time.perf_counter())

        return await self._with(port, seen, work)

    async def _paced(self, port: int, messages: int, rate: float) -> Run:
        seen, packet = Run(), self._packet()
        begun = 0.0
        turns = iter(range(messages))

        async def work(connection: Connection) -> None:
            nonlocal begun
            begun = begun or time.perf_counter()
            for turn in turns:
                due = begun + turn / rate
                if (ahead := due - time.perf_counter()) > 0:
                    await asyncio.sleep(ahead)
                await _one(connection, seen, packet, due)

        return await self._with(port, seen, work)

    def _packet(self) -> tuple[bytes, int, bytes]:
        return envelope(self.rcpts), len(self.rcpts), signed(self.size) + b".\r\n"

    async def _with(self, port: int, seen: Run, work: Any) -> Run:
        connections = await connect(port, self.sessions)
        try:
            async with asyncio.timeout(PATIENCE_S):
                begun = time.perf_counter()
                await asyncio.gather(*(work(connection) for connection in connections))
                seen.elapsed_s = time.perf_counter() - begun
        finally:
            for connection in connections:
                connection.close()
        return seen


async def _one(connection: Connection, seen: Run, packet: tuple[bytes, int, bytes], begun: float) -> None:
    codes = await connection.hand_over(*packet)
    seen.latencies_s.append(time.perf_counter() - begun)
    seen.codes.update(codes)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in uvloop where it is installed: the less the client costs, the less it blurs."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    result: T = uvloop.run(work)
    return result
