"""`python -m smtpguard serve` as a process, for what only a process has: signals, memory, an end.

    async with Sandbox() as hop, program(tmp_path, hop.port) as running:
        async with Client(running.port("smtp")) as client: ...
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0

The next hop and the clients live in the test. `events` reads the log as it comes; a process that is still there at the
end is killed, by its own id.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.harness import PATIENCE_S

LOG_LINE_LIMIT = 1 << 20


class Program:
    """A running smtpguard."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.lines: list[dict[str, Any]] = []
        self._process = process
        self._more = asyncio.Condition()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._more:
                self.lines.append(json.loads(line))
                self._more.notify_all()
        async with self._more:
            self._more.notify_all()

    async def events(self, action: str, count: int = 1) -> list[dict[str, Any]]:
        """The log's lines of this action, once there are `count`; what there is where the program ended before."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if line.get("event.action") == action]

        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: len(found()) >= count or self._process.stdout.at_eof())  # type: ignore[union-attr]
        return found()

    def port(self, door: str) -> int:
        """Where a door listens (smtp, lmtp, http); it must have said so."""
        [started] = [line for line in self.lines if line.get("event.action") == "service-started"]
        return int(str(started[f"smtpguard.listen.{door}"]).rpartition(":")[2])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, when it has ended (negative: the signal that ended it) and its log is read."""
        async with asyncio.timeout(PATIENCE_S):
            code = await self._process.wait()
            await self._reading
        return code

    async def complaint(self) -> str:
        """What it wrote to stderr, when it has ended."""
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()

    def memory(self, key: str) -> int:
        """A figure of /proc/PID/status in octets: VmRSS what it holds now, VmHWM the most it ever held (proc(5))."""
        found = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> None:
        """VmHWM begins anew at what is held now (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> list[str]:
        """What its open descriptors are."""
        folder = f"/proc/{self.pid}/fd"
        found = []
        for name in os.listdir(folder):
            with suppress(OSError):  # closed meanwhile
                found.append(os.readlink(f"{folder}/{name}"))
        return found

    async def kill(self) -> None:
        """SIGKILL, if it is still there."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what nobody tells of: it is looked at again and again."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 (another process's state)
            await asyncio.sleep(0.01)


def config(directory: Path, next_hop_port: int, *, listen: str = "", relay: str = "", next_hop: str = "") -> Path:
    """A configuration: free ports, a next hop on loopback, and more lines for `listen`, `relay` and `next_hop`."""
    doors = "".join(f'{door} = "127.0.0.1:0"\n' for door in ("lmtp", "smtp") if f"{door} =" not in listen)
    path = directory / "smtpguard.toml"
    path.write_text(
        f"[listen]\n{doors}{listen}\n"
        f'[relay]\nhostname = "guard.test"\n{relay}\n'
        f'[next_hop.default]\nhost = "127.0.0.1"\nport = {next_hop_port}\ntls = "none"\n{next_hop}\n'
        '[http]\nlisten = "127.0.0.1:0"\n[privacy]\naddresses = "full"\n'
        '[lint]\nmode = "off"\n[store]\nurl = ""\n'  # no question to the network, nothing left behind
    )
    return path


async def launch(
    *words: str, environ: Mapping[str, str] | None = None, stdin: int = asyncio.subprocess.DEVNULL
) -> Program:
    """`python -m smtpguard` with these words, as it is: it may end at once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error::ResourceWarning",
        "-m",
        "smtpguard",
        *words,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LOG_LINE_LIMIT,
        env={key: value for key, value in os.environ.items() if not key.startswith("SMTPGUARD")} | dict(environ or {}),
    )
    return Program(process)


@asynccontextmanager
async def program(
    directory: Path, next_hop_port: int, *, listen: str = "", relay: str = "", next_hop: str = ""
) -> AsyncIterator[Program]:
    """A relay that listens, with the configuration that `config` writes."""
    path = config(directory, next_hop_port, listen=listen, relay=relay, next_hop=next_hop)
    running = await launch("serve", "--config", str(path))
    try:
        assert await running.events("service-started"), await running.complaint()
        yield running
    finally:
        await running.kill()
