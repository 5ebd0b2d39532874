"""What all sessions share: who may come in, what is offered, how much room there is (contract 1.2, 1.3).

One for both doors; a reload gives it a new `relay` and leaves sessions alone.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from smtpguard.config import ListenSettings
from smtpguard.config.values import Network
from smtpguard.edge.auth import Users
from smtpguard.edge.log import Log
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.spool import Memory
from smtpguard.flow import Relay
from smtpguard.mail.session import DoorName

_MAX_PEERS: Final = 4096  # addresses remembered; a network is asked about 2 us at a time
_FROM_NEXT_HOPS: Final = ("8BITMIME", "SMTPUTF8", "DSN")


@dataclass(slots=True)
class Doorkeeper:
    """Shared by all sessions of both doors."""

    listen: ListenSettings
    relay: Relay
    memory: Memory
    spool_dir: Path | None
    normalize: bool
    """`relay.bare_newline = "normalize"`."""
    metrics: Metrics
    log: Log
    date: Callable[[], str]
    """The time now as an RFC 5322 date-time."""
    tls: ssl.SSLContext | None = None
    users: Users | None = None
    per_client: Counter[str] = field(default_factory=Counter)
    _peers: dict[tuple[str, str], bool] = field(default_factory=dict)
    _hello: dict[tuple[bool, bool], tuple[bytes, frozenset[str]]] = field(default_factory=dict)
    _hello_as_of: tuple[Relay, int] | None = None

    def is_allowed(self, address: str) -> bool:
        """Whether this peer may send without a login; "" is a Unix socket, guarded by its file mode."""
        return not address or self._is_within(address, "allow")

    def is_trusted(self, address: str) -> bool:
        """Whether this peer may use XFORWARD and PROXY."""
        return not address or self._is_within(address, "trusted")

    def _is_within(self, address: str, which: Literal["allow", "trusted"]) -> bool:
        known = self._peers.get((address, which))
        if known is None:
            if len(self._peers) >= _MAX_PEERS:
                self._peers.clear()
            known = self._peers[address, which] = _within(address, getattr(self.listen, which))
        return known

    def hello(self, *, trusted: bool, in_tls: bool) -> tuple[bytes, frozenset[str]]:
        """The answer to EHLO, and the keywords in it; made anew when a next hop's offers or the settings changed."""
        news = (self.relay, sum([hop.news for hop in self.relay.hops.values()]))
        if news != self._hello_as_of:
            self._hello_as_of = news
            self._hello.clear()
        found = self._hello.get((trusted, in_tls))
        if found is None:
            offered = self.keywords(trusted=trusted, in_tls=in_tls)
            lines = [self.relay.hostname, *(f"{keyword} {value}".rstrip() for keyword, value in offered.items())]
            reply = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
            found = self._hello[trusted, in_tls] = reply.encode(), frozenset(offered)
        return found

    def keywords(self, *, trusted: bool, in_tls: bool) -> dict[str, str]:
        """What EHLO offers now, keyword and parameter. Of the next hops' keywords, those that none is known to lack."""
        hops = self.relay.hops.values()
        offered = {"PIPELINING": "", "SIZE": str(self.size_limit())}
        for keyword in _FROM_NEXT_HOPS:
            if all(hop.offers(keyword) is not False for hop in hops):
                offered[keyword] = ""
        offered["ENHANCEDSTATUSCODES"] = ""
        if trusted:
            offered["XFORWARD"] = "NAME ADDR PORT PROTO HELO IDENT SOURCE"
        if self.tls is not None and not in_tls:
            offered["STARTTLS"] = ""
        if self.users is not None and in_tls:
            offered["AUTH"] = "PLAIN LOGIN"
        return offered

    def size_limit(self) -> int:
        """The smaller of ours and the largest next hop's, in octets."""
        limits = [hop.size_limit() for hop in self.relay.hops.values()]
        if not limits or any(not limit for limit in limits):  # 0 and None: no limit known
            return self.listen.max_message_size
        return min(self.listen.max_message_size, max(limit for limit in limits if limit))

    def enter(self, address: str) -> bool:
        """Count a session of this peer in; False when it has too many already."""
        if self.per_client[address] >= self.listen.max_sessions_per_client:
            return False
        self.per_client[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count it out again."""
        self.per_client[address] -= 1
        if not self.per_client[address]:
            del self.per_client[address]

    def greeting(self, door: DoorName) -> bytes:
        """The 220 line."""
        return f"220 {self.relay.hostname} {'LMTP' if door == 'lmtp' else 'ESMTP'} smtpguard\r\n".encode()


def _within(address: str, networks: Collection[Network]) -> bool:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return any((mapped or ip) in network for network in networks)
