"""DKIM signatures: parsed, their body hashes checked, verified with the signer's key (RFC 6376, 8301, 8463, 8616).

Three steps, each asked for alone. `signatures` reads what the message says of itself, body hash included: no DNS, and
enough to know of most breakage. `judge` takes the answer to the question for the key and is pure computation. `verify`
asks for the keys and judges. What DNS cannot say now is temperror, never "no key"; nothing here raises for what a
message or a record holds.

Signing is the MTA's business, never ours.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from smtpguard.mail.fields import Field
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim_canon import Body, body_sums, relaxed_field, simple_field
from smtpguard.mailauth.dkim_key import Key, parse_key
from smtpguard.mailauth.dns import Answer, Resolver
from smtpguard.mailauth.domains import to_ascii
from smtpguard.mailauth.tags import BLANKS, TagError, is_base64, parse_tags, shown, without_blanks

MAX_SIGNATURES: Final = 10
"""Signatures looked at; each may ask a question and hash the whole body (RFC 6376 8.4)."""

MAX_KEYS: Final = 3
"""Keys at one selector that are tried; one is what should stand there."""

MIN_BITS: Final = 1024
"""RFC 8301 3.2: a signature by a shorter RSA key MUST NOT be taken as valid."""


class DkimStatus(StrEnum):
    """How a signature was judged, in the words of RFC 8601 2.7.1."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    NEUTRAL = "neutral"
    POLICY = "policy"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class Cause(StrEnum):
    """Why a signature does not pass."""

    NONE = ""
    SYNTAX = "syntax"
    BODY = "body"
    """The body is not the one that was signed."""
    SIGNATURE = "signature"
    """A signed header field is not as it was signed, or the key is not the one it was signed with."""
    KEY = "key"
    """There is no key, or one that does not suit."""
    SHORT = "short"
    """The RSA key has too few bits; `policy` says that it verifies all the same."""
    HASH = "hash"
    """rsa-sha1."""
    EXPIRED = "expired"
    DNS = "dns"
    """The key could not be asked for."""


@dataclass(frozen=True, slots=True)
class Signature:
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
    body_matches: bool | None = None
    """Whether bh= is the hash of the body; None where that could not be computed."""
    body_sum: bytes = b""
    """The hash of the body as it is, up to l=."""
    body_octets: int = 0
    """Of the whole body in canonical form: more than `length` is not signed, less is a body that was cut."""

    @property
    def key_name(self) -> str:
        """Where its key stands (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a signature. `problem`: the cause in words, one line; "" for pass."""

    signature: Signature
    status: DkimStatus
    cause: Cause = Cause.NONE
    problem: str = ""
    key_type: str = ""
    key_bits: int = 0
    """0 where there was no key."""
    key_records: int = 0
    """How many keys stand at the selector; with more than one it is undefined which is used (RFC 6376 3.6.2.2)."""
    is_testing: bool = False
    ttl: int | None = None
    """Seconds for which the answer about the key holds; None where it was not asked for."""
    is_stale: bool = False


class _Algorithm(NamedTuple):
    key: str
    hash: str


_ALGORITHMS: Final = {
    "rsa-sha256": _Algorithm("rsa", "sha256"),
    "ed25519-sha256": _Algorithm("ed25519", "sha256"),  # RFC 8463 3
    "rsa-sha1": _Algorithm("rsa", "sha1"),  # RFC 8301 3.1: MUST NOT; computed for those who are told so
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
# RFC 6376 3.7: the value of b=, with the blanks around it, is taken out.
_OWN_VALUE = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
# RFC 6376 3.5: l= has up to 76 digits, t= and x= up to 12
_NUMBERS: Final = {
    b"l": re.compile(rb"[0-9]{1,76}"),
    b"t": re.compile(rb"[0-9]{1,12}"),
    b"x": re.compile(rb"[0-9]{1,12}"),
}


def signatures(message: Message, *, limit: int = MAX_SIGNATURES) -> tuple[Signature, ...]:
    """The signatures of a message from top to bottom, at most `limit`, with their body hashes compared.

    Reads the body once for each canonical form in use; takes about 4 ms a MB (run it in a thread where that matters).
    """
    found = [_parse(field) for field in message.all(b"dkim-signature")[:limit]]
    sums = body_sums(message, {_body(signature) for signature in found if not signature.problem})
    return tuple(signature if signature.problem else _compare(signature, sums[_body(signature)]) for signature in found)


def judge(message: Message, signature: Signature, key_answer: Answer[bytes] | None, now: float) -> Verdict:
    """What a signature is worth, by the TXT answer at its `key_name`; `now` in seconds since the epoch.

    `key_answer` may be None where the signature has no need of a key.
    """
    if signature.problem:
        return Verdict(signature, DkimStatus.PERMERROR, Cause.SYNTAX, signature.problem)
    if not signature.body_matches:
        return Verdict(signature, DkimStatus.FAIL, Cause.BODY, f"the body was changed: {signature.body_problem}")
    if key_answer is None or not key_answer.is_known:
        why = key_answer.fault if key_answer else "not asked"
        return Verdict(signature, DkimStatus.TEMPERROR, Cause.DNS, f"no answer for {signature.key_name}: {why}")
    keys = [key for key in map(parse_key, key_answer.records) if key.has_key]
    if not keys:
        why = f"no key at {signature.key_name}"
        if key_answer.records:
            why += ": the TXT records there have no p="
        return Verdict(
            signature, DkimStatus.PERMERROR, Cause.KEY, why, ttl=key_answer.ttl, is_stale=key_answer.is_stale
        )
    data = _signed(message, signature)
    judged = [(key, *_judge_key(signature, key, data, now)) for key in keys[:MAX_KEYS]]
    key, status, cause, problem = next((one for one in judged if one[1] is DkimStatus.PASS), judged[0])
    return Verdict(
        signature,
        status,
        cause,
        problem,
        key.kind,
        key.bits,
        len(keys),
        key.is_testing,
        key_answer.ttl,
        key_answer.is_stale,
    )


async def verify(resolver: Resolver, message: Message, found: Sequence[Signature], now: float) -> tuple[Verdict, ...]:
    """Ask for the keys of the signatures that need one, and judge all."""
    answers: dict[str, Answer[bytes]] = {}
    for name in dict.fromkeys(signature.key_name for signature in found if signature.needs_key):
        answers[name] = await resolver.txt(name)
    return tuple(judge(message, signature, answers.get(signature.key_name), now) for signature in found)


def _judge_key(signature: Signature, key: Key, data: bytes, now: float) -> tuple[DkimStatus, Cause, str]:
    """RFC 6376 6.1.2 and 6.1.3 with one key."""
    algorithm = _ALGORITHMS[signature.algorithm]
    is_below = signature.identity.rpartition("@")[2] != signature.domain
    unsuited = key.unsuited(algorithm.key, algorithm.hash, is_below=is_below)
    if unsuited:
        return DkimStatus.PERMERROR, Cause.KEY, f"{unsuited} ({signature.key_name})"
    is_right = _is_signed(key, algorithm, signature.signature, data)
    if algorithm.hash == "sha1":
        right = "right" if is_right else "wrong"
        return DkimStatus.PERMERROR, Cause.HASH, f"rsa-sha1 counts as no signature (RFC 8301); it is {right}"
    if key.kind == "rsa" and key.bits < MIN_BITS:
        status = DkimStatus.POLICY if is_right else DkimStatus.FAIL
        return status, Cause.SHORT, f"the RSA key has {key.bits} bits, fewer than {MIN_BITS}"
    if not is_right:
        return DkimStatus.FAIL, Cause.SIGNATURE, f"b= does not verify with the key at {signature.key_name}"
    if signature.expires is not None and signature.expires < now:
        return DkimStatus.FAIL, Cause.EXPIRED, f"x={signature.expires} is past"
    return DkimStatus.PASS, Cause.NONE, ""


def _is_signed(key: Key, algorithm: _Algorithm, signature: bytes, data: bytes) -> bool:
    assert key.public is not None  # or it would not have suited
    try:
        if isinstance(key.public, Ed25519PublicKey):
            key.public.verify(signature, hashlib.sha256(data).digest())  # RFC 8463 3: the hash is what is signed
        else:
            key.public.verify(signature, data, PKCS1v15(), _HASHES[algorithm.hash])
    except InvalidSignature:
        return False
    return True


_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {"sha256": hashes.SHA256(), "sha1": hashes.SHA1()}  # noqa: S303


def _signed(message: Message, signature: Signature) -> bytes:
    """The octets under b=: the fields that h= names, the lowest of a name first, then the signature without its b=."""
    is_relaxed = signature.canonical[0] == "relaxed"
    parts: list[bytes] = []
    used: dict[bytes, int] = {}
    own = signature.field
    others = [field for field in message.all(b"dkim-signature") if field.offset != own.offset]
    for name in signature.headers:
        fields = others if name == b"dkim-signature" else message.all(name)  # it was not there when it was signed
        before = used.get(name, 0)
        used[name] = before + 1
        if before < len(fields):  # one that is not there is the empty string (RFC 6376 5.4)
            field = fields[-1 - before]
            parts.append(relaxed_field(name, field.value) if is_relaxed else simple_field(message, field))
    value = _OWN_VALUE.sub(rb"\1", own.value, count=1)
    if is_relaxed:
        parts.append(relaxed_field(own.name, value))
    else:
        parts.append(simple_field(message, own)[: -len(own.value)] + value)
    return b"\r\n".join(parts)


def _body(signature: Signature) -> Body:
    return Body(signature.canonical[1], _ALGORITHMS[signature.algorithm].hash, signature.length)


def _compare(signature: Signature, sum_: tuple[bytes, int]) -> Signature:
    digest, octets = sum_
    is_whole = signature.length is None or signature.length <= octets  # RFC 6376 3.5: l= MUST NOT be larger
    return replace(
        signature,
        body_matches=is_whole and digest == signature.body_hash,
        body_sum=digest,
        body_octets=octets,
    )


def _parse(field: Field) -> Signature:
    """A field's value as RFC 6376 3.5 wants it."""
    try:
        return _read(field, parse_tags(field.value))
    except TagError as error:
        return Signature(field, problem=str(error))


def _read(field: Field, tags: dict[bytes, bytes]) -> Signature:
    """The tags of a signature; TagError says what is wrong with them."""
    for name in _REQUIRED:
        if not tags.get(name):
            raise TagError(f"no {name.decode()}=")
    if tags[b"v"] != b"1":
        raise TagError("v= is not 1")
    algorithm = tags[b"a"].decode("utf-8", "replace")
    if algorithm not in _ALGORITHMS:
        raise TagError(f"a={shown(tags[b'a'])} is no algorithm that mail uses")
    body_hash, signed = without_blanks(tags[b"bh"]), without_blanks(tags[b"b"])
    for name, value in ((b"bh", body_hash), (b"b", signed)):
        if not is_base64(value):
            raise TagError(f"{name.decode()}= is not base64")
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
        binascii.a2b_base64(body_hash),
        binascii.a2b_base64(signed),
        length,
        timestamp,
        expires,
        _identity(tags, domain),
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
