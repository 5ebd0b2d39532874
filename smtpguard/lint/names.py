"""Paths and names that the world outside can use: the grammar of RFC 5321 4.1.2 with its limits, and special names.

The door takes every path that it can frame (`mail/address.py`); here it is asked whether a stranger's server would
take it. Nothing is looked up.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from smtpguard.mail.domain import MAX_NAME, to_ascii

MAX_LOCAL: Final = 64
"""Octets before the @ (RFC 5321 4.5.3.1.1)."""
MAX_PATH: Final = 254
"""Octets of a path; 256 with its angle brackets (RFC 5321 4.5.3.1.3)."""


class PathFault(NamedTuple):
    """What is wrong with a path. `is_odd`: against the grammar, yet used, and taken by many servers."""

    words: str
    is_odd: bool = False


# RFC 5321 4.1.2: Path = "<" [ A-d-l ":" ] Mailbox ">"; servers ignore the route (RFC 5321 C)
_ROUTE = re.compile(rb"@[^:\"]*:")
# atext of RFC 5322 3.2.3, non-ASCII as RFC 6531 3.3 adds it
_ATEXT: Final = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]"
# Dot-string = Atom *("."  Atom);  Quoted-string = DQUOTE *QcontentSMTP DQUOTE
LOCAL_PART = re.compile(rb'%(a)s+(?:\.%(a)s+)*|"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*"' % {b"a": _ATEXT})
# the same with dots anywhere: Japanese mobile networks gave such addresses out for years
_DOTTED = re.compile(rb"(?:%b|\.)+" % _ATEXT)
# sub-domain = Let-dig [Ldh-str], of A-labels
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
# General-address-literal = Standardized-tag ":" 1*dcontent, of which only IPv6 was ever registered
_LITERAL = re.compile(r"\[(IPv6:)?([0-9A-Fa-f:.]+)\]", re.IGNORECASE)


def path_fault(path: bytes, *, utf8: bool) -> PathFault | None:
    """What a strict server says of a path that is neither null nor `postmaster`; `utf8`: the mail has SMTPUTF8."""
    route = _ROUTE.match(path) if path[:1] == b"@" else None
    local, at, domain = path[route.end() if route else 0 :].rpartition(b"@")
    if not at:
        return PathFault("it has no @")
    if len(path) > MAX_PATH:
        return PathFault(f"it has {len(path)} octets, more than {MAX_PATH}")
    if not (utf8 or path.isascii()):
        return PathFault("it is not ASCII, and the mail was not sent with SMTPUTF8")
    if len(local) > MAX_LOCAL:
        return PathFault(f"the part before the @ has {len(local)} octets, more than {MAX_LOCAL}")
    return domain_fault(domain.decode("utf-8", "replace")) or _local_fault(local)


def _local_fault(local: bytes) -> PathFault | None:
    if LOCAL_PART.fullmatch(local):
        return None
    if _DOTTED.fullmatch(local):
        return PathFault(
            "the part before the @ begins or ends with a dot or has two in a row, without quotes", is_odd=True
        )
    return PathFault("the part before the @ is empty or has characters that need quotes")


@lru_cache(maxsize=8192)
def domain_fault(domain: str) -> PathFault | None:
    """What a strict server says of the domain of a path."""
    if domain.startswith("["):
        return None if literal(domain) else PathFault("what stands in brackets is not an IP address")
    name = to_ascii(domain)
    if not name:
        return PathFault(f"the domain has an empty label, one over 63 octets, or over {MAX_NAME} octets in all")
    if literal(f"[{name}]"):
        return PathFault(f"the address {name} needs brackets: [{name}]", is_odd=True)
    if domain.endswith("."):
        return PathFault("the domain ends in a dot", is_odd=True)
    if _DOMAIN.fullmatch(name):
        return None
    is_odd = _DOMAIN.fullmatch(name.replace("_", "x")) is not None
    words = "the domain has characters other than letters and digits, with hyphens between them"
    return PathFault(words, is_odd)


def literal(text: str) -> IPv4Address | IPv6Address | None:
    """The address of an address literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]`; None where it is none."""
    found = _LITERAL.fullmatch(text)
    if found is None:
        return None
    try:
        address = ip_address(found[2])
    except ValueError:
        return None
    return address if (address.version == 6) is bool(found[1]) else None


_LOCAL_SUFFIXES: Final = {
    "localhost": "RFC 6761",
    "localdomain": "a habit of installers",
    "invalid": "RFC 6761",
    "local": "RFC 6762",
    "internal": "reserved by ICANN in 2024",
    "home.arpa": "RFC 8375",
    "lan": "no top-level domain",
    "home": "no top-level domain",
    "corp": "no top-level domain",
    "intranet": "no top-level domain",
    "onion": "RFC 7686",
    "alt": "RFC 9476",
}
"""Suffixes that mean something on this network only; `test` and `example` are left to the DNS, which lacks them."""

# RFC 1122 3.2.1.3, RFC 1918 3, RFC 3927 2.1, RFC 6598 7; RFC 4291 2.5.3, RFC 4193 3, RFC 4291 2.5.6. The networks for
# documentation are not among them: nobody runs mail there, and examples are made of them.
_INSIDE: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "100.64.0.0/10",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ),
    )
)


def is_inside(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address leads to this host or this network only."""
    return any(address in network for network in _INSIDE)


@lru_cache(maxsize=4096)
def why_local(host: str) -> str:
    """Why a host or domain name (lower case) means nothing outside this network, or ""."""
    if host.startswith("["):
        address = literal(host)
        return f"{host} is an address of this network only" if address is not None and is_inside(address) else ""
    if "." not in host:
        return f"{host} is a single label, not a full domain name"
    labels = host.split(".")
    for suffix in (labels[-1], ".".join(labels[-2:])):
        if suffix in _LOCAL_SUFFIXES:
            return f".{suffix} names exist on this network only ({_LOCAL_SUFFIXES[suffix]})"
    return ""


MEANT: Final = {
    "gmial.com": "gmail.com",
    "gmai.com": "gmail.com",
    "gmal.com": "gmail.com",
    "gamil.com": "gmail.com",
    "gnail.com": "gmail.com",
    "gmaill.com": "gmail.com",
    "gmail.con": "gmail.com",
    "gmail.co": "gmail.com",
    "gmail.cm": "gmail.com",
    "gmail.comm": "gmail.com",
    "googlemail.con": "googlemail.com",
    "hotmial.com": "hotmail.com",
    "hotmai.com": "hotmail.com",
    "hotnail.com": "hotmail.com",
    "hotmail.con": "hotmail.com",
    "hotmail.co": "hotmail.com",
    "outlok.com": "outlook.com",
    "outlook.con": "outlook.com",
    "yaho.com": "yahoo.com",
    "yahooo.com": "yahoo.com",
    "yhaoo.com": "yahoo.com",
    "yahoo.con": "yahoo.com",
    "yahoo.cm": "yahoo.com",
    "iclod.com": "icloud.com",
    "icloud.con": "icloud.com",
    "aol.con": "aol.com",
    "gmx.dee": "gmx.de",
    "web.dee": "web.de",
}
"""Domains that hardly anybody means."""
