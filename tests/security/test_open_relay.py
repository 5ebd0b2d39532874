"""Strangers relay nothing: from another network namespace over a real route, and by every trick on the way in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from smtpguard.sandbox import Sandbox
from tests.certs import self_signed
from tests.edge.test_auth import USERS
from tests.harness import Client, code, relay
from tests.program import program

OURS, THEIRS = "198.51.100.1", "198.51.100.2"  # RFC 5737, on a wire between two namespaces

# A client in the other namespace: connects to (host, port), says what it is given, prints what it hears.
STRANGER: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as wire:
    wire.settimeout(5)
    try:
        sys.stdout.buffer.write(wire.recv(65536))
        wire.sendall(sys.stdin.buffer.read())
        wire.shutdown(socket.SHUT_WR)
        while octets := wire.recv(65536):
            sys.stdout.buffer.write(octets)
    except (ConnectionError, TimeoutError):
        pass
"""

MAIL: Final = (
    b"%b stranger.example\r\nXFORWARD NAME=localhost ADDR=127.0.0.1\r\nMAIL FROM:<a@s.example>\r\n"
    b"RCPT TO:<victim@r.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
)


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A network namespace with a wire to ours; its name."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2, for a second network namespace")
    name = f"smtpguard-{os.getpid()}"
    near, far = f"sg{os.getpid() % 10**6}a", f"sg{os.getpid() % 10**6}b"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        pytest.skip(f"no network namespace here: {error.stderr.decode().strip()}")
    try:
        ip("address", "add", f"{OURS}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "address", "add", f"{THEIRS}/30", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        yield name
    finally:
        ip("netns", "del", name)  # takes the wire with it


def said_to(namespace: str, host: str, port: int, octets: bytes) -> bytes:
    """What a stranger there hears."""
    words = ["ip", "netns", "exec", namespace, sys.executable, "-c", STRANGER, host, str(port)]
    return subprocess.run(words, input=octets, capture_output=True, timeout=30, check=False).stdout


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_a_stranger_from_another_network_relays_nothing(door: str, elsewhere: str, tmp_path: Path) -> None:
    hello = b"LHLO" if door == "lmtp" else b"EHLO"
    async with (
        Sandbox() as hop,
        program(tmp_path, hop.port, listen=f'{door} = ["127.0.0.1:0", "{OURS}:0"]') as running,
    ):
        [started] = await running.events("service-started")
        both = str(started[f"smtpguard.listen.{door}"]).split(",")
        near, port = (
            int(next(where for where in both if where.startswith(host)).rpartition(":")[2]) for host in ("127.", OURS)
        )
        heard = said_to(elsewhere, OURS, port, MAIL % hello)
        assert heard.startswith(b"554 5.7.1 ")
        assert heard.count(b"\r\n") == 1
        [refused] = await running.events("session-refused")
        assert refused["source.ip"] == THEIRS
        async with Client(near) as client:  # we, on loopback, still may
            await client.greet(f"{hello.decode()} client.example")
            assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
        assert not hop.messages
        assert not [line for line in hop.commands if b"victim" in line]


async def test_by_default_nobody_elsewhere_can_connect(elsewhere: str, tmp_path: Path) -> None:
    async with Sandbox() as hop, program(tmp_path, hop.port) as running:
        for door in ("smtp", "lmtp", "http"):
            assert said_to(elsewhere, OURS, running.port(door), b"EHLO x\r\n") == b""
        assert not [line for line in hop.commands if line.startswith(b"MAIL")]


@pytest.mark.parametrize(
    "tricks",
    [
        b"XFORWARD ADDR=127.0.0.1\r\n",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n",
        b"AUTH PLAIN AGEAYg==\r\n",
        b"AUTH EXTERNAL =\r\n",
        b"STARTTLS now\r\n",
        b"HELO localhost\r\n",
        b"EHLO [127.0.0.1]\r\n",
        b"RSET\r\n",
    ],
    ids=lambda octets: octets.decode().strip(),
)
async def test_no_trick_makes_a_stranger_one_of_us(tricks: bytes, tmp_path: Path) -> None:
    """Greeted because users may log in, it gets 530 to MAIL whatever it says before."""
    cert, key = self_signed(["localhost"], directory=tmp_path)
    listen = f'allow = []\ntrusted = []\nusers_file = "{{dir}}/users"\ntls_cert = "{cert}"\ntls_key = "{key}"\n'
    async with relay(listen=listen, files={"users": USERS}) as guard, Client(guard.smtp) as client:
        await client.greet()
        client.send(tricks)
        await client.reply()
        client.send(b"MAIL FROM:<a@s.example>\r\nRCPT TO:<victim@r.example>\r\nDATA\r\n")
        assert [code(reply)[:3] for reply in await client.replies(3)] == ["530", "503", "503"]
        assert not [line for line in guard.hop.commands if line.startswith(b"MAIL")]
