"""A name server in the process of the test: UDP and TCP on one loopback port, over `zones.Zone`, with faults.

It answers as a recursive server that has everything in its cache: CNAMEs followed, wildcards (RFC 4592) unfolded, the
SOA in what is not there. A fault is a word in the zone's file at a name, or `server.fault` for every name:

    TIMEOUT    no reply                         GARBAGE    octets that are no message
    SERVFAIL   that code                        WRONGID    the answer, with another id, and nothing else
    REFUSED    that code                        FORGED     noise, an answer with another id, then the answer
    LAME       a referral                       CUT        TC by UDP, and TCP is closed without a word
    NOEDNS     FORMERR to all EDNS              LOOP       CNAMEs in a ring
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.dns.zones import SOA, TTL, Record, Zone

_RCODES: Final = {"SERVFAIL": dns.rcode.SERVFAIL, "REFUSED": dns.rcode.REFUSED}
_MAX_UDP: Final = 512  # RFC 1035 4.2.1, without EDNS
_MAX_CHAIN: Final = 8


class Question(NamedTuple):
    """What was asked, and how: `udp` or `tcp`."""

    name: str
    rdtype: str
    transport: str


class Server:
    """`questions`: all that was asked. `hold` makes questions wait until `release`."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.fault = ""
        self.is_authenticated = False  # sets AD
        self.questions: list[Question] = []
        self.port = 0
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """As a configuration names it."""
        return f"127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Take questions in, and reply to none."""
        self._open.clear()

    def release(self) -> None:
        """Reply to all that wait."""
        self._open.set()

    def asked(self, name: str, rdtype: str = "") -> int:
        """How often a name was asked for, by UDP."""
        return sum(was.name == name and rdtype in ("", was.rdtype) and was.transport == "udp" for was in self.questions)

    def udp(self, wire: bytes, reply_to: asyncio.DatagramTransport, peer: object) -> None:
        """One datagram."""
        task = asyncio.get_running_loop().create_task(self._udp(wire, reply_to, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _udp(self, wire: bytes, transport: asyncio.DatagramTransport, peer: object) -> None:
        query, fault = await self._taken(wire, "udp")
        for octets in self._by_udp(query, fault):
            transport.sendto(octets, peer)  # type: ignore[arg-type]  # whatever the loop gave us

    def _by_udp(self, query: dns.message.Message, fault: str) -> list[bytes]:
        if fault == "TIMEOUT":
            return []
        if fault == "GARBAGE":
            return [b"\xff" * 40]
        answer = self._answer(query, fault)
        wrong = self._answer(query, fault)
        wrong.id ^= 0x5555
        match fault:
            case "WRONGID":
                return [wrong.to_wire()]
            case "FORGED":
                wrong.answer.clear()
                return [b"noise", wrong.to_wire(), answer.to_wire()]
            case "CUT":
                answer.answer.clear()
                answer.flags |= dns.flags.TC
                return [answer.to_wire()]
        size = query.payload if query.edns >= 0 else _MAX_UDP
        return [answer.to_wire(max_size=size, prefer_truncation=True)]

    async def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with one question (RFC 1035 4.2.2)."""
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            query, fault = await self._taken(await reader.readexactly(size), "tcp")
            if fault != "CUT":
                writer.write(self._answer(query, fault).to_wire(max_size=65_535, prepend_length=True))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):  # nobody waits any more
            pass
        finally:
            writer.close()

    async def _taken(self, wire: bytes, transport: str) -> tuple[dns.message.Message, str]:
        query = dns.message.from_wire(wire)
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        self.questions.append(Question(name, dns.rdatatype.to_text(query.question[0].rdtype), transport))
        await self._open.wait()
        return query, self.fault or self.zone.faults.get(name, "")

    def _answer(self, query: dns.message.Message, fault: str) -> dns.message.Message:
        reply = dns.message.make_response(query, recursion_available=True)
        if fault == "NOEDNS" and query.edns >= 0:
            reply.use_edns(False)
            reply.set_rcode(dns.rcode.FORMERR)
        elif fault in _RCODES:
            reply.set_rcode(_RCODES[fault])
        elif fault == "LAME":
            _add(reply.authority, dns.name.root, [_rdata("NS", "elsewhere.test.")])
        elif fault == "LOOP":
            name = query.question[0].name
            other = dns.name.from_text("other", name)
            _add(reply.answer, name, [_rdata("CNAME", other.to_text())])
            _add(reply.answer, other, [_rdata("CNAME", name.to_text())])
        else:
            self._resolve(query, reply)
        if self.is_authenticated:
            reply.flags |= dns.flags.AD
        return reply

    def _resolve(self, query: dns.message.Message, reply: dns.message.Message) -> None:
        name, rdtype = query.question[0].name, query.question[0].rdtype
        for _ in range(_MAX_CHAIN):
            records = self._records(name)
            found = [record for record in records or () if record.rdata.rdtype == rdtype]
            aliases = [record for record in records or () if record.rdata.rdtype == dns.rdatatype.CNAME]
            if found or not aliases:
                break
            _add(reply.answer, name, aliases)
            name = aliases[0].rdata.target  # type: ignore[attr-defined]  # a CNAME has one
        if found:
            _add(reply.answer, name, found)
            return
        _add(reply.authority, dns.name.root, [_rdata("SOA", SOA)])
        if records is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)

    def _records(self, name: dns.name.Name) -> list[Record] | None:
        """What a name has, a wildcard unfolded; None: there is no such name."""
        labels = name.to_text(omit_final_dot=True).lower().split(".")
        for start in range(len(labels)):
            owner = ".".join(labels[start:])
            if start == 0 and owner in self.zone.records:
                return self.zone.records[owner]
            wildcard = self.zone.records.get(f"*.{owner}")
            if start > 0 and wildcard is not None:
                return wildcard
            if any(known == owner or known.endswith("." + owner) for known in self.zone.records):
                return [] if start == 0 else None
        return None


def _rdata(rdtype: str, text: str) -> Record:
    return Record(TTL, dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, relativize=False))


def _add(section: list[dns.rrset.RRset], name: dns.name.Name, records: list[Record]) -> None:
    section.append(dns.rrset.from_rdata_list(name, records[0].ttl, [record.rdata for record in records]))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto")
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]  # uvloop's derive from none

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._server.udp(data, self._transport, addr)


@contextlib.asynccontextmanager
async def serving(zone: Zone, *, tcp: bool = True) -> AsyncIterator[Server]:
    """A server that listens. `tcp`: whether a connection to it is taken, or refused by the system."""
    loop = asyncio.get_running_loop()
    server = Server(zone)
    both = bound()
    server.port = both[0].getsockname()[1]
    datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server), sock=both[0])
    streams = await asyncio.start_server(server.tcp, sock=both[1]) if tcp else None
    if streams is None:
        both[1].close()
    try:
        yield server
    finally:
        server.release()
        if streams is not None:
            streams.close()
        datagrams.close()
        await asyncio.gather(*server._tasks)


def bound() -> tuple[socket.socket, socket.socket]:
    """One for datagrams and one for streams, bound to the same free port."""
    while True:
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stream.bind(("127.0.0.1", 0))
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagram.bind(stream.getsockname())
        except OSError:  # somebody's datagrams
            stream.close()
            datagram.close()
            continue
        return datagram, stream
