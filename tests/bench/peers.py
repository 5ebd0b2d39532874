"""What stands between load and sink: each peer a name, a port, a tree of processes, `start`, `stop`, `drained`.

    direct          nothing: what load and sink can do at most
    nginx           nginx's stream module: moves bytes and understands none
    postfix-proxy   Postfix smtpd_proxy_filter: the yardstick        (postfixes.py)
    postfix-queue   Postfix with its queue, as a relay host           (postfixes.py)
    haraka          Haraka's queue/smtp_proxy
    aiosmtpd-proxy  aiosmtpd's handlers.Proxy in its Controller, as its manual shows
    aio-plain       aiosmtpd and aiosmtplib put together plainly, one connection a message
    bare            smtpguard that logs problems only, to nowhere, and serves no metrics; it has a history
    full            smtpguard with all but the lint: each delivery as JSON into a pipe, metrics, classes, history
    lint            smtpguard with everything on: the same, and each message judged over the DNS of `names`

Most are one program with a command line: a function writes its settings into a folder and says what to run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

from tests.bench.fetch import haraka_package, nginx_root
from tests.bench.figures import YARDSTICK
from tests.bench.names import EGRESS, HOST, Names
from tests.bench.postfixes import Postfixed, missing_postfix, postfix_proxy, postfix_queue
from tests.bench.processes import Tree, end, spawn, wait_for_port
from tests.e2e.mta import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout: where `smtpguard` and `tests` are found."""


class Peer(Protocol):
    """Something in the middle. `port` and `tree` are there after `start`; `tree` is None where nothing runs."""

    name: str
    port: int
    tree: Tree | None

    def start(self, hop_port: int) -> None:
        """Run before the next hop at this port of loopback; RuntimeError if that is not possible."""

    def stop(self) -> None:
        """End what was started."""

    def drained(self) -> None:
        """Return when all that was taken has been handed on."""


class Direct:
    """No peer: the load speaks to the sink."""

    name = "direct"

    def __init__(self) -> None:
        self.port = 0
        self.tree: Tree | None = None

    def start(self, hop_port: int) -> None:
        self.port = hop_port

    def stop(self) -> None:
        self.port = 0

    def drained(self) -> None:
        return None


Command = Callable[[Path, int, int], Sequence[str | Path]]
"""(a folder of its own, its port, the next hop's port) -> the command line; may write settings into the folder."""


class Program:
    """A peer that is one program in the foreground. `piped`: its output goes through a pipe, as to a log collector."""

    def __init__(self, name: str, directory: Path, command: Command, *, piped: bool = False) -> None:
        self.name = name
        self.port = 0
        self.tree: Tree | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._directory = directory
        self._command = command
        self._piped = piped
        self._collector: subprocess.Popen[bytes] | None = None

    def start(self, hop_port: int) -> None:
        """Start it, wait until it listens."""
        self._directory.mkdir(exist_ok=True)
        self.port = free_port()
        words = self._command(self._directory, self.port, hop_port)
        with (self._directory / "stderr").open("wb") as stderr:
            output: object = subprocess.DEVNULL
            if self._piped:
                self._collector = spawn(["cat"], stdin=subprocess.PIPE)
                output = self._collector.stdin
            self.process = spawn(words, cwd=ROOT, stdout=output, stderr=stderr)
            if self._collector is not None and self._collector.stdin is not None:
                self._collector.stdin.close()  # the program has it now, and ends `cat` by ending
        try:
            wait_for_port(self.process, self.port, self.name)
        except RuntimeError as error:
            self.stop()
            said = (self._directory / "stderr").read_text(errors="replace")[-300:]
            raise RuntimeError(f"{error} {said}") from None
        self.tree = Tree(self.process.pid)

    def stop(self) -> None:
        """End it."""
        end(self.process)
        if self._collector is not None:
            end(self._collector)
            self._collector = None
        if self.tree is not None:
            self.tree.close()
        self.tree = self.process = None

    def drained(self) -> None:
        """It answers after the next hop did, so there is nothing to wait for."""


# --- smtpguard --------------------------------------------------------------------------------------------------

_GUARD: Final = """\
[listen]
lmtp = ""
smtp = "127.0.0.1:{port}"
max_sessions = 4000
max_sessions_per_client = 4000
idle_timeout = "600s"

[relay]
hostname = "{hostname}"
spool_dir = "{directory}"

[next_hop.default]
host = "127.0.0.1"
port = {hop_port}
tls = "none"
connections = 300
discard_keywords = {discarded}
egress_ips = ["{egress}"]

[store]
url = "sqlite:///{directory}/history.db"
[http]
listen = "{http}"

[log]
deliveries = "{deliveries}"

[lint]
mode = "{lint}"
bulk_threshold = 1_000_000  # one sender sends all; ordinary mail is measured, not bulk mail
[lint.dns]
resolvers = {resolvers}
"""

Guarding = Literal["bare", "full", "lint"]
"""How much of smtpguard is on."""


def guard(
    guarding: Guarding, *, names: Names | None = None, http_port: int = 0, discarded: Sequence[str] = ()
) -> Command:
    """smtpguard's command; `http_port` 0 takes any, `discarded` is what it shall not use of the next hop's offers.

    `names` is who is asked by the lint, running by then.
    """

    def command(directory: Path, port: int, hop_port: int) -> Sequence[str | Path]:
        config = directory / "smtpguard.toml"
        config.write_text(
            _GUARD.format(
                port=port,
                hop_port=hop_port,
                directory=directory,
                discarded=list(discarded),
                hostname=HOST,
                egress=EGRESS,
                http="" if guarding == "bare" else f"127.0.0.1:{http_port}",
                deliveries="problems" if guarding == "bare" else "all",
                lint="observe" if names else "off",
                resolvers=[f"127.0.0.1:{names.port}"] if names else [],
            )
        )
        return [sys.executable, "-m", "smtpguard", "serve", "--config", config]

    return command


class Linted(Program):
    """smtpguard with a name server beside it."""

    def __init__(self, directory: Path) -> None:
        self._names = Names()
        super().__init__("lint", directory, guard("lint", names=self._names), piped=True)

    def start(self, hop_port: int) -> None:
        """Start both."""
        self._names.start()
        super().start(hop_port)

    def stop(self) -> None:
        """End both."""
        super().stop()
        self._names.stop()


# --- the others -------------------------------------------------------------------------------------------------

_NGINX: Final = """\
load_module {root}/usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{hop_port}; }} }}
"""


def nginx(directory: Path, port: int, hop_port: int) -> Sequence[str | Path]:
    """nginx that copies octets both ways."""
    root = nginx_root()
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(root=root, directory=directory, port=port, hop_port=hop_port))
    return [root / "usr/sbin/nginx", "-p", directory, "-e", directory / "error.log", "-c", config]


# Recipients are taken here as the next hop takes them; without such a plugin Haraka relays for nobody.
_ALLOW: Final = "exports.hook_rcpt = (next) => next(OK)\n"

# Its own file of defaults is not read where there is this one.
_HARAKA_LIMITS: Final = """\
[main]
[haproxy]
[headers]
max_lines=1000
max_received=100
[max]
bytes=52428800
mime_parts=1000
line_length=512
data_line_length=992
[message]
[uuid]
banner_chars=6
deny_chars=0
"""

_HARAKA: Final = {
    "smtp.ini": "listen=127.0.0.1:{port}\nnodes=0\n",
    "smtp_proxy.ini": "host=127.0.0.1\nport={hop_port}\nmax_connections=300\ntimeout=300\n",
    "plugins": "queue/smtp_proxy\nallow\n",
    "log.ini": "level=error\n",
    "connection.ini": _HARAKA_LIMITS,
    "me": "haraka.test\n",
}


def haraka(directory: Path, port: int, hop_port: int) -> Sequence[str | Path]:
    """Haraka with one process, as smtpguard has."""
    package = haraka_package()
    for folder in ("config", "plugins"):
        (directory / folder).mkdir(exist_ok=True)
    (directory / "plugins" / "allow.js").write_text(_ALLOW)
    for name, text in _HARAKA.items():
        (directory / "config" / name).write_text(text.format(port=port, hop_port=hop_port))
    return ["node", package / "bin" / "haraka", "-c", directory]


def library(which: str) -> Command:
    """A program of `libraries`."""

    def command(_: Path, port: int, hop_port: int) -> Sequence[str | Path]:
        return [sys.executable, "-m", "tests.bench.libraries", which, str(port), str(hop_port)]

    return command


def make(name: str, directory: Path) -> Peer:
    """The peer of this name, not started. RuntimeError, with the reason, where it cannot be had here."""
    own = directory / name
    if name == "direct":
        return Direct()
    if name in (YARDSTICK, "postfix-queue"):
        if reason := missing_postfix():
            raise RuntimeError(reason)
        return Postfixed(name, own, postfix_proxy if name == YARDSTICK else postfix_queue)
    if name == "haraka" and shutil.which("node") is None:
        raise RuntimeError("node is not installed")
    if name == "lint":
        return Linted(own)
    return Program(name, own, PROGRAMS[name], piped=name == "full")


PROGRAMS: Final[dict[str, Command]] = {
    "nginx": nginx,
    "haraka": haraka,
    "aiosmtpd-proxy": library("proxy"),
    "aio-plain": library("plain"),
    "bare": guard("bare"),
    "full": guard("full"),
}

ALL: Final = (
    YARDSTICK,
    "full",
    "lint",
    "bare",
    "direct",
    "nginx",
    "postfix-queue",
    "haraka",
    "aiosmtpd-proxy",
    "aio-plain",
)
OURS: Final = (YARDSTICK, "full", "lint", "bare")
"""The peers of the long rows of cases: the yardstick and ourselves."""
