"""DKIM key records: `v=DKIM1; k=rsa; p=...` (RFC 6376 3.6.1, RFC 8301, RFC 8463).

A record is parsed once, however many messages are verified with it: `parse_key` keeps what it made of the octets.
Nothing here is an exception: a record that is of no use is a `Key` that says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from smtpguard.mailauth.tags import TagError, from_base64, parse_tags, shown, without_blanks

MAX_EXPONENT_BITS: Final = 64
"""All keys in use have 65537 or 3; a huge exponent makes a verification cost as much as a signature."""

_MAX_KEYS: Final = 2048


@dataclass(frozen=True, slots=True)
class Key:
    """A key record. `problem` is "" or why nothing can be verified with it."""

    kind: str = "rsa"
    """`k=`: rsa, ed25519, or what it says."""
    public: RSAPublicKey | Ed25519PublicKey | None = None
    bits: int = 0
    """Of the modulus; 256 for Ed25519."""
    hashes: frozenset[bytes] | None = None
    """`h=`: the hash algorithms that may be used; None for all."""
    services: frozenset[bytes] = frozenset({b"*"})
    is_testing: bool = False
    """`t=y`: signatures are to be treated as if they were not there when they fail."""
    is_strict: bool = False
    """`t=s`: the domain in i= must be d=, not one below it."""
    is_revoked: bool = False
    has_key: bool = True
    """Whether it has a p= at all; a TXT record without one is about something else."""
    problem: str = ""

    def unsuited(self, kind: str, hash_name: str, *, is_below: bool) -> str:
        """Why a signature of that key type and hash cannot be verified with it (RFC 6376 6.1.2), or "".

        `is_below`: the domain in i= is one below d=.
        """
        if self.problem:
            return self.problem
        if self.kind != kind:
            return f"the key is for {self.kind}, the signature is {kind}"
        if self.hashes is not None and hash_name.encode() not in self.hashes:
            return f"the key's h= does not allow {hash_name}"
        if not self.services & {b"*", b"email"}:
            return "the key's s= does not allow it for email"
        if self.is_strict and is_below:
            return "the key's t=s forbids an i= below d="
        return ""


@lru_cache(_MAX_KEYS)
def parse_key(record: bytes) -> Key:
    """A TXT record at `selector._domainkey.domain`, its strings joined."""
    try:
        tags = parse_tags(record)
    except TagError as error:
        return Key(has_key=b"p=" in record, problem=f"the key record cannot be read: {error}")
    if b"p" not in tags:
        return Key(has_key=False, problem="the TXT record has no p=: it is no key")
    # RFC 6376 3.6.1: v= is RECOMMENDED, and then DKIM1 and first
    if b"v" in tags and (tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v"):
        return Key(problem="the key record's v= is not DKIM1, or not first")
    kind = shown(tags.get(b"k", b"rsa"))
    flags = _words(tags.get(b"t", b""))
    given = without_blanks(tags[b"p"])
    public, problem = _public(kind, given)
    return Key(
        kind,
        public,
        public.key_size if isinstance(public, RSAPublicKey) else 256 if public else 0,
        _words(tags[b"h"]) if b"h" in tags else None,
        _words(tags.get(b"s", b"*")),
        is_testing=b"y" in flags,
        is_strict=b"s" in flags,
        is_revoked=not given,
        problem=problem,
    )


def _words(value: bytes) -> frozenset[bytes]:
    """A value of words separated by colons."""
    return frozenset(without_blanks(value).split(b":"))


def _public(kind: str, given: bytes) -> tuple[RSAPublicKey | Ed25519PublicKey | None, str]:
    """The key in p=, or why there is none."""
    if not given:
        return None, "the key is revoked: its p= is empty"
    octets = from_base64(given)
    if octets is None:
        return None, "the key's p= is not base64"
    if kind == "ed25519":
        if len(octets) != 32:  # RFC 8463 4.2: the key itself, no SubjectPublicKeyInfo
            return None, f"an Ed25519 key has 32 octets, the key's p= has {len(octets)}"
        return Ed25519PublicKey.from_public_bytes(octets), ""
    if kind != "rsa":
        return None, f"k={kind} is no key type that mail uses"
    try:
        public = load_der_public_key(octets)  # SubjectPublicKeyInfo, or a bare RSAPublicKey (RFC 6376 3.6.1)
    except (ValueError, UnsupportedAlgorithm):
        return None, "the key's p= is no RSA key"
    if not isinstance(public, RSAPublicKey):
        return None, "the key's p= is no RSA key"
    if public.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
        return None, "the RSA key's exponent is of an unusual size"
    return public, ""
