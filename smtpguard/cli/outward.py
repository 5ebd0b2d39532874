"""`check` for `host = "mx"`: can mail leave this machine by port 25, and would these mail hosts take it.

Without a recipient the mail hosts of a few large receivers are greeted, which is all that they hear: one that answers
shows that the port is open. With one, the mail hosts of its domain are asked as any next hop is (`probe.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from smtpguard.cli.finding import Finding
from smtpguard.cli.probe import PROBE_S, probe
from smtpguard.config import NextHopSettings
from smtpguard.edge.connect import Connected, connect
from smtpguard.edge.destination import Addresses, NoWay, find, known_as
from smtpguard.edge.resolver import Resolver, View
from smtpguard.mail.reply import Answer, HopFailure, Reply
from smtpguard.mail.session import Recipient

RECEIVERS: Final = ("gmail.com", "outlook.com", "yahoo.com")
_OPEN_IT: Final = "have outgoing port 25 opened, which many providers bar, or send by a smarthost"


async def probe_mx(
    name: str,
    hop: NextHopSettings,
    hostname: str,
    resolvers: Sequence[str],
    *,
    rcpt: Recipient | None = None,
    max_size: int = 0,
    receivers: Sequence[str] = RECEIVERS,
) -> list[Finding]:
    """What is found of the next hop `name`, whose host is "mx". `resolvers`: `lint.dns.resolvers`. Never raises."""
    resolver = Resolver(resolvers, clock=time.monotonic, count=lambda *_: None)
    view = resolver.about("mx")
    addresses = Addresses(view, allow_private=hop.allow_private, own=hop.egress_ips, bind=hop.bind)
    try:
        if rcpt is None:
            greeted = await asyncio.gather(*(_greet(hop, hostname, domain, view, addresses) for domain in receivers))
            return [_port(name, hop, dict(zip(receivers, greeted, strict=True)))]
        found = await find(known_as(rcpt.domain), view, addresses)
    finally:
        await resolver.close()
    if isinstance(found, NoWay):
        detail = found.failure.detail
        return [Finding(f"next_hop.{name}", "fail", detail, "correct the address, or look at the resolver")]
    hosts = tuple(host.name for rank in found.ranks for host in rank)
    asked = await probe(name, hop.model_copy(update={"host": hosts}), hostname, rcpt=rcpt, max_size=max_size)
    return [Finding(f"next_hop.{name}", "ok", f"mail for {rcpt.domain} goes to {', '.join(hosts)}"), *asked]


async def _greet(hop: NextHopSettings, hostname: str, domain: str, view: View, addresses: Addresses) -> Answer | None:
    """How a mail host of a domain takes a connection; None: well."""
    found = await find(domain, view, addresses)
    if isinstance(found, NoWay):
        return found.failure
    deadline = asyncio.get_running_loop().time() + PROBE_S
    in_clear = hop.model_copy(update={"tls": "none"})  # the port is what is asked about
    got = await connect(found.ranks[0][0].name, in_clear, hostname, deadline, names=addresses)
    if not isinstance(got, Connected):
        return got
    got.transport.write(b"QUIT\r\n")
    got.transport.close()
    return None


def _port(name: str, hop: NextHopSettings, greeted: Mapping[str, Answer | None]) -> Finding:
    """One that was reached is enough; one that refuses us was reached too."""
    well = [domain for domain, answer in greeted.items() if answer is None]
    if well:
        return Finding(f"next_hop.{name}", "ok", f"port {hop.port} is open: {', '.join(well)} answer")
    refused = [f"{domain}: {answer}" for domain, answer in greeted.items() if isinstance(answer, Reply)]
    if refused:
        remedy = "look at what they say of our address: its PTR, its name, blocklists"
        return Finding(f"next_hop.{name}", "warn", f"port {hop.port} is open, but {'; '.join(refused)}", remedy)
    failed = [f"{domain}: {answer.detail}" for domain, answer in greeted.items() if isinstance(answer, HopFailure)]
    return Finding(
        f"next_hop.{name}", "fail", f"no mail host answers on port {hop.port}: {'; '.join(failed)}", _OPEN_IT
    )
