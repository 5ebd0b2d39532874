"""The program under test: `python -m smtpguard serve --config FILE`, watched.

Every line of its log must be a JSON object without control characters, and none may be of level error; the rest is
counted, not kept, so that a run may be long. It is ended gently or not and begun again on the same ports; limits of the
kernel (setrlimit(2)) can be laid on it while it runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from tests.chaos.ledger import Ledger
from tests.chaos.mta import Door
from tests.program import Program

STARTS_WITHIN_S: Final = 30.0
_LINE_LIMIT: Final = 1 << 20

_CONFIG: Final = """\
[listen]
lmtp = "127.0.0.1:{lmtp}"
smtp = "127.0.0.1:{smtp}"
{listen}

[relay]
hostname = "guard.test"
drain = "3s"
{relay}

[next_hop.default]
host = "127.0.0.1"
port = {hop}
{next_hop}

[privacy]
addresses = "full"

[http]
listen = "127.0.0.1:{http}"

[log]
deliveries = "problems"

{more}
"""

LIMIT_S: Final = 1.0
"""Each time-out towards the next hop, unless a case says otherwise."""

QUICK: Final = (
    f'tls = "none"\ntimeout = {{ connect = "{LIMIT_S:g}s", command = "{LIMIT_S:g}s", '
    f'data = "{LIMIT_S:g}s", final = "{LIMIT_S:g}s" }}\n'
)


class Watched(Program):
    """A process whose log is judged and counted, but for the lines of its life, which are kept."""

    def __init__(self, process: asyncio.subprocess.Process, ledger: Ledger, counts: Counter[str]) -> None:
        self._ledger = ledger
        self._counts = counts
        self.complaints: deque[str] = deque(maxlen=20)
        super().__init__(process)
        self._grumbling = asyncio.get_running_loop().create_task(self._listen())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for octets in self._process.stdout:
            action = self._judge(octets)
            async with self._more:
                if action:
                    self.lines.append(action)
                self._more.notify_all()
        async with self._more:
            self._more.notify_all()

    def _judge(self, octets: bytes) -> dict[str, Any] | None:
        """The line if it tells of the program's own life, else None."""
        try:
            line = json.loads(octets)
        except ValueError:
            self._ledger.broke("log", f"no JSON: {octets[:200]!r}")
            return None
        if not octets.decode().rstrip("\n").isprintable():
            self._ledger.broke("log", f"control characters: {octets[:200]!r}")
        action = str(line.get("event.action"))
        self._counts[action] += 1
        if line.get("log.level") == "error":
            self._ledger.broke("log", f"a fault of ours: {octets[:1500].decode()}")
        return cast("dict[str, Any]", line) if action.startswith(("service-", "config-")) else None

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for octets in self._process.stderr:
            self.complaints.append(octets.decode(errors="replace").rstrip())


class Guard:
    """smtpguard before the next hop on port `hop`. The strings are TOML for their sections, `more` for any others."""

    def __init__(
        self,
        directory: Path,
        hop: int,
        ledger: Ledger,
        *,
        listen: str = "",
        relay: str = "",
        next_hop: str = QUICK,
        more: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.ledger = ledger
        self.config = directory / "smtpguard.toml"
        self.logged: Counter[str] = Counter()
        self._settings = {"hop": hop, "listen": listen, "relay": relay, "next_hop": next_hop, "more": more}
        self._where = {"lmtp": 0, "smtp": 0, "http": 0}
        self._environ = {key: value for key, value in os.environ.items() if not key.startswith("SMTPGUARD")}
        self._environ |= environ or {}
        self._process: Watched | None = None

    @property
    def process(self) -> Watched:
        """The process as it is now."""
        assert self._process is not None
        return self._process

    @property
    def ports(self) -> dict[Door, int]:
        """Where the doors are."""
        return {"smtp": self._where["smtp"], "lmtp": self._where["lmtp"]}

    @property
    def http(self) -> int:
        """The port of /metrics."""
        return self._where["http"]

    async def start(self) -> None:
        """Start, wait until it listens: first on free ports, later on the same."""
        self.config.write_text(_CONFIG.format(**self._settings, **self._where))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "smtpguard",
            "serve",
            "--config",
            str(self.config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            env=self._environ,
        )
        self._process = Watched(process, self.ledger, self.logged)
        async with asyncio.timeout(STARTS_WITHIN_S):
            if not await self.process.events("service-started"):
                raise RuntimeError("\n".join(self.process.complaints))
        self._where = {door: self.process.port(door) for door in self._where}

    def limit(self, what: int, to: int) -> None:
        """setrlimit(2) on the running process: RLIMIT_NOFILE, RLIMIT_FSIZE."""
        resource.prlimit(self.process.pid, what, (to, resource.prlimit(self.process.pid, what)[1]))

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.signal(signal.SIGTERM)
        return await self._ended()

    async def kill(self) -> None:
        """SIGKILL: what was in flight may be at the next hop without an answer."""
        self.ledger.is_killing = True
        await self.process.kill()
        await self._ended()

    async def _ended(self) -> int:
        code = await self.process.ended()
        for line in self.process.complaints:
            self.ledger.broke("log", f"on stderr: {line}")
        return code
