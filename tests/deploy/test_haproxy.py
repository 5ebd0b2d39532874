"""deploy/haproxy with a real HAProxy: the PROXY header brings the MTA's address, a dead smtpguard is passed over."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from smtpguard.sandbox import Sandbox
from tests.deploy.programs import DEPLOY, environ, found, without
from tests.e2e.mta import free_port, listening
from tests.program import program, until

pytestmark = pytest.mark.skipif(bool(without("haproxy")), reason=without("haproxy"))

CONFIG = DEPLOY / "haproxy" / "haproxy.cfg"
# HAProxy comes from 127.0.0.1, the MTA from 127.0.0.7, a stranger from 127.0.0.8
LISTEN = 'allow = ["127.0.0.7/32", "127.0.0.1/32"]\ntrusted = ["127.0.0.1/32"]\nproxy_protocol = true'


@asynccontextmanager
async def haproxy(folder: Path, port: int, servers: list[int]) -> AsyncIterator[None]:
    """HAProxy on `port`, with the addresses of its two servers replaced."""
    text = CONFIG.read_text().replace("10.0.5.10:10725", f"127.0.0.1:{port}")
    for number, server in enumerate(servers, 1):
        text, times = re.subn(rf"(server smtpguard{number}) \S+", rf"\1 127.0.0.1:{server}", text)
        assert times == 1
    file = folder / "haproxy.cfg"
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        found("haproxy"), "-db", "-f", str(file), env=environ(), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: listening(port))
        yield
    finally:
        process.kill()
        await process.wait()


async def dialogue(port: int, source: str) -> str:
    """What a client that comes from `source` is told, from the greeting to the end of its message."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    writer.write(
        b"EHLO mta.test\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n\r\nHello\r\n.\r\nQUIT\r\n"
    )
    async with asyncio.timeout(15):
        said = await reader.read()
    writer.close()
    return said.decode()


def test_configuration_is_one() -> None:
    done = subprocess.run(
        [found("haproxy"), "-c", "-f", str(CONFIG)], env=environ(), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr


async def test_the_address_of_the_mta_counts_and_the_dead_one_is_passed_over(tmp_path: Path) -> None:
    async with Sandbox() as hop, program(tmp_path, hop.port, listen=LISTEN) as guard:
        port, nobody = free_port(), free_port()
        async with haproxy(tmp_path, port, [nobody, guard.port("smtp")]):
            taken = await dialogue(port, "127.0.0.7")
            assert "\r\n250 2.0.0 " in taken, taken
            assert b"([127.0.0.7])" in hop.messages[0].data
            transaction = (await guard.events("transaction"))[0]
            assert transaction["source.ip"] == "127.0.0.7"

            refused = await dialogue(port, "127.0.0.8")
            assert refused.startswith("554 5.7.1 "), refused
            stranger = (await guard.events("session-refused"))[-1]
            assert json.dumps(stranger).count("127.0.0.8")
            assert len(hop.messages) == 1
