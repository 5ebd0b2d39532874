"""Tests against real name servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dns.daemons import Daemons, missing
from tests.dns.zones import Zone, load


@pytest.fixture(scope="session")
def zone() -> Zone:
    """What all servers serve: every zone but the faults, which real servers have not."""
    zone = load("good", "shapes", "senders", "lists")
    zone.put("big.test", {"TXT": "k=" + "x" * 4094})
    return zone


@pytest.fixture(scope="session")
def daemons(zone: Zone) -> Iterator[Daemons]:
    """The three servers, running."""
    if reason := missing():
        pytest.skip(reason)
    path = Path(tempfile.mkdtemp(prefix="smtpguard-dns-"))  # pytest's own is closed to their user
    path.chmod(0o777)
    servers = Daemons(path, zone)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(path)
