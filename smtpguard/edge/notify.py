"""What the supervisor is told: that we are ready, reload, stop, live (sd_notify(3), systemd.service(5) `Type=notify`).

A datagram of `KEY=value` lines to the socket that `$NOTIFY_SOCKET` names; without one nothing is said to nobody. Never
raises and never waits long: whether the supervisor listens is not the mail's concern.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_PATIENCE_S: Final = 1.0  # for a supervisor that does not empty its queue


class Supervisor:
    """Who started us and wants to know. `alive_every_s`: how often it wants `alive`, in seconds; None: not at all."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.alive_every_s = _watchdog_s(environ) if self._address else None

    def ready(self, status: str) -> None:
        """Started, or reloaded: in both cases mail is taken."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. The time tells it from an earlier one (sd_notify(3), RELOADING=1)."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, within_s: float) -> None:
        """The end begins; it may take so many seconds, whatever the unit's TimeoutStopSec= is."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1e6)}")

    def alive(self) -> None:
        """The event loop turns."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.settimeout(_PATIENCE_S)
            speaker.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), self._address)


def _address(given: str) -> bytes:
    """An absolute path, or @ and an abstract name (unix(7)); b"" for anything else, as sd_notify(3) says."""
    if given.startswith("@"):
        return b"\0" + os.fsencode(given[1:])
    return os.fsencode(given) if given.startswith("/") else b""


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Half of $WATCHDOG_USEC, where it is meant for this process: sd_watchdog_enabled(3)."""
    given, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not given.isdecimal() or not int(given) or (pid and pid != str(os.getpid())):
        return None
    return int(given) / 2e6
