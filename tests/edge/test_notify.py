"""What the supervisor hears: over a real datagram socket, from the object and from the whole program."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpguard.edge.notify import Supervisor
from smtpguard.sandbox import Sandbox
from tests.harness import PATIENCE_S
from tests.program import config, launch, until

Words = dict[str, str]


class Listener:
    """The supervisor's end: `heard` waits for the next datagram."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> Words:
        """KEY -> value of one datagram."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def waiting(self) -> list[Words]:
        """All that is there now."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.heard())
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    """Both kinds of socket that systemd gives."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@smtpguard-test-{os.getpid()}"
    ear = Listener(address)
    yield ear
    ear.close()


def test_words(listener: Listener) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": listener.address})
    supervisor.ready("listens on 127.0.0.1:10724\nREADY=0")
    assert listener.heard() == {"READY": "1", "STATUS": "listens on 127.0.0.1:10724 READY=0"}
    supervisor.alive()
    assert listener.heard() == {"WATCHDOG": "1"}
    supervisor.stopping(45.0)
    assert listener.heard() == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "45000000"}
    supervisor.reloading()
    first = listener.heard()
    supervisor.reloading()
    second = listener.heard()
    assert first.pop("RELOADING") == second.pop("RELOADING") == "1"
    assert 0 < int(first["MONOTONIC_USEC"]) <= int(second["MONOTONIC_USEC"])


@pytest.mark.parametrize("address", ["", "relative/path", "/nowhere/notify", "@nobody-listens-here", "/" + "x" * 200])
def test_nobody_to_tell_is_no_fault(address: str) -> None:
    Supervisor({"NOTIFY_SOCKET": address}).ready("x")
    Supervisor({}).ready("x")


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_how_often_it_wants_to_hear_of_us(environ: dict[str, str], every_s: float | None) -> None:
    assert Supervisor({"NOTIFY_SOCKET": "/run/notify", **environ}).alive_every_s == every_s
    assert Supervisor(environ).alive_every_s is None


async def test_the_life_of_the_program(tmp_path: Path) -> None:
    """Ready when it listens, alive, reloading, ready again; after a bad file too; stopping."""
    listener = Listener(str(tmp_path / "notify"))
    heard: list[Words] = []

    def has_said(key: str, times: int = 1) -> bool:
        heard.extend(listener.waiting())
        return sum(key in words for words in heard) >= times

    async with Sandbox() as hop:
        path = config(tmp_path, hop.port, relay='drain = "3s"')
        running = await launch(
            "serve",
            "--config",
            str(path),
            environ={"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "200000"},
        )
        try:
            await until(lambda: has_said("READY"))
            await running.events("service-started")
            port = running.port("smtp")
            assert f"127.0.0.1:{port}" in heard[0]["STATUS"]
            with socket.create_connection(("127.0.0.1", port)):  # ready is not said before it is true
                pass
            await until(lambda: has_said("WATCHDOG", 3))

            running.signal(signal.SIGHUP)
            await until(lambda: has_said("READY", 2))
            assert ["RELOADING" in words for words in heard if "WATCHDOG" not in words] == [False, True, False]

            path.write_text("nonsense")
            running.signal(signal.SIGHUP)
            await until(lambda: has_said("READY", 3))
            assert "refused" in [words for words in heard if "READY" in words][2]["STATUS"]

            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
            assert has_said("STOPPING")
            assert [words["EXTEND_TIMEOUT_USEC"] for words in heard if "STOPPING" in words] == ["18000000"]
        finally:
            await running.kill()
            listener.close()
