"""The facts that the lint asks for, found over the resolver and the blocklists.

What several messages share (a domain's mail hosts, an SPF result, a DMARC policy, our own egress) is found once and
kept (`known.py`); a message whose facts are known asks nothing. What could not be had in time is `Missing`, is found
all the same, and is there for the next message. What is known of one sender is kept together besides (`Sender`,
`Standing`), until the first of it wants to be found anew: most messages ask for nothing else. Nothing here decides
anything or raises for what the DNS does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

from smtpguard.edge.blocklist import Blocklists
from smtpguard.edge.known import MAX_KEPT, MISSING_S, Found, Known
from smtpguard.edge.resolver import Resolver
from smtpguard.lint.facts import (
    Dmarc,
    DnsFaults,
    Egress,
    EgressAddress,
    Listing,
    MailDomain,
    Missing,
    SenderDomain,
    SenderListings,
    Spf,
)
from smtpguard.mailauth import dmarc, spf
from smtpguard.mailauth.dns import Answer, IpAddress, Status
from smtpguard.mailauth.domains import organizational

Addresses = tuple[IpAddress, ...]
MAX_HOSTS: Final = 5
"""Mail hosts of a domain that are looked at."""

MAX_SENDERS: Final = 2_000
"""Senders, and sets of domains, of which what is known is kept together."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")


class SpfKey(NamedTuple):
    """Whose SPF: `local` is "" unless the record's result depends on it."""

    domain: str
    helo: str
    addresses: Addresses
    local: str = ""


class Sender(NamedTuple):
    """What is known of an envelope sender: facts by type, or tasks that find them. `until`: 0.0 where some are."""

    facts: Mapping[type, Any]
    until: float


class Standing(NamedTuple):
    """What is known of the domains that stand for the sender (MAIL FROM's, From's, the signers'): facts, or tasks.

    `until` is as of `Sender`.
    """

    header_from: str
    organization: str
    """Of From, by public suffix list; "" where there is no From domain."""
    policy: Any
    """The DMARC policies for From: by tree walk, by public suffix list."""
    organizations: Mapping[str, Any]
    """Of each of the domains, its organization by tree walk."""
    listings: Mapping[str, Any]
    """Of each organization, its entries in blocklists."""
    listed: SenderListings | Missing | None
    """The same as rules want it; None where some are tasks."""
    until: float
    judged: dict[tuple[str, tuple[str, ...]], Dmarc]
    """By what passes (SPF's domain, the signers'), what alignment was judged by: the same object each time."""

    def waiting(self) -> list[object]:
        """What may be a task."""
        return [self.policy, *self.organizations.values(), *self.listings.values()]


class _Look:
    """Facts looked up together. `until`: when the first of them is found anew; 0.0 where one is being found yet."""

    def __init__(self) -> None:
        self.until = math.inf

    def up(self, known: Known[K, V], key: K) -> Any:
        """A fact, or a task that finds it."""
        kept = known.look(key)
        if kept is None:
            self.until = 0.0
            return known.ask(key)
        self.until = min(self.until, kept.renew)
        return kept.fact


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
        self._clock = clock
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
        self._senders: dict[tuple[str, bool, Addresses], Sender] = {}
        self._standings: dict[tuple[str, ...], Standing] = {}

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

    def sender(self, domain: str, path: bytes, addresses: Addresses) -> Sender:
        """Of a MAIL FROM by its domain (A-labels, "" for none) and path, as it leaves from these addresses."""
        key = (domain, bool(path), addresses)
        kept = self._senders.get(key)
        if kept is not None and self._clock() < kept.until:
            return kept
        facts: dict[type, Any] = {}
        look = _Look()
        is_personal = False
        if domain:
            facts[SenderDomain] = look.up(self._domains, domain)
        if domain or not path:
            asked = self._spf_key(domain, path.rpartition(b"@")[0].decode("utf-8", "replace"), addresses)
            facts[Spf] = look.up(self._spf, asked) if addresses else _NO_EGRESS
            is_personal = bool(asked.local)
        facts[Egress] = look.up(self._egress, addresses) if addresses else _NO_EGRESS
        made = Sender(facts, look.until)
        if look.until and not is_personal:
            _keep(self._senders, key, made)
        return made

    def standing(self, header_from: str, domains: Sequence[str]) -> Standing:
        """Of the From domain ("" for none), and of all domains that stand for the sender; A-labels."""
        key = (header_from, *domains)
        kept = self._standings.get(key)
        if kept is not None and self._clock() < kept.until:
            return kept
        names = dict.fromkeys(domain for domain in domains if domain)
        look = _Look()
        policy = look.up(self._policies, header_from) if header_from else Missing("no From domain")
        organizations = {name: look.up(self._organizations, name) for name in names} if header_from else {}
        listings: dict[str, Any] = dict.fromkeys(map(organizational, names), ())
        if self._blocklists is not None:
            listings = {name: look.up(self._listings, name) for name in listings}
        listed = entries_of(SenderListings, listings) if look.until else None
        organization = organizational(header_from) if header_from else ""
        made = Standing(header_from, organization, policy, organizations, listings, listed, look.until, {})
        if look.until:
            _keep(self._standings, key, made)
        return made

    def spf(self, domain: str, local: str, addresses: Addresses) -> Spf | Missing | asyncio.Task[Spf | Missing]:
        """SPF of a MAIL FROM; of our EHLO name where `domain` is "" (RFC 7208 2.4)."""
        if not addresses:
            return _NO_EGRESS
        return _of(self._spf, self._spf_key(domain, local, addresses))

    def _spf_key(self, domain: str, local: str, addresses: Addresses) -> SpfKey:
        domain = domain or self._helo
        per_sender = (domain, addresses) in self._per_sender
        return SpfKey(domain, self._helo, addresses, local if per_sender else "")

    def domain(self, name: str) -> MailDomain | Missing | asyncio.Task[MailDomain | Missing]:
        """What a domain says of its mail."""
        return _of(self._domains, name)

    def policy(self, domain: str) -> Any:
        """The DMARC policies for a From domain: by tree walk, by public suffix list."""
        return _of(self._policies, domain)

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


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    if len(kept) >= MAX_SENDERS:
        kept.clear()  # they are made anew
    kept[key] = value


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


def entries_of(kind: type[Any], listed: Mapping[str, Any]) -> Any:
    """The entries in blocklists of those domains that are known, as a fact of that kind; Missing where of none."""
    if not listed:
        return kind(listed)
    known = {domain: had(found) for domain, found in listed.items()}
    entries = {domain: found for domain, found in known.items() if not isinstance(found, Missing)}
    return kind(entries) if entries else next(iter(known.values()))


def dns_faults(facts: Iterable[object]) -> DnsFaults:
    """What could not be looked up, of facts that are missing for it: `dns: MX of example.org: timeout`."""
    whys = [fact.why for fact in facts if type(fact) is Missing and fact.why.startswith("dns: ")]
    if not whys:
        return _NO_FAULTS
    parted = (why.removeprefix("dns: ").partition(": ") for why in dict.fromkeys(whys))
    return DnsFaults(tuple((question, fault) for question, _, fault in parted))


_NO_FAULTS: Final = DnsFaults(())
_LATE: Final = Missing("budget")
