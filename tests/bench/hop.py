"""The sandbox next hop as a process of its own: answers by address, and is as far away as it is told.

    python -m tests.bench.hop PORT LATENCY_MS

`FarHop` starts one. It is Python and slower than smtp-sink: cases with it compare the CPU of what stands before it, or
latency, never messages a second.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from smtpguard.sandbox import Sandbox
from tests.bench.processes import end, spawn, wait_for_port
from tests.e2e.mta import free_port

_ROOT: Final = Path(__file__).resolve().parents[2]


class FarHop:
    """The sandbox in a process, `latency_ms` away (per flight of replies)."""

    def __init__(self, latency_ms: int = 0) -> None:
        self.port = 0
        self._latency_ms = latency_ms
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen on a free port of loopback."""
        self.port = free_port()
        words = [sys.executable, "-m", "tests.bench.hop", str(self.port), str(self._latency_ms)]
        self._process = spawn(words, cwd=_ROOT)
        wait_for_port(self._process, self.port, "sandbox")

    def stop(self) -> None:
        """End it."""
        end(self._process)
        self._process = None


async def _serve(port: int, latency_ms: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sandbox = Sandbox(latency_s=latency_ms / 1000, keep=False)
    await sandbox.start("127.0.0.1", port)
    await stop.wait()
    await sandbox.stop()


if __name__ == "__main__":
    run = asyncio.run
    with suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(_serve(int(sys.argv[1]), int(sys.argv[2])))
