"""deploy/systemd: what systemd itself says of the units, and sockets handed over by its own tool.

That they run (DynamicUser, credential, watchdog, a restart under load) was tried on a booted systemd, which no test can
have.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from smtpguard.config import Settings
from smtpguard.edge.host import SPOOL_DIR
from smtpguard.sandbox import Sandbox
from smtpguard.service.program import STOP_S
from tests.deploy.programs import DEPLOY, found, without
from tests.e2e.mta import free_port
from tests.harness import PATIENCE_S
from tests.program import config

UNITS: Final = DEPLOY / "systemd"
MAX_EXPOSURE: Final = 2.0

needs_analyze = pytest.mark.skipif(bool(without("systemd-analyze")), reason="systemd-analyze is not here")


def settings(unit: str) -> dict[str, list[str]]:
    """Each directive of a unit -> its values."""
    values: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE):
        values.setdefault(key, []).append(value)
    return values


@pytest.fixture
def runnable(tmp_path: Path) -> list[str]:
    """The units, with a program that exists here: systemd looks whether it does."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/smtpguard/bin/smtpguard", sys.executable))
    return sorted(str(unit) for unit in tmp_path.iterdir())


@needs_analyze
def test_systemd_finds_no_fault(runnable: list[str]) -> None:
    folder = str(Path(runnable[0]).parent)
    done = subprocess.run(
        [found("systemd-analyze"), "verify", "--man=no", *runnable],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
    )
    ours = [line for line in done.stderr.splitlines() if "smtpguard" in line]  # the machine's own units are its own
    assert not ours
    assert done.returncode == 0, done.stderr


@needs_analyze
def test_exposure(runnable: list[str]) -> None:
    (service,) = (unit for unit in runnable if unit.endswith(".service"))
    done = subprocess.run(
        [found("systemd-analyze"), "security", "--offline=true", "--no-pager", service],
        capture_output=True,
        text=True,
        timeout=60,
    )
    level = re.search(r"Overall exposure level for smtpguard.service: ([\d.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize("door", ["lmtp", "smtp"])
def test_sockets_are_the_doors(door: str) -> None:
    unit = settings(f"smtpguard-{door}.socket")
    (default,) = getattr(Settings().listen, door)
    assert unit["ListenStream"] == [f"{default.host}:{default.port}"]
    assert unit["FileDescriptorName"] == [door]
    assert unit["Service"] == ["smtpguard.service"]
    assert f"smtpguard-{door}.socket" in settings("smtpguard.service")["Sockets"][0]


def test_service_fits_the_defaults() -> None:
    unit = settings("smtpguard.service")
    defaults = Settings()
    assert unit["Type"] == ["notify"]  # smtpguard.edge.notify
    assert float(unit["TimeoutStopSec"][0].removesuffix("s")) >= defaults.relay.drain + STOP_S
    assert int(unit["LimitNOFILE"][0]) > 4 * defaults.listen.max_sessions
    assert str(SPOOL_DIR).removeprefix("/var/lib/") in unit["StateDirectory"][0].split()
    (credential,) = unit["LoadCredential"]
    assert credential.startswith("next_hop.default.password:")


@pytest.mark.skipif(bool(without("systemd-socket-activate")), reason="systemd-socket-activate is not here")
async def test_sockets_handed_over_by_systemd(tmp_path: Path) -> None:
    """Named as in the units, in the other order than the settings: the first connection starts it, none is lost."""
    smtp, lmtp = free_port(), free_port()
    async with Sandbox() as hop:
        path = config(tmp_path, hop.port, listen='lmtp = "127.0.0.1:1"\nsmtp = "127.0.0.1:2"')  # do not count
        process = await asyncio.create_subprocess_exec(
            found("systemd-socket-activate"),
            *("-l", f"127.0.0.1:{smtp}", "-l", f"127.0.0.1:{lmtp}", "--fdname=smtp:lmtp"),
            *(sys.executable, "-m", "smtpguard", "serve", "--config", str(path)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            async with asyncio.timeout(PATIENCE_S):
                heard = b""
                while heard.count(b"Listening on") < 2:
                    heard += await process.stderr.readline()
                for port, hello in ((lmtp, b"LHLO c.example\r\n"), (smtp, b"EHLO c.example\r\n")):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(hello + b"QUIT\r\n")
                    said = await reader.read()
                    assert said.startswith(b"220 guard.test")
                    assert b"\r\n250 " in said, said  # the right hello at the right door
                    writer.close()
                    await writer.wait_closed()
        finally:
            process.terminate()
            async with asyncio.timeout(PATIENCE_S):
                assert await process.wait() == 0


@pytest.mark.skipif(bool(without("systemd-socket-activate")), reason="systemd-socket-activate is not here")
async def test_a_unix_socket_of_systemds_stays_when_we_go(tmp_path: Path) -> None:
    """It is systemd's to remove: clients that connect during a restart must find it."""
    door = tmp_path / "door"
    async with Sandbox() as hop:
        path = config(tmp_path, hop.port, listen=f'lmtp = "unix:{door}"\nsmtp = ""')
        process = await asyncio.create_subprocess_exec(
            *(found("systemd-socket-activate"), "-l", str(door), "--fdname=lmtp"),
            *(sys.executable, "-m", "smtpguard", "serve", "--config", str(path)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            async with asyncio.timeout(PATIENCE_S):
                await process.stderr.readline()  # Listening on ...
                reader, writer = await asyncio.open_unix_connection(str(door))
                assert (await reader.readline()).startswith(b"220 guard.test")
                writer.close()
                await writer.wait_closed()
        finally:
            process.terminate()
            async with asyncio.timeout(PATIENCE_S):
                assert await process.wait() == 0
        assert door.is_socket()
