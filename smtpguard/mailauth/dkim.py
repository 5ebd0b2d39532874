"""DKIM signatures: parsed, their body hashes checked, verified with the signer's key (RFC 6376, 8301, 8463, 8616).

Three steps, each asked for alone. `signatures` reads what the message says of itself, body hash included: no DNS, and
enough to know of most breakage. `judge` takes the answer to the question for the key and is pure computation. `verify`
asks for the keys and judges. What DNS cannot say now is temperror, never "no key"; nothing here raises for what a
message or a record holds.

Signing is the MTA's business, never ours.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from smtpguard.mail.fields import Field
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim_canon import Body, body_sums, relaxed_fields, simple_field
from smtpguard.mailauth.dkim_field import ALGORITHMS, KEPT_OCTETS, Algorithm, Signature, parse
from smtpguard.mailauth.dkim_key import Key, parse_key
from smtpguard.mailauth.dns import Answer, Resolver

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


_ABOUT_BODY: Final = Signature._fields.index("body_matches")
"""The fields from there on are those that the body gives."""


class Verdict(NamedTuple):
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


# RFC 6376 3.2: tag-spec = [FWS] tag-name [FWS] "=" ...; the blanks around the value of b= are taken out with it
_OWN_VALUE = re.compile(rb";[ \t\r\n]*b[ \t\r\n]*=")


def signatures(message: Message, *, limit: int = MAX_SIGNATURES) -> tuple[Signature, ...]:
    """The signatures of a message from top to bottom, at most `limit`, with their body hashes compared.

    Reads the body once for each canonical form in use; takes about 2 ms a MB, 4 where blanks have to go (run it in a
    thread where that matters).
    """
    fields = message.all(b"dkim-signature")
    if not fields:
        return ()
    found = [parse(field) for field in fields[:limit]]
    bodies = [None if each.problem else _body(each) for each in found]
    sums = body_sums(message, [body for body in bodies if body is not None])
    return tuple(
        [each if body is None else _compare(each, *sums[body]) for each, body in zip(found, bodies, strict=True)]
    )


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
    algorithm = ALGORITHMS[signature.algorithm]
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


def _is_signed(key: Key, algorithm: Algorithm, signature: bytes, data: bytes) -> bool:
    assert key.public is not None  # or it would not have suited
    try:
        if algorithm.key == "ed25519":
            cast(Ed25519PublicKey, key.public).verify(signature, hashlib.sha256(data).digest())  # RFC 8463 3
        else:
            cast(RSAPublicKey, key.public).verify(signature, data, _PADDING, _HASHES[algorithm.hash])
    except InvalidSignature:
        return False
    return True


_PADDING: Final = PKCS1v15()
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {"sha256": hashes.SHA256(), "sha1": hashes.SHA1()}  # noqa: S303


def _signed(message: Message, signature: Signature) -> bytes:
    """The octets under b=: the fields that h= names, the lowest of a name first, then the signature without its b=."""
    own, named = signature.field, message.by_name
    signed: list[tuple[bytes, Field]] = []
    places = _places if len(own.value) <= KEPT_OCTETS else _places.__wrapped__
    for name, place in places(signature.headers):
        fields = named.get(name)
        if fields is not None and name == b"dkim-signature":  # it was not there when it was signed
            fields = [field for field in fields if field.offset != own.offset]
        if fields is not None and place <= len(fields):  # one that is not there is the empty string (RFC 6376 5.4)
            signed.append((name, fields[-place]))
    value = _without_own_value(own.value)
    if signature.canonical[0] == "relaxed":
        signed.append((b"dkim-signature", Field(own.name, value, 0, 0, 0)))
        return relaxed_fields(signed, is_tidy=message.is_tidy)
    parts = [simple_field(message, field) for _, field in signed]
    parts.append(simple_field(message, own)[: -len(own.value)] + value)
    return b"\r\n".join(parts)


@lru_cache(maxsize=1024)
def _places(headers: tuple[bytes, ...]) -> tuple[tuple[bytes, int], ...]:
    """Each name of h= with the field that is meant, counted from the lowest: a name that stands twice means two."""
    used = Counter[bytes]()
    places = []
    for name in headers:
        used[name] += 1
        places.append((name, used[name]))
    return tuple(places)


def _without_own_value(value: bytes) -> bytes:
    """The value of a signature's field as it is signed: nothing stands in b= (RFC 6376 3.7)."""
    found = _OWN_VALUE.search(b";" + value)
    assert found is not None  # else it would be no signature
    start = found.end() - 1
    end = value.find(b";", start)
    return value[:start] if end < 0 else value[:start] + value[end:]


def _body(signature: Signature) -> Body:
    return Body(signature.canonical[1], ALGORITHMS[signature.algorithm].hash, signature.length)


def _compare(signature: Signature, digest: bytes, octets: int) -> Signature:
    is_whole = signature.length is None or signature.length <= octets  # RFC 6376 3.5: l= MUST NOT be larger
    matches = is_whole and digest == signature.body_hash
    return Signature._make((*signature[:_ABOUT_BODY], matches, digest, octets))
