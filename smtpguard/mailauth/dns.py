"""What a resolver answers, in the form that SPF, DKIM, DMARC and the lint ask for it; `edge/resolver.py` meets it.

Four results, and never more (RFC 2308, RFC 7208 2.6.6): the records, "the name has none of this type", "there is no
such name", and "not to be known now". Only the first three say anything about the domain: whoever takes the last for
one of them turns a fault of the network into a fault of the sender.

Names are ASCII (A-labels), lower case, without the final dot; whatever is no name (an empty label, one over 63 octets,
over 253 in all) is `NXDOMAIN` without a question. Several strings of a TXT record are joined without a separator
(RFC 7208 3.3, RFC 6376 3.6.2.2). A CNAME is followed by the resolver.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, NamedTuple, Protocol, TypeVar

IpAddress = IPv4Address | IPv6Address

T_co = TypeVar("T_co", covariant=True)


class Status(StrEnum):
    """How a question ended."""

    POSITIVE = "positive"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    TEMPFAIL = "tempfail"


class Mx(NamedTuple):
    """RFC 5321 5.1; `host` "" is the null MX of RFC 7505."""

    preference: int
    host: str


class Tlsa(NamedTuple):
    """RFC 6698 2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """The answer to one question. `ttl`: seconds for which it holds, of the records or the negative answer."""

    status: Status
    records: tuple[T_co, ...] = ()
    ttl: int = 0
    canonical: str = ""
    """The name behind a CNAME; "" where there was none."""
    fault: str = ""
    """Of a TEMPFAIL: servfail, refused, lame, malformed, truncated, network, timeout; or why it was not asked:
    internal, busy, closed."""
    is_cached: bool = False
    is_stale: bool = False
    """Past its TTL and given because nothing fresh was to be had (RFC 8767)."""
    is_secure: bool = False
    """The resolver has validated it (AD, RFC 6840 5.8)."""

    @property
    def is_known(self) -> bool:
        """Whether it says anything about the domain."""
        return self.status is not Status.TEMPFAIL


class Resolver(Protocol):
    """Asks, or answers from its cache without waiting. Never raises for what the DNS does."""

    async def a(self, name: str) -> Answer[IPv4Address]:
        """IPv4 addresses."""

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """IPv6 addresses."""

    async def mx(self, name: str) -> Answer[Mx]:
        """Mail hosts, the preferred first."""

    async def txt(self, name: str) -> Answer[bytes]:
        """Each TXT record's octets."""

    async def ptr(self, address: IpAddress) -> Answer[str]:
        """The names of an address (RFC 1035 3.5, RFC 3596 2.5)."""

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        """RFC 6698, asked as `_25._tcp.host`."""
