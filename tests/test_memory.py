"""What the relay holds: 50 messages of 25 MB at once, and lines without an end (reliability: law R, memory).

The relay is a process of its own; VmHWM of /proc tells the most that it ever held. Clients and next hop are the test's.
Nobody holds 50 x 25 MB: a message is one piece sent many times.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import pytest

from smtpguard.edge.host import is_in_memory
from smtpguard.sandbox import Sandbox
from tests.harness import MESSAGE, Client, code
from tests.program import Program, program, until
from tests.test_octets import KEYWORDS, hello

MIB: Final = 1 << 20
PIECE: Final = (b"m" * 998 + b"\r\n") * 250  # 250,000 octets
MESSAGES: Final = 50
NOISE: Final = b"x" * MIB


async def send(client: Client, octets: bytes) -> None:
    """As fast as the relay takes them, holding none back."""
    client.send(octets)
    await client.writer.drain()


async def one_small(running: Program, door: str) -> None:
    """A message, so that all that is loaded on the first use is loaded."""
    async with Client(running.port(door)) as client:
        await client.greet(hello(door))
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"


@pytest.mark.parametrize(("door", "via", "pieces"), [("smtp", "BDAT", 100), ("lmtp", "DATA", 20)])
async def test_fifty_large_messages_at_once(door: str, via: str, pieces: int, tmp_path: Path) -> None:
    """25 MB each; 5 MB where it is the way that is to be seen."""
    if is_in_memory(os.lstat(tmp_path).st_dev):
        pytest.skip("temporary files are memory here, and count")
    spool = tmp_path / "spool"
    spool.mkdir()
    received = asyncio.Barrier(MESSAGES)  # so that all of them wait in the relay at the same time
    async with (
        Sandbox(keep=False, keywords=KEYWORDS[via]) as hop,
        program(tmp_path, hop.port, relay=f'spool_dir = "{spool}"', next_hop='idle = "100ms"') as running,
    ):
        await one_small(running, door)
        await until(lambda: hop.open_connections == 0)
        descriptors, held = len(running.descriptors()), running.memory("VmRSS")
        running.forget_peak()

        async def one(number: int) -> str:
            async with Client(running.port(door)) as client:
                await client.greet(hello(door))
                await client.say("MAIL FROM:<a@s.example>", f"RCPT TO:<b{number}@r.example>", "DATA")
                for _ in range(pieces):
                    await send(client, PIECE)
                await received.wait()
                client.send(b".\r\n")
                return code(await client.reply())

        begun = time.monotonic()
        assert set(await asyncio.gather(*(one(number) for number in range(MESSAGES)))) == {"250 2.0.0"}
        assert time.monotonic() - begun < 60
        assert hop.accepted == 1 + MESSAGES
        assert running.memory("VmHWM") - held <= 64 * MIB
        assert not list(spool.iterdir())
        await until(lambda: len(running.descriptors()) <= descriptors)


@pytest.mark.parametrize("where", ["a command", "a message"])
async def test_a_line_of_128_mib_without_an_end(where: str, tmp_path: Path) -> None:
    async with Sandbox(keep=False) as hop, program(tmp_path, hop.port) as running:
        await one_small(running, "smtp")
        held = running.memory("VmRSS")
        running.forget_peak()
        async with Client(running.port("smtp")) as client:
            await client.greet()
            if where == "a message":
                await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
            for _ in range(128):
                await send(client, NOISE)
            assert running.memory("VmHWM") - held <= 16 * MIB
            client.send(b"\r\n.\r\n" if where == "a message" else b"\r\n")
            assert code(await client.reply()) == ("552 5.3.4" if where == "a message" else "500 5.5.2")
            assert code(await client.say("NOOP")) == "250 2.0.0"
        assert running.memory("VmHWM") - held <= 16 * MIB
        await one_small(running, "smtp")


async def test_what_does_not_fit_into_relay_memory_is_deferred(tmp_path: Path) -> None:
    """Bodies of up to 256 KiB are in memory, together at most `relay.memory`; what is over is 452, then room again."""
    body = PIECE[:200_000]
    async with Sandbox(keep=False) as hop, program(tmp_path, hop.port, relay='memory = "1MiB"') as running:
        clients: list[Client] = []
        try:
            for number in range(7):
                client = await Client(running.port("smtp")).__aenter__()
                clients.append(client)
                await client.greet()
                await client.say("MAIL FROM:<a@s.example>", f"RCPT TO:<b{number}@r.example>", "DATA")
                await send(client, body)
            for client in clients:
                client.send(b"\r\n.\r\n")
            codes = [code(await client.reply()) for client in clients]
            assert codes.count("452 4.3.1") == 2  # five times 200,000 octets fit
            assert codes.count("250 2.0.0") == 5
            await one_small(running, "smtp")
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)
