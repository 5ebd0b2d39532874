"""The resolver behind SPF, DKIM, DMARC, the lint and the blocklists: one cache, one question at a time for each name.

It meets `mailauth.dns.Resolver`. What is known is answered without a wait (`dnscache.py` says for how long); what is
not is asked once however many wait for it (`dnsquery.py`), and goes on being asked when they have gone. An answer that
is used in the last fifth of its time is asked for again in the background. Names of internal zones and whatever is no
name are never asked; nothing here raises for what the DNS does.

    faults of our own | why a question was not asked
    internal          | the name is in an internal zone: what the world says of it is not what holds here
    busy              | too many questions are under way
    closed            | the program ends
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, Literal, get_args

from smtpguard.edge.dnscache import MAX_ENTRIES, Cache, Key
from smtpguard.edge.dnsquery import SYSTEM, TOTAL_S, TRY_S, Rdtype, Servers
from smtpguard.mail.domain import to_ascii
from smtpguard.mailauth.dns import Answer, IpAddress, Mx, Status, Tlsa

Purpose = Literal["spf", "dkim", "dmarc", "mx", "ptr", "blocklist", "tlsa", "other"]
Result = Literal["hit", "answer", "nodata", "nxdomain", "failed", "stale"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
RESULTS: Final[tuple[Result, ...]] = get_args(Result)
"""Labels of smtpguard_dns_lookups_total. `hit`: it was known; the others: what a question brought, now or last."""

MAX_FLIGHTS: Final = 200
INVALID_TTL: Final = 300

_RESULTS: Final[dict[Status, Result]] = {
    Status.POSITIVE: "answer",
    Status.NODATA: "nodata",
    Status.NXDOMAIN: "nxdomain",
    Status.TEMPFAIL: "failed",
}


@lru_cache(maxsize=4096)
def reverse_name(address: IpAddress) -> str:
    """The name that PTR records stand at (RFC 1035 3.5, RFC 3596 2.5); of an IPv4 address in IPv6, the former's."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).reverse_pointer


class Resolver:
    """Cache and questions; ask through a view of it, `about(purpose)`, so that look-ups are counted by what they serve.

    `resolvers`: name servers (`dnsquery.server`), none: the system's. `internal_zones`: domains that are never asked.
    `clock`: seconds, monotonic. `count(purpose, result)`: called for each look-up. `try_s`, `total_s`: how long one
    server, one question may take.
    """

    def __init__(
        self,
        resolvers: Sequence[str] = (),
        *,
        internal_zones: Sequence[str] = (),
        clock: Callable[[], float],
        count: Callable[[Purpose, Result], object],
        trust_ad: bool = False,
        try_s: float = TRY_S,
        total_s: float = TOTAL_S,
        max_entries: int = MAX_ENTRIES,
        max_flights: int = MAX_FLIGHTS,
        system: Path = SYSTEM,
    ) -> None:
        self._servers = Servers(resolvers, clock=clock, trust_ad=trust_ad, try_s=try_s, total_s=total_s, system=system)
        self._internal = frozenset(zone.lower().removeprefix("*.").strip(".") for zone in internal_zones)
        self._clock = clock
        self._count = count
        self._cache = Cache(max_entries)
        self._max_flights = max_flights
        self._flights: dict[Key, asyncio.Task[Answer[Any]]] = {}
        self._is_closed = False

    def about(self, purpose: Purpose) -> View:
        """This resolver, for one purpose."""
        return View(self, purpose)

    def is_internal(self, name: str) -> bool:
        """Whether a name lies in an internal zone."""
        if not self._internal:
            return False
        labels = name.split(".")
        return any(".".join(labels[start:]) in self._internal for start in range(len(labels)))

    def known(self, name: str, rdtype: Rdtype, purpose: Purpose) -> Answer[Any] | None:
        """What the cache says; None: ask. An answer that nears its end is asked for again behind it."""
        key = (name, rdtype)
        entry = self._cache.get(key)
        if entry is None:
            return None
        now = self._clock()
        answer = entry.given(now)
        if answer is None:
            return None
        if entry.is_due(now) and key not in self._flights:
            ahead = self._start(key)
            if ahead is not None:
                ahead.add_done_callback(partial(self._came_ahead, purpose))
        self._count(purpose, "stale" if answer.is_stale else "hit" if answer.is_known else "failed")
        return answer

    def peek(self, name: str, rdtype: Rdtype, purpose: Purpose) -> Answer[Any] | None:
        """As `known`; and the records as last seen while a question for them is under way."""
        answer = self.known(name, rdtype, purpose)
        if answer is None and (name, rdtype) in self._flights:
            entry = self._cache.get((name, rdtype))
            answer = None if entry is None else entry.stale(self._clock())
            if answer is not None:
                self._count(purpose, "stale")
        return answer

    async def ask(self, name: str, rdtype: Rdtype, purpose: Purpose) -> Answer[Any]:
        """The answer to a question that `known` had none for. A waiter that is cancelled leaves it under way."""
        name = to_ascii(name)
        if not name:
            return Answer(Status.NXDOMAIN, ttl=INVALID_TTL)
        if self.is_internal(name):
            return Answer(Status.TEMPFAIL, fault="internal")
        key = (name, rdtype)
        flight = self._flights.get(key)
        if flight is None:
            known = self.known(name, rdtype, purpose)  # it may be there in its usual form
            if known is not None:
                return known
            flight = self._start(key)
        answer = self._unasked(key) if flight is None else await self._landing(flight)
        self._count(purpose, "stale" if answer.is_stale else _RESULTS[answer.status])
        return answer

    def _start(self, key: Key) -> asyncio.Task[Answer[Any]] | None:
        """Put a question under way; None where there is no room for it."""
        if self._is_closed or len(self._flights) >= self._max_flights:
            return None
        flight = asyncio.get_running_loop().create_task(self._question(key), name="dns")
        self._flights[key] = flight
        flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return flight

    async def _question(self, key: Key) -> Answer[Any]:
        said = await self._servers.ask(*key)
        return self._cache.learn(key, said, self._clock())

    async def _landing(self, flight: asyncio.Task[Answer[Any]]) -> Answer[Any]:
        await asyncio.wait({flight})  # a waiter that is cancelled does not cancel it
        return Answer(Status.TEMPFAIL, fault="closed") if flight.cancelled() else flight.result()

    def _unasked(self, key: Key) -> Answer[Any]:
        entry = self._cache.get(key)
        stale = None if entry is None else entry.stale(self._clock())
        return stale or Answer(Status.TEMPFAIL, fault="closed" if self._is_closed else "busy")

    def _came_ahead(self, purpose: Purpose, flight: asyncio.Task[Answer[Any]]) -> None:
        if not flight.cancelled() and flight.exception() is None:
            answer = flight.result()  # of the cache: it failed, and what was known still holds
            self._count(
                purpose, "stale" if answer.is_stale else "failed" if answer.is_cached else _RESULTS[answer.status]
            )

    async def close(self) -> None:
        """End the questions under way: who waits for one gets a TEMPFAIL, as does who asks later."""
        self._is_closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)


class View:
    """A resolver as one purpose sees it: `mailauth.dns.Resolver`, and `peek`."""

    __slots__ = ("_purpose", "_resolver")

    def __init__(self, resolver: Resolver, purpose: Purpose) -> None:
        self._resolver = resolver
        self._purpose = purpose

    def peek(self, name: str, rdtype: Rdtype) -> Answer[Any] | None:
        """What is known of a name (ASCII, lower case), without a wait; None: nothing, or nothing fresh enough."""
        return self._resolver.peek(name, rdtype, self._purpose)

    def is_internal(self, name: str) -> bool:
        """Whether a name (lower case) lies in an internal zone."""
        return self._resolver.is_internal(name)

    async def a(self, name: str) -> Answer[IPv4Address]:
        """IPv4 addresses."""
        return self._resolver.known(name, "A", self._purpose) or await self._resolver.ask(name, "A", self._purpose)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """IPv6 addresses."""
        resolver = self._resolver
        return resolver.known(name, "AAAA", self._purpose) or await resolver.ask(name, "AAAA", self._purpose)

    async def mx(self, name: str) -> Answer[Mx]:
        """Mail hosts, the preferred first."""
        return self._resolver.known(name, "MX", self._purpose) or await self._resolver.ask(name, "MX", self._purpose)

    async def txt(self, name: str) -> Answer[bytes]:
        """Each TXT record's octets."""
        return self._resolver.known(name, "TXT", self._purpose) or await self._resolver.ask(name, "TXT", self._purpose)

    async def ptr(self, address: IpAddress) -> Answer[str]:
        """The names of an address."""
        name = reverse_name(address)
        return self._resolver.known(name, "PTR", self._purpose) or await self._resolver.ask(name, "PTR", self._purpose)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        """Of `_25._tcp.host`."""
        resolver = self._resolver
        return resolver.known(name, "TLSA", self._purpose) or await resolver.ask(name, "TLSA", self._purpose)
