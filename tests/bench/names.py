"""A name server for the load: sender, recipients, our egress and the blocklists that are on by default, all in order.

    python -m tests.bench.names KEY        prints its port

It is `tests/dns/server.py` in a process of its own, so that its cost is not smtpguard's. `Names` starts one.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from smtpguard.lint.lists import LISTS
from tests.bench.letters import KEY, SELECTOR
from tests.bench.processes import end, spawn
from tests.dns.server import serving
from tests.dns.zones import Zone

EGRESS: Final = IPv4Address("1.2.3.4")
"""Of the whole internet, or no blocklist would be asked; nothing is ever sent from it, or asked of others."""
HOST: Final = "guard.test"
"""What smtpguard calls itself."""
_ROOT: Final = Path(__file__).resolve().parents[2]


class Names:
    """The name server in a process."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen on a free port of loopback; RuntimeError if it does not."""
        words = [sys.executable, "-m", "tests.bench.names", KEY.public]
        self._process = spawn(words, cwd=_ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said.strip().isdigit():
            self.stop()
            raise RuntimeError("the name server did not start")
        self.port = int(said)

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        end(self._process)
        self._process = None


def zone(key: str) -> Zone:
    """What is served; `key` is the public one that messages are signed with. What is not here does not exist."""
    served = Zone(
        {
            "load.test": [{"MX": [10, "mx.load.test."]}, {"TXT": f"v=spf1 ip4:{EGRESS} -all"}],
            "mx.load.test": [{"A": "192.0.2.1"}],
            "_dmarc.load.test": [{"TXT": "v=DMARC1; p=reject; adkim=s; aspf=s"}],
            f"{SELECTOR}._domainkey.load.test": [{"TXT": f"v=DKIM1; k=rsa; p={key}"}],
            "sink.test": [{"MX": [10, "mx.sink.test."]}],
            "mx.sink.test": [{"A": "192.0.2.2"}],
            HOST: [{"A": str(EGRESS)}, {"TXT": "v=spf1 a -all"}],
            EGRESS.reverse_pointer: [{"PTR": f"{HOST}."}],
        }
    )
    for blocklist in LISTS.values():
        code = str(IPv4Address(0x7F000000 | next(iter(blocklist.codes))))  # a bit of the last octet, or all of it
        for label, is_listed in blocklist.canaries():
            if is_listed:
                served.put(f"{label}.{blocklist.zone}", {"A": code})
    return served


async def _serve(key: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serving(zone(key)) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
