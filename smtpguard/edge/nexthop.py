"""A configured next hop: its hosts in order (flow.NextHop), what they offer, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

from smtpguard.classify.providers import OTHER, provider_of
from smtpguard.config.settings import NextHopSettings
from smtpguard.edge.health import Host, Log
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.pipeline import Connection, size_of
from smtpguard.edge.pool import ALL
from smtpguard.edge.trunk import Trunk
from smtpguard.edge.walk import Walk
from smtpguard.mail.reply import Hop


class NextHop(Walk):
    """flow.NextHop over SMTP. OSError or ssl.SSLError if a TLS file of the settings is no good."""

    is_by_domain = False

    def __init__(self, name: str, settings: NextHopSettings, *, hostname: str, metrics: Metrics, log: Log) -> None:
        self.name = name
        self.provider = provider_of(settings.host[0])
        self.news = 0
        self._known: dict[Host, Mapping[str, str]] = {}  # what each offered when `news` last grew
        trunk = Trunk(name, settings, hostname=hostname, metrics=metrics)
        ranks = [[Host(Hop(name, host, settings.port), log)] for host in settings.host]
        super().__init__(trunk, ranks, groups=ALL, turned=self._heard_of)

    def _heard_of(self, host: Host) -> None:
        if host.offered is not None and self._known.get(host) != host.offered:
            self._known[host] = host.offered
            self.news += 1
        self._trunk.breaker_open.set(0 if any(each.breaker.is_closed for each in self.hosts) else 1)

    def provider_to(self, domain: str) -> str:
        """Whose hosts the mail of a domain goes to: the next hop's own; behind a smarthost, the recipients' by name."""
        return provider_of(domain) if self.provider == OTHER else self.provider

    # What it offers

    def offers(self, keyword: str) -> bool | None:
        """Whether every host offered this EHLO keyword when last asked; None while none was asked."""
        asked = [host.offered for host in self.hosts if host.offered is not None]
        return all(keyword in offered for offered in asked) if asked else None

    def keywords(self) -> frozenset[str]:
        """What every host offered when last asked; none where none was asked."""
        asked = [frozenset(host.offered) for host in self.hosts if host.offered is not None]
        return frozenset.intersection(*asked) if asked else frozenset()

    def size_limit(self) -> int | None:
        """The smallest SIZE that a host offered: 0 no fixed limit, None unknown or not offered (RFC 1870 4)."""
        asked = [size_of(host.offered) for host in self.hosts if host.offered is not None]
        limits = [limit for limit in asked if limit is not None]
        return min((limit for limit in limits if limit), default=0) if limits else None

    async def ask(self) -> None:
        """Open a connection to each host to learn what it offers, and keep it. Never raises."""
        await asyncio.gather(*(self._ask(host) for host in self.hosts))

    async def _ask(self, host: Host) -> None:
        now = monotonic()
        settings, pool = self._trunk.settings, self._trunk.pool
        if not await pool.slots.slot(ALL, now + settings.queue_wait):
            return
        try:
            got = await self._trunk.connection(host, now + settings.timeout.connect + 2 * settings.timeout.command)
            if isinstance(got, Connection):
                self._heard_of(host)
                pool.keep(got)
            else:
                host.fell_ill(got, now)
        finally:
            pool.slots.release(ALL)

    async def close(self, within_s: float = 0.0) -> None:
        """Take no more; let the transactions under way end within so many seconds, reset the rest. Idempotent."""
        await self._pool.close(within_s)
