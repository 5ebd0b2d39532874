"""A line of three: a real MTA, a real smtpguard process, the sandbox as the next hop."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import exim, postfix
from tests.e2e.hop import Hop
from tests.e2e.mta import Mta
from tests.e2e.relay import Relay


def _mta(name: str, door: str, missing: str) -> object:
    skip = pytest.mark.skipif(bool(missing), reason=missing)
    return pytest.param((name, door), id=f"{name}-{door}", marks=[getattr(pytest.mark, name), skip])


MTAS = [
    _mta("postfix", "lmtp", postfix.missing()),
    _mta("postfix", "smtp", postfix.missing()),
    _mta("exim", "smtp", exim.missing()),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A temporary folder that the MTAs' users can enter (pytest's own is closed to them)."""
    path = Path(tempfile.mkdtemp(prefix="smtpguard-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def hop() -> Iterator[Hop]:
    """The next hop, listening."""
    sandbox = Hop()
    sandbox.start()
    yield sandbox
    sandbox.close()


@pytest.fixture
def relay(directory: Path, hop: Hop) -> Iterator[Relay]:
    """smtpguard, ready to be started in front of `hop`. Whatever the test did, it ends without a fault of ours."""
    process = Relay(directory, next_hop_port=hop.port)
    yield process
    code = process.stop()
    sys.stderr.write(process.transcript())  # shown if the test failed
    assert code == 0
    assert not process.faults()


@pytest.fixture(scope="session")
def exim_program() -> Iterator[Path]:
    """Exim where user nobody can run it: the work tree may lie in a closed folder."""
    with tempfile.TemporaryDirectory(prefix="smtpguard-exim-") as copy:
        Path(copy).chmod(0o755)
        shutil.copytree(exim.UNPACKED / "usr", copy, dirs_exist_ok=True, symlinks=True)
        yield Path(copy)


@pytest.fixture(params=MTAS)
def mta(request: pytest.FixtureRequest, directory: Path, relay: Relay) -> Iterator[Mta]:
    """Each MTA and door in turn, started, with smtpguard started as its smarthost."""
    relay.start()
    name, door = request.param
    mta: Mta
    if name == "postfix":
        mta = postfix.Postfix(directory, door=door, next_hop_port=relay.ports[door])
    else:
        program = request.getfixturevalue("exim_program")
        mta = exim.Exim(directory, program=program, next_hop_port=relay.ports[door])
    try:
        mta.start()
        yield mta
    finally:
        mta.stop()
