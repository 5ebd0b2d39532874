"""What the tests of the way out share: settings with short limits, a body in memory, a next hop at a sandbox."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from smtpguard import flow
from smtpguard.config.settings import NextHopSettings, TimeoutSettings
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.nexthop import NextHop
from smtpguard.flow import Body, Exchange
from smtpguard.mail.reply import Answer, Hop, Reply
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.sandbox import Sandbox

OURSELVES: Final = "relay.test"
SHORT: Final = TimeoutSettings.model_validate(dict.fromkeys(("connect", "command", "data", "final"), "400ms"))
HEAD: Final = b"Received: by relay.test\r\n"
PIPELINING_ONLY: Final = ("PIPELINING", "8BITMIME", "SIZE 1000000", "ENHANCEDSTATUSCODES")
NO_PIPELINING: Final = ("8BITMIME", "SIZE 1000000")
CHUNKING_ONLY: Final = ("CHUNKING", "PIPELINING")


def settings(*hosts: str, port: int = 25, tls: str = "none", **more: Any) -> NextHopSettings:
    """Settings with time-outs short enough to wait for."""
    return NextHopSettings.model_validate(
        {"host": list(hosts or ("127.0.0.1",)), "port": port, "tls": tls, "timeout": SHORT, **more}
    )


@dataclass
class HeldBody:
    """flow.Body over octets in memory, in chunks of `chunk` octets; `claims` is a size that is not true."""

    octets: bytes
    chunk: int = 128 * 1024
    claims: int | None = None
    breaks: bool = False

    @property
    def size(self) -> int:
        return len(self.octets) if self.claims is None else self.claims

    @size.setter
    def size(self, value: int) -> None:
        self.claims = value

    def wire(self) -> Iterator[bytes]:
        stuffed = (b"\r\n" + self.octets).replace(b"\r\n.", b"\r\n..")[2:]
        return self._pieces(stuffed)

    def content(self) -> Iterator[bytes]:
        return self._pieces(self.octets)

    def raw(self) -> bytes:
        return self.octets

    def _pieces(self, octets: bytes) -> Iterator[bytes]:
        for start in range(0, len(octets), self.chunk):
            yield octets[start : start + self.chunk]
            if self.breaks:
                raise OSError("the disk is gone")

    def close(self) -> None:
        """Nothing to give back."""


def big(octets: int) -> bytes:
    """A message of about so many octets, with lines that begin with dots."""
    line = b"..all lines begin with dots, and so it must come out again\r\n"
    return b"Subject: big\r\n\r\n" + line * (octets // len(line))


MESSAGE: Final = b"Subject: hello\r\n\r\n.dot\r\n..two\r\n.\r\nend\r\n"
ENVELOPE: Final = Envelope(b"a@x.test")


def to(*paths: bytes) -> list[Recipient]:
    """Recipients."""
    return [Recipient(path) for path in paths or (b"b@y.test",)]


@dataclass
class Heard:
    """What was logged: (action, message, fields)."""

    events: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def __call__(
        self, action: str, message: str, *, level: str = "info", fields: Mapping[str, object] | None = None
    ) -> None:
        self.events.append((action, message, dict(fields or {})))

    @property
    def actions(self) -> list[str]:
        return [action for action, _, _ in self.events]


@dataclass
class Way:
    """A next hop under test, and what it told."""

    hop: NextHop
    metrics: Metrics
    log: Heard

    def count(self, name: str, **labels: str) -> float:
        """A metric's value, without the prefix `smtpguard_next_hop_`."""
        return self.metrics.registry.get_sample_value(f"smtpguard_next_hop_{name}", {"next_hop": "test", **labels}) or 0

    async def begin(self, *rcpts: bytes, within_s: float = 5.0, size: int | None = None) -> Talk:
        return await talk(self.hop, ENVELOPE, to(*rcpts), soon(within_s), size=size)

    async def pass_one(self, message: bytes = MESSAGE, *, within_s: float = 5.0) -> tuple[Answer, Answer, Answer]:
        """One whole transaction: the answers to MAIL, RCPT and the message."""
        exchange = await self.begin(within_s=within_s)
        rcpt = await exchange.rcpts[0]
        said = await exchange.message(HEAD, HeldBody(message), soon(within_s))
        exchange.finish()
        return exchange.mail, rcpt, said


class Talk:
    """An exchange that a coroutine can follow: it hears, and gives out futures. `mail` and `hop` are there at once."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[Answer] = loop.create_future()
        self.rcpts: list[asyncio.Future[Answer]] = []
        self.told: asyncio.Future[Answer] = loop.create_future()
        self.exchange: Exchange | None = None
        self._unheard: list[asyncio.Future[Answer]] = []

    def expect(self, count: int) -> list[asyncio.Future[Answer]]:
        """So many further recipients are asked about."""
        futures = [asyncio.get_running_loop().create_future() for _ in range(count)]
        self._unheard += futures
        return futures

    @property
    def mail(self) -> Answer:
        return self.begun.result()

    @property
    def hop(self) -> Hop:
        assert self.exchange is not None
        return self.exchange.hop

    def at_mail(self, exchange: Exchange, answer: Answer) -> None:
        self.exchange = exchange
        self.begun.set_result(answer)
        if not (isinstance(answer, Reply) and answer.klass == 2):
            while self._unheard:
                self.at_rcpt(answer)

    def at_rcpt(self, answer: Answer) -> None:
        future = self._unheard.pop(0)
        if not future.cancelled():
            future.set_result(answer)

    def at_message(self, answer: Answer) -> None:
        self.told.set_result(answer)

    def broke(self, error: Exception) -> None:
        raise error

    def send(self, rcpts: list[Recipient]) -> list[asyncio.Future[Answer]]:
        assert self.exchange is not None
        futures = self.expect(len(rcpts))
        self.exchange.send(rcpts)
        return futures

    async def message(self, head: bytes, body: Body, deadline: float) -> Answer:
        """As a session does it: cut off while it waits, it aborts the exchange."""
        assert self.exchange is not None
        self.told = asyncio.get_running_loop().create_future()
        self.exchange.message(head, body, deadline)
        try:
            return await self.told
        except BaseException:
            self.exchange.abort()
            raise

    def finish(self) -> None:
        assert self.exchange is not None
        self.exchange.finish()

    def abort(self) -> None:
        assert self.exchange is not None
        self.exchange.abort()


async def talk(
    hop: flow.NextHop, envelope: Envelope, rcpts: list[Recipient], deadline: float, *, size: int | None = None
) -> Talk:
    """Begin an exchange, at MAIL's answer; cut off before, it is given up."""
    way = Talk()
    way.rcpts = way.expect(len(rcpts))
    way.exchange = hop.begin(envelope, rcpts, deadline, way, size=size)
    try:
        await way.begun
    except BaseException:
        way.exchange.finish()
        raise
    return way


def soon(within_s: float = 5.0) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + within_s


@asynccontextmanager
async def way_to(port: int, *hosts: str, **more: Any) -> AsyncIterator[Way]:
    """A next hop named "test" at these hosts (127.0.0.1) and this port; closed at the end."""
    metrics, log = Metrics(), Heard()
    hop = NextHop("test", settings(*hosts, port=port, **more), hostname=OURSELVES, metrics=metrics, log=log)
    try:
        yield Way(hop, metrics, log)
    finally:
        await hop.close()


@asynccontextmanager
async def sandboxes(*parts: Sandbox) -> AsyncIterator[int]:
    """These at 127.0.0.1, 127.0.0.2 and so on, all at one port."""
    port = await parts[0].start("127.0.0.1", 0)
    try:
        for number, sandbox in enumerate(parts[1:], start=2):
            await sandbox.start(f"127.0.0.{number}", port)
        yield port
    finally:
        for sandbox in parts:
            await sandbox.stop()


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """A port that answers no SYN: somebody listens there, takes nobody in, and has no room for more.

    As it looks from here when a firewall drops what we send.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(8):
            one = stack.enter_context(socket.socket(listener.family))
            one.setblocking(False)
            one.connect_ex((host, port))
            if not select.select([], [one], [], 0.1)[1]:
                break
        else:
            raise OSError("this system takes everybody in, room or not")
        yield


async def until(condition: Callable[[], object], within_s: float = 3.0) -> None:
    """Wait until it says yes; TimeoutError if it does not."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what the sandbox knows of sockets has no event
            await asyncio.sleep(0.001)
