"""The rules of stage BG, which are asked of us and not of a message: our egress, our EHLO name, our sender domains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smtpguard.edge.gather import Addresses, Gather, had, settled
from smtpguard.lint import Report, Ruleset, Stage
from smtpguard.lint.facts import Dmarc, Egress, HeloSpf, Missing, Spf


async def background(
    gather: Gather, ruleset: Ruleset, addresses: Addresses, domains: Sequence[str], *, within_s: float
) -> Report:
    """What they say of these egress addresses, and of each of these domains as a sender."""
    egress, helo = gather.egress(addresses), gather.spf("", "postmaster", addresses)
    senders = {domain: (gather.spf(domain, "postmaster", addresses), gather.policy(domain)) for domain in domains}
    await settled([egress, helo, *(fact for pair in senders.values() for fact in pair)], within_s)
    report = Report()
    own = had(helo)
    as_helo = own if isinstance(own, Missing) else HeloSpf(own.identity, own.domain, own.results)
    ruleset.run(Stage.BACKGROUND, {Egress: had(egress), HeloSpf: as_helo}, report)
    for domain, (found, policy) in senders.items():
        facts: dict[type, Any] = {Spf: had(found)}
        known = had(policy)
        if not isinstance(known, Missing):
            walked, suffixed = known
            facts[Dmarc] = Dmarc(domain, walked, suffixed, "", ())
        ruleset.run(Stage.BACKGROUND, facts, report)
    return report
