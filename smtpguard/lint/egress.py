"""NET: our own addresses and the name we announce, as every receiver sees them (RFC 5321 4.1.1.1, RFC 1912 2.1).

A fault here hits all mail at once, whoever wrote it: these rules run in the background, alert, and never act on mail
unless they are named in `[lint.rules]`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Final

from smtpguard.lint.facts import Egress, EgressAddress
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.names import why_local
from smtpguard.lint.rule import Hits, rule
from smtpguard.mailauth.dns import Answer, IpAddress

_RDNS: Final = "identity.no_rdns"
_HELO: Final = "identity.bad_helo"
_CODES: Final = "support.google.com/a/answer/3726730, 2026-02-15"
_BULK: Final = "support.google.com/mail/answer/81126, 2026-03-21"
_NO_PTR: Final = (
    ("Google", f"451 4.7.23 / 550 5.7.25; over IPv6 550 5.7.1 ({_CODES})"),
    ("Yahoo", "553/554 (senders.yahooinc.com/best-practices, 2026-02-15)"),
)


def _pointer(address: EgressAddress, helo: str) -> str:
    """The PTR record to publish."""
    return f"{address.address.reverse_pointer}. PTR {helo or 'mail.example.com'}."


@rule(
    "NET001",
    "ptr-missing",
    Severity.ERROR,
    Stage.BACKGROUND,
    category=_RDNS,
    reference=f"RFC 1912 2.1; {_BULK}",
    predicts=_NO_PTR,
    answer="550 5.7.25",
)
def ptr_missing(egress: Egress) -> Hits:
    """Every address that mail leaves from has a PTR record.

    Gmail, Yahoo and many others refuse mail from an address without a name, over IPv6 without exception.

    Fix: have whoever gave you the address (hoster, internet provider) set its reverse DNS to the mail host's name, as
    in `7.113.0.203.in-addr.arpa. PTR mail.example.com.`.
    """
    for address in egress.addresses:
        ptr = address.ptr
        if ptr is not None and ptr.is_known and not ptr.records:
            record = _pointer(address, egress.helo)
            yield Hit(
                f"{address.address} has no PTR record",
                Evidence(f"{address.address.reverse_pointer}. PTR"),
                f"have the owner of the address range publish {record}",
                ttl=ptr.ttl,
                is_stale=ptr.is_stale,
            )


@rule(
    "NET002",
    "ptr-not-forward-confirmed",
    Severity.ERROR,
    Stage.BACKGROUND,
    category=_RDNS,
    reference=f"RFC 8601 2.7.3; {_BULK}",
    predicts=_NO_PTR,
    answer="550 5.7.25",
)
def ptr_not_forward_confirmed(egress: Egress) -> Hits:
    """The name of an address leads back to the address.

    Anybody can claim any name in a PTR record; only an A or AAAA record back to the address proves it. Without one
    receivers treat the address as nameless.

    Fix: publish an A (or AAAA) record for the name in the PTR record with the sending address, or set the PTR to a name
    that has one.
    """
    for address in egress.addresses:
        answers = [answer for name in _names(address) for answer in address.forward.get(name, ())]
        if not answers or any(address.address in answer.records for answer in answers):
            continue
        if all(answer.is_known for answer in answers):
            name = _names(address)[0]
            kind = "A" if address.address.version == 4 else "AAAA"
            yield Hit(
                f"{address.address} is named {name}, but that name does not lead back to it",
                Evidence(f"{address.address.reverse_pointer}. PTR {name}."),
                f"publish {name}. {kind} {address.address}",
                ttl=min(answer.ttl for answer in answers),
                is_stale=any(answer.is_stale for answer in answers),
            )


def _names(address: EgressAddress) -> tuple[str, ...]:
    return address.ptr.records if address.ptr is not None else ()


@rule(
    "NET003",
    "ptr-generic",
    Severity.WARNING,
    Stage.BACKGROUND,
    category=_RDNS,
    reference="senders.yahooinc.com/best-practices, 2026-02-15; spamhaus.org/blocklists/policy-blocklist",
    predicts=[("Microsoft", "550 DY-001 (olcsupport.office.com, 2026-06-15)")],
)
def ptr_generic(egress: Egress) -> Hits:
    """The PTR name of an address is a mail host's own name, not a generic one made of the address.

    Names such as `203-0-113-7.dsl.provider.example` are given to whole ranges of customers' lines. Receivers and
    blocklists take such hosts for home computers that should not send mail.

    Fix: have the reverse DNS set to the name of your mail host, the one it announces in EHLO.
    """
    for address in egress.addresses:
        names = _names(address)
        if names and all(is_generic(name, address.address) for name in names):
            assert address.ptr is not None  # it has names
            yield Hit(
                f"{address.address} is named {names[0]}, which looks like the generic name of a customer's line",
                Evidence(f"{address.address.reverse_pointer}. PTR {names[0]}."),
                f"have the owner of the address range publish {_pointer(address, egress.helo)}",
                ttl=address.ptr.ttl,
                is_stale=address.ptr.is_stale,
            )


_LINE = re.compile(
    r"(^|[^a-z])(dyn|dynamic|dynip|dhcp|pool|ppp|pppoe|dsl|adsl|vdsl|xdsl|dial|dialup|dialin|cable|catv|ftth|fttx|fiber|"
    r"broadband|wlan|wifi|mobile|lte|cust|customer|client|clients|subscriber|home|residential|nat|unassigned)s?([^a-z]|$)"
)
"""Words for a customer's line, by themselves or beside digits and hyphens."""


def is_generic(name: str, address: IpAddress) -> bool:
    """Whether a name was made of the address: all of it, or its last two octets beside a word for a line."""
    name = name.lower()
    if isinstance(address, IPv4Address):
        octets = str(address).split(".")
        runs = re.findall(r"\d+", name)
        numbers = [str(int(run)) for run in runs]
        if _within(octets, numbers) or _within(octets[::-1], numbers) or address.packed.hex() in name:
            return True
        if "".join(octet.zfill(3) for octet in octets) in runs:
            return True
        return _LINE.search(name) is not None and (_within(octets[2:], numbers) or _within(octets[:1:-1], numbers))
    digits = re.sub(r"[^0-9a-f]", "", name)
    nibbles = address.packed.hex()
    groups = _groups(re.split(r"[.-]", name))
    return (
        nibbles[-12:] in digits or nibbles[::-1][:16] in digits or _within(_groups(address.exploded.split(":")), groups)
    )


def _groups(texts: list[str]) -> list[str]:
    """Groups of an IPv6 address as they may stand in a name: without zeros that may be left out."""
    return [group for text in texts if (group := text.lstrip("0"))]


def _within(wanted: list[str], given: list[str]) -> bool:
    """Whether a list stands in another, in one run."""
    return any(given[at : at + len(wanted)] == wanted for at in range(len(given) - len(wanted) + 1))


@rule(
    "NET004",
    "helo-invalid",
    Severity.ERROR,
    Stage.BACKGROUND,
    category=_HELO,
    reference="RFC 5321 2.3.5, 4.1.1.1",
    predicts=[
        ("Postfix", "504 5.5.2 Helo command rejected: need fully-qualified hostname (postconf(5))"),
        ("Postfix", "450 4.7.1 Helo command rejected: Host not found (postconf(5))"),
    ],
)
def helo_invalid(egress: Egress) -> Hits:
    """The name that we announce in EHLO is a full host name that exists.

    `localhost`, a bare machine name or a name that nobody can look up is what badly made programs announce: many
    servers refuse them at the first command.

    Fix: set `relay.hostname` (in Postfix `myhostname`) to the mail host's full name, and publish its A record.
    """
    if not egress.helo:
        return
    why = why_local(egress.helo.lower().removesuffix("."))
    if not why and egress.helo.startswith("["):
        why = f"{egress.helo} is an address, not a name"
    known = [answer for answer in egress.helo_addresses if answer.is_known]
    if not why and known and len(known) == len(egress.helo_addresses) and not any(answer.records for answer in known):
        why = f"{egress.helo} has no A or AAAA record"
    if why:
        addresses = ", ".join(str(address.address) for address in egress.addresses[:2]) or "the sending address"
        yield Hit(
            f"the HELO name is not usable: {why}",
            Evidence(f"EHLO {egress.helo}"),
            f"announce a full host name that resolves to {addresses} (relay.hostname; in Postfix myhostname)",
            ttl=_ttl(egress.helo_addresses),
        )


def _ttl(answers: tuple[Answer[IpAddress], ...]) -> int | None:
    return min((answer.ttl for answer in answers), default=None)


@rule(
    "NET005",
    "helo-mismatch",
    Severity.INFO,
    Stage.BACKGROUND,
    category=_HELO,
    reference="RFC 5321 4.1.4",
    predicts=[("content filters", "a worse score; a server must not refuse for it (RFC 5321 4.1.4)")],
)
def helo_mismatch(egress: Egress) -> Hits:
    """The name that we announce in EHLO leads to the address that the mail leaves from.

    A server may not refuse mail for that alone, but filters count it, and a name that leads elsewhere looks borrowed.

    Fix: publish an A or AAAA record of the HELO name for each sending address.
    """
    answers = egress.helo_addresses
    if not all(answer.is_known for answer in answers) or not any(answer.records for answer in answers):
        return
    others = [
        address.address
        for address in egress.addresses
        if not any(address.address in answer.records for answer in answers)
    ]
    if others:
        missing = [f"{egress.helo}. {'A' if address.version == 4 else 'AAAA'} {address}" for address in others[:3]]
        yield Hit(
            f"the HELO name {egress.helo} does not lead to {', '.join(map(str, others[:3]))}",
            Evidence(f"EHLO {egress.helo}"),
            f"publish {'; '.join(missing)}",
            ttl=_ttl(answers),
            is_stale=any(answer.is_stale for answer in answers),
        )


@rule(
    "NET006",
    "egress-no-tls",
    Severity.WARNING,
    Stage.BACKGROUND,
    category="access.tls_required",
    reference=f"RFC 3207 5; {_BULK}",
    predicts=[("Google", f"421 4.7.29 / 550 5.7.29 ({_CODES})")],
)
def egress_no_tls(egress: Egress) -> Hits:
    """The connection to the next hop is encrypted.

    Gmail refuses mail that reaches it without TLS, and anybody on the way can read the mail and the login. A
    certificate that does not verify still keeps out those who only listen.

    Fix: set `tls = "required"` for the next hop, and use a port of it that offers STARTTLS (587) or TLS at once (465).
    """
    if egress.tls == "none":
        yield Hit("the connection to the next hop is not encrypted", Evidence("no STARTTLS"))
    elif egress.tls == "unverified":
        yield Hit(
            "the certificate of the next hop does not verify",
            Evidence("STARTTLS, certificate not verified"),
            'name its certificate authority in tls_ca_file and its name in tls_name, then set tls = "required"',
            Severity.INFO,
        )
