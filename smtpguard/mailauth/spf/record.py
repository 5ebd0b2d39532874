"""An SPF record as terms (RFC 7208 4.6, 5, 6, 12): read whole, and refused whole, before anything is looked up.

What a receiver's parser must refuse is refused here, with words for the mistakes that people make most. Numbers and
letters follow the published test suite where the RFC leaves a choice: no leading zero in a prefix length, a modifier of
a known name is never an unknown one. Nothing here asks the DNS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal, NamedTuple

from smtpguard.mailauth.spf import macro
from smtpguard.mailauth.spf.macro import MacroString
from smtpguard.mailauth.spf.result import SpfStatus


class SpfSyntaxError(ValueError):
    """A record that no receiver may evaluate. `term` is the one at fault, `offset` its place in the record."""

    def __init__(self, term: str, offset: int, what: str) -> None:
        super().__init__(f"{ascii(term)[1:-1]}: {what}")
        self.term = term
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A term that an address may match."""

    text: str
    """As it stands in the record."""
    offset: int
    name: str
    """Lower case."""
    status: SpfStatus
    """Of a match, by the qualifier."""
    target: MacroString | None = None
    """The domain-spec; None where there is none and the record's own domain is meant."""
    network: IPv4Network | IPv6Network | None = None
    """Of ip4 and ip6."""
    prefix4: int = 32
    """Of a and mx: how many bits of an IPv4 address count."""
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class Modifier:
    """`name=value`. Of a name that is not `redirect` or `exp` it means nothing (RFC 7208 6)."""

    text: str
    offset: int
    name: str
    value: MacroString


@dataclass(frozen=True, slots=True)
class Networks:
    """Neighbouring ip4 and ip6 mechanisms, ready to be compared: (mask, network, index in `mechanisms`)."""

    mechanisms: tuple[Mechanism, ...]
    texts: tuple[str, ...]
    v4: tuple[tuple[int, int, int], ...]
    v6: tuple[tuple[int, int, int], ...]

    def find(self, version: int, address: int) -> int:
        """The index of the first mechanism that the address matches, -1 without one."""
        for mask, network, index in self.v4 if version == 4 else self.v6:
            if address & mask == network:
                return index
        return -1


@dataclass(frozen=True, slots=True)
class Record:
    """A record without fault."""

    text: str
    terms: tuple[Mechanism | Modifier, ...]
    steps: tuple[Mechanism | Networks, ...]
    """The mechanisms in the order of evaluation."""
    redirect: Modifier | None
    explanation: Modifier | None


class _Shape(NamedTuple):
    """What may follow a mechanism's name."""

    domain: Literal["none", "optional", "required"]
    has_prefixes: bool = False


# all = "all";  include = "include" ":" domain-spec;  exists = "exists" ":" domain-spec
# PTR = "ptr" [ ":" domain-spec ]
# A = "a" [ ":" domain-spec ] [ dual-cidr-length ];  MX = "mx" [ ":" domain-spec ] [ dual-cidr-length ]
_SHAPES: Final = {
    "all": _Shape("none"),
    "include": _Shape("required"),
    "a": _Shape("optional", has_prefixes=True),
    "mx": _Shape("optional", has_prefixes=True),
    "ptr": _Shape("optional"),
    "exists": _Shape("required"),
}
MECHANISMS: Final = frozenset({*_SHAPES, "ip4", "ip6"})
_QUALIFIERS: Final = {
    "": SpfStatus.PASS,
    "+": SpfStatus.PASS,
    "-": SpfStatus.FAIL,
    "~": SpfStatus.SOFTFAIL,
    "?": SpfStatus.NEUTRAL,
}
_MEANT: Final = {
    "ip": "ip4: or ip6:",
    "ipv4": "ip4:",
    "ipv6": "ip6:",
    "redirect": "redirect=",
    "exp": "exp=",
    "includes": "include:",
}

# directive        = [ qualifier ] mechanism
_MECHANISM = re.compile(r"([-+?~]?)([A-Za-z][A-Za-z0-9._-]*)((?:[:/].*)?)")
# modifier: name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)")
# ip4-cidr-length  = "/" ("0" / %x31-39 0*1DIGIT);  ip6-cidr-length = "/" ("0" / %x31-39 0*2DIGIT)
# dual-cidr-length = [ ip4-cidr-length ] [ "/" ip6-cidr-length ]
_PREFIXES = re.compile(r"(:.*?)?(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")
_NETWORK = re.compile(r":([0-9A-Fa-f:.]+)(?:/(0|[1-9][0-9]{0,2}))?")
# record = version terms *SP;  version = "v=spf1"
_VERSION = re.compile(rb"v=spf1(?= |\Z)", re.IGNORECASE)


def is_spf(record: bytes) -> bool:
    """Whether a TXT record is one of SPF: `v=spf1`, then a blank or the end (RFC 7208 4.5)."""
    return _VERSION.match(record) is not None


def parse(record: bytes | str) -> Record:
    """The terms of a record; SpfSyntaxError names the first term that is wrong."""
    return _parse(record.encode("utf-8") if isinstance(record, str) else record)


@lru_cache(maxsize=4096)
def _parse(record: bytes) -> Record:
    text = record.decode("latin-1")
    if not is_spf(record):
        raise SpfSyntaxError(text[:20], 0, "the record does not begin with v=spf1 and a space")
    terms = tuple(_terms(text))
    redirect, explanation = (_only(terms, name) for name in ("redirect", "exp"))
    return Record(text, terms, tuple(_steps(terms)), redirect, explanation)


def _terms(text: str) -> Iterator[Mechanism | Modifier]:
    for found in re.finditer("[^ ]+", text[6:]):
        offset = 6 + found.start()
        try:
            yield _term(found[0], offset)
        except ValueError as error:
            raise SpfSyntaxError(found[0], offset, str(error)) from None


def _term(text: str, offset: int) -> Mechanism | Modifier:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("a record may hold only printable ASCII and spaces")
    modifier = _MODIFIER.fullmatch(text)
    if modifier is not None:
        name = modifier[1].lower()
        is_known = name in ("redirect", "exp")
        value = macro.parse_domain(modifier[2]) if is_known else macro.parse(modifier[2])
        return Modifier(text, offset, name, value)
    mechanism = _MECHANISM.fullmatch(text)
    if mechanism is None:
        raise ValueError("neither a mechanism nor a modifier")
    qualifier, name, rest = mechanism[1], mechanism[2].lower(), mechanism[3]
    status = _QUALIFIERS[qualifier]
    if name in ("ip4", "ip6"):
        return Mechanism(text, offset, name, status, network=_network(name, rest))
    shape = _SHAPES.get(name)
    if shape is None:
        meant = _MEANT.get(name)
        raise ValueError(f"there is no mechanism {name}" + (f": write {meant}" if meant else ""))
    target, prefix4, prefix6 = rest, "", ""
    if shape.has_prefixes:
        split = _PREFIXES.fullmatch(rest)
        target, prefix4, prefix6 = split.groups("") if split else (rest, "", "")
    if target and (shape.domain == "none" or target[0] != ":"):
        hint = ": two slashes stand before the prefix length of IPv6" if target.count("/") == 2 else ""
        raise ValueError(f"{target} may not follow {name}{hint}")
    if not target and shape.domain == "required":
        raise ValueError(f"{name}: wants a domain")
    return Mechanism(
        text,
        offset,
        name,
        status,
        macro.parse_domain(target[1:]) if target else None,
        None,
        _prefix(prefix4, 32),
        _prefix(prefix6, 128),
    )


def _prefix(digits: str, bits: int) -> int:
    if digits and int(digits) > bits:
        raise ValueError(f"a prefix length is at most {bits}")
    return int(digits) if digits else bits


def _network(name: str, rest: str) -> IPv4Network | IPv6Network:
    # ip4-network = qnum "." qnum "." qnum "." qnum;  ip6-network = <as per RFC 4291 2.2>
    found = _NETWORK.fullmatch(rest)
    if found is None:
        raise ValueError(f"{name}: wants an address and at most one prefix length")
    kind, bits = (IPv4Network, 32) if name == "ip4" else (IPv6Network, 128)
    prefix = _prefix(found[2] or "", bits)
    try:
        return kind((found[1], prefix), strict=False)
    except ValueError:
        other = "ip6" if name == "ip4" else "ip4"
        hint = f": write {other}:" if (":" in found[1]) is (name == "ip4") else ""
        raise ValueError(f"{found[1]} is not an IPv{name[2]} address{hint}") from None


def _only(terms: tuple[Mechanism | Modifier, ...], name: str) -> Modifier | None:
    found = [term for term in terms if isinstance(term, Modifier) and term.name == name]
    if len(found) > 1:  # RFC 7208 6
        raise SpfSyntaxError(found[1].text, found[1].offset, f"a second {name}=")
    return found[0] if found else None


def _steps(terms: tuple[Mechanism | Modifier, ...]) -> Iterator[Mechanism | Networks]:
    run: list[Mechanism] = []
    for term in terms:
        if isinstance(term, Modifier):
            continue
        if term.network is not None:
            run.append(term)
            continue
        if run:
            yield _networks(run)
            run = []
        yield term
    if run:
        yield _networks(run)


def _networks(run: list[Mechanism]) -> Networks:
    by_version: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}
    for index, mechanism in enumerate(run):
        network = mechanism.network
        assert network is not None  # a run is made of these
        entry = int(network.netmask), int(network.network_address), index
        by_version[network.version].append(entry)
    return Networks(tuple(run), tuple(m.text for m in run), tuple(by_version[4]), tuple(by_version[6]))
