"""`check` for `host = "mx"`: can mail leave this machine by port 25, and would these mail hosts take it.

Without a recipient the mail hosts of a few large receivers are greeted, which is all that they hear: one that answers
shows that the port is open. With one, the mail hosts of its domain are asked as any next hop is (`probe.py`).

What receivers see of this machine is the address that mail leaves from: `sources` asks the system which that is, and
`origin` holds it against `egress_ips`. Behind NAT only the operator knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from smtpguard.cli.finding import Finding
from smtpguard.cli.probe import PROBE_S, probe
from smtpguard.config import NextHopSettings
from smtpguard.edge.connect import Connected, connect
from smtpguard.edge.destination import Addresses, NoWay, find, is_inward, known_as, source_of
from smtpguard.edge.resolver import Resolver, View
from smtpguard.mail.reply import Answer, HopFailure, Reply
from smtpguard.mail.session import Recipient
from smtpguard.mail.trouble import readable
from smtpguard.mailauth.dns import IpAddress
from smtpguard.policy import Own

RECEIVERS: Final = ("gmail.com", "outlook.com", "yahoo.com")
FAR: Final = (IPv4Address("198.41.0.4"), IPv6Address("2001:503:ba3e::2:30"))
"""Addresses that are far from anywhere (a.root-servers.net): the way there is the way to most receivers."""
_LOOK_THERE: Final = "look at the resolver: name one that knows the internet in [lint.dns] resolvers"
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
    failed = {domain: answer for domain, answer in greeted.items() if isinstance(answer, HopFailure)}
    why = "; ".join(f"{domain}: {readable(answer.detail)}" for domain, answer in failed.items())
    if all(answer.keyword for answer in failed.values()):  # none was found, and so none was asked
        is_temporary = all(answer.keyword == Own.DNS for answer in failed.values())
        said = f"whether port {hop.port} is open is not known, for no mail host is found: {why}"
        return Finding(f"next_hop.{name}", "fail", said, _LOOK_THERE, is_temporary)
    return Finding(f"next_hop.{name}", "fail", f"no mail host answers on port {hop.port}: {why}", _OPEN_IT)


# --- what mail leaves from -------------------------------------------------------------------------------------------


def sources(bind: str) -> tuple[IpAddress, ...]:
    """The addresses that this machine's mail has on the internet, as far as it knows them itself: none behind NAT.

    `bind` is `next_hop.NAME.bind`. Nothing is sent.
    """
    given = ip_address(bind) if bind else None
    if given is None or given.is_unspecified:
        found = [source_of(far) for far in FAR if given is None or given.version == far.version]
    else:
        found = [given]
    return tuple(source for source in found if source is not None and not is_inward(source))


def origin(name: str, hop: NextHopSettings, found: Sequence[IpAddress]) -> Iterator[Finding]:
    """Whether `egress_ips` of the next hop `name` (host "mx") say what mail leaves from. `found`: by `sources`."""
    of, key = f"egress.{name}", f"next_hop.{name}.egress_ips"
    if not hop.egress_ips and found:
        listed = ", ".join(f'"{address}"' for address in found)
        said = f"mail leaves from {', '.join(map(str, found))}, which is not configured"
        yield Finding(of, "warn", said, f"set {key} = [{listed}]: the lint and the watch of blocklists need it")
    elif not hop.egress_ips:
        said = "which address mail leaves from is not known: this machine has none on the internet itself (NAT?)"
        yield Finding(of, "warn", said, f"set {key} to it: its PTR, its name, SPF and blocklists decide over all mail")
    else:
        for address in found:
            if address not in hop.egress_ips:
                said = f"mail leaves from {address} too, which {key} does not name"
                remedy = "add it, with a PTR and a place in SPF; or set bind to the address that shall send"
                yield Finding(of, "warn", said, remedy)
