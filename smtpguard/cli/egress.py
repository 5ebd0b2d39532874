"""What `check` says of the DNS, of our own addresses and of the domains that we send for; nothing is sent.

resolver       each name server: does it answer, how fast, by TCP too, and does it tell the truth
blocklists     whether the lists that are configured answer us: many refuse public resolvers
egress.NAME    the addresses of a next hop as receivers see them: names, HELO, blocklists
sender.DOMAIN  the audit of a domain (`smtpguard audit DOMAIN`), in its verdict and what is to be mended

Where a next hop has `host = "mx"` all of it matters: nobody else's address or name stands before ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import dns.asyncquery
import dns.exception
import dns.message

from smtpguard.audit import Audit, Line, audit, own_addresses
from smtpguard.cli.asking import Asking, asking
from smtpguard.cli.finding import Finding
from smtpguard.cli.outward import origin, sources
from smtpguard.config import Settings
from smtpguard.config.secrets import FileError
from smtpguard.edge.blocklist import Health
from smtpguard.edge.dnsquery import TRY_S, Server, Servers
from smtpguard.mailauth.dns import IpAddress, Status

NOWHERE: Final = "smtpguard-check.invalid"
"""A name that there never is (RFC 6761 6.4)."""
SLOW_S: Final = 0.5


async def dns_findings(settings: Settings, own: Callable[[str], Sequence[IpAddress]] = sources) -> list[Finding]:
    """All of them. Where nothing of ours asks the DNS, nothing is asked. `own`: as `outward.sources`."""
    straight = {name: own(hop.bind) for name, hop in settings.next_hop.items() if hop.is_mx}
    if settings.lint.mode == "off" and not settings.sender.domains and not straight:
        return [Finding("resolver", "skip", "not needed: the lint is off, and [sender] names no domain")]
    servers = Servers(settings.lint.dns.resolvers, clock=time.monotonic).in_order()
    found = list(await asyncio.gather(*(_server(server) for server in servers)))
    if all(finding.is_temporary for finding in found):
        return found  # nobody to ask
    found = [finding._replace(state="warn") if finding.is_temporary else finding for finding in found]  # others answer
    try:
        async with asking(settings) as given:
            await given.lists.refresh()
            found += _lists(given.lists.status())
            addresses = {name: hop.egress_ips or straight.get(name, ()) for name, hop in settings.next_hop.items()}
            for name, hop in settings.next_hop.items():
                if hop.is_mx:
                    found += origin(name, hop, straight[name])
                if hop.host != ("sandbox",):
                    found += await _egress(given, name, addresses[name])
            ours = tuple(dict.fromkeys(chain.from_iterable(addresses.values())))
            for domain in settings.sender.domains:
                if "*" not in domain:
                    found += _sender(await audit(domain, given.terms(domain, ours)))
            if straight and not settings.sender.domains:
                found.append(_NO_SENDER)
    except FileError as error:
        found.append(Finding("lint.blocklists", "fail", str(error), "correct lint.blocklists.spamhaus_key_file"))
    return found


# --- name servers ----------------------------------------------------------------------------------------------------


async def _server(server: Server) -> Finding:
    where = f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"
    one = Servers([where], clock=time.monotonic)
    begun = time.monotonic()
    answer = await one.ask(NOWHERE, "A")
    took_s = time.monotonic() - begun
    if not answer.is_known:
        remedy = "name one that answers in [lint.dns] resolvers: without the DNS, rules that need it are skipped"
        return Finding("resolver", "fail", f"{where} gives no answer ({answer.fault})", remedy, is_temporary=True)
    if answer.status is Status.POSITIVE:
        remedy = "use a resolver of your own: this one makes names up, and lints and blocklists with it"
        return Finding("resolver", "fail", f"{where} lies: {NOWHERE} is {answer.records[0]}", remedy)
    said = f"{where} answers in {took_s * 1000:.0f} ms"
    if fault := await _by_tcp(server):
        remedy = "let TCP port 53 through: long records (DKIM keys, SPF) come by TCP only (RFC 7766)"
        return Finding("resolver", "warn", f"{said}, but not by TCP ({fault})", remedy)
    if took_s > SLOW_S:
        return Finding("resolver", "warn", f"{said}: slow", "run a caching resolver on this machine (unbound)")
    return Finding("resolver", "ok", f"{said}, by UDP and TCP")


async def _by_tcp(server: Server) -> str:
    """What goes wrong by TCP, "" if nothing."""
    query = dns.message.make_query(f"{NOWHERE}.", "A")
    try:
        await dns.asyncquery.tcp(query, server.host, port=server.port, timeout=TRY_S)
    except (OSError, EOFError, TimeoutError, dns.exception.DNSException) as error:
        return str(error) or type(error).__name__
    return ""


# --- blocklists ------------------------------------------------------------------------------------------------------

_REMEDIES: Final = {
    "blocked": "ask through a resolver of your own (lists refuse public ones), or set spamhaus_key_file for Spamhaus",
    "error": "ask through a resolver of your own (lists refuse public ones), or set spamhaus_key_file for Spamhaus",
    "broken": "take it out of [lint.blocklists], or see whether the resolver rewrites answers",
    "unreachable": "try again later; if it stays so, take it out of [lint.blocklists]",
}


def _lists(status: Iterable[Health]) -> Iterator[Finding]:
    status = list(status)
    for health in status:
        if health.state != "ok":
            remedy = _REMEDIES.get(health.state, "")
            yield Finding("blocklists", "warn", f"{health.list} is not used: {health.state}, {health.detail}", remedy)
    good = [health.list for health in status if health.state == "ok"]
    if good:
        yield Finding("blocklists", "ok", f"{', '.join(good)} list what they must and nothing else")


# --- our own addresses, and domains ----------------------------------------------------------------------------------


_NO_SENDER: Final = Finding(
    "sender",
    "warn",
    "[sender] names no domain: whether SPF lets our address send for it is not looked at",
    'set sender.domains = ["example.com"], your own; or ask once: smtpguard audit example.com --egress ADDRESS',
)


async def _egress(given: Asking, name: str, addresses: Sequence[IpAddress]) -> list[Finding]:
    of = f"egress.{name}"
    if not addresses and given.settings.next_hop[name].is_mx:
        return []  # outward.origin has said so
    if not addresses:
        said = "its addresses are not known: names, SPF and blocklists are not looked at"
        return [Finding(of, "skip", f"{said}; set next_hop.{name}.egress_ips if mail leaves from your own")]
    return [_finding(of, line, line.message) for line in await own_addresses(given.terms(name, addresses))]


def _sender(found: Audit) -> Iterator[Finding]:
    of = f"sender.{found.domain}"
    told = [line for line in found.lines if line.state in ("fail", "warn") or line.is_temporary]
    yield from (_finding(of, line, f"{line.about}: {line.message}") for line in told)
    if not told:
        yield Finding(of, "ok", found.summary)


def _finding(name: str, line: Line, message: str) -> Finding:
    """A line of an audit as check has it; what the DNS did not answer is no failure."""
    return Finding(name, line.state, message, line.fix)
