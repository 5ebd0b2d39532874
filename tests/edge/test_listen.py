"""Listening sockets: bound, stale, taken, handed over, and out of descriptors (contract 1.3, 1.6)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from smtpguard.config import ListenAddress
from smtpguard.edge import listen
from smtpguard.edge.listen import bind, handed_over, is_at, shown
from smtpguard.service import CannotStart
from tests.harness import MESSAGE, Client, Guard, code, relay


def unix_path(guard: Guard, door: str = "smtp") -> str:
    """The Unix socket of a door."""
    [shown_as] = guard.service.addresses[door]
    return shown_as.removeprefix("unix:")


async def delivered(where: int | str, hello: str = "EHLO c.example") -> str:
    """A message through this door; the code."""
    async with Client(where) as client:
        await client.greet(hello)
        assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")) == "354"
        client.send(MESSAGE + b".\r\n")
        return code(await client.reply())


# -- Unix sockets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_unix_socket_has_its_mode_and_goes_with_us(mode: int) -> None:
    listen = f'lmtp = "unix:{{dir}}/lmtp"\nsocket_mode = "0{mode:o}"\nallow = ["192.0.2.1/32"]'
    async with relay(listen=listen) as guard:
        path = unix_path(guard, "lmtp")
        assert stat.S_IMODE(os.stat(path).st_mode) == mode
        assert await delivered(path, "LHLO c.example") == "250 2.0.0"  # its file mode is what lets in, not `allow`
        assert b"(local)" in guard.hop.messages[0].data
        await guard.service.stop()
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(path)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with bind(ListenAddress("", 0, path)) as listener:
        assert shown(listener) == f"unix:{path}"


@pytest.mark.parametrize("backlog", [8, 0])
def test_a_live_socket_is_left_alone(backlog: int, tmp_path: Path) -> None:
    """Also one whose server is too busy to accept: with its backlog full, a connect fails though it lives."""
    path = str(tmp_path / "door")
    waiting = []
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen(backlog)
        if not backlog:
            for _ in range(2):
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                client.connect_ex(path)
                waiting.append(client)
        with pytest.raises(OSError, match="in use"):
            bind(ListenAddress("", 0, path))
        assert os.path.exists(path)
    for client in waiting:
        client.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "door"
    path.write_text("a file of somebody's")
    with pytest.raises(OSError, match="in use"):
        bind(ListenAddress("", 0, str(path)))
    assert path.read_text() == "a file of somebody's"


async def test_a_place_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"listen\.smtp: cannot listen on 127\.0\.0\.1:{port}: Address already"):
            async with relay(listen=f'smtp = "127.0.0.1:{port}"'):
                pass


# -- addresses --------------------------------------------------------------------------------------------------------


async def test_several_addresses_and_ipv6() -> None:
    async with relay(listen='smtp = ["127.0.0.1:0", "[::1]:0", "unix:{dir}/smtp"]') as guard:
        four, six, unix = guard.service.addresses["smtp"]
        assert six.startswith("[::1]:")
        assert await delivered(int(four.rpartition(":")[2])) == "250 2.0.0"
        assert await delivered(unix.removeprefix("unix:")) == "250 2.0.0"
        reader, writer = await asyncio.open_connection("::1", int(six.rpartition(":")[2]))
        assert (await reader.readline()).startswith(b"220 ")
        writer.write(b"EHLO c.example\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n\r\n.\r\nQUIT\r\n")
        assert b"\r\n221 " in await reader.read()
        writer.close()
        await writer.wait_closed()
        assert b"([IPv6:::1])" in guard.hop.messages[-1].data


async def test_a_session_that_cannot_begin_for_a_fault_of_ours_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fault(*_: object, **__: object) -> None:
        raise RuntimeError("at the very beginning")

    async with relay() as guard:
        with monkeypatch.context() as broken:
            broken.setattr(listen, "_hand_over", fault)
            async with Client(guard.smtp) as client:
                assert await client.ended()
        [event] = await guard.events("session-failed")
        assert (event["log.level"], event["error.type"]) == ("error", "RuntimeError")
        assert await delivered(guard.smtp) == "250 2.0.0"


def test_where_a_socket_is() -> None:
    with bind(ListenAddress("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert shown(listener) == f"127.0.0.1:{port}"
        assert is_at(listener, ListenAddress("127.0.0.1", port))
        assert not is_at(listener, ListenAddress("127.0.0.1", 1))
        assert not is_at(listener, ListenAddress("", 0, "/run/door"))


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_FDS": "2"}, {"LISTEN_FDS": "2", "LISTEN_PID": "1"}, {"LISTEN_PID": str(os.getpid())}],
)
def test_nothing_was_handed_over(environ: dict[str, str]) -> None:
    assert handed_over(environ) == []
    assert handed_over({"LISTEN_FDS": "two", "LISTEN_PID": str(os.getpid())}) == []


# -- what needs a process of its own ----------------------------------------------------------------------------------

PROLOGUE = """
import asyncio, json, os, resource, socket, sys, tempfile
sys.path.insert(0, os.getcwd())
from pathlib import Path
from smtpguard.config import load
from smtpguard.sandbox import Sandbox
from smtpguard.service import Service
from tests.harness import Client, MESSAGE, code

async def delivered(where, hello="EHLO c.example"):
    async with Client(where) as client:
        await client.greet(hello)
        assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")) == "354"
        client.send(MESSAGE + b".\\r\\n")
        return code(await client.reply())

def service(listen, hop, folder):
    config = Path(folder, "smtpguard.toml")
    config.write_text(
        f'[listen]\\n{listen}\\n[next_hop.default]\\nhost = "127.0.0.1"\\nport = {hop.port}\\ntls = "none"\\n'
        '[http]\\nlisten = ""\\n[relay]\\nhostname = "guard.test"\\n'
    )
    log = open(Path(folder, "log"), "wb")
    return Service(load(config, {}), environ=os.environ, stream=log)
"""


EPILOGUE = """
with asyncio.Runner(loop_factory=getattr(__import__(sys.argv[1]), "new_event_loop")) as runner:
    print(json.dumps(runner.run(main())))
"""
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def in_a_process(loop: str, program: str, *arguments: str) -> object:
    """Run it on this module's loop; what its `main` returns, by way of JSON."""
    whole = PROLOGUE + textwrap.dedent(program) + EPILOGUE
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", whole, loop, *arguments], capture_output=True, text=True, timeout=60, cwd=root
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@LOOPS
@pytest.mark.parametrize("names", ["smtp:lmtp", "", "unknown:unknown"])
def test_sockets_handed_over_by_systemd(names: str, loop: str) -> None:
    """Descriptors 3 and 4, known by their names or else by where they listen."""
    got = in_a_process(
        loop,
        """
    ports = []
    for number in (3, 4):
        listener = socket.create_server(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        kept = listener.detach()
        if kept != number:
            os.dup2(kept, number)
            os.close(kept)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES=sys.argv[2])

    async def main():
        listen = f'smtp = "127.0.0.1:{ports[0]}"\\nlmtp = "127.0.0.1:{ports[1]}"'
        with tempfile.TemporaryDirectory() as folder:
            async with Sandbox() as hop:
                guard = service(listen, hop, folder)
                await guard.start()
                at = [int(guard.addresses[door][0].rpartition(":")[2]) for door in ("smtp", "lmtp")]
                answers = [await delivered(ports[0]), await delivered(ports[1], "LHLO c.example")]
                inherited = [os.get_inheritable(number) for number in (3, 4)]
                await guard.stop()
        return [at == ports, answers, inherited]
    """,
        names,
    )
    assert got == [True, ["250 2.0.0", "250 2.0.0"], [False, False]]


@LOOPS
def test_out_of_descriptors(loop: str) -> None:
    """Clients wait in the backlog while there is none, and are served when there is one again; nobody is refused."""
    got = in_a_process(
        loop,
        """
    async def main():
        with tempfile.TemporaryDirectory() as folder:
            async with Sandbox() as hop:
                guard = service('smtp = "127.0.0.1:0"\\nlmtp = ""', hop, folder)
                await guard.start()
                port = int(guard.addresses["smtp"][0].rpartition(":")[2])
                assert await delivered(port) == "250 2.0.0"
                client = Client(port)
                await client.__aenter__()
                await client.greet()
                waiting = socket.socket()
                waiting.setblocking(False)
                resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), 4096))
                waiting.connect_ex(("127.0.0.1", port))
                still = [code(await client.say("NOOP")) for _ in range(3)]
                await asyncio.sleep(0.6)
                try:
                    first = waiting.recv(100).decode()
                except BlockingIOError:
                    first = "waits"
                resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
                loop = asyncio.get_running_loop()
                greeting = await asyncio.wait_for(loop.sock_recv(waiting, 100), 10)
                waiting.close()
                again = await delivered(port)
                await client.__aexit__(None, None, None)
                await guard.stop()
        return [still, first, greeting.decode()[:4], again]
    """,
    )
    assert got == [["250 2.0.0"] * 3, "waits", "220 ", "250 2.0.0"]
