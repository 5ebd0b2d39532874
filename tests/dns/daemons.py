"""Three real name servers on loopback ports of their own, without privileges, over the zones of `zones.py`.

    unbound   the recursive server that a resolver asks; it asks the other two
    NSD       the root's zone, in which everything is
    rbldnsd   the blocklists, under their real names

They are started as `nobody` where we are root, from .cache/dns (install.sh) or from PATH. Nothing outside `directory`
is written, nothing outside loopback is asked: unbound knows no other server.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.query
import dns.rcode

from smtpguard.lint.lists import LISTS
from tests.dns.server import bound
from tests.dns.zones import Zone

UNPACKED: Final = Path(__file__).parents[2] / ".cache" / "dns" / "root"
PROGRAMS: Final = ("nsd", "rbldnsd", "unbound")
PATIENCE_S: Final = 20.0
REFUSED: Final = "refused.test"
SILENT: Final = "silent.test"

_FOLDERS: Final = ("usr/local/sbin", "usr/sbin", "usr/bin")
_NOBODY: Final = 65534
# unbound answers these itself unless told not to: test names, documentation networks, loopback (RFC 6303, RFC 6761)
_OWN: Final = (
    "test.",
    "2.0.192.in-addr.arpa.",
    "100.51.198.in-addr.arpa.",
    "113.0.203.in-addr.arpa.",
    "127.in-addr.arpa.",
    "8.b.d.0.1.0.0.2.ip6.arpa.",
)

_NSD: Final = """\
server:
  ip-address: 127.0.0.1@{port}
  username: ""
  chroot: ""
  server-count: 1
  database: ""
  zonesdir: "{directory}"
  zonelistfile: "{directory}/zone.list"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "root.zone"
"""

_UNBOUND: Final = """\
server:
  interface: 127.0.0.1
  port: {port}
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/unbound.pid"
  use-syslog: no
  num-threads: 1
  do-ip6: no
  module-config: "iterator"
  do-not-query-localhost: no
  local-zone: "{refused}." always_refuse
{own}
remote-control:
  control-enable: no
{stubs}
"""

_STUB: Final = 'stub-zone:\n  name: "{name}."\n  stub-addr: 127.0.0.1@{port}\n'


def missing() -> str:
    """Why this machine cannot run them; "" if it can."""
    lacking = [name for name in PROGRAMS if not _program(UNPACKED, name)]
    return f"{', '.join(lacking)} not here (as root on Debian: sh tests/dns/install.sh)" if lacking else ""


def _program(root: Path, name: str) -> str:
    unpacked = os.pathsep.join(str(root / folder) for folder in _FOLDERS)
    return shutil.which(name, path=unpacked) or shutil.which(name) or ""


class Daemons:
    """`address`: of unbound, as a configuration names it. `directory` must be open to the user nobody."""

    def __init__(self, directory: Path, zone: Zone) -> None:
        self._directory = directory
        self._zone = zone
        self._ports = {name: _free_port() for name in PROGRAMS}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # takes questions, and that is all
        self._silent.bind(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        """Where unbound answers."""
        return f"127.0.0.1:{self._ports['unbound']}"

    def start(self) -> None:
        """Start all three, and wait until they answer; RuntimeError with their words if they do not."""
        root = UNPACKED
        if root.exists():  # the work tree may lie in a closed folder
            root = self._directory / "root"
            shutil.copytree(UNPACKED / "usr", root / "usr", symlinks=True)
        (self._directory / "root.zone").write_text(self._zone.master_file(), encoding="utf-8")
        zones = self._datasets()
        nsd = self._write("nsd.conf", _NSD.format(port=self._ports["nsd"], directory=self._directory))
        unbound = self._write("unbound.conf", self._unbound(list(zones)))
        self._run(root, "nsd", "-d", "-c", nsd)
        sets = [f"{zone}:{kind}:{file}" for zone, files in zones.items() for kind, file in files.items()]
        listen = f"127.0.0.1/{self._ports['rbldnsd']}"
        self._run(root, "rbldnsd", "-n", "-q", "-w", str(self._directory), "-b", listen, *sets)
        self._run(root, "unbound", "-d", "-c", unbound)
        self._await("nsd", "good.test")
        self._await("rbldnsd", "2.0.0.127.zen.spamhaus.org")
        self._await("unbound", "good.test")

    def stop(self) -> None:
        """End them, by their ids."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(PATIENCE_S)
        self._processes.clear()
        self._silent.close()

    def _write(self, name: str, text: str) -> str:
        path = self._directory / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def _datasets(self) -> dict[str, dict[str, str]]:
        """By blocklist and type of data set, its file."""
        files: dict[str, dict[str, str]] = {}
        for zone in LISTS:
            for kind, text in self._zone.datasets(zone).items():
                files.setdefault(zone, {})[kind] = Path(self._write(f"{zone}.{kind}", text)).name
        return files

    def _unbound(self, lists: list[str]) -> str:
        stubs = {"": self._ports["nsd"], SILENT: self._silent.getsockname()[1]}
        stubs |= dict.fromkeys(lists, self._ports["rbldnsd"])
        return _UNBOUND.format(
            port=self._ports["unbound"],
            directory=self._directory,
            refused=REFUSED,
            own="\n".join(f'  local-zone: "{name}" nodefault' for name in _OWN),
            stubs="".join(_STUB.format(name=name, port=port) for name, port in stubs.items()),
        )

    def _run(self, root: Path, name: str, *arguments: str) -> None:
        libraries = os.pathsep.join(str(path) for path in root.glob("usr/lib/*-linux-gnu"))
        environ: Mapping[str, str] = {**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else os.environ
        is_root = os.geteuid() == 0
        with (self._directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [_program(root, name), *arguments],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                user=_NOBODY if is_root else None,
                group=_NOBODY if is_root else None,
                extra_groups=[] if is_root else None,
            )

    def _await(self, name: str, question: str) -> None:
        query = dns.message.make_query(question, "A")
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._processes[name].poll() is None:
            try:
                if dns.query.udp(query, "127.0.0.1", 0.2, self._ports[name]).rcode() == dns.rcode.NOERROR:
                    return
            except (dns.exception.Timeout, OSError):
                continue
        log = (self._directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{name} does not answer:\n{log}")


def _free_port() -> int:
    """Free for datagrams and for streams."""
    datagram, stream = bound()
    with datagram, stream:
        return int(stream.getsockname()[1])
