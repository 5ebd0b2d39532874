"""What this host gives: its name and a folder for spooling; and what its clock gives: ids and dates."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Final

SPOOL_DIR: Final = Path("/var/lib/smtpguard/spool")


class Ids:
    """Event ids: twelve characters of Crockford's base 32, seven of time (a second) and five of a counter.

    They sort by time; the counter begins anywhere, so that two nodes hardly ever make the same.
    """

    _DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    _PAIRS: Final = list(map("".join, product(_DIGITS, repeat=2)))

    def __init__(self, now: Callable[[], float], start: int) -> None:
        self._now = now
        self._count = start
        self._second = -1
        self._time = ""

    def __call__(self) -> str:
        self._count = count = (self._count + 1) & 0x1FFFFFF
        pairs, second = self._PAIRS, int(self._now())
        if second != self._second:
            self._second = second
            time = (pairs[second >> shift & 1023] for shift in (20, 10, 0))
            self._time = self._DIGITS[second >> 30 & 31] + "".join(time)
        return self._time + pairs[count >> 15] + pairs[count >> 5 & 1023] + self._DIGITS[count & 31]


class Dates:
    """The time now as RFC 5322 writes it, made once a second."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        second = int(self._now())
        if second != self._second:
            self._second, self._text = second, formatdate(second, localtime=True)
        return self._text


def own_name() -> str:
    """This host's full name, or what it calls itself; asked once a load, it may ask DNS."""
    name = socket.getfqdn()
    return name if "." in name and not name.startswith("localhost") else socket.gethostname() or "localhost"


@lru_cache(maxsize=16)
def is_in_memory(device: int) -> bool:
    """Whether the files of a device (`st_dev`) are memory themselves (tmpfs), as far as this host says.

    https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            mounted, _, kind = line.partition(" - ")
            if mounted.split(" ", 3)[2] == number:
                return kind.startswith(("tmpfs ", "ramfs "))
    return False


def spool_dir(configured: str) -> Path | None:
    """None: the system's temporary folder."""
    if configured:
        return Path(configured)
    return SPOOL_DIR if os.access(SPOOL_DIR, os.W_OK) else None
