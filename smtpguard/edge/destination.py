"""Where a domain's mail goes: its mail hosts in order, their addresses, and those that may not be spoken to.

RFC 5321 5.1 (MX, implicit MX, equal preference), RFC 7505 (null MX), RFC 5321 4.1.3 (address literals). Only what the
DNS says for certain is a refusal; what it does not say now, or said once and cannot confirm, is a failure for a while.

    the domain                                     | said
    has one MX, and that is null                   | null_mx, certain
    does not exist                                 | no_domain, certain
    has neither MX nor address                     | no_mail_host, certain
    has mail hosts, none of which has an address   | no_mail_host, certain
    has mail hosts, none of which may be spoken to | inward
    has this machine for its best mail host        | ourselves
    cannot be looked up                            | dns

An address is judged each time that it is about to be dialled: whoever owns a domain may point its mail hosts anywhere,
and from one moment to the next.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from itertools import groupby, zip_longest
from random import sample
from typing import Final, NamedTuple

from smtpguard.config.values import is_ip
from smtpguard.edge.connect import Address
from smtpguard.mail.domain import to_ascii
from smtpguard.mail.reply import FailureKind, HopFailure, Verb
from smtpguard.mailauth.dns import Answer, IpAddress, Mx, Resolver, Status
from smtpguard.policy import Own

MAX_HOSTS: Final = 5
"""Mail hosts that are tried, the preferred first."""
MAX_LOOKED_UP: Final = 10
"""Mail hosts whose addresses are asked for."""
MAX_ADDRESSES: Final = 4
"""Addresses of one mail host that are tried."""
LITERAL_TTL: Final = 3600

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052 2.1
_COMPATIBLE: Final = IPv6Network("::/96")  # RFC 4291 2.5.5.1
_SITE_LOCAL: Final = IPv6Network("fec0::/10")  # RFC 3879: no longer given out, still routed inside


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def is_inward(address: IpAddress) -> bool:
    """Whether an address is not one of the public internet's hosts: loopback, private, link-local, multicast, ..."""
    if isinstance(address, IPv6Address):
        inner = _embedded(address)
        if inner is not None and is_inward(inner):
            return True
        if address in _SITE_LOCAL:
            return True
    is_reserved = address.is_reserved and address not in _NAT64
    return not address.is_global or address.is_multicast or is_reserved


def source_of(address: IpAddress) -> IpAddress | None:
    """The address that the system would reach another one from; None: it knows no way there. Nothing is sent."""
    try:
        with socket.socket(_FAMILIES[address.version], socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ip_address(str(probe.getsockname()[0]).partition("%")[0])
    except OSError:  # dialling will say so
        return None


def is_local(address: IpAddress) -> bool:
    """Whether the system would reach an address from the same address: it is one of this machine's."""
    return source_of(address) == address


class LookedUp(NamedTuple):
    """A mail host's addresses, in the order in which they are tried, none too many."""

    addresses: tuple[IpAddress, ...]
    is_certain: bool
    """Whether the DNS said all that it has to say, and just now."""
    is_secure: bool
    ttl: int
    canonical: str = ""
    """The name behind a CNAME; "" where there was none."""


class Addresses:
    """Mail hosts' addresses by our own resolver; connect.Look, which gives only those that may be spoken to.

    `own`: addresses of this machine, as receivers see it. `bind`: the source address; it decides the family. `source`:
    as `source_of`.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        allow_private: bool,
        own: Collection[IpAddress],
        bind: str,
        source: Callable[[IpAddress], IpAddress | None] = source_of,
    ) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._bind = ip_address(bind) if bind else None
        self._source = source
        self._own = {*own} | ({self._bind} if self._bind else set())

    async def look_up(self, host: str) -> LookedUp:
        """Of a name, or of an address that stands for itself."""
        if is_ip(host):
            return LookedUp((ip_address(host),), is_certain=True, is_secure=False, ttl=LITERAL_TTL)
        asked: list[Answer[IPv4Address] | Answer[IPv6Address]] = [
            *await asyncio.gather(self._resolver.aaaa(host), self._resolver.a(host))
        ]
        if self._bind is not None:
            asked = asked[:1] if self._bind.version == 6 else asked[1:]
        each: list[list[IpAddress]] = [sample(answer.records, len(answer.records)) for answer in asked]
        addresses = [address for pair in zip_longest(*each) for address in pair if address is not None]
        return LookedUp(
            tuple(addresses[:MAX_ADDRESSES]),
            is_certain=all(answer.is_known and not answer.is_stale for answer in asked),
            is_secure=all(answer.is_secure for answer in asked),
            ttl=min(answer.ttl for answer in asked),
            canonical=next((answer.canonical for answer in asked if answer.canonical), ""),
        )

    async def addresses(self, host: str, port: int) -> list[Address]:
        """connect.Look."""
        found = (await self.look_up(host)).addresses
        allowed = [address for address in found if not self.is_barred(address)]
        if found and not allowed:
            raise OSError(f"{found[0]} is no address to deliver to: inside, or our own")
        if len({address.version for address in allowed}) > 1:
            allowed.sort(key=self._is_astray)
        return [(int(_FAMILIES[address.version]), (str(address), port)) for address in allowed]

    def _is_astray(self, address: IpAddress) -> bool:
        """Whether mail would leave for a public IPv6 address from none, or a private one: there is no NAT that helps.

        The other family is better then (RFC 6724 6, rule 5): each try would cost its share of a connection's time.
        """
        if address.version == 4 or is_inward(address):
            return False
        source = self._source(address)
        return source is None or is_inward(source)

    def is_barred(self, address: IpAddress) -> bool:
        """Whether an address may not be spoken to."""
        return (is_inward(address) and not self._allow_private) or self.is_own(address)

    def is_own(self, address: IpAddress) -> bool:
        """Whether mail hosts know this machine by it: as we were told, or a public address that is here."""
        return address in self._own or (not is_inward(address) and is_local(address))


class MailHost(NamedTuple):
    """`base`: the name behind its CNAME where that is signed; "" where its addresses are not signed (RFC 7672 2.2)."""

    name: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """Mail hosts by preference, the preferred first; those of one rank are equal. `ttl`: seconds for which it holds."""

    ranks: tuple[tuple[MailHost, ...], ...]
    ttl: int
    is_secure: bool = False
    """The names of the mail hosts are signed."""


class NoWay(NamedTuple):
    """Why there is no mail host (the failure's `keyword`). `ttl`: seconds for which that holds; 0 of `dns`."""

    failure: HopFailure
    ttl: int = 0


def no_way(why: Own, detail: str) -> HopFailure:
    """A failure before there was a host."""
    return HopFailure(FailureKind.CONNECT, Verb.CONNECT, detail, why)


def literal(domain: str) -> str:
    """The address in a domain of the form `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3); "" of any other."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return ""
    text = domain[1:-1].lower().removeprefix("ipv6:")
    return str(ip_address(text)) if is_ip(text) else ""


def known_as(domain: str) -> str:
    """A recipient's domain as `find` takes it: A-labels, or the literal; "" where the DNS could not hold it."""
    return domain if domain.startswith("[") else to_ascii(domain)


async def find(domain: str, resolver: Resolver, addresses: Addresses) -> Destination | NoWay:
    """Where the mail of a domain (`known_as`) goes."""
    if address := literal(domain):
        return await _of_hosts(domain, [Mx(0, address)], Answer(Status.NODATA, ttl=LITERAL_TTL), addresses)
    if domain.startswith("["):
        return NoWay(no_way(Own.NO_DOMAIN, "no address literal that we know"), LITERAL_TTL)
    answer = await resolver.mx(domain)
    if answer.status is Status.TEMPFAIL:
        return NoWay(no_way(Own.DNS, f"MX of {domain}: {answer.fault}"))
    if answer.status is Status.NXDOMAIN:
        return NoWay(no_way(Own.NO_DOMAIN, f"{domain} does not exist"), answer.ttl)
    hosts = [mx for mx in answer.records if mx.host]
    if answer.records and not hosts:  # RFC 7505 3
        if answer.is_stale:
            return NoWay(no_way(Own.DNS, f"MX of {domain}: null when last seen"))
        return NoWay(no_way(Own.NULL_MX, f"{domain} has a null MX"), answer.ttl)
    if not hosts:
        hosts = [Mx(0, domain)]  # RFC 5321 5.1: the implicit MX
    return await _of_hosts(domain, [mx for mx in hosts if not is_ip(mx.host)], answer, addresses)


async def _of_hosts(domain: str, hosts: Sequence[Mx], answer: Answer[Mx], addresses: Addresses) -> Destination | NoWay:
    in_order = list(_in_order(hosts))
    chosen = in_order[:MAX_LOOKED_UP]
    looked_up = await asyncio.gather(*(addresses.look_up(mx.host) for mx in chosen))
    ttl = min([answer.ttl, *(each.ttl for each in looked_up)])
    ranked: list[tuple[int, MailHost]] = []
    has_addresses = is_ours = False
    for mx, found in zip(chosen, looked_up, strict=True):
        has_addresses |= bool(found.addresses)
        if any(addresses.is_own(address) for address in found.addresses):
            # RFC 5321 5.1: we are one of its hosts; those that are no better than us would send it back
            is_ours = True
            ranked = [each for each in ranked if each[0] < mx.preference]
            break
        if any(not addresses.is_barred(address) for address in found.addresses):
            base = (found.canonical or mx.host) if found.is_secure else ""
            ranked.append((mx.preference, MailHost(mx.host, base)))
    if ranked:
        ranks = groupby(ranked[:MAX_HOSTS], key=lambda each: each[0])
        return Destination(
            tuple(tuple(host for _, host in rank) for _, rank in ranks), ttl, answer.is_secure and not answer.is_stale
        )
    if is_ours:
        return NoWay(no_way(Own.OURSELVES, f"a mail host of {domain} is this machine"), ttl)
    if has_addresses:
        return NoWay(no_way(Own.INWARD, f"the mail hosts of {domain} have no public address"), ttl)
    is_certain = len(chosen) == len(in_order) and not answer.is_stale and all(found.is_certain for found in looked_up)
    if not is_certain:
        return NoWay(no_way(Own.DNS, f"addresses of the mail hosts of {domain}"))
    return NoWay(no_way(Own.NO_MAIL_HOST, f"no mail host of {domain} has an address"), ttl)


def _in_order(hosts: Sequence[Mx]) -> Iterator[Mx]:
    """By preference; equals in any order, so that of many of them not always the same are chosen."""
    for _, equals in groupby(sorted(hosts), key=lambda mx: mx.preference):
        each = list(equals)
        yield from sample(each, len(each))
