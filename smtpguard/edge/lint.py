"""The lint at work in the service: resolver, blocklists, gathered facts and rules, made from the settings.

`inspect` opens the inspection of one transaction (`inspection.py`). In the background our own egress is watched: the
rules of stage BG are asked for each next hop every WATCH_S, and what is new is told once; the blocklists tell when an
address or a domain of ours is listed (`blocklist-listed`, `smtpguard_blocklist_listed`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from smtpguard.config import LintSettings, NextHopSettings, SenderSettings
from smtpguard.edge.background import background
from smtpguard.edge.blocklist import Blocklists, Change, Health
from smtpguard.edge.gather import Addresses, Gather
from smtpguard.edge.inspection import Inspection, Inspections
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.resolver import Purpose, Resolver, Result
from smtpguard.edge.volume import Volume
from smtpguard.flow import NextHop
from smtpguard.lint import Action, Exemption, Finding, Report, Ruleset
from smtpguard.lint.facts import Listing, Signing
from smtpguard.mail.domain import to_ascii
from smtpguard.mail.session import Envelope
from smtpguard.mailauth.dns import IpAddress
from smtpguard.mailauth.domains import organizational

WATCH_S: Final = 300.0
WATCH_WITHIN_S: Final = 30.0

Log = Callable[..., None]


class Lint:
    """One lint; a reload makes another where its settings changed. `hops`: the settings of the next hops by name."""

    def __init__(
        self,
        settings: LintSettings,
        sender: SenderSettings,
        hops: Mapping[str, NextHopSettings],
        *,
        hostname: str,
        metrics: Metrics,
        log: Log,
        on_listed: Callable[[str, str, str, str], None],
    ) -> None:
        """`on_listed` is told of a list, an address or domain of ours that is on it, why, and where to be taken off."""
        self._metrics = metrics
        self._faults: set[type[Exception]] = set()  # that were told
        self._log = log
        self._on_listed = on_listed
        self._addresses = {name: hop.egress_ips for name, hop in hops.items()}
        self._index = {address: str(index) for index, address in enumerate(self._every_address())}
        self._senders = tuple(name for domain in sender.domains if (name := to_ascii(domain.removeprefix("*."))))
        self._lookups: dict[tuple[Purpose, Result], Any] = {}
        dns = settings.dns
        self._resolver = Resolver(
            dns.resolvers, internal_zones=dns.internal_zones, clock=time.monotonic, count=self._count
        )
        lists = settings.blocklists
        keys = {"spamhaus": lists.spamhaus_key} if lists.spamhaus_key else {}
        self._blocklists = Blocklists(
            self._resolver.about("blocklist"),
            (*lists.ip, *lists.domain),
            keys=keys,
            clock=time.monotonic,
            on_change=self._on_change,
        )
        self.ruleset = Ruleset(
            settings.mode,
            {selector: Action(action) for selector, action in settings.rules.items()},
            [Exemption(each.rules, each.sender_domain, each.recipient_domain) for each in settings.exempt],
        )
        self._gather = Gather(
            self._resolver, self._blocklists, helo=hostname.lower(), clock=time.monotonic, on_fault=self._on_fault
        )
        self._inspections = Inspections(
            self.ruleset,
            self._gather,
            Volume(settings.bulk_threshold, time.monotonic),
            signing=Signing(settings.dkim.signed),
            budget_s=settings.budget,
            now=time.time,
            clock=time.monotonic,
            on_fault=self._on_fault,
        )
        self._told: set[tuple[str, str]] = set()
        organizational("example.org")  # the list is read here, not when the first message waits

    def _every_address(self) -> tuple[IpAddress, ...]:
        return tuple(dict.fromkeys(address for addresses in self._addresses.values() for address in addresses))

    def inspect(self, hops: Mapping[str, NextHop], envelope: Envelope, next_hop: str) -> Inspection:
        """The inspection of a transaction that goes by this next hop; "": recipients decide, and any may be used."""
        addresses = self._addresses.get(next_hop) if next_hop else self._every_address()
        return self._inspections.open(envelope, hops.get(next_hop), tuple(addresses or ()))

    def _count(self, purpose: Purpose, result: Result) -> None:
        tally = self._lookups.get((purpose, result))
        if tally is None:
            tally = self._lookups[purpose, result] = self._metrics.dns_lookups.labels(purpose, result)
        tally.value += 1

    def _on_fault(self, fault: Exception) -> None:
        """A fault of ours, or want of descriptors or room: its trace once a type; `lint_skipped` counts them all."""
        if type(fault) not in self._faults:
            self._faults.add(type(fault))
            level = "warning" if isinstance(fault, OSError) else "error"
            self._log("lint-failed", "a part of the lint was left out; the mail goes on", level=level, error=fault)

    # -- in the background -------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Keep an eye on our own addresses and sender domains, for ever; for a task of the service."""
        for address in self._every_address():
            self._blocklists.watch_ip(address)
        for domain in self._senders:
            self._blocklists.watch_domain(domain)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._blocklists.run())
            tasks.create_task(self._watch_rules())

    async def _watch_rules(self) -> None:
        while True:
            for name, addresses in self._addresses.items():
                if addresses:
                    self._tell(name, await self.background(addresses))
            await asyncio.sleep(WATCH_S)

    async def background(self, addresses: Addresses) -> Report:
        """What the rules of stage BG say of these egress addresses, and of our own sender domains."""
        report = await background(self._gather, self.ruleset, addresses, self._senders, within_s=WATCH_WITHIN_S)
        for fault in report.faults:
            self._on_fault(fault)
        return report

    def _tell(self, next_hop: str, report: Report) -> None:
        """Each finding once, until it is gone."""
        found = {(next_hop, _named(finding)): finding for finding in report.findings}
        for key in found.keys() - self._told:
            self._say(next_hop, found[key])
        self._told = {key for key in self._told if key[0] != next_hop} | set(found)

    def _say(self, next_hop: str, finding: Finding) -> None:
        self._metrics.lint_findings.labels(finding.rule, finding.action.value).value += 1
        self._log(
            "egress-checked",
            f"{finding.rule} {finding.name}: {finding.message}",
            level="info" if finding.severity == "info" else "warning",
            fields={
                "rule.id": finding.rule,
                "rule.reference": finding.reference,
                "smtpguard.next_hop": next_hop,
                "smtpguard.cause": finding.message,
                "smtpguard.fix": finding.fix,
            },
        )

    def _on_change(self, news: Health | Change) -> None:
        if isinstance(news, Health):
            level = "info" if news.state == "ok" else "warning"
            detail = f", {news.detail}" if news.detail else ""
            self._log("blocklist-checked", f"{news.list} is {news.state}{detail}", level=level)
            return
        listed = [listing for listing in news.listings if listing.kind in ("listed", "policy")]
        index = None if isinstance(news.subject, str) else self._index.get(news.subject)
        if index is not None:
            self._metrics.blocklist_listed.labels(news.list, index).set(1 if listed else 0)
        self._log_listing(news, listed)

    def _log_listing(self, news: Change, listed: list[Listing]) -> None:
        if not listed:
            self._log("blocklist-listed", f"{news.list} lists {news.subject} no more", level="info")
            return
        why = "; ".join(listing.meaning for listing in listed)
        self._on_listed(news.list, str(news.subject), why, listed[0].url)
        fields = {"smtpguard.cause": why, "rule.reference": listed[0].url}
        self._log("blocklist-listed", f"{news.list} lists {news.subject}: {why}", level="warning", fields=fields)

    async def close(self) -> None:
        """End what is being asked; transactions under way go on without."""
        self._inspections.close()
        await self._gather.close()
        await self._blocklists.close()
        await self._resolver.close()


def _named(finding: Finding) -> str:
    return f"{finding.rule} {finding.message}"
