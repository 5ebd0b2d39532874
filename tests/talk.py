"""A client that says exactly what it is told, for tests that read as dialogues.

`talk` takes lines `C: ...` to send (with CRLF) and `S: ...` that a reply line must begin with; C lines that follow each
other leave as one packet. `Client` is for octets, ends and resets.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Self

_PATIENCE_S = 10.0  # only for a test that fails


class Client:
    """One connection. What is read comes back as it came; `timeout` of every read is long, and a failure."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None, name: str = "127.0.0.1") -> None:
        self._port = port
        self._tls = tls
        self._name = name

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=self._name if self._tls else None, limit=1 << 20
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with suppress(OSError):  # it was reset, as the test wanted
            await self.writer.wait_closed()

    async def send(self, octets: bytes) -> None:
        """Send octets and wait until the socket has them."""
        self.writer.write(octets)
        async with asyncio.timeout(_PATIENCE_S):
            await self.writer.drain()

    async def line(self) -> bytes:
        """The next line with its end; b"" at the end of the connection."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self.reader.readline()

    async def reply(self) -> bytes:
        """The next reply, all its lines; what there was of it where the connection ended."""
        whole = b""
        while True:
            line = await self.line()
            whole += line
            if line[3:4] != b"-":
                return whole

    async def ask(self, line: str) -> bytes:
        """Send a line, return the reply."""
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def rest(self) -> bytes:
        """All that comes until the other side ends the connection. ConnectionResetError where it resets it."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self.reader.read()

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Shake hands. ssl.SSLError and OSError as they come."""
        async with asyncio.timeout(_PATIENCE_S):
            await self.writer.start_tls(context, server_hostname=name)

    async def talk(self, dialogue: str) -> None:
        """Hold a dialogue; an AssertionError names the line that came in place of the one wanted."""
        outgoing = b""
        for step in filter(None, map(str.strip, dialogue.splitlines())):
            if step.startswith("C:"):
                outgoing += step[3:].encode() + b"\r\n"
                continue
            await self.send(outgoing)
            outgoing = b""
            line = (await self.line()).decode().rstrip("\r\n")
            wanted = step[3:]
            assert line.startswith(wanted) if wanted else not line, f"wanted {wanted!r}, got {line!r}"
        await self.send(outgoing)

    async def greet(self) -> None:
        """Greeting and EHLO."""
        assert (await self.reply())[:3] == b"220"
        assert (await self.ask("EHLO client.test"))[:3] == b"250"

    async def envelope(self, *rcpts: str, mail_from: str = "a@example.com") -> None:
        """Greeting, EHLO, MAIL and RCPTs, all of them taken."""
        await self.greet()
        assert (await self.ask(f"MAIL FROM:<{mail_from}>"))[:3] == b"250"
        for rcpt in rcpts or ("b@example.org",):
            assert (await self.ask(f"RCPT TO:<{rcpt}>"))[:3] == b"250"

    async def message(self, wire: bytes) -> bytes:
        """DATA with these octets of the wire (without the final dot); the answer to it."""
        assert (await self.ask("DATA"))[:3] == b"354"
        await self.send(wire + b".\r\n")
        return await self.reply()


async def talk(port: int, dialogue: str) -> None:
    """One connection's dialogue (see the module)."""
    async with Client(port) as client:
        await client.talk(dialogue)
