"""The next hops of the settings, each with what it needs: the embedded one, named hosts, the receivers' own (`mx`).

A reload keeps those whose settings are the same, with their connections and what they know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from smtpguard.config import NextHopSettings, Settings
from smtpguard.config.lint_settings import DnsSettings
from smtpguard.edge.dnsquery import server
from smtpguard.edge.health import Log
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.mtasts import Memory
from smtpguard.edge.mx import MxHop
from smtpguard.edge.nexthop import NextHop
from smtpguard.edge.resolver import Purpose, Resolver, Result
from smtpguard.sandbox import Sandbox

Hop = NextHop | MxHop


class Made(NamedTuple):
    """Next hops by name, of these settings, and the name that they say EHLO by."""

    by_name: Mapping[str, Hop]
    settings: Settings
    hostname: str


class Hops:
    """The next hops in force. `memory` is where MTA-STS policies outlive the process, `maildir` the embedded one's."""

    def __init__(self, *, metrics: Metrics, log: Log, memory: Memory, maildir: Path | None) -> None:
        self._metrics: Final = metrics
        self._log: Final = log
        self._memory: Final = memory
        self._maildir: Final = maildir
        self._sandbox: Sandbox | None = None
        self._made: Made | None = None

    @property
    def by_name(self) -> Mapping[str, Hop]:
        """Those in force; `take` leaves the mapping that was given out as it is."""
        return self._made.by_name if self._made is not None else {}

    async def start_sandbox(self, settings: Settings) -> None:
        """Start the embedded one where these settings have it, and it does not run."""
        if self._sandbox is None and any(is_sandbox(hop) for hop in settings.next_hop.values()):
            self._sandbox = Sandbox(maildir=self._maildir, keep=False)
            await self._sandbox.start()

    def made(self, settings: Settings, hostname: str) -> Made:
        """Those of these settings, the ones in force among them that need not change; nothing is in force by that.

        OSError or ssl.SSLError if a TLS file of the settings is no good.
        """
        return Made({name: self._kept(name, settings, hostname) for name in settings.next_hop}, settings, hostname)

    def _kept(self, name: str, settings: Settings, hostname: str) -> Hop:
        old = self._made
        if (
            old is not None
            and old.settings.next_hop.get(name) == settings.next_hop[name]
            and old.hostname == hostname  # it says EHLO by it
            and old.settings.lint.dns == settings.lint.dns  # it may ask there
        ):
            return old.by_name[name]
        return make(
            name,
            settings.next_hop[name],
            settings.lint.dns,
            hostname=hostname,
            metrics=self._metrics,
            log=self._log,
            sandbox_port=self._sandbox.port if self._sandbox is not None else None,
            memory=self._memory,
        )

    def take(self, made: Made) -> list[Hop]:
        """Put them in force; those that are given up, to be closed by the caller."""
        before, self._made = self.by_name, made
        return [hop for name, hop in before.items() if made.by_name.get(name) is not hop]

    async def close(self) -> None:
        """Close those in force, and the embedded one."""
        await asyncio.gather(*(hop.close() for hop in self.by_name.values()))
        if self._sandbox is not None:
            await self._sandbox.stop()


def is_sandbox(settings: NextHopSettings) -> bool:
    """Whether it is the embedded one."""
    return settings.host == ("sandbox",)


def make(
    name: str,
    settings: NextHopSettings,
    dns: DnsSettings,
    *,
    hostname: str,
    metrics: Metrics,
    log: Log,
    sandbox_port: int | None,
    memory: Memory,
) -> Hop:
    """The next hop of that name; `memory` is where MTA-STS policies outlive the process.

    OSError or ssl.SSLError if a TLS file of the settings is no good.
    """
    if settings.is_mx:
        resolver = _resolver(dns, metrics)
        return MxHop(
            name,
            settings,
            hostname=hostname,
            metrics=metrics,
            log=log,
            resolver=resolver.about("mx"),
            count=lambda policy, result: metrics.tls_policies.labels(policy, result).inc(),
            memory=memory,
            at_end=resolver.close,
        )
    if is_sandbox(settings):
        assert sandbox_port is not None
        settings = settings.model_copy(update={"host": ("127.0.0.1",), "port": sandbox_port})
    return NextHop(name, settings, hostname=hostname, metrics=metrics, log=log)


def _resolver(dns: DnsSettings, metrics: Metrics) -> Resolver:
    """Of one next hop alone. What it says is signed (AD) is believed from name servers on this machine only."""

    def looked_up(purpose: Purpose, result: Result) -> None:
        metrics.dns_lookups.labels(purpose, result).inc()

    is_near = bool(dns.resolvers) and all(ip_address(server(text).host).is_loopback for text in dns.resolvers)
    return Resolver(dns.resolvers, clock=time.monotonic, count=looked_up, trust_ad=is_near)
