"""Puts one question to the name servers we were given, and reads the reply into an `Answer`.

They are recursive servers, tried in order: one that gives no usable reply is followed by the next, a lost packet is
asked once more, and a server that did not answer is tried last for a while. UDP first, with EDNS (RFC 6891) and 1,232
octets; TCP where the reply is cut (RFC 7766). Each question has an id and a port of its own (RFC 5452 9.2); what
answers something else is not read. No search list; names are asked as given. Nothing is kept here: see dnscache.py.

The exceptions of dnspython and of sockets end here, as one word: `Answer.fault`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import dns.asyncquery
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from smtpguard.mailauth.dns import Answer, Mx, Status, Tlsa

PAYLOAD: Final = 1232  # octets that pass every path unfragmented (DNS Flag Day 2020)
MAX_DATAGRAM: Final = 65_535
TRY_S: Final = 1.0
TOTAL_S: Final = 3.0
ROUNDS: Final = 2
DEAD_S: Final = 30.0
LOOK_S: Final = 5.0  # how often the system's list is looked at
SYSTEM: Final = Path("/etc/resolv.conf")

FAULTS: Final = ("servfail", "refused", "lame", "malformed", "truncated", "network", "timeout")
"""What a question may fail of; of several servers' faults the first in this order is said."""

_RCODES: Final = {
    dns.rcode.REFUSED: "refused",
    dns.rcode.NOTIMP: "refused",
    dns.rcode.NOTAUTH: "refused",
    dns.rcode.FORMERR: "malformed",
}

Rdtype = Literal["A", "AAAA", "MX", "TXT", "PTR", "TLSA"]


class Server(NamedTuple):
    """A name server: an address literal, and its port."""

    host: str
    port: int = 53


def server(text: str) -> Server:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]:5353`; ValueError for anything else."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, port = text[1:].rpartition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"{text!r} has no port from 1 to 65535")
    return Server(str(ip_address(host)), int(port))


def _host(name: dns.name.Name) -> str:
    """A name as mailauth/dns.py wants it; the root is ""."""
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")


_READ: Final[Mapping[Rdtype, tuple[dns.rdatatype.RdataType, Callable[[Any], Any]]]] = {
    "A": (dns.rdatatype.A, lambda rdata: IPv4Address(rdata.address)),
    "AAAA": (dns.rdatatype.AAAA, lambda rdata: IPv6Address(rdata.address)),
    "MX": (dns.rdatatype.MX, lambda rdata: Mx(rdata.preference, _host(rdata.exchange))),
    "TXT": (dns.rdatatype.TXT, lambda rdata: b"".join(rdata.strings)),
    "PTR": (dns.rdatatype.PTR, lambda rdata: _host(rdata.target)),
    "TLSA": (dns.rdatatype.TLSA, lambda rdata: Tlsa(rdata.usage, rdata.selector, rdata.mtype, rdata.cert)),
}


def answer_of(reply: dns.message.Message, rdtype: Rdtype, *, trust_ad: bool = False) -> Answer[Any]:
    """What a reply says, its TTL as it stands there; a TEMPFAIL where it says nothing of the name."""
    rcode = reply.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Answer(Status.TEMPFAIL, fault=_RCODES.get(rcode, "servfail"))
    if not isinstance(reply, dns.message.QueryMessage):
        return Answer(Status.TEMPFAIL, fault="malformed")
    chain = reply.resolve_chaining()  # RFC 2308 5: the lesser of the SOA's own TTL and its minimum
    name = chain.canonical_name
    canonical = "" if name == reply.question[0].name else _host(name)
    is_secure = trust_ad and bool(reply.flags & dns.flags.AD)
    if chain.answer is not None:
        _, read = _READ[rdtype]
        records = sorted([read(rdata) for rdata in chain.answer])  # their order means nothing (RFC 1034 3.6)
        return Answer(Status.POSITIVE, tuple(records), chain.minimum_ttl, canonical, is_secure=is_secure)
    if rcode == dns.rcode.NXDOMAIN:
        return Answer(Status.NXDOMAIN, (), chain.minimum_ttl, canonical, is_secure=is_secure)
    types = {rrset.rdtype for rrset in reply.authority}
    is_recursive = bool(reply.flags & dns.flags.RA)
    if dns.rdatatype.SOA not in types and (dns.rdatatype.NS in types or not is_recursive):
        # RFC 2308 2.2: a referral, or a server that does not serve us, and not "none"
        return Answer(Status.TEMPFAIL, fault="lame")
    return Answer(Status.NODATA, (), chain.minimum_ttl, canonical, is_secure=is_secure)


class Servers:
    """The name servers in use. `given`: as `server` reads them; none: the system's, read anew when its file changes."""

    def __init__(
        self,
        given: Sequence[str] = (),
        *,
        clock: Callable[[], float],
        trust_ad: bool = False,
        try_s: float = TRY_S,
        total_s: float = TOTAL_S,
        system: Path = SYSTEM,
    ) -> None:
        self._given = tuple(map(server, given))
        self._clock = clock
        self._trust_ad = trust_ad
        self._try_s, self._total_s = min(try_s, total_s), total_s
        self._system = system
        self._system_servers: tuple[Server, ...] = ()
        self._system_seen: tuple[int, ...] | None = None
        self._system_look_at = 0.0
        self._dead_until: dict[Server, float] = {}

    def in_order(self) -> tuple[Server, ...]:
        """Those that answer, as given, then those that did not."""
        now = self._clock()
        self._dead_until = {dead: until for dead, until in self._dead_until.items() if until > now}
        return tuple(sorted(self._given or self._from_system(now), key=self._dead_until.__contains__))

    def _from_system(self, now: float) -> tuple[Server, ...]:
        if now >= self._system_look_at:
            self._system_look_at = now + LOOK_S
            seen = _stamp(self._system)
            if seen != self._system_seen or not self._system_servers:
                self._system_seen = seen
                self._system_servers = _read_system(self._system)
        return self._system_servers

    async def ask(self, name: str, rdtype: Rdtype) -> Answer[Any]:
        """Ask for a name that is one (`mail.domain.to_ascii`). Never raises but when cancelled."""
        question = dns.name.Name([label.encode() for label in name.split(".")] + [b""])
        faults: set[str] = set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._total_s
        for _ in range(ROUNDS):
            is_lost = False
            for upstream in self.in_order():
                if loop.time() > deadline - self._try_s / 2:  # too late to give another a fair chance
                    break
                answer = await self._try(upstream, question, rdtype, deadline)
                if answer.is_known:
                    self._dead_until.pop(upstream, None)
                    return answer
                faults.add(answer.fault)
                if answer.fault in ("timeout", "network"):
                    self._dead_until[upstream] = self._clock() + DEAD_S
                    is_lost = True
            if not is_lost:
                break
        return Answer(Status.TEMPFAIL, fault=min(faults, key=FAULTS.index, default="network"))

    async def _try(self, upstream: Server, question: dns.name.Name, rdtype: Rdtype, deadline: float) -> Answer[Any]:
        """The only place where the exceptions of sockets and of dnspython are seen."""
        loop = asyncio.get_running_loop()
        query = dns.message.make_query(question, _READ[rdtype][0], use_edns=0, payload=PAYLOAD)
        if self._trust_ad:
            query.flags |= dns.flags.AD  # RFC 6840 5.7: that we want to be told
        fault = "timeout"
        try:
            async with asyncio.timeout_at(min(loop.time() + self._try_s, deadline)):
                reply = await _by_udp(query, upstream)
            if reply is not None and reply.rcode() == dns.rcode.FORMERR:
                query.use_edns(False)  # RFC 6891 7: it may be older than EDNS
                async with asyncio.timeout_at(min(loop.time() + self._try_s, deadline)):
                    reply = await _by_udp(query, upstream)
            if reply is None:
                fault = "truncated"
                async with asyncio.timeout_at(min(loop.time() + self._try_s, deadline)):
                    reply = await dns.asyncquery.tcp(query, upstream.host, port=upstream.port)
            return answer_of(reply, rdtype, trust_ad=self._trust_ad)
        except TimeoutError:
            pass
        except (OSError, EOFError):  # nobody listens there, or it closed
            fault = "network" if fault == "timeout" else fault
        except Exception:  # whatever it is, it came out of the reply
            fault = "malformed"
        return Answer(Status.TEMPFAIL, fault=fault)


async def _by_udp(query: dns.message.Message, upstream: Server) -> dns.message.Message | None:
    """The reply to this query from this server, whatever else arrives; None where it is cut.

    On a bare socket: dnspython's backend makes a transport, and uvloop leaves one open whose making is cut off.
    """
    loop = asyncio.get_running_loop()
    family = dns.inet.af_for_address(upstream.host)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        # Connected: the system drops what others send, and tells at once when nobody listens there
        sock.connect(dns.inet.low_level_address_tuple(upstream, family))
        await loop.sock_sendall(sock, query.to_wire())
        while True:
            wire = await loop.sock_recv(sock, MAX_DATAGRAM)
            try:
                reply = dns.message.from_wire(wire, raise_on_truncation=True)
            except dns.message.Truncated as cut:
                if query.is_response(cut.message()):  # type: ignore[no-untyped-call]  # untyped there
                    return None
            except Exception:  # noqa: S112  # no message at all: the reply may still come
                continue
            else:
                if query.is_response(reply):
                    return reply


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_system(path: Path) -> tuple[Server, ...]:
    """The name servers of a resolv.conf(5); without one, this host's."""
    found = dns.resolver.Resolver(configure=False)
    try:
        found.read_resolv_conf(path)
    except (dns.exception.DNSException, ValueError, OSError):
        return (Server("127.0.0.1"),)
    return tuple(Server(str(host)) for host in found.nameservers)
