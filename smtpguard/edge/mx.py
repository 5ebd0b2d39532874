"""The next hop `host = "mx"`: straight to the mail hosts of each recipient's domain (flow.NextHop).

A transaction goes to one domain: large receivers refuse recipients of two in one ("Multiple destination domains per
transaction is unsupported"). Domains with the same mail hosts share connections all the same. Where a domain's mail
goes is found once (`destination.py`), with what its hosts' TLS is held to, and kept as long as the DNS lets it; after
that each transaction is a walk over the hosts (`walk.py`), as with any next hop.

    its TLS is held to | by
    DANE (`dane.py`)   | signed TLSA records of a mail host; MTA-STS then does not matter (RFC 8461 2)
    MTA-STS            | the domain's policy: in mode enforce its hosts only, with a certificate that fits
    the settings       | neither of them. `tls = "none"` asks for no policy

A mode `testing` and a policy's failures are counted with the words of RFC 8460 4.3.

No destination may hold the MTA up: a host that is not there is left alone at once (its breaker; 451), a destination
that was not reached yet, or fails, is tried by one connection at a time, and each has its share of all connections, as
has each large provider.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from time import monotonic
from typing import Final, Literal, TypeVar

from smtpguard.classify import provider_of
from smtpguard.classify.providers import OTHER
from smtpguard.config.settings import NextHopSettings
from smtpguard.edge import dane, destination
from smtpguard.edge.breaker import THRESHOLD, Breaker
from smtpguard.edge.connect import Demand, tls_context
from smtpguard.edge.destination import Addresses, Destination, MailHost, NoWay, no_way
from smtpguard.edge.health import Host, Log
from smtpguard.edge.known import MAX_KEPT, Found, Known
from smtpguard.edge.looking import Looking
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.mtasts import Memory, Policies
from smtpguard.edge.pool import ALL
from smtpguard.edge.trunk import Trunk
from smtpguard.edge.walk import Walk
from smtpguard.flow import Exchange, Hears
from smtpguard.lint.facts import Missing
from smtpguard.mail.reply import FailureKind, Hop, HopFailure, Verb
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dns import Resolver, Tlsa
from smtpguard.mailauth.mtasts import Policy
from smtpguard.policy import Own

_LOG: Final = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 300.0
"""How long a mail host is left alone that is not there: an MTA comes back after 300 s and later."""
UNREACHED_WAIT_S: Final = 1.0
"""How long mail waits for the first connection to a destination that another message opens."""
MAX_HOSTS: Final = destination.MAX_HOSTS * MAX_KEPT
"""As many as there may be domains that we know the way to: what is still used never goes."""

TlsPolicy = Literal["tlsa", "sts"]
"""RFC 8460 4.2 policy-type."""
TLS_RESULTS: Final = (
    *("successful", "starttls-not-supported", "certificate-host-mismatch", "certificate-expired"),
    *("certificate-not-trusted", "validation-failure", "sts-policy-fetch-error", "sts-policy-invalid"),
    *("sts-webpki-invalid",),
)
"""RFC 8460 4.3 result types, those that we tell apart, and success."""

# What OpenSSL says, and what RFC 8460 4.3 calls it
_RESULTS: Final = (
    ("STARTTLS is not offered", "starttls-not-supported"),
    ("ostname mismatch", "certificate-host-mismatch"),
    ("IP address mismatch", "certificate-host-mismatch"),
    ("certificate has expired", "certificate-expired"),
    ("self-signed certificate", "certificate-not-trusted"),
    ("self signed certificate", "certificate-not-trusted"),
    ("unable to get", "certificate-not-trusted"),
)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class MxHop:
    """OSError or ssl.SSLError if a TLS file of the settings is no good.

    `resolver`: believed about DANE as far as its answers are `is_secure`. `count(policy, result)`: how TLS under a
    policy went, each time that a connection was opened or a policy fetched in vain. `policies` are made unless given;
    `memory` is where they outlive the process. `at_end`: what ends with it, such as its resolver.
    """

    is_by_domain = True
    provider = OTHER
    news = 0

    def __init__(
        self,
        name: str,
        settings: NextHopSettings,
        *,
        hostname: str,
        metrics: Metrics,
        log: Log,
        resolver: Resolver,
        count: Callable[[TlsPolicy, str], object],
        policies: Policies | None = None,
        memory: Memory | None = None,
        at_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._log = log
        self._resolver = resolver
        self._count = count
        self._at_end = at_end
        self._addresses = Addresses(
            resolver, allow_private=settings.allow_private, own=settings.egress_ips, bind=settings.bind
        )
        self._trunk = Trunk(name, settings, hostname=hostname, metrics=metrics, names=self._addresses)
        self._verified, self._unverified = _context(settings, "required"), _context(settings, "opportunistic")
        self._asks_policies = settings.tls != "none"
        self._policies = policies or Policies(
            resolver, self._addresses, self._verified, clock=monotonic, failed=partial(count, "sts"), memory=memory
        )
        self._hosts: OrderedDict[Hashable, Host] = OrderedDict()
        self._walks: OrderedDict[Hashable, Walk] = OrderedDict()
        self._given_up: set[Host] = set()
        self._known: Known[str, Walk | HopFailure] = Known(self._find, monotonic, _tell)

    # flow.NextHop

    def offers(self, keyword: str) -> bool | None:
        """Receivers differ. DSN is not offered: where one lacks it, an MTA must answer for it, and only ours can."""
        return False if keyword == "DSN" else None

    def keywords(self) -> frozenset[str]:
        """None that can be relied upon."""
        return frozenset()

    def size_limit(self) -> int | None:
        """Receivers differ."""
        return None

    def provider_to(self, domain: str) -> str:
        """Whose the mail hosts of a domain are; of nobody that is known, the domain itself: it stands for itself."""
        walk = self._known.peek(destination.known_as(domain))
        provider = _provider(walk.hosts) if isinstance(walk, Walk) else provider_of(domain)
        return domain if provider == OTHER else provider

    async def ask(self) -> None:
        """There is nobody to ask before there is mail."""

    def begin(
        self, envelope: Envelope, rcpts: Sequence[Recipient], deadline: float, hears: Hears, *, size: int | None = None
    ) -> Exchange:
        """MAIL and the given RCPTs, all of one domain, to the first of its mail hosts that takes MAIL."""
        domain = rcpts[0].domain
        key = destination.known_as(domain)
        known = self._known.peek(key)
        is_one = all(rcpt.domain == domain for rcpt in rcpts)
        if isinstance(known, Walk) and is_one:
            return known.begin(envelope, rcpts, deadline, hears, size=size)
        looking = Looking(Hop(self.name, domain, self._settings.port), hears)
        if self._trunk.pool.is_closing:
            looking.failed(HopFailure(FailureKind.STOPPING, Verb.CONNECT))
        elif not is_one:
            looking.failed(HopFailure(FailureKind.INTERNAL, Verb.MAIL, "recipients of several domains"))
        elif not key:
            looking.failed(no_way(Own.NO_DOMAIN, "no name that the DNS could hold"))
        elif isinstance(known, HopFailure | Missing):
            looking.failed(self._failure(known))
        else:
            go = partial(self._go, looking, key, envelope, rcpts, deadline, hears, size)
            looking.task = asyncio.get_running_loop().create_task(looking.look(go))
        return looking

    async def _go(
        self,
        looking: Looking,
        key: str,
        envelope: Envelope,
        rcpts: Sequence[Recipient],
        deadline: float,
        hears: Hears,
        size: int | None,
    ) -> None:
        found: Walk | HopFailure | Missing | asyncio.Task[Walk | HopFailure | Missing] = self._known.ask(key)
        if isinstance(found, asyncio.Task):
            await asyncio.wait({found}, timeout=max(0.0, deadline - monotonic()))
            if found.done():
                found = Missing("closed") if found.cancelled() else found.result()
            else:
                found = Missing("no time left")
        looking.task = None  # from here on, nothing waits
        if isinstance(found, Walk):
            looking.goes_on(found.begin(envelope, rcpts, deadline, hears, size=size))
        else:
            looking.failed(self._failure(found))

    def _failure(self, found: HopFailure | Missing) -> HopFailure:
        return found if isinstance(found, HopFailure) else self._trunk.count(no_way(Own.DNS, found.why))

    async def close(self, within_s: float = 0.0) -> None:
        """As NextHop.close."""
        await self._trunk.pool.close(within_s)
        await self._known.close()
        await self._policies.close()
        if self._at_end is not None:
            await self._at_end()

    # Where a domain's mail goes

    async def _find(self, domain: str) -> Found[Walk | HopFailure]:
        may_have_policy = self._asks_policies and not domain.startswith("[")
        found, policy = await asyncio.gather(
            destination.find(domain, self._resolver, self._addresses),
            self._policies.of(domain) if may_have_policy else _no_policy(),
        )
        if isinstance(found, NoWay):
            is_missing = found.failure.keyword == Own.DNS
            return Found(Missing(found.failure.detail) if is_missing else found.failure, found.ttl)
        ranks: list[list[Host]] = []
        unknown = ""
        for rank in found.ranks:
            hosts: list[Host] = []
            for each in rank:
                try:
                    host = await self._host(each, found, policy)
                except dane.Unknown as reason:
                    unknown = str(reason)
                else:
                    hosts += [host] if host is not None else []
            if hosts:
                ranks.append(hosts)
        if ranks:
            return Found(self._walk(ranks), found.ttl)
        if unknown:
            return Found(Missing(unknown), 0)
        self._count("sts", "validation-failure")
        failure = HopFailure(FailureKind.TLS, Verb.CONNECT, "its MTA-STS policy names none of its mail hosts")
        return Found(failure, found.ttl)

    async def _host(self, host: MailHost, found: Destination, policy: Policy | None) -> Host | None:
        """A mail host and what its TLS is held to; None where the policy does not allow it. dane.Unknown."""
        may_be_held = self._asks_policies and found.is_secure and host.base
        asked = await dane.records(self._resolver, host) if may_be_held else ()
        if asked:
            return self._host_of(host.name, asked, partial(self._by_dane, host, asked))
        if policy is None:
            return self._host_of(host.name, (), lambda: None)
        if policy.mode == "testing":
            if not policy.allows(host.name):
                self._count("sts", "validation-failure")
            return self._host_of(host.name, "testing", partial(self._by_sts, is_required=False))
        if not policy.allows(host.name):
            return None
        return self._host_of(host.name, "enforce", partial(self._by_sts, is_required=True))

    def _by_dane(self, host: MailHost, asked: Sequence[Tlsa]) -> Demand:
        told = partial(self._told, "tlsa")
        check = dane.check(asked, tuple(dict.fromkeys((host.base, host.name))))
        return Demand(self._unverified, told, check, server_name=host.base)

    def _by_sts(self, *, is_required: bool) -> Demand:
        return Demand(self._verified, partial(self._told, "sts"), is_required=is_required)

    def _told(self, policy: TlsPolicy, failure: HopFailure | None) -> None:
        if failure is None:
            self._count(policy, "successful")
        else:
            said = (result for words, result in _RESULTS if words in failure.detail)
            self._count(policy, next(said, "validation-failure"))

    def _host_of(self, name: str, held_to: Hashable, demand: Callable[[], Demand | None]) -> Host:
        """The same for all domains that share it, so that they share its breaker and its connections."""

        def made() -> Host:
            hop = Hop(self.name, name, self._settings.port)
            breaker = Breaker(first_pause_s=FIRST_PAUSE_S, longest_pause_s=LONGEST_PAUSE_S)
            return Host(hop, self._log, breaker=breaker, demand=demand(), absence_weighs=THRESHOLD)

        return _kept(self._hosts, (name, held_to), made, MAX_HOSTS, self._given_up.discard)

    # How it goes there

    def _walk(self, ranks: Sequence[Sequence[Host]]) -> Walk:
        in_order = tuple(tuple(sorted(rank, key=id)) for rank in ranks)
        return _kept(self._walks, in_order, partial(self._new_walk, in_order), MAX_KEPT, self._forget)

    def _new_walk(self, ranks: Sequence[Sequence[Host]]) -> Walk:
        hosts = [host for rank in ranks for host in rank]
        groups = (*ALL, _group(hosts))
        if (provider := _provider(hosts)) != OTHER:
            self._trunk.pool.slots.limit(provider, max(1, self._settings.connections // 2))
            groups = (*groups, provider)
        walk = Walk(self._trunk, ranks, groups=groups, turned=lambda host: self._turned(walk, host))
        self._open_up(walk)
        return walk

    def _turned(self, walk: Walk, host: Host) -> None:
        if host.breaker.is_closed:
            self._given_up.discard(host)
        else:
            self._given_up.add(host)
        self._trunk.breaker_open.set(len(self._given_up))
        self._open_up(walk)

    def _open_up(self, walk: Walk) -> None:
        """Its share where one of its hosts was reached and is in use; else one connection, and no long wait for it."""
        is_reached = any(host.offered is not None and host.breaker.is_closed for host in walk.hosts)
        walk.queue_wait_s = (
            self._settings.queue_wait if is_reached else min(self._settings.queue_wait, UNREACHED_WAIT_S)
        )
        self._trunk.pool.slots.limit(_group(walk.hosts), self._settings.connections_per_domain if is_reached else 1)

    def _forget(self, walk: Walk) -> None:
        self._trunk.pool.slots.limit(_group(walk.hosts), None)


async def _no_policy() -> None:
    return None


def _context(settings: NextHopSettings, tls: Literal["required", "opportunistic"]) -> ssl.SSLContext:
    context = tls_context(settings.model_copy(update={"tls": tls}))
    assert context is not None
    return context


def _provider(hosts: Sequence[Host]) -> str:
    return provider_of(hosts[0].hop.host)


def _group(hosts: Sequence[Host]) -> str:
    """What the slots of a destination are taken under."""
    return "to " + " ".join(f"{host.hop.host}#{id(host)}" for host in hosts)


def _kept(kept: OrderedDict[K, V], key: K, make: Callable[[], V], most: int, gone: Callable[[V], object]) -> V:
    """The value of a key, made where there is none; beyond `most` the one that was not asked for longest goes."""
    value = kept.get(key)
    if value is None:
        value = kept[key] = make()
        if len(kept) > most:
            gone(kept.popitem(last=False)[1])
    else:
        kept.move_to_end(key)
    return value


def _tell(fault: Exception) -> None:
    """Of ours, in finding a domain's hosts: its mail waits."""
    _LOG.error("mail hosts could not be found", exc_info=fault)
