"""The facts that the lint asks for, found over the resolver and the blocklists.

What several messages share (a domain's mail hosts, an SPF result, a DMARC policy, our own egress) is found once and
kept (`known.py`); a message whose facts are known asks nothing. What could not be had in time is `Missing`, is found
all the same, and is there for the next message. Nothing here decides anything or raises for what the DNS does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

from smtpguard.edge.blocklist import Blocklists
from smtpguard.edge.known import MAX_KEPT, MISSING_S, Found, Known
from smtpguard.edge.resolver import Resolver
from smtpguard.lint.facts import (
    DnsFaults,
    Egress,
    EgressAddress,
    Listing,
    MailDomain,
    Missing,
    Spf,
)
from smtpguard.mailauth import dmarc, spf
from smtpguard.mailauth.dns import Answer, IpAddress, Status

Addresses = tuple[IpAddress, ...]
MAX_HOSTS: Final = 5
"""Mail hosts of a domain that are looked at."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")


class SpfKey(NamedTuple):
    """Whose SPF: `local` is "" unless the record's result depends on it."""

    domain: str
    helo: str
    addresses: Addresses
    local: str = ""


class Gather:
    """The facts of one process. `helo`: the name that we say to next hops; `on_fault`: as in `Known`."""

    def __init__(
        self,
        resolver: Resolver,
        blocklists: Blocklists | None,
        *,
        helo: str,
        clock: Callable[[], float],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._resolver = resolver
        self._blocklists = blocklists
        self._helo = helo
        self.keys = resolver.about("dkim")
        self._spf: Known[SpfKey, Spf] = Known(self._find_spf, clock, on_fault)
        self._per_sender: set[tuple[str, Addresses]] = set()
        self._domains: Known[str, MailDomain] = Known(self._find_domain, clock, on_fault)
        self._policies: Known[str, tuple[dmarc.Discovered, dmarc.Discovered]] = Known(
            self._find_policy, clock, on_fault
        )
        self._organizations: Known[str, str] = Known(self._find_organization, clock, on_fault)
        self._egress: Known[Addresses, Egress] = Known(self._find_egress, clock, on_fault)
        self._listings: Known[str, tuple[Listing, ...]] = Known(self._find_listings, clock, on_fault)

    async def close(self) -> None:
        """End what is being found; the resolver is its maker's."""
        for known in (
            self._spf,
            self._domains,
            self._policies,
            self._organizations,
            self._egress,
            self._listings,
        ):
            await known.close()

    # -- what is known, or a task that finds it ----------------------------------------------------------------------

    def spf(self, domain: str, local: str, addresses: Addresses) -> Spf | Missing | asyncio.Task[Spf | Missing]:
        """SPF of a MAIL FROM; of our EHLO name where `domain` is "" (RFC 7208 2.4)."""
        if not addresses:
            return _NO_EGRESS
        domain = domain or self._helo
        per_sender = (domain, addresses) in self._per_sender
        return _of(self._spf, SpfKey(domain, self._helo, addresses, local if per_sender else ""))

    def domain(self, name: str) -> MailDomain | Missing | asyncio.Task[MailDomain | Missing]:
        """What a domain says of its mail."""
        return _of(self._domains, name)

    def policy(self, domain: str) -> Any:
        """The DMARC policies for a From domain: by tree walk, by public suffix list."""
        return _of(self._policies, domain)

    def organization(self, domain: str) -> str | Missing | asyncio.Task[str | Missing]:
        """The organizational domain by tree walk (RFC 9989 4.10.2)."""
        return _of(self._organizations, domain)

    def egress(self, addresses: Addresses) -> Egress | Missing | asyncio.Task[Egress | Missing]:
        """Our own addresses as the world sees them."""
        if not addresses:
            return _NO_EGRESS
        return _of(self._egress, addresses)

    def listings(self, domain: str) -> tuple[Listing, ...] | Missing | asyncio.Task[tuple[Listing, ...] | Missing]:
        """The blocklists' entries of a domain."""
        if self._blocklists is None:
            return ()
        return _of(self._listings, domain)

    # -- finding -------------------------------------------------------------------------------------------------

    async def _find_spf(self, key: SpfKey) -> Found[Spf]:
        identity: Literal["mailfrom", "helo"] = "helo" if key.domain == key.helo and not key.local else "mailfrom"
        results = await spf.check(
            self._resolver.about("spf"),
            key.addresses,
            domain=key.domain,
            local=key.local or "postmaster",
            helo=key.helo,
        )
        if not key.local and identity == "mailfrom" and any(result.uses_sender for result in results.values()):
            if len(self._per_sender) >= MAX_KEPT:
                self._per_sender.clear()  # they are found out anew
            self._per_sender.add((key.domain, key.addresses))
            return Found(Missing("the record asks for the local part"), 0)
        failed = [result for result in results.values() if result.status is spf.SpfStatus.TEMPERROR]
        if failed:
            return Found(Missing(f"dns: SPF of {key.domain}: {failed[0].problem}"), MISSING_S)
        return Found(Spf(identity, key.domain, results), min(result.ttl for result in results.values()))

    async def _find_domain(self, name: str) -> Found[MailDomain]:
        ask = self._resolver.about("mx")
        mx = await ask.mx(name)
        if not mx.is_known:
            return Found(Missing(f"dns: MX of {name}: {mx.fault}"), MISSING_S)
        own: Sequence[Answer[IpAddress]] = ()
        hosts: dict[str, tuple[Answer[IpAddress], ...]] = {}
        if mx.records:
            for each in mx.records[:MAX_HOSTS]:
                if each.host:
                    hosts[each.host] = await _addresses(ask, each.host)
        elif mx.status is Status.NODATA:
            own = await _addresses(ask, name)
        answers = (mx, *own, *(answer for pair in hosts.values() for answer in pair))
        failed = [answer for answer in own if not answer.is_known]
        if failed:
            return Found(Missing(f"dns: addresses of {name}: {failed[0].fault}"), MISSING_S)
        return Found(MailDomain(name, mx, tuple(own), hosts), min(answer.ttl for answer in answers))

    async def _find_policy(self, domain: str) -> Found[tuple[dmarc.Discovered, dmarc.Discovered]]:
        ask = self._resolver.about("dmarc")
        walked, suffixed = await asyncio.gather(dmarc.walk(ask, domain), dmarc.by_suffix(ask, domain))
        fault = walked.fault or suffixed.fault
        if fault:
            return Found(Missing(f"dns: DMARC of {domain}: {fault}"), MISSING_S)
        return Found((walked, suffixed), min(walked.ttl, suffixed.ttl))

    async def _find_organization(self, domain: str) -> Found[str]:
        name = await dmarc.org(self._resolver.about("dmarc"), domain)
        return (
            Found(name, ORGANIZATION_S) if name else Found(Missing(f"dns: DMARC tree of {domain}: failed"), MISSING_S)
        )

    async def _find_egress(self, addresses: Addresses) -> Found[Egress]:
        ask = self._resolver.about("ptr")
        found = [await self._find_address(address) for address in addresses]
        helo = await _addresses(ask, self._helo)
        ttls = [answer.ttl for answer in (*helo, *(each.ptr for each in found if each.ptr is not None))]
        return Found(Egress(tuple(found), self._helo, helo), min(ttls))

    async def _find_address(self, address: IpAddress) -> EgressAddress:
        ask = self._resolver.about("ptr")
        ptr = await ask.ptr(address)
        forward = {name: await _addresses(ask, name) for name in ptr.records[:MAX_HOSTS]}
        listed = await self._blocklists.ip(address) if self._blocklists is not None else ()
        listings = None if isinstance(listed, Missing) else listed
        return EgressAddress(address, ptr if ptr.is_known else None, forward, listings)

    async def _find_listings(self, domain: str) -> Found[tuple[Listing, ...]]:
        assert self._blocklists is not None
        listed = await self._blocklists.domain(domain)
        if isinstance(listed, Missing):
            return Found(listed, MISSING_S)
        return Found(listed, LISTED_S)


LISTED_S: Final = 300.0
ORGANIZATION_S: Final = 600.0  # who belongs to whom changes seldom
_NO_EGRESS: Final = Missing("unknown egress: set next_hop.NAME.egress_ips")


def _of(known: Known[K, V], key: K) -> V | Missing | asyncio.Task[V | Missing]:
    fact = known.peek(key)
    return fact if fact is not None else known.ask(key)


async def _addresses(ask: Any, name: str) -> tuple[Answer[IpAddress], ...]:
    """A and AAAA of a name, side by side."""
    return tuple(await asyncio.gather(ask.a(name), ask.aaaa(name)))


async def settled(facts: Iterable[object], budget_s: float) -> None:
    """Wait until those of the facts that are tasks are done, `budget_s` at most; none is cancelled."""
    tasks = {fact for fact in facts if isinstance(fact, asyncio.Task) and not fact.done()}
    if tasks and budget_s > 0:
        await asyncio.wait(tasks, timeout=budget_s)


def had(fact: T | Missing | asyncio.Task[T | Missing]) -> T | Missing:
    """A fact as it is now; Missing where its task is not done."""
    if not isinstance(fact, asyncio.Task):
        return fact
    if not fact.done():
        return _LATE
    return Missing("cancelled") if fact.cancelled() else fact.result()


def dns_faults(facts: Iterable[object]) -> DnsFaults:
    """What could not be looked up, of facts that are missing for it: `dns: MX of example.org: timeout`."""
    whys = (fact.why for fact in facts if isinstance(fact, Missing) and fact.why.startswith("dns: "))
    parted = (why.removeprefix("dns: ").partition(": ") for why in dict.fromkeys(whys))
    return DnsFaults(tuple((question, fault) for question, _, fault in parted))


_LATE: Final = Missing("budget")
