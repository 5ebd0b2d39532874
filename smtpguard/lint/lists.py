"""Blocklists as data (`blocklists.toml`): what may be asked of each, by which name, and what its answers mean.

A blocklist is a DNS zone in which an address or a domain has an A record if it is listed (RFC 5782). Only the codes
that a list documents are listings. All else that comes back is about the list: a refusal to answer us, an error, or a
zone that has changed hands and lists the world. Pure: `edge/blocklist.py` asks.

`mistake` is for the configuration: lists that ended may not be named, and of one that is not in the table nobody could
tell what it says.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Any, Final, Literal, NamedTuple

from smtpguard.classify.extract import BLOCKLISTS
from smtpguard.lint.facts import Listing
from smtpguard.mailauth.dns import IpAddress
from smtpguard.mailauth.domains import organizational

Kind = Literal["ip", "domain"]
ListingKind = Literal["listed", "policy", "minor", "grey"]

_CODES: Final = IPv4Network("127.0.0.0/8")  # RFC 5782 2.1
_REFUSED: Final = IPv4Address("127.0.0.1")  # the bit 1 of SURBL and URIBL
_ERRORS: Final = (
    IPv4Network("127.255.255.0/24"),  # Spamhaus: typing error, public resolver, too many questions
    IPv4Network("127.0.1.255/32"),  # DBL: an address was asked for
)
# Letters, digits, hyphen (RFC 1123 2.1), and the underscore that some names hold; two labels at least
_DOMAIN: Final = re.compile(r"(?=.{4,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.(?!\d+$)[a-z0-9-]{2,63}")


class Fault(NamedTuple):
    """Why an answer says nothing of the subject: `blocked` (we are refused), `error`, `broken` (no list any more)."""

    state: Literal["blocked", "error", "broken"]
    detail: str


class Code(NamedTuple):
    """What an address in an answer means."""

    kind: ListingKind
    meaning: str


@dataclass(frozen=True, slots=True)
class Blocklist:
    """One list; the fields are those of `blocklists.toml`. `bits`: `codes` has values of bits of the last octet."""

    zone: str
    kind: Kind
    codes: Mapping[int, Code]
    is_bits: bool
    listed: tuple[str, ...]
    clean: tuple[str, ...]
    page: str
    families: tuple[int, ...] = ()
    asks: tuple[Literal["organizational", "host"], ...] = ()
    keyed: str = ""
    owner: str = ""

    def labels(self, subject: IpAddress | str) -> tuple[str, ...]:
        """What to ask for a subject, without the zone: none where the list does not say anything of such.

        Addresses of the whole internet only (an IPv4 address in IPv6 is one), and domains of two labels or more.
        """
        if isinstance(subject, str):
            return _domain_labels(subject, self.asks) if self.kind == "domain" else ()
        subject = unmapped(subject)
        if self.kind == "domain" or subject.version not in self.families or not is_public(subject):
            return ()
        return (reversed_label(subject),)

    def canaries(self) -> tuple[tuple[str, bool], ...]:
        """Labels whose answers are known, and whether they are listed."""
        entries = (*((text, True) for text in self.listed), *((text, False) for text in self.clean))
        if self.kind == "domain":
            return entries
        return tuple((reversed_label(ip_address(text)), is_listed) for text, is_listed in entries)

    def read(self, addresses: Iterable[IPv4Address]) -> tuple[Code, ...] | Fault:
        """What the A records at a label mean; without records nothing. Codes that are not documented mean nothing."""
        found = set()
        for address in addresses:
            if fault := _fault(address):
                return fault
            value = int(address)
            if not self.is_bits:
                found.add(value)
            elif value >> 8 == 0x7F0000:  # 127.0.0
                if value & 1:
                    return Fault("blocked", f"it answers {address}")
                found |= {bit for bit in self.codes if value & bit}
        return tuple(dict.fromkeys(code for value, code in self.codes.items() if value in found))

    def listing(self, subject: IpAddress | str, code: Code) -> Listing:
        """An entry, as rules see it."""
        return Listing(self.zone, code.meaning, self.page.replace("{subject}", str(subject)), code.kind)


def _fault(address: IPv4Address) -> Fault | None:
    if address not in _CODES:
        return Fault("broken", f"it answers {address}, which no blocklist does: it ended, or a resolver rewrites it")
    if address == _REFUSED:
        return Fault("blocked", f"it answers {address}: it refuses this resolver")
    if any(address in errors for errors in _ERRORS):
        return Fault("error", f"it answers {address}: a public resolver, too many questions, or a mistake in asking")
    return None


def unmapped(address: IpAddress) -> IpAddress:
    """An IPv4 address that is written as an IPv6 one (RFC 4291 2.5.5.2), as such; any other as it is."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_public(address: IpAddress) -> bool:
    """Whether an address is one host's on the whole internet: a list has nothing to say of others."""
    return address.is_global and not address.is_multicast


@lru_cache(maxsize=1024)
def reversed_label(address: IpAddress) -> str:
    """Octets or nibbles from the last to the first (RFC 5782 2.1, 2.4)."""
    return address.reverse_pointer.rpartition(".")[0].rpartition(".")[0]


@lru_cache(maxsize=4096)
def _domain_labels(domain: str, asks: tuple[str, ...]) -> tuple[str, ...]:
    if not _DOMAIN.fullmatch(domain):
        return ()
    names = {"organizational": organizational(domain), "host": domain}
    return tuple(dict.fromkeys(names[ask] for ask in asks if names[ask]))


class Dead(NamedTuple):
    """A list that ended: all below `zone`, since when ("" unknown), and what became of it."""

    zone: str
    why: str
    since: str = ""


def _read() -> tuple[dict[str, Blocklist], tuple[Dead, ...]]:
    table = tomllib.loads(files(__package__).joinpath("blocklists.toml").read_text(encoding="utf-8"))
    pages = {known.name: known.delisting for known in BLOCKLISTS}
    lists = [_blocklist(entry, pages) for entry in table["list"]]
    return {blocklist.zone: blocklist for blocklist in lists}, tuple(Dead(**entry) for entry in table["dead"])


def _blocklist(entry: dict[str, Any], pages: Mapping[str, str]) -> Blocklist:
    bits, codes = entry.pop("bits", {}), entry.pop("codes", {})
    meanings = {int(bit): Code(*said) for bit, said in bits.items()}
    meanings |= {int(IPv4Address(code)): Code(*said) for code, said in codes.items()}
    entry.setdefault("page", pages.get(entry["zone"], ""))
    lists = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
    return Blocklist(**{**entry, **lists, "codes": meanings, "is_bits": bool(bits)})


_TABLE: Final = _read()
LISTS: Final[Mapping[str, Blocklist]] = _TABLE[0]
"""Every list that may be asked, by zone."""
DEAD: Final = _TABLE[1]


def mistake(zone: str, kind: Kind) -> str:
    """What is wrong with naming this list in the configuration, among those of a kind; "" if nothing."""
    for dead in DEAD:
        if zone == dead.zone or zone.endswith("." + dead.zone):
            return f'"{zone}" has ended ({dead.since + ": " if dead.since else ""}{dead.why}): remove it'
    known = LISTS.get(zone)
    if known is None:
        return f'"{zone}" is not a list whose answers are known; known are {", ".join(_zones(kind))}'
    if known.kind != kind:
        return (
            f'"{zone}" is a list of {"domains" if known.kind == "domain" else "addresses"}: name it under {known.kind}'
        )
    return ""


def _zones(kind: Kind) -> list[str]:
    return sorted(zone for zone, known in LISTS.items() if known.kind == kind)
