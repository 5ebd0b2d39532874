"""What the tests' MTAs have in common: how mail is given to them, what waits, what came back, and patience.

`Mta` is the shape that a test sees; `Postfix` and `Exim` have it.
"""

from __future__ import annotations

import contextlib
import random
import re
import smtplib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

SENDER_DOMAIN: Final = "sender.example"
"""The domain whose mail the MTA keeps: senders of the tests live there, so that their bounces can be read."""

_PORTS: Final = (20_000, 32_000)  # below those that the system gives to connections, which would be there first
_SHOWN: Final = 3000  # characters of a log, in the message of a failed test
_QUEUE_ID = re.compile(rb"(?:queued as |id=)(\S+)")


class Mta(Protocol):
    """A real MTA in front of smtpguard."""

    name: str

    def start(self) -> None:
        """Start; returns when mail is taken."""

    def stop(self) -> None:
        """Stop; the queue stays."""

    def send(self, mail_from: str, rcpts: list[str], data: bytes | str) -> str:
        """Submit one message; its queue id."""

    def queue(self) -> list[Queued]:
        """What waits."""

    def flush(self) -> None:
        """Try everything again now."""

    def bounces(self) -> list[str]:
        """The messages that came back to `SENDER_DOMAIN`, as text."""

    def log(self) -> str:
        """Its mail log so far."""

    def ambiguous(self) -> set[str]:
        """Queue ids of the messages whose answer was lost after the final dot."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits: its recipients, and why each does ("" before the first attempt)."""

    queue_id: str
    rcpts: dict[str, str] = field(default_factory=dict)


def until(is_true: Callable[[], object], timeout_s: float, state: Callable[[], object] = lambda: "") -> None:
    """Return when `is_true` says so; after `timeout_s` an AssertionError that shows the end of `state()`."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s\n{str(state())[-_SHOWN:]}")
        time.sleep(0.02)


def free_port() -> int:
    """A loopback port that nobody uses now: for programs that cannot be told to take any."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def submit(port: int, mail_from: str, rcpts: list[str], data: bytes | str) -> str:
    """One message in one session; the queue id from the MTA's answer. Every recipient must be taken."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=30) as client:
        client.ehlo()
        for code, text in (client.mail(mail_from), *(client.rcpt(rcpt) for rcpt in rcpts), client.data(data)):
            if code != 250:
                raise smtplib.SMTPResponseException(code, text)
        found = _QUEUE_ID.search(text)
        assert found is not None, text
        return found[1].decode()


def read_maildir(directory: Path) -> list[str]:
    """The messages in a Maildir's `new`, oldest first; none if it does not exist yet."""
    files = sorted((directory / "new").glob("*"), key=lambda file: file.stat().st_mtime_ns)
    return [file.read_text(errors="replace") for file in files]
