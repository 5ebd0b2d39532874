"""A DKIM-Signature field, read: its tags as RFC 6376 3.5 wants them, or why it is no signature (RFC 6376, 8301, 8463).

Neither the message nor the DNS is asked. A signer writes most of its signature the same each time: what stands in those
tags is read once, and kept (`_terms`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.mail.domain import to_ascii
from smtpguard.mail.fields import Field
from smtpguard.mailauth.tags import BLANKS, TagError, from_base64, parse_tags, shown, without_blanks

KEPT_OCTETS: Final = 4096
"""Of a signature's field, of which what its signer writes each time is remembered; longer ones are read anew."""


class Signature(NamedTuple):
    """A DKIM-Signature field. `problem` is "" or why it cannot be verified; then nothing else is filled in."""

    field: Field
    domain: str = ""
    """d=, A-labels, lower case."""
    selector: str = ""
    algorithm: str = ""
    canonical: tuple[str, str] = ("simple", "simple")
    """Of the header, of the body."""
    headers: tuple[bytes, ...] = ()
    """h=, in order, lower case."""
    body_hash: bytes = b""
    signature: bytes = b""
    length: int | None = None
    timestamp: int | None = None
    expires: int | None = None
    identity: str = ""
    """i=; `@` and d= where it says none."""
    problem: str = ""
    key_name: str = ""
    """Where its key stands (RFC 6376 3.6.2.1)."""
    body_matches: bool | None = None
    """Whether bh= is the hash of the body; None where that could not be computed."""
    body_sum: bytes = b""
    """The hash of the body as it is, up to l=."""
    body_octets: int = 0
    """Of the whole body in canonical form: more than `length` is not signed, less is a body that was cut."""

    @property
    def body_problem(self) -> str:
        """How the body shows that it is not the one that was signed; "" where it does not."""
        if self.body_matches is not False:
            return ""
        if self.length is not None and self.length > self.body_octets:
            return f"l={self.length}, and it has {self.body_octets} octets"
        now, then = (b64encode(octets).decode() for octets in (self.body_sum, self.body_hash))
        return f"its hash is {now}, bh= says {then}"

    @property
    def needs_key(self) -> bool:
        """Whether a key can still make it pass."""
        return self.body_matches is True


class Algorithm(NamedTuple):
    """Which kind of key signs, and by which hash (RFC 6376 3.3)."""

    key: str
    hash: str


ALGORITHMS: Final = {
    "rsa-sha256": Algorithm("rsa", "sha256"),
    "ed25519-sha256": Algorithm("ed25519", "sha256"),  # RFC 8463 3
    "rsa-sha1": Algorithm("rsa", "sha1"),  # RFC 8301 3.1: MUST NOT; computed for those who are told so
}
_REQUIRED: Final = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
# RFC 6376 3.5: the body's form is simple where c= gives only the header's
_CANONICAL: Final = {
    b"simple": ("simple", "simple"),
    b"simple/simple": ("simple", "simple"),
    b"simple/relaxed": ("simple", "relaxed"),
    b"relaxed": ("relaxed", "simple"),
    b"relaxed/simple": ("relaxed", "simple"),
    b"relaxed/relaxed": ("relaxed", "relaxed"),
}
# RFC 6376 3.5: d= is a domain-name of two labels or more, s= of one; underscores are seen in both.
_SELECTOR = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
# RFC 6376 3.5: sig-h-tag = hdr-name *( [FWS] ":" [FWS] hdr-name )
_HEADERS = re.compile(rb"[!-9<-~]+(?:[ \t\r\n]*:[ \t\r\n]*[!-9<-~]+)*")
# RFC 6376 2.11: dkim-quoted-printable
_QUOTED = re.compile(rb"=([0-9A-F]{2})")
# RFC 6376 3.5: l= has up to 76 digits, t= and x= up to 12
_NUMBERS: Final = {
    b"l": re.compile(rb"[0-9]{1,76}"),
    b"t": re.compile(rb"[0-9]{1,12}"),
    b"x": re.compile(rb"[0-9]{1,12}"),
}


_NOWHERE: Final = Field(b"", b"", 0, 0, 0)


def parse(field: Field) -> Signature:
    """A field's value as RFC 6376 3.5 wants it."""
    usual = _parse_usual(field)
    if usual is not None:
        return usual
    try:
        return _read(field, parse_tags(field.value))
    except TagError as error:
        return Signature(field, problem=str(error))


_VARYING: Final = (b"b=", b"bh=", b"t=", b"x=")
"""The tags that differ from one message of a signer to the next, as they are mostly written."""


def _parse_usual(field: Field) -> Signature | None:
    """The same of a signature without a fault, by what is known of the signer; None where it has one, or may."""
    if len(field.value) > KEPT_OCTETS:
        return None
    parts = field.value.split(b";")
    if not parts[-1].strip(BLANKS):
        parts.pop()  # the list may end with a semicolon
    lasting: list[bytes] = []
    varying: dict[bytes, bytes] = {}
    for part in parts:
        tag = part.lstrip(BLANKS)
        if tag.startswith(_VARYING):
            name, _, value = tag.partition(b"=")
            if name in varying:
                return None
            varying[name] = value
        else:
            lasting.append(part)
    terms = _terms(tuple(lasting))
    if terms is None or b"b" not in varying or b"bh" not in varying:
        return None
    signed = from_base64(varying[b"b"].translate(None, BLANKS))
    body_hash = from_base64(varying[b"bh"].translate(None, BLANKS))
    timestamp, expires = _time(varying.get(b"t")), _time(varying.get(b"x"))
    if body_hash is None or signed is None or timestamp == -1 or expires == -1:
        return None
    if expires is not None and timestamp is not None and expires <= timestamp:
        return None
    return Signature(
        field,
        terms.domain,
        terms.selector,
        terms.algorithm,
        terms.canonical,
        terms.headers,
        body_hash,
        signed,
        terms.length,
        timestamp,
        expires,
        terms.identity,
        key_name=terms.key_name,
    )


def _time(value: bytes | None) -> int | None:
    """Seconds since the epoch; -1 where it is no number."""
    if value is None:
        return None
    digits = value.strip(BLANKS)
    return int(digits) if digits.isdigit() and len(digits) <= 12 else -1


@lru_cache(maxsize=2048)
def _terms(lasting: tuple[bytes, ...]) -> Signature | None:
    """What the tags say that are the same each time, as a signature of nothing; None where there is a fault in them.

    None also where a time is among them: it is written in another way than most.
    """
    try:
        read = _read(_NOWHERE, parse_tags(b";".join([*lasting, b"b=AAAA", b"bh=AAAA"])))
    except TagError:
        return None
    return read if read.timestamp is None and read.expires is None else None


def _read(field: Field, tags: dict[bytes, bytes]) -> Signature:
    """The tags of a signature; TagError says what is wrong with them."""
    for name in _REQUIRED:
        if not tags.get(name):
            raise TagError(f"no {name.decode()}=")
    if tags[b"v"] != b"1":
        raise TagError("v= is not 1")
    algorithm = tags[b"a"].decode("utf-8", "replace")
    if algorithm not in ALGORITHMS:
        raise TagError(f"a={shown(tags[b'a'])} is no algorithm that mail uses")
    body_hash, signed = (from_base64(without_blanks(tags[name])) for name in (b"bh", b"b"))
    if body_hash is None or signed is None:
        raise TagError(f"{'bh' if body_hash is None else 'b'}= is not base64")
    canonical = _CANONICAL.get(tags.get(b"c", b"simple"))
    if canonical is None:
        raise TagError("c= is not of simple and relaxed")
    if not _HEADERS.fullmatch(tags[b"h"]):
        raise TagError("h= is no list of field names")
    headers = tuple(name.strip(BLANKS) for name in tags[b"h"].lower().split(b":"))
    if b"from" not in headers:
        raise TagError("h= lacks from")
    if b"q" in tags and b"dns/txt" not in without_blanks(tags[b"q"]).split(b":"):
        raise TagError("q= has no method but dns/txt that mail uses")
    domain, selector = (to_ascii(tags[name].decode("utf-8", "replace")) for name in (b"d", b"s"))
    if not ("." in domain and _SELECTOR.fullmatch(domain)):
        raise TagError("d= is no domain name")
    if not _SELECTOR.fullmatch(selector):
        raise TagError("s= is no selector")
    length, timestamp, expires = (_number(tags, name) for name in _NUMBERS)
    if expires is not None and timestamp is not None and expires <= timestamp:
        raise TagError("x= is not after t=")
    return Signature(
        field,
        domain,
        selector,
        algorithm,
        canonical,
        headers,
        body_hash,
        signed,
        length,
        timestamp,
        expires,
        _identity(tags, domain),
        key_name=f"{selector}._domainkey.{domain}",
    )


def _number(tags: dict[bytes, bytes], name: bytes) -> int | None:
    if name not in tags:
        return None
    if not _NUMBERS[name].fullmatch(tags[name]):
        raise TagError(f"{name.decode()}= is no number")
    return int(tags[name])


def _identity(tags: dict[bytes, bytes], domain: str) -> str:
    """i=, which must be of d= or of a domain below it (RFC 6376 3.5, 6.1.1)."""
    if b"i" not in tags:
        return f"@{domain}"
    given = _QUOTED.sub(lambda found: bytes([int(found[1], 16)]), without_blanks(tags[b"i"])).decode("utf-8", "replace")
    local, at, host = given.rpartition("@")
    host = to_ascii(host)
    if not at or not (host == domain or host.endswith(f".{domain}")):
        raise TagError("i= is not of the domain in d= nor of one below it")
    return f"{local}@{host}"
