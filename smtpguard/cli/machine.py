"""What `check` looks at on this machine: ports, names, spool, descriptors, clock. Sends no mail, changes nothing.

A port is bound for a moment to see that it can be had. One that is taken is asked who it is: smtpguard running already
is no problem, anything else is. Names are looked up on threads that nobody waits for longer than LOOK_UP_S.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import ipaddress
import os
import queue
import resource
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from smtpguard.cli.finding import Finding
from smtpguard.config import ListenAddress, Settings
from smtpguard.config.values import is_ip
from smtpguard.edge.host import is_in_memory

LOOK_UP_S: Final = 5.0
_GREETING_S: Final = 3.0
_OTHER_DESCRIPTORS: Final = 64  # log, HTTP, resolver, the loop's own
_ROOM: Final = 2**30  # octets free for the spool, at least
_RELEASED: Final = 1_763_000_000.0  # November 2025: no clock is right that says less

T = TypeVar("T")


# --- ports -----------------------------------------------------------------------------------------------------


def ports(settings: Settings) -> Iterator[Finding]:
    """The doors and HTTP: free, or ours already."""
    if settings.http.listen is None:
        yield Finding("http.listen", "ok", "off: no metrics")
    else:
        yield _port("http.listen", settings.http.listen, _is_our_http)
    for door in ("lmtp", "smtp"):
        for address in getattr(settings.listen, door):
            is_ours = _proxied if settings.listen.proxy_protocol else is_our_door
            yield _port(f"listen.{door}", address, is_ours)


def _port(name: str, address: ListenAddress, is_ours: Callable[[ListenAddress], bool]) -> Finding:
    problem = _bind(address)
    if problem is None:
        return Finding(name, "ok", f"{address} is free")
    if problem.errno == errno.EADDRINUSE:
        if is_ours(address):
            return Finding(name, "ok", f"{address} is held by smtpguard, which runs")
        who = f"see who has it: ss -ltnp 'sport = :{address.port}'" if not address.path else "see who has it: ss -lxp"
        return Finding(name, "fail", f"{address} is taken by something else", f"{who}; or choose another")
    if problem.errno in (errno.EACCES, errno.EPERM):
        remedy = "ports below 1024 need AmbientCapabilities=CAP_NET_BIND_SERVICE, or a socket unit"
        if address.path:
            remedy = "give smtpguard's user the folder"
        return Finding(name, "fail", f"{address}: not permitted", remedy)
    if problem.errno == errno.EADDRNOTAVAIL:
        return Finding(name, "fail", f"{address} is no address of this machine", "see `ip address`")
    return Finding(
        name, "fail", f"{address}: {problem.strerror or problem}", "choose an address that can be listened at"
    )


def _bind(address: ListenAddress) -> OSError | None:
    """Why the address cannot be had; it is given back at once."""
    try:
        if address.path:
            return _bind_path(address.path)
        family, kind, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(where)
    except OSError as error:
        return error
    return None


def _bind_path(path: str) -> OSError | None:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return OSError(errno.ENOENT, f"there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return OSError(errno.EACCES, os.strerror(errno.EACCES))
    with socket.socket(socket.AF_UNIX) as one:
        if os.path.exists(path) and one.connect_ex(path) != errno.ECONNREFUSED:
            return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    return None


def reached(address: ListenAddress) -> ListenAddress:
    """Where a listener is spoken to from here: one at all addresses, on loopback."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound
    return address._replace(host=everywhere.get(address.host, address.host))


def is_our_door(address: ListenAddress, first: bytes = b"") -> bool:
    """Whether it greets, or turns us away, in smtpguard's words."""
    with contextlib.suppress(OSError):
        where = address.path or (reached(address).host, address.port)
        family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family) as one:
            one.settimeout(_GREETING_S)
            one.connect(where)
            one.sendall(first)
            said = one.recv(512)
            return said.rstrip().endswith(b" smtpguard") or b"listen.allow" in said or b"listen.trusted" in said
    return False


def _proxied(address: ListenAddress) -> bool:
    return is_our_door(address, b"PROXY UNKNOWN\r\n")  # no client's: a health check


def _is_our_http(address: ListenAddress) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        asked = http.client.HTTPConnection(reached(address).host, address.port, timeout=_GREETING_S)
        with contextlib.closing(asked):
            asked.request("GET", "/livez")
            return asked.getresponse().getheader("Server") == "smtpguard"
    return False


# --- names -----------------------------------------------------------------------------------------------------


def names(hostname: str, *, is_set: bool, offline: bool) -> Iterator[Finding]:
    """The name we greet and say EHLO with: full, known to DNS, and the one that its address has (RFC 5321 4.1.4)."""
    whence = "" if is_set else ", from this host"
    if "." not in hostname or is_ip(hostname):
        yield Finding(
            "relay.hostname",
            "warn",
            f"{hostname}{whence} is not a full name",
            "set relay.hostname, as in mail.example.com",
        )
        return
    if offline:
        yield Finding("relay.hostname", "skip", f"{hostname}{whence}; DNS was not asked")
        return
    found = _within(lambda: socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM))
    if isinstance(found, OSError):
        is_temporary = getattr(found, "errno", 0) == socket.EAI_AGAIN or isinstance(found, TimeoutError)
        why = "no name server answers" if is_temporary else "DNS does not know it"
        remedy = (
            "see /etc/resolv.conf"
            if is_temporary
            else "add an address record, or set relay.hostname to a name with one"
        )
        yield Finding("relay.hostname", "warn", f"{hostname}{whence}: {why}", remedy)
        return
    addresses = list(dict.fromkeys(str(where[0]) for *_, where in found))
    public = [address for address in addresses if ipaddress.ip_address(address).is_global]
    if not public:
        yield Finding("relay.hostname", "ok", f"{hostname}{whence} is {', '.join(addresses)}; not seen from outside")
        return
    for address in public:
        yield _reverse(hostname, address)


def _reverse(hostname: str, address: str) -> Finding:
    back = _within(lambda: socket.gethostbyaddr(address))
    if isinstance(back, OSError):
        remedy = f"ask who gave you {address} for a PTR record; a provider that sends for you has its own"
        return Finding("relay.hostname", "warn", f"{hostname} is {address}, which has no name", remedy)
    known = [back[0], *back[1]]
    if hostname.lower() in (name.lower().rstrip(".") for name in known):
        return Finding("relay.hostname", "ok", f"{hostname} is {address}, and {address} is {hostname}")
    remedy = f"set relay.hostname = {back[0]}, or the PTR record of {address}"
    return Finding("relay.hostname", "warn", f"{hostname} is {address}, which is {', '.join(known)}", remedy)


def _within(ask: Callable[[], T]) -> T | OSError:
    """The answer, or the error; TimeoutError where it does not come. Nobody waits for the thread."""
    answers: queue.SimpleQueue[T | OSError] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except OSError as error:
            answers.put(error)
        except UnicodeError as error:
            answers.put(OSError(str(error)))

    threading.Thread(target=run, daemon=True).start()
    try:
        return answers.get(timeout=LOOK_UP_S)
    except queue.Empty:
        return TimeoutError(f"no answer within {LOOK_UP_S:g} s")


# --- room ------------------------------------------------------------------------------------------------------


def spool(folder: Path | None, settings: Settings) -> Iterator[Finding]:
    """Where large messages are kept while they pass: writable, with room. None: the system's temporary folder."""
    place = folder or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"smtpguard")
            probe.flush()
            is_memory = is_in_memory(os.fstat(probe.fileno()).st_dev)
        free = shutil.disk_usage(place).free
    except OSError as error:
        yield Finding(
            "relay.spool_dir", "fail", f"{place}: {error.strerror}", "give it to the user that smtpguard runs as"
        )
        return
    room = f"{place} is writable, {free / 2**30:.1f} GiB free"
    if is_memory:
        room += ", and is memory (tmpfs)"
        free = min(free, settings.relay.memory)  # where its files count
    if free < settings.listen.max_message_size:
        yield Finding("relay.spool_dir", "fail", room, "not one message of max_message_size fits: make room")
    elif free < max(_ROOM, 4 * settings.listen.max_message_size):
        yield Finding("relay.spool_dir", "warn", room, "make room, or set relay.spool_dir to a larger place")
    else:
        yield Finding("relay.spool_dir", "ok", room)


def descriptors(settings: Settings) -> Iterator[Finding]:
    """Whether all sessions and connections can be open at once; what is short makes clients wait."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    hops = sum(hop.connections for hop in settings.next_hop.values())
    needed = settings.listen.max_sessions + hops + _OTHER_DESCRIPTORS
    said = f"{limit} here, {needed} needed ({settings.listen.max_sessions} sessions, {hops} to next hops)"
    if limit in (resource.RLIM_INFINITY, -1) or limit >= needed:
        yield Finding("descriptors", "ok", said)
    else:
        yield Finding("descriptors", "warn", said, f"ulimit -n {2 * needed}, or LimitNOFILE={2 * needed} in the unit")


def clock(now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """A clock far off makes certificates invalid and Received fields lie."""
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now()))
    if now() < _RELEASED:
        yield Finding("clock", "fail", f"{said} is before this program was made", "set it: timedatectl set-ntp true")
    elif Path("/run/systemd/timesync/synchronized").exists():
        yield Finding("clock", "ok", f"{said}, synchronized")
    else:
        yield Finding("clock", "ok", f"{said}; whether it is synchronized is not known here")
