"""`init` for `host = "mx"`: what is written, what must hold first, and the lines for the MTA. Pure, as plan.py.

A Postfix without a relayhost sends to the receivers by itself; smtpguard then takes over that very work, and so what
main.cf says of it: from which address, by which protocol, how much at once to one domain. What it says of one host
(login, certificates) has nobody to be said to here.

For Postfix all mail has one destination then, smtpguard's door, and its limits for a destination would hold for all
domains together. So they become ours, domain by domain, and the door gets MX_CONCURRENCY. Parameters: postconf(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from smtpguard.cli.plan import LEVELS, Key, Plan, concurrency, level_of, limits, refuse_twice
from smtpguard.cli.postfix import Facts
from smtpguard.config.values import is_ip, is_loopback

MX: Final = "mx"
HOST: Final = Key("next_hop.default", "host", MX, "straight to each recipient's mail hosts")
NEEDS: Final = (
    "Port 25 outwards is open: many providers bar it until they are asked.",
    "Our address has a PTR record, and that name leads back to it (forward-confirmed reverse DNS).",
    "relay.hostname, our name in EHLO, is a full name that leads to our address; best, the PTR's.",
    "The SPF record of each domain that we send for names our address.",
    "The address is on no blocklist, and none of a home line's: those are refused as a whole.",
)
"""What receivers want of whoever speaks to them; `smtpguard check` looks at all of it."""
UNTOUCHED: Final = Facts(Path("/etc/postfix"), {}, {}, {}, ("smtp unix - - y - - smtp",), "smtp", "")
"""A Postfix that nobody has changed, for lines that are to be read by a person."""


def is_straight(next_hop: str, facts: Facts | None = None) -> bool:
    """Whether mail shall go straight to the receivers: as it was told, or as Postfix does where it was told nothing."""
    if next_hop or facts is None:
        return next_hop == MX
    return not (facts.destination or facts["relayhost"])


# --- our side --------------------------------------------------------------------------------------------------


def plan(facts: Facts) -> Plan:
    """Our side, and what to know. CannotPlan where smtpguard has the mail already."""
    refuse_twice(facts)
    made = Plan(is_mx=True, needs=NEEDS, keys=[HOST])
    level = level_of(facts)
    if LEVELS.get(level, ("required", ""))[0] == "required" and level != "dane":
        made.keys.append(Key("next_hop.default", "tls", "required", f"smtp_tls_security_level: {level}"))
    if address := _source(facts):
        made.keys.append(Key("next_hop.default", "bind", *address))
    if addresses := _seen(facts):
        made.keys.append(Key("next_hop.default", "egress_ips", *addresses))
    at_once = Key("next_hop.default", "connections_per_domain", concurrency(facts), "as many as Postfix had")
    made.keys.append(at_once)
    limits(made, facts)
    made.notes += _notes(facts, level)
    return made


def _source(facts: Facts) -> tuple[str, str] | None:
    """What Postfix sends from, and the parameter that says so (smtp_bind_address, inet_interfaces)."""
    for name in ("smtp_bind_address", "smtp_bind_address6"):
        if is_ip(facts[name]):
            return facts[name], name
    interfaces = facts["inet_interfaces"]
    if is_ip(interfaces) and not is_loopback(interfaces):
        return interfaces, "inet_interfaces: Postfix sent from there"
    anywhere = {"ipv4": "0.0.0.0", "ipv6": "::"}  # noqa: S104 - to send from, not to listen at
    if facts["inet_protocols"] in anywhere:
        return anywhere[facts["inet_protocols"]], f"inet_protocols = {facts['inet_protocols']}"
    return None


def _seen(facts: Facts) -> tuple[list[str], str] | None:
    """Our addresses on the internet, where Postfix knows them."""
    found = _source(facts)
    if found is not None and ip_address(found[0]).is_global:
        return [found[0]], found[1]
    given = [text.strip("[]") for text in facts["proxy_interfaces"].replace(",", " ").split()]
    addresses = [text for text in given if is_ip(text)]
    return (addresses, "proxy_interfaces") if addresses else None


def _notes(facts: Facts, level: str) -> Iterator[str]:
    """What is different from Postfix's own delivery."""
    if level in ("encrypt", "fingerprint"):
        yield (
            f"With {level} Postfix checked no certificate of mail hosts; with tls = required smtpguard does, and mail "
            "for those without a good one waits. Write opportunistic to let MTA-STS and DANE decide, domain by domain."
        )
    if level in ("dane", "dane-only"):
        yield (
            f"smtp_tls_security_level = {level}: smtpguard heeds DANE where [lint.dns] resolvers names a validating "
            "resolver on this machine, and MTA-STS anywhere."
        )
    if facts["smtp_tls_policy_maps"]:
        yield (
            "smtp_tls_policy_maps is not taken over: for domains whose TLS is to be required, write a "
            '[next_hop.strict] with host = "mx" and tls = "required", and a [[route]] with their recipient_domain.'
        )
    if facts["smtp_fallback_relay"]:
        yield (
            f"smtp_fallback_relay = {facts['smtp_fallback_relay']} has no effect on LMTP: mail for hosts that cannot "
            "be reached waits in Postfix's queue."
        )
    if is_ip(facts["smtp_bind_address"]) and is_ip(facts["smtp_bind_address6"]):
        yield (
            f"bind is one address: smtp_bind_address6 = {facts['smtp_bind_address6']} is left out, and all mail goes "
            "by IPv4."
        )


# --- the MTA's side ----------------------------------------------------------------------------------------------


def exim(door: str) -> tuple[str, ...]:
    """Exim's router and transport for our LMTP door, line by line; none where that is no `host:port` of IPv4.

    They are those of deploy/exim, where each option has its reason.
    """
    host, _, port = door.rpartition(":")
    if not is_ip(host):
        return ()
    return (
        "# a router, in place of dnslookup",
        "smtpguard:",
        '  debug_print = "R: smtpguard for $local_part@$domain"',
        "  driver = manualroute",
        "  domains = ! +local_domains",
        f"  route_list = * {host}::{port} byname",
        "  transport = smtpguard_lmtp",
        "  self = send",
        "  no_more",
        "",
        "# a transport",
        "smtpguard_lmtp:",
        "  driver = smtp",
        "  protocol = lmtp",
        f"  port = {port}",
        "  hosts_avoid_tls = *",
        "  final_timeout = 10m",
    )
