"""Postfix as a peer, twice: as a proxy without a queue (the yardstick), and with its queue as a relay host.

The instance is tests/e2e's, in a folder of its own; here it is told to be as fast as its defaults allow: no limits on
errors or clients, room for as many processes as there are sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.bench.processes import Tree, wait_until
from tests.e2e.postfix import Postfix, missing

_DRAIN_S: Final = 30.0

_SETTINGS: Final[Mapping[str, str]] = {
    "default_process_limit": "300",
    "smtpd_error_sleep_time": "0",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_recipient_limit": "1000",
    "qmgr_message_active_limit": "100000",
    "default_destination_concurrency_limit": "100",
    "smtp_tls_security_level": "none",
}


def postfix_proxy(hop_port: int) -> Mapping[str, str]:
    """smtpd speaks to the next hop while the client waits; nothing is stored."""
    return {"smtpd_proxy_filter": f"127.0.0.1:{hop_port}", "smtpd_proxy_timeout": "600s"}


def postfix_queue(_: int) -> Mapping[str, str]:
    """The queue: 250 once it is on the disk, delivery afterwards."""
    return {}


class Postfixed:
    """A Postfix instance; `variant` gives what main.cf says beside the common."""

    def __init__(self, name: str, directory: Path, variant: Callable[[int], Mapping[str, str]]) -> None:
        self.name = name
        self.port = 0
        self.tree: Tree | None = None
        self._directory = directory
        self._variant = variant
        self._postfix: Postfix | None = None

    def start(self, hop_port: int) -> None:
        """Start it before the next hop at this port."""
        self._directory.mkdir(exist_ok=True)
        self._directory.chmod(0o755)  # Postfix runs as several users
        settings = {**_SETTINGS, **self._variant(hop_port)}
        postfix = Postfix(self._directory, door="smtp", next_hop_port=hop_port, settings=settings)
        self._postfix = postfix
        postfix.start()
        self.port = postfix.port
        self.tree = Tree(int((self._directory / "queue" / "pid" / "master.pid").read_text()))

    def stop(self) -> None:
        """Stop it; what waits in its queue is lost, which for the benchmark's mail is well."""
        if self._postfix is not None:
            self._postfix.stop()
            self._postfix = None
        if self.tree is not None:
            self.tree.close()
            self.tree = None

    def drained(self) -> None:
        """Return when its queue is empty."""
        wait_until(self._is_empty, f"{self.name}: queue empty", _DRAIN_S)

    def _is_empty(self) -> bool:
        queue = self._directory / "queue"
        folders = [queue / name for name in ("maildrop", "incoming", "active", "deferred")]
        return not any(path.is_file() for folder in folders if folder.exists() for path in folder.rglob("*"))


def missing_postfix() -> str:
    """Why there is no Postfix here; "" if there is."""
    return missing()
