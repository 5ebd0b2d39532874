"""Postfix's own load and sink: `smtp-source` and `smtp-sink`, from Debian's package postfix.

Both are C programs that do little, so that what is in the middle is what is measured. smtp-source does not pipeline and
measures no latency; `client` does. Every run is bounded in count and time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.letters import RCPT, SENDER
from tests.bench.processes import end, spawn, wait_for_port
from tests.e2e.mta import free_port

RUN_S: Final = 120.0
"""No single run takes longer: it is broken off, and its case fails."""

_HEADERS: Final = 256  # octets that smtp-source puts in front of -l, about


@dataclass(frozen=True, slots=True)
class Load:
    """What smtp-source is asked for. `kept`: one connection for many messages, else a new one for each.

    `letter` is a file that it sends (`Stand.letter`); without one it makes messages of `size` octets up.
    """

    size: int = 2048
    letter: Path | None = None
    sessions: int = 10
    rcpts: int = 1
    kept: bool = True

    def arguments(self, port: int, messages: int) -> list[str]:
        """smtp-source's command line."""
        name = shutil.which("smtp-source", path=_path()) or "smtp-source"
        words = [name, "-4", "-M", "load.test", "-f", SENDER, "-t", RCPT]
        words += ["-s", str(self.sessions), "-m", str(messages)]
        words += ["-F", str(self.letter)] if self.letter else ["-l", str(max(1, self.size - _HEADERS))]
        words += ["-r", str(self.rcpts), "-C", "20"]
        return [*words, *(["-d"] if self.kept else []), f"inet:127.0.0.1:{port}"]

    def run(self, port: int, messages: int) -> float:
        """Hand over so many messages; the seconds it took. RuntimeError if one was refused (smtp-source stops then)."""
        begun = time.perf_counter()
        done = subprocess.run(
            self.arguments(port, messages), capture_output=True, text=True, timeout=RUN_S, check=False
        )
        elapsed = time.perf_counter() - begun
        if done.returncode != 0:
            raise RuntimeError(f"smtp-source: {done.stderr.strip()[-300:]}")
        return elapsed


class Sink:
    """smtp-sink: takes everything, keeps nothing. As root it must change user, hence `-u nobody`."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen on a free port of loopback."""
        self.port = free_port()
        name = shutil.which("smtp-sink", path=_path()) or "smtp-sink"
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = spawn([name, "-4", *user, "-m", "4000", f"127.0.0.1:{self.port}", "1000"])
        wait_for_port(self._process, self.port, "smtp-sink")

    def stop(self) -> None:
        """End it."""
        end(self._process)
        self._process = None


def missing() -> str:
    """Why there is no load here; "" if there is."""
    absent = [name for name in ("smtp-source", "smtp-sink") if shutil.which(name, path=_path()) is None]
    return f"{' and '.join(absent)} missing (Debian: apt-get install postfix)" if absent else ""


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
