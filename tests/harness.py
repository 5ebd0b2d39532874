"""The whole relay in the test's own loop, before a scripted next hop, and clients that speak in octets.

    async with relay(script=Script({"RCPT": Say("550 5.1.1 no")})) as guard:
        async with Client(guard.smtp) as client:
            await client.greet()
            assert await client.say("MAIL FROM:<a@b.example>") == ["250 2.1.0 Ok"]

Everything is real: sockets on loopback, the configuration read from a file, log and metrics as an operator has them.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from smtpguard.config import Loaded, load
from smtpguard.sandbox import DEFAULT_KEYWORDS, Sandbox, Script
from smtpguard.service import Service

PATIENCE_S = 20.0
"""How long a test waits for what must come; it is no measure of speed."""

PATIENT = 'timeout = { connect = "20s", command = "20s", data = "20s", final = "20s" }'
QUICK = PATIENT.replace("20s", "1s")
"""What the relay waits for its next hop: more than a busy machine needs, or little, where a test waits for its end."""


class Guard:
    """A running relay: ports, the next hop behind it, its log and its metrics."""

    def __init__(self, service: Service, hop: Sandbox, log: Path, config: Path) -> None:
        self.service = service
        self.hop = hop
        self.config = config
        self._log = log

    def _port(self, door: str) -> int:
        return int(self.service.addresses[door][0].rpartition(":")[2])

    @property
    def smtp(self) -> int:
        """The SMTP door's port."""
        return self._port("smtp")

    @property
    def lmtp(self) -> int:
        """The LMTP door's port."""
        return self._port("lmtp")

    @property
    def http(self) -> int:
        """The port of /metrics."""
        return self._port("http")

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value; 0.0 where there is no such series."""
        self.service._journal.flush()
        value = self.service.metrics.registry.get_sample_value(f"smtpguard_{name}", labels)
        return value or 0.0

    async def events(self, action: str, count: int = 1) -> list[dict[str, Any]]:
        """The log's lines of this action, once there are `count`."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                lines = self._log.read_text().splitlines(keepends=True)
                whole = [json.loads(line) for line in lines if line.endswith("\n")]
                found = [event for event in whole if event.get("event.action") == action]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.005)


@asynccontextmanager
async def relay(
    *,
    script: Script | None = None,
    keywords: Sequence[str] = DEFAULT_KEYWORDS,
    next_hop: str = PATIENT,
    listen: str = "",
    more: str = "",
    hop: Sandbox | None = None,
    files: Mapping[str, str] | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Guard]:
    """A relay on free ports. `next_hop`, `listen` and `more` are TOML for those sections and behind them.

    `now` is its clock.

    `{dir}` in them is a folder of the relay's own, which also holds `files` (name to text); `{port}` the next hop's.
    """
    with tempfile.TemporaryDirectory(prefix="smtpguard-test-") as name:
        directory = Path(name)
        async with hop or Sandbox(script=script, keywords=keywords) as sandbox:
            for file, text in (files or {}).items():
                (directory / file).write_text(text)
            doors = "".join(f'{door} = "127.0.0.1:0"\n' for door in ("lmtp", "smtp") if f"{door} = " not in listen)
            tls = "" if "tls =" in next_hop else 'tls = "none"\n'
            host = "" if "host =" in next_hop else 'host = "127.0.0.1"\n'
            port = "" if "port =" in next_hop else f"port = {sandbox.port}\n"
            lint = "" if "[lint]" in more else '[lint]\nmode = "off"\n'  # it would ask the network
            store = "" if "[store]" in more else '[store]\nurl = ""\n'
            privacy = "" if "[privacy]" in more else '[privacy]\naddresses = "full"\n'
            relay_section = "" if "[relay]" in more else '[relay]\nhostname = "guard.test"\n'
            text = (
                f"[listen]\n{doors}{listen}\n"
                f"[next_hop.default]\n{host}{port}{tls}{next_hop}\n"
                f'[http]\nlisten = "127.0.0.1:0"\n{privacy}{relay_section}{lint}{store}{more}\n'
            )
            config = directory / "smtpguard.toml"
            config.write_text(text.replace("{dir}", name).replace("{port}", str(sandbox.port)))
            log = directory / "log"
            with log.open("wb") as stream:
                service = Service(_load(config), reload=lambda: _load(config), environ={}, stream=stream, now=now)
                await service.start()
                try:
                    yield Guard(service, sandbox, log, config)
                finally:
                    await service.stop()


def _load(config: Path) -> Loaded:
    return load(config, {})


class Client:
    """One connection to a door (a port, or the path of a Unix socket); what it reads is text without CRLF."""

    def __init__(self, where: int | str) -> None:
        self._where = where

    async def __aenter__(self) -> Self:
        if isinstance(self._where, str):
            self.reader, self.writer = await asyncio.open_unix_connection(self._where)
        else:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._where)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.writer.write(octets)

    async def line(self) -> str:
        """The next line; "" when the connection ended."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return (await self.reader.readline()).decode().rstrip("\r\n")
            except ConnectionError:
                return ""

    async def reply(self) -> list[str]:
        """The next reply's lines; [] when the connection ended."""
        lines: list[str] = []
        while line := await self.line():
            lines.append(line)
            if line[3:4] != "-":
                break
        return lines

    async def replies(self, count: int) -> list[list[str]]:
        """So many replies."""
        return [await self.reply() for _ in range(count)]

    async def say(self, *lines: str | bytes) -> list[str]:
        """Send lines in one packet; the reply to the last of them (those before must be answered 2xx or 354)."""
        self.send(b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines))
        for _ in lines[:-1]:
            reply = await self.reply()
            assert reply, "the connection ended"
            assert reply[-1][0] in "23", reply
        return await self.reply()

    async def greet(self, hello: str = "EHLO client.example") -> list[str]:
        """Read the greeting, say hello; the keywords offered."""
        greeting = await self.reply()
        assert greeting, "no greeting"
        assert greeting[-1].startswith("220 "), greeting
        reply = await self.say(hello)
        assert reply[-1].startswith("250"), reply
        return [line[4:] for line in reply[1:]]

    async def ended(self) -> bool:
        """Wait for the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """STARTTLS, and the handshake."""
        assert (await self.say("STARTTLS"))[0].startswith("220")
        await self.writer.start_tls(context, server_hostname="localhost")


def code(reply: Sequence[str]) -> str:
    """`550 5.1.1` of a reply, whatever the text; "" of none."""
    if not reply:
        return ""
    words = reply[-1].split(" ", 2)
    enhanced = words[1] if len(words) > 1 and words[1].count(".") == 2 else ""
    return f"{words[0]} {enhanced}".strip()


MESSAGE = b"From: <a@s.example>\r\nMessage-ID: <1@s.example>\r\nSubject: test\r\n\r\nbody\r\n"


def open_descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def what_is_open() -> dict[str, str]:
    """The same by number: the file, or the socket as /proc/net has it."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # of the listing itself
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found
