"""The next hops of the settings, each with what it needs: the embedded one, named hosts, the receivers' own (`mx`)."""

from __future__ import annotations

import time
from ipaddress import ip_address

from smtpguard.config import NextHopSettings
from smtpguard.config.lint_settings import DnsSettings
from smtpguard.edge.dnsquery import server
from smtpguard.edge.health import Log
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.mtasts import Memory
from smtpguard.edge.mx import MxHop
from smtpguard.edge.nexthop import NextHop
from smtpguard.edge.resolver import Purpose, Resolver, Result

Hop = NextHop | MxHop


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
