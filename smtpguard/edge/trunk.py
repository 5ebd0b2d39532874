"""What everything that goes out by one next hop shares, whichever hosts: connections, TLS, names, counters."""

from __future__ import annotations

from smtpguard.config.settings import NextHopSettings
from smtpguard.edge.connect import Look, Names, connect, tls_context
from smtpguard.edge.health import Host
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.pipeline import Connection
from smtpguard.edge.pool import Pool
from smtpguard.mail.reply import Answer, FailureKind, HopFailure, Reply


class Trunk:
    """One for each configured next hop. OSError or ssl.SSLError if a TLS file of the settings is no good."""

    def __init__(
        self, name: str, settings: NextHopSettings, *, hostname: str, metrics: Metrics, names: Look | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self.context = tls_context(settings)
        self.pool = Pool(settings, metrics.next_hop_connections_in_use.labels(name), self.count)
        self.breaker_open = metrics.next_hop_breaker_open.labels(name)
        self.breaker_open.set(0)
        self.reused = metrics.next_hop_connections.labels(name, "reused")
        self._opened, self._failed, self._refused = (
            metrics.next_hop_connections.labels(name, result) for result in ("opened", "failed", "refused")
        )
        self._failures = {kind: metrics.next_hop_failures.labels(name, kind.value) for kind in FailureKind}
        self._hostname = hostname
        self._names = names or Names()

    def count(self, failure: HopFailure) -> HopFailure:
        """The failure, counted."""
        self._failures[failure.kind].inc()
        return failure

    async def connection(self, host: Host, deadline: float) -> Connection | Answer:
        """A new one, by `deadline` (loop time); the caller has a slot for it."""
        self.pool.make_room()
        got = await connect(
            host.hop.host,
            self.settings,
            self._hostname,
            deadline,
            next_hop=self.name,
            names=self._names,
            context=self.context,
            demand=host.demand,
        )
        if isinstance(got, HopFailure):
            self._failed.inc()
            return self.count(got)
        if isinstance(got, Reply):
            self._refused.inc()
            return got
        self._opened.inc()
        host.offered = got.keywords
        return self.pool.adopt(got, host)
